"""What happens beside the steps: progress, log, best checkpoint, early stop, states to resume from."""

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from moderation.artifacts import read_json, write_atomically
from moderation.errors import ArtifactError

logger = logging.getLogger(__name__)


class ProgressBar(TrainerCallback):
    """One bar over all steps, with the last loss and validation metric."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.bar: Any = None
        self.shown: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar."""
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="Train", unit=" steps", disable=None)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move on by a step."""
        if self.bar is not None:
            self.bar.update()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        """Show the newest loss and metric."""
        for key, name in (("loss", "loss"), (f"eval_{self.metric}", f"val {self.metric}")):
            if self.bar is not None and key in (logs or {}):
                self.shown[name] = f"{logs[key]:.4f}"
                self.bar.set_postfix(self.shown)
        if self.bar is not None and self.bar.disable and f"eval_{self.metric}" in (logs or {}):  # no terminal
            shown = ", ".join(f"{name} {value}" for name, value in self.shown.items())
            logger.info("Step %d of %d: %s", state.global_step, state.max_steps, shown)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        self.finish()

    def finish(self) -> None:
        """Close the bar where it is; a second time does nothing."""
        if self.bar is not None:
            self.bar.close()


class JsonlLog(TrainerCallback):
    """`log.jsonl`: every logged record, one JSON object a line; a resumed run continues where its state ends."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start from the records that the state holds."""
        if state.is_world_process_zero:
            with write_atomically(self.path) as temporary:
                temporary.write_text("".join(_line(record) for record in state.log_history), encoding="utf-8")

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Append the newest record."""
        if state.is_world_process_zero and state.log_history:
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(_line(state.log_history[-1]))
            except OSError as error:
                raise ArtifactError(f"{self.path}: could not be written ({error.strerror}).") from error


class KeepBest(TrainerCallback):
    """Save the weights whenever the validation metric is better than ever; stop when it no longer grows.

    Everything is read from the trainer's log history, which a saved state holds: a resumed run decides as if it had
    never stopped.

    Args:
        metric: Name among the validation metrics; "loss" is better when lower, all others when higher.
        patience: Evaluations without a better metric before the training stops; 0: never.
        save: Called with the metrics of the best evaluation so far.
    """

    def __init__(self, metric: str, patience: int, save: Callable[[dict[str, float]], None]) -> None:
        self.metric = metric
        self.patience = patience
        self.save = save

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Compare with all evaluations before."""
        n_since_best = _evaluations_since_best(state.log_history, self.metric)
        if n_since_best == 0 and state.is_world_process_zero:
            self.save(_without_speed(metrics))
        if self.patience and n_since_best >= self.patience:
            control.should_training_stop = True


class SaveState(TrainerCallback):
    """Ask for a state to resume from every so many steps, and at the end of each epoch after its evaluation."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Within an epoch; its last step is left to the epoch's end, so that no evaluation gets lost."""
        epoch = state.epoch or 0.0
        last_of_epoch = math.isclose(epoch, round(epoch), abs_tol=1e-6) or state.global_step >= state.max_steps
        control.should_save = state.global_step % self.every == 0 and not last_of_epoch

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After each epoch."""
        control.should_save = True


def newest_state(resume_dir: Path, n_processes: int = 1) -> Path | None:
    """The newest complete `checkpoint-<step>` folder; None where there is none.

    The trainer writes `trainer_state.json` last, so a folder that a kill left unfinished has none that can be read.
    """
    folders = sorted(resume_dir.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((folder for folder in folders if _is_complete(folder, n_processes)), None)


def has_stopped_early(state_dir: Path, metric: str, patience: int) -> bool:
    """Whether `KeepBest` had stopped the training when this state was saved, so that nothing is left to train."""
    history = read_json(state_dir / "trainer_state.json", "the trainer's state")["log_history"]
    return patience > 0 and _evaluations_since_best(history, metric) >= patience


def _evaluations_since_best(history: list[dict[str, float]], metric: str) -> int:
    """Evaluations after the best one, which is the first of several equally good; 0 without any."""
    key = f"eval_{metric}"
    sign = -1 if metric == "loss" else 1
    values = [sign * record[key] for record in history if key in record]
    return len(values) - 1 - values.index(max(values)) if values else 0


def _without_speed(metrics: dict[str, float]) -> dict[str, float]:
    """What was measured of the model, which two like runs agree on, without how long that took."""
    return {
        name.removeprefix("eval_"): value
        for name, value in metrics.items()
        if not name.endswith(("_runtime", "_per_second"))
    }


def _is_complete(folder: Path, n_processes: int) -> bool:
    random_states = (
        [folder / "rng_state.pth"]
        if n_processes == 1
        else [folder / f"rng_state_{rank}.pth" for rank in range(n_processes)]
    )
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return all(path.is_file() for path in random_states)


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"
