"""Trackers: see a run in TensorBoard, MLflow or Weights & Biases, all local and offline unless the user says otherwise.

The trainer's own callbacks do the logging and take their settings from environment variables; this module checks the
package and fills in the variables that the user left open.
"""

import importlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from moderation.errors import ConfigError, MissingExtraError

logger = logging.getLogger(__name__)

TRACKERS = ("tensorboard", "mlflow", "wandb")


def report_to(track: Sequence[str], run_dir: Path) -> list[str]:
    """Prepare trackers for `transformers.TrainingArguments(report_to=...)`.

    Sets, in this process's environment, only what the user has not set:

    * tensorboard: `TENSORBOARD_LOGGING_DIR`, the folder `tensorboard` of the run;
    * mlflow: `MLFLOW_TRACKING_URI`, the SQLite file `mlflow.db` beside the run folder, so that the runs of one parent
      folder can be compared, and `MLFLOW_EXPERIMENT_NAME`;
    * wandb: `WANDB_MODE=offline`, `WANDB_DIR`, the run folder, and `WANDB_PROJECT`.

    Args:
        track: Names among `TRACKERS`; a name that stands twice counts once.
        run_dir: The run folder; it need not exist yet.

    Returns:
        The names, for `report_to`; empty without trackers.

    Raises:
        ConfigError: an unknown name.
        MissingExtraError: a tracker's package is not installed.

    >>> report_to((), Path("runs/exp1"))
    []
    """
    names = list(dict.fromkeys(track))
    unknown = [name for name in names if name not in TRACKERS]
    if unknown:
        raise ConfigError(f"--track {', '.join(unknown)}: expected some of {', '.join(TRACKERS)}.")
    for name in names:
        _check_installed(name)
        for variable, value in _defaults(name, run_dir.resolve()).items():
            os.environ.setdefault(variable, value)
    return names


def _check_installed(name: str) -> None:
    # wandb needs the import: its run folder `wandb/` would count as a package of that name where it lies in the
    # working folder. The attributes are the ones that the trainer's callback uses.
    try:
        module = importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(f"--track {name}", name) from None
    if module.__file__ is None:
        raise MissingExtraError(f"--track {name}", name)


def _defaults(name: str, run_dir: Path) -> dict[str, str]:
    if name == "tensorboard":
        return {"TENSORBOARD_LOGGING_DIR": str(run_dir / "tensorboard")}
    if name == "mlflow":
        return {}
    run_dir.mkdir(parents=True, exist_ok=True)  # otherwise wandb falls back to the system's temporary folder
    return {"WANDB_MODE": "offline", "WANDB_DIR": str(run_dir), "WANDB_PROJECT": "content-moderation"}
