"""The entry point: the ten public names of the toolkit and its three command forms.

Train, tune, evaluate:

    python -m model_training --data-path train.csv --output-dir ./runs/exp1 --epochs 3 --batch-size 16 --lr 2e-5
    python -m model_training --tune-thresholds --preds ./runs/exp1/preds_val.npy --labels ./runs/exp1/labels_val.npy
    python -m model_training --eval --checkpoint ./runs/exp1/checkpoint_best.pt --thresholds ./runs/exp1/thresholds.json

The table shows where each name is defined. Names are loaded on first use, so `--help` and `--tune-thresholds` start
without torch.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moderation.data.cleaning import load_english_only
    from moderation.data.encoding import df_to_hfds
    from moderation.evaluation.metrics import compute_metrics, eval_with_thresholds
    from moderation.evaluation.thresholds import tune_thresholds
    from moderation.report.render import save_logs_and_plots
    from moderation.training.balancing import build_balanced_sampler_and_pos_weight
    from moderation.training.model import freeze_for_speed
    from moderation.training.trainer import PosWeightTrainer

_HOMES = {
    "load_english_only": "moderation.data.cleaning",
    "df_to_hfds": "moderation.data.encoding",
    "build_balanced_sampler_and_pos_weight": "moderation.training.balancing",
    "PosWeightTrainer": "moderation.training.trainer",
    "freeze_for_speed": "moderation.training.model",
    "compute_metrics": "moderation.evaluation.metrics",
    "tune_thresholds": "moderation.evaluation.thresholds",
    "eval_with_thresholds": "moderation.evaluation.metrics",
    "save_logs_and_plots": "moderation.report.render",
}

__all__ = [
    "PosWeightTrainer",
    "build_balanced_sampler_and_pos_weight",
    "compute_metrics",
    "df_to_hfds",
    "eval_with_thresholds",
    "freeze_for_speed",
    "load_english_only",
    "main",
    "save_logs_and_plots",
    "tune_thresholds",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'model_training' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from moderation.extras import missing_extra

        raise missing_extra(error, ("train",), f"model_training.{name}") or error from None


def __dir__() -> list[str]:
    return sorted(__all__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the three forms: train, or `--tune-thresholds`, or `--eval`.

    Args:
        argv: Words after the program's name; default: those of the process.

    Returns:
        The exit code: 0 done, 1 data or artifacts, 2 usage or settings, 130 interrupted, 143 terminated.

    Example:
        >>> main(["--tune-thresholds", "--preds", "runs/exp1/preds_val.npy",
        ...       "--labels", "runs/exp1/labels_val.npy"])  # doctest: +SKIP
        0
    """
    from moderation import cli

    return cli.main_by_form(sys.argv[1:] if argv is None else list(argv))


if __name__ == "__main__":
    sys.exit(main())
