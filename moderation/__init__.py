"""Multi-label toxicity detection: train, tune, evaluate, export, classify.

Everything here is loaded on first use, so importing the package is quick.

    >>> import moderation
    >>> run = moderation.train("train.csv", output_dir="runs/exp1", epochs=1)  # doctest: +SKIP
    >>> moderation.Classifier.load(run.path).classify("You are wonderful.").flagged  # doctest: +SKIP
    ()
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moderation.api import Run, evaluate, export_bundle, train, tune
    from moderation.errors import ArtifactError, ConfigError, DataError, MissingExtraError, ModerationError
    from moderation.inference.classifier import Classifier, TextResult

    __version__: str

__all__ = [
    "ArtifactError",
    "Classifier",
    "ConfigError",
    "DataError",
    "MissingExtraError",
    "ModerationError",
    "Run",
    "TextResult",
    "evaluate",
    "export_bundle",
    "train",
    "tune",
]

_HOMES = dict.fromkeys(("Classifier", "TextResult"), "moderation.inference.classifier")
_HOMES |= dict.fromkeys(("Run", "evaluate", "export_bundle", "train", "tune"), "moderation.api")


def __getattr__(name: str) -> Any:
    """Import a name on first use."""
    if name == "__version__":
        from moderation.extras import toolkit_version

        return toolkit_version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES.get(name, "moderation.errors")), name)
    except ModuleNotFoundError as error:
        from moderation.extras import missing_extra

        raise missing_extra(error, ("onnx",), f"moderation.{name}") or error from None


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
