import json
import sys
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from moderation.errors import ArtifactError
from moderation.training.callbacks import (
    JsonlLog,
    KeepBest,
    ProgressBar,
    SaveState,
    has_stopped_early,
)


@pytest.fixture
def arguments(tmp_path):
    return TrainingArguments(str(tmp_path / "out"), report_to="none", use_cpu=True)


def evaluate(callback, arguments, values, metric="score"):
    """Tell the callback of evaluations one after another; after which of them it stops, or None."""
    state = TrainerState(is_world_process_zero=True)
    for position, value in enumerate(values):
        metrics = {f"eval_{metric}": value}
        state.log_history += [{"loss": 0.5, "step": position}, metrics | {"step": position}]
        control = TrainerControl()
        callback.on_evaluate(arguments, state, control, metrics=metrics)
        if control.should_training_stop:
            return position
    return None


# Best checkpoint and early stop


@pytest.mark.parametrize(
    ("metric", "values", "kept"),
    [
        ("score", [0.5, 0.7, 0.6, 0.8], [0.5, 0.7, 0.8]),
        ("score", [0.5, 0.5, 0.5], [0.5]),  # of equally good ones the first
        ("loss", [0.5, 0.7, 0.4, 0.4, 0.3], [0.5, 0.4, 0.3]),
    ],
)
def test_every_evaluation_that_is_better_than_all_before_is_saved(arguments, metric, values, kept):
    saved = []
    evaluate(KeepBest(metric, 0, lambda metrics: saved.append(metrics[metric])), arguments, values, metric)
    assert saved == kept


@pytest.mark.parametrize(
    ("patience", "values", "stop"),
    [
        (0, [0.9, 0.1, 0.1, 0.1], None),
        (1, [0.5, 0.6, 0.6], 2),
        (2, [0.5, 0.4, 0.6, 0.5, 0.6, 0.7], 4),
        (3, [0.5, 0.4, 0.6, 0.5, 0.6, 0.7], None),
    ],
)
def test_patience_counts_evaluations_since_the_best(arguments, patience, values, stop):
    assert evaluate(KeepBest("score", patience, lambda metrics: None), arguments, values) == stop


def test_how_long_the_evaluation_took_is_not_saved(arguments):
    saved = []
    state = TrainerState(is_world_process_zero=True, log_history=[{"eval_score": 0.5}])
    metrics = {"eval_score": 0.5, "eval_runtime": 0.1, "eval_samples_per_second": 9.0, "eval_steps_per_second": 3.0}
    KeepBest("score", 0, saved.append).on_evaluate(arguments, state, TrainerControl(), metrics=metrics)
    assert saved == [{"score": 0.5}]


def test_a_process_that_is_not_the_first_saves_nothing_but_stops_too(arguments):
    callback = KeepBest("score", 1, lambda metrics: pytest.fail("two processes would write one file"))
    state = TrainerState(is_world_process_zero=False, log_history=[{"eval_score": 0.5}])
    control = TrainerControl()
    callback.on_evaluate(arguments, state, control, metrics={"eval_score": 0.5})
    state.log_history.append({"eval_score": 0.4})
    callback.on_evaluate(arguments, state, control, metrics={"eval_score": 0.4})
    assert control.should_training_stop


@pytest.mark.parametrize(
    ("patience", "values", "stopped"),
    [(1, [0.5, 0.4], True), (2, [0.5, 0.4], False), (0, [0.5, 0.4], False), (1, [0.5, 0.6], False), (1, [], False)],
)
def test_a_state_records_whether_its_training_had_stopped(tmp_path, patience, values, stopped):
    folder = tmp_path / "checkpoint-7"
    folder.mkdir()
    state = TrainerState(global_step=7, train_batch_size=8, log_history=[{"eval_score": value} for value in values])
    state.save_to_json(str(folder / "trainer_state.json"))
    assert has_stopped_early(folder, "score", patience) is stopped


# Log


def test_a_log_starts_from_the_records_of_the_state(arguments, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "of": "steps that the state does not know"}\n')
    state = TrainerState(is_world_process_zero=True, log_history=[{"step": 1}, {"step": 2}])
    log = JsonlLog(path)
    log.on_train_begin(arguments, state, TrainerControl())
    for step in (3, 4):
        state.log_history.append({"step": step, "loss": 0.5})
        log.on_log(arguments, state, TrainerControl())
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert records == state.log_history
    assert [record["step"] for record in records] == [1, 2, 3, 4]


def test_a_log_does_not_depend_on_durations_or_order(arguments, tmp_path):
    contents = []
    for record in (
        {"eval_score": 0.5, "step": 8, "eval_runtime": 0.1, "eval_steps_per_second": 3.0},
        {"step": 8, "eval_runtime": 0.2, "eval_score": 0.5},
        {"train_loss": 0.3, "step": 8, "train_runtime": 9.0, "eval_score": 0.5},
    ):
        state = TrainerState(is_world_process_zero=True, log_history=[record])
        log = JsonlLog(tmp_path / "log.jsonl")
        log.on_train_begin(arguments, state, TrainerControl())
        log.on_log(arguments, state, TrainerControl())
        contents.append((tmp_path / "log.jsonl").read_text())
    assert set(contents) == {'{"eval_score": 0.5, "step": 8}\n' * 2}


def test_a_process_that_is_not_the_first_writes_no_log(arguments, tmp_path):
    state = TrainerState(is_world_process_zero=False, log_history=[{"step": 1}])
    log = JsonlLog(tmp_path / "log.jsonl")
    log.on_train_begin(arguments, state, TrainerControl())
    log.on_log(arguments, state, TrainerControl())
    assert not (tmp_path / "log.jsonl").exists()


def test_a_log_on_a_full_disk(arguments, tmp_path, full_disk):
    state = TrainerState(is_world_process_zero=True, log_history=[{"step": 1}])
    log = JsonlLog(tmp_path / "log.jsonl")
    log.on_train_begin(arguments, state, TrainerControl())
    size = (tmp_path / "log.jsonl").stat().st_size
    with full_disk(size), pytest.raises(ArtifactError, match=r"log\.jsonl: could not be written"):
        log.on_log(arguments, state, TrainerControl())


# Progress


def test_one_bar_shows_the_newest_numbers(arguments, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = ProgressBar("score")
    state = TrainerState(is_world_process_zero=True, max_steps=4, global_step=1)
    bar.on_train_begin(arguments, state, TrainerControl())
    for loss in (0.75, 0.5, 0.25):
        bar.on_step_end(arguments, state, TrainerControl())
        bar.on_log(arguments, state, TrainerControl(), logs={"loss": loss})
    bar.on_log(arguments, state, TrainerControl(), logs={"eval_score": 0.875, "eval_loss": 0.9})
    bar.on_train_end(arguments, state, TrainerControl())
    printed = capsys.readouterr()
    assert printed.out == ""
    last = printed.err.rstrip().splitlines()[-1].rsplit("\r", 1)[-1]
    assert "100%" in last
    assert "4/4" in last
    assert "loss=0.2500, val score=0.8750" in last


def test_without_a_terminal_the_log_shows_the_numbers(arguments, capsys, caplog):
    caplog.set_level("INFO")
    bar = ProgressBar("score")
    state = TrainerState(is_world_process_zero=True, max_steps=4, global_step=2)
    bar.on_train_begin(arguments, state, TrainerControl())
    bar.on_step_end(arguments, state, TrainerControl())
    bar.on_log(arguments, state, TrainerControl(), logs={"loss": 0.5})
    bar.on_log(arguments, state, TrainerControl(), logs={"eval_score": 0.875})
    bar.on_train_end(arguments, state, TrainerControl())
    assert capsys.readouterr() == ("", "")
    assert caplog.messages == ["Step 2 of 4: loss 0.5000, val score 0.8750"]


def test_a_process_that_is_not_the_first_draws_no_bar(arguments, capsys):
    bar = ProgressBar("score")
    state = TrainerState(is_world_process_zero=False, max_steps=1)
    bar.on_train_begin(arguments, state, TrainerControl())
    bar.on_step_end(arguments, state, TrainerControl())
    bar.on_log(arguments, state, TrainerControl(), logs={"loss": 0.5})
    bar.on_train_end(arguments, state, TrainerControl())
    assert capsys.readouterr() == ("", "")


# States


@pytest.mark.parametrize(
    ("every", "steps_in_epoch", "max_steps", "saved"),
    [
        (2, 5, 10, [2, 4, 6, 8]),  # 10 ends an epoch
        (5, 5, 10, []),  # left to the end of the epochs
        (3, 5, 8, [3, 6]),  # stops in mid-epoch: the last step is left to the end as well
        (4, 5, 8, [4]),
        (7, 3, 9, [7]),
    ],
)
def test_states_within_an_epoch(arguments, every, steps_in_epoch, max_steps, saved):
    callback, found = SaveState(every, Path("checkpoint_best.pt")), []
    state = TrainerState(max_steps=max_steps)
    for step in range(1, max_steps + 1):
        state.global_step, state.epoch = (
            step,
            (step - 1) // steps_in_epoch + ((step - 1) % steps_in_epoch + 1) / steps_in_epoch,
        )
        control = TrainerControl()
        callback.on_step_end(arguments, state, control)
        if control.should_save:
            found.append(step)
        assert control.should_log == control.should_save, "or the next record would be about other steps after a stop"
    assert found == saved
    control = TrainerControl()
    callback.on_epoch_end(arguments, state, control)
    assert control.should_save
