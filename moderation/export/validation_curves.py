"""What the run's own validation predictions say of every label at other thresholds, for the bundle's manifest."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from moderation.artifacts import RunFolder, read_array, read_json, sidecar
from moderation.errors import ArtifactError
from moderation.evaluation.curves import Curve, decision_curves
from moderation.labels import check_same_labels

logger = logging.getLogger(__name__)

_SPLIT = "val"
_KINDS = ("probabilities", "targets")


def read_curves(
    run: RunFolder, labels: Sequence[str], thresholds: Sequence[float] | npt.NDArray[np.float32]
) -> dict[str, Any] | None:
    """Decisions on the validation split at about a hundred thresholds per label, as the manifest keeps them.

    Args:
        run: Folder of the training.
        labels: Of the model, in order.
        thresholds: The tuned ones, in that order; each is one of its label's points.

    Returns:
        `split`, `n_examples` and `labels`: label -> the fields of `Curve`, shares with six decimals. None, with a line
        in the log, where the run has no validation predictions.

    Raises:
        ArtifactError: arrays of other labels, of another split, or broken.
        DataError: arrays that are no probabilities and targets, or do not fit together.
    """
    arrays = (run.preds(_SPLIT), run.labels(_SPLIT))
    missing = [path.name for array in arrays for path in (array, sidecar(array)) if not path.is_file()]
    if missing:
        logger.warning("No %s in %s: the bundle goes without curves.", ", ".join(missing), run.path)
        return None
    for array, kind in zip(arrays, _KINDS, strict=True):
        about = read_json(sidecar(array), "labels, split and kind of the array beside it")
        check_same_labels(about.get("labels") or [], labels, str(sidecar(array)))
        if (about.get("split"), about.get("kind")) != (_SPLIT, kind):
            raise ArtifactError(
                f"{sidecar(array)}: names {about.get('kind')} of the {about.get('split')} split, expected {kind} of "
                f"the {_SPLIT} split. Take the run's own files, or move them away to export without curves."
            )
    probabilities, targets = (read_array(array) for array in arrays)
    curves = decision_curves(probabilities, targets, labels, thresholds=thresholds)
    return {
        "split": _SPLIT,
        "n_examples": len(targets),
        "labels": {label: _as_json(curve) for label, curve in curves.items()},
    }


def _as_json(curve: Curve) -> dict[str, Any]:
    """Thresholds as they are, since rounding could move one past a probability; shares rounded."""
    shares = {name: getattr(curve, name) for name in ("precision", "recall", "flagged")}
    return {"n_positives": curve.n_positives, "threshold": curve.threshold} | {
        name: [None if value is None else round(value, 6) for value in values] for name, values in shares.items()
    }
