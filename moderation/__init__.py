"""Multi-label toxicity detection: train, tune, evaluate, export, classify."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moderation.inference.classifier import Classifier, TextResult

    __version__: str

__all__ = ["Classifier", "TextResult"]


def __getattr__(name: str) -> Any:
    """Import the classifier, or look up the version, on first use, so that the package itself starts at once."""
    if name == "__version__":
        from moderation.extras import toolkit_version

        return toolkit_version()
    if name in __all__:
        try:
            from moderation.inference import classifier
        except ModuleNotFoundError as error:
            from moderation.extras import missing_extra

            raise missing_extra(error, ("onnx",), f"moderation.{name}") or error from None

        return getattr(classifier, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
