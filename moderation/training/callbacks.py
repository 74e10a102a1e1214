"""What happens between the steps: progress, log, best checkpoint, early stop, states to resume from."""

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from moderation.artifacts import write_atomically
from moderation.errors import ArtifactError
from moderation.links import refuse_links_out
from moderation.training.states import LogRecord, read_log_history, remove_other_states, seal_state

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
        """Advance by a step."""
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
        if self.bar is not None and self.bar.disable and f"eval_{self.metric}" in (logs or {}):  # not a terminal
            shown = ", ".join(f"{name} {value}" for name, value in self.shown.items())
            logger.info("Step %d of %d: %s", state.global_step, state.max_steps, shown)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        self.finish()

    def finish(self) -> None:
        """Close the bar at its current position; calling it again does nothing."""
        if self.bar is not None:
            self.bar.close()


class JsonlLog(TrainerCallback):
    """`log.jsonl`: every logged record, one JSON object per line; a resumed run continues where its state ends.

    It contains no times (they are in `run.json`), so a resumed run writes the same bytes as one that never stopped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start from the records in the state."""
        if state.is_world_process_zero:
            with write_atomically(self.path) as temporary:
                temporary.write_text("".join(_line(record) for record in state.log_history), encoding="utf-8")

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Append the newest record."""
        if state.is_world_process_zero and state.log_history:
            refuse_links_out(self.path)
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(_line(state.log_history[-1]))
            except OSError as error:
                raise ArtifactError(f"{self.path}: could not be written ({error.strerror}).") from error


class KeepBest(TrainerCallback):
    """Save the weights whenever the validation metric reaches a new best; stop when it no longer improves.

    Everything is read from the trainer's log history, which a saved state contains: a resumed run decides as if it had
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
        """Compare with all earlier evaluations."""
        n_since_best = _evaluations_since_best(state.log_history, self.metric)
        if n_since_best == 0 and state.is_world_process_zero:
            self.save(_without_speed(metrics))
        if self.patience and n_since_best >= self.patience:
            control.should_training_stop = True


class SaveState(TrainerCallback):
    """Save a state to resume from after a number of steps, and at the end of each epoch after its evaluation.

    The losses so far are logged first, so that the next record covers the same steps whether the training stopped
    here or continued.

    Args:
        every: Number of steps.
        best: The best checkpoint; a state keeps the one of its moment.
    """

    def __init__(self, every: int, best: Path) -> None:
        self.every = every
        self.best = best

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Within an epoch; the last step is handled at the epoch's end, so that no evaluation is lost."""
        epoch = state.epoch or 0.0
        last_of_epoch = math.isclose(epoch, round(epoch), abs_tol=1e-6) or state.global_step >= state.max_steps
        if state.global_step % self.every == 0 and not last_of_epoch:
            control.should_log = control.should_save = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After each epoch."""
        control.should_log = control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal the state once every process has written its part; then remove the older ones."""
        processes: Any = args.distributed_state
        processes.wait_for_everyone()
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            seal_state(folder, self.best)
            remove_other_states(folder.parent, folder)


def has_stopped_early(state_dir: Path, metric: str, patience: int) -> bool:
    """Whether `KeepBest` had stopped the training when this state was saved, so that nothing is left to train."""
    return patience > 0 and _evaluations_since_best(read_log_history(state_dir), metric) >= patience


def _evaluations_since_best(history: list[LogRecord], metric: str) -> int:
    """Number of evaluations after the best one (the first, if several are equally good); 0 without any."""
    key = f"eval_{metric}"
    sign = -1 if metric == "loss" else 1
    values = [sign * record[key] for record in history if key in record]
    return len(values) - 1 - values.index(max(values)) if values else 0


def _without_speed(metrics: LogRecord) -> LogRecord:
    """The metrics of the model, which are the same in two identical runs, without durations."""
    return {name.removeprefix("eval_"): value for name, value in _same_each_time(metrics).items()}


def _same_each_time(record: LogRecord) -> LogRecord:
    """A record without what differs between two identical runs: durations, the mean loss since a resume."""
    return {
        name: value
        for name, value in record.items()
        if not name.endswith(("_runtime", "_per_second")) and name != "train_loss"
    }


def _line(record: LogRecord) -> str:
    values = _same_each_time(record).items()
    finite = {name: value for name, value in values if not isinstance(value, float) or math.isfinite(value)}
    return json.dumps(finite, sort_keys=True, allow_nan=False) + "\n"  # JSON has no NaN, such as a diverged loss
