"""Trackers: see a run in TensorBoard, MLflow or Weights & Biases; local and offline by default.

The trainer's own callbacks do the logging and read their settings from environment variables. This module checks that
the packages are installed, and sets the variables that the user has not set.
"""

import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from moderation.errors import ConfigError, MissingExtraError
from moderation.links import refuse_links_out

logger = logging.getLogger(__name__)

# What each tracker imports. MLflow needs the last two to store runs in SQLite; its slim package does not include them.
_PACKAGES = {
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "wandb": ("wandb",),
}


_SET_HERE: dict[str, str] = {}


def report_to(track: Sequence[str], run_dir: Path) -> list[str]:
    """Prepare trackers for `transformers.TrainingArguments(report_to=...)`.

    Sets environment variables of this process, and only those that the user has not set:

    * tensorboard: `TENSORBOARD_LOGGING_DIR`, the folder `tensorboard` of the run;
    * mlflow: `MLFLOW_TRACKING_URI`, the SQLite file `mlflow.db` next to the run folder, so that runs of one parent
      folder can be compared; `MLFLOW_EXPERIMENT_NAME`; telemetry off;
    * wandb: `WANDB_MODE=offline`; `WANDB_DIR`, the run folder; `WANDB_PROJECT`; error reports off.

    Args:
        track: Some of tensorboard, mlflow, wandb; a repeated name counts once.
        run_dir: The run folder; created for wandb if it does not exist yet.

    Returns:
        The names, for `report_to`; empty without trackers.

    Raises:
        ConfigError: an unknown name.
        MissingExtraError: a tracker's package is not installed.

    >>> report_to((), Path("runs/exp1"))
    []
    """
    names = list(dict.fromkeys(track))
    check_trackers(names)
    for name in names:
        _set_open_variables(name, run_dir.resolve())
    return names


def check_trackers(track: Sequence[str]) -> None:
    """Refuse trackers that cannot be used, before anything is read.

    Raises:
        ConfigError: an unknown name.
        MissingExtraError: a tracker's package is not installed.
    """
    unknown = [name for name in track if name not in _PACKAGES]
    if unknown:
        raise ConfigError(f"--track {', '.join(unknown)}: unknown. Expected some of {', '.join(_PACKAGES)}.")
    for name in track:
        if not all(map(_is_installed, _PACKAGES[name])):
            raise MissingExtraError(f"--track {name}", name)


def _is_installed(package: str) -> bool:
    """Check without importing: MLflow reads some of its variables at import.

    A folder without a file is not a package: trackers often leave a `wandb` or `mlruns` folder where they were started.
    """
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def _set_open_variables(name: str, run_dir: Path) -> None:
    # A variable that is set counts as the user's, unless an earlier run of this process set it.
    ours = {
        key: value
        for key, value in _defaults(name, run_dir).items()
        if key not in os.environ or _SET_HERE.get(key) == os.environ[key]
    }
    if "WANDB_DIR" in ours:
        run_dir.mkdir(parents=True, exist_ok=True)  # wandb falls back to a temporary folder if it is missing
    os.environ.update(ours)
    _SET_HERE.update(ours)
    logger.info("Track with %s: %s", name, ", ".join(f"{key}={value}" for key, value in ours.items()) or "as set")


def _defaults(name: str, run_dir: Path) -> dict[str, str]:
    if name == "tensorboard":
        return {"TENSORBOARD_LOGGING_DIR": str(run_dir / "tensorboard")}
    if name == "mlflow":
        refuse_links_out(run_dir.parent / "mlflow.db")
        return {
            "MLFLOW_TRACKING_URI": f"sqlite:///{(run_dir.parent / 'mlflow.db').as_posix()}",
            "MLFLOW_EXPERIMENT_NAME": "content-moderation",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
    return {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(run_dir),
        "WANDB_PROJECT": "content-moderation",
        "WANDB_ERROR_REPORTING": "false",
    }
