"""Multi-label toxicity detection: train, tune, evaluate, export, classify."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moderation.inference.classifier import Classifier, TextResult

__all__ = ["Classifier", "TextResult"]


def __getattr__(name: str) -> Any:
    """Import the classifier when it is asked for, so that the package itself starts at once."""
    if name in __all__:
        try:
            from moderation.inference import classifier
        except ModuleNotFoundError as error:
            from moderation.extras import missing_extra

            raise missing_extra(error, ("onnx",), f"moderation.{name}") or error from None

        return getattr(classifier, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
