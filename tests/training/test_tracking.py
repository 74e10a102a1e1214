import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from moderation.errors import ConfigError, MissingExtraError
from moderation.training.tracking import report_to


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No tracker's variable set before a test, and every one that it leaves taken back after it."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("WANDB_", "MLFLOW_", "TENSORBOARD_")):
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


def train_two_steps(run_dir: Path, trackers: list[str]) -> list[dict[str, float]]:
    """Train a tiny model on eight rows; return the trainer's own log."""
    torch.manual_seed(0)
    config = BertConfig(  # type: ignore[call-arg]
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=2
    )
    config.problem_type = "multi_label_classification"
    rows = [{"input_ids": [2, 5 + i, 3], "labels": [float(i % 2), 0.0]} for i in range(8)]
    arguments = TrainingArguments(
        output_dir=str(run_dir / "resume"),
        max_steps=2,
        per_device_train_batch_size=4,
        learning_rate=0.003,
        logging_steps=1,
        save_strategy="no",
        report_to=trackers,
        run_name=run_dir.name,
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model=BertForSequenceClassification(config), args=arguments, train_dataset=rows)
    trainer.train()
    return trainer.state.log_history


def test_no_trackers_leave_the_environment_alone(tmp_path: Path) -> None:
    before = dict(os.environ)
    assert report_to((), tmp_path / "run") == []
    assert dict(os.environ) == before
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--track comet: unknown"):
        report_to(("comet",), tmp_path)


def test_a_tracker_that_is_not_installed_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(MissingExtraError, match=r"--track wandb.*'\.\[wandb\]'"):
        report_to(("wandb",), tmp_path)
    assert "WANDB_MODE" not in os.environ


def test_a_folder_left_by_a_tracker_is_not_mistaken_for_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(MissingExtraError, match="--track wandb"):
        report_to(("wandb",), tmp_path)


def test_variables_that_the_user_set_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    assert report_to(("wandb", "wandb"), tmp_path / "run") == ["wandb"]
    assert os.environ["WANDB_MODE"] == "disabled"
    assert os.environ["WANDB_DIR"] == str(tmp_path / "elsewhere")
    assert not (tmp_path / "run").exists()


def test_tensorboard_reads_the_losses_back(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_dir = tmp_path / "exp1"
    log = train_two_steps(run_dir, report_to(("tensorboard",), run_dir))

    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert losses == [(record["step"], pytest.approx(record["loss"])) for record in log if "loss" in record]


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # MLflow's mappers
def test_mlflow_reads_losses_and_settings_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_dir = tmp_path / "runs" / "exp1"
    run_dir.mkdir(parents=True)
    trackers = report_to(("mlflow",), run_dir)
    from mlflow.tracking import MlflowClient

    log = train_two_steps(run_dir, trackers)

    client = MlflowClient(tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("content-moderation")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    losses = sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "loss"))
    assert losses == [(record["step"], pytest.approx(record["loss"])) for record in log if "loss" in record]
    assert run.info.run_name == "exp1"
    assert run.info.status == "FINISHED"
    assert run.data.params["learning_rate"] == "0.003"
    assert (tmp_path / "runs" / "mlflow.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]  # nothing in the working folder


def test_wandb_leaves_an_offline_run_in_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.chdir(tmp_path)
    run_dir = tmp_path / "exp1"
    train_two_steps(run_dir, report_to(("wandb",), run_dir))
    wandb.finish()

    (kept,) = run_dir.glob("wandb/offline-run-*/run-*.wandb")
    assert kept.stat().st_size > 0
