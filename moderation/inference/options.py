"""Settings that every verb that loads a bundle declares; imports little, so that `--help` is quick."""

from dataclasses import dataclass

from moderation.forms import BackendName

Backend = BackendName

INCLUDED = "en (English), or auto (all that are included, chosen by a text's language; default)"
THRESHOLDS_HELP = (
    "file of thresholds: thresholds.json, the JSON copied from the server's page, or "
    '{"LABEL": NUMBER}; labels that it does not name keep the bundle\'s'
)
THRESHOLD_HELP = "one or more thresholds, such as toxic=0.8; they override --thresholds and the bundle's"


@dataclass(frozen=True)
class EngineOptions:
    """Settings of the engine that runs a model.

    Args:
        threads: Processor threads; None: all that the process may use.
        device: `cpu`, or `cuda` if the engine can use it.
        batch_tokens: Compute windows of one length together, up to this many tokens; None: what is best for the engine.
    """

    threads: int | None = None
    device: str = "cpu"
    batch_tokens: int | None = None
