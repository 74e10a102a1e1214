"""Links in folders from elsewhere: the files that they lead to stay as they are, whatever is written there."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from transformers import AutoTokenizer, TrainerState

from moderation import cli
from moderation.arrays import write_predictions
from moderation.artifacts import RunFolder, resolve_target, write_json
from moderation.commands.migrate import _write_together
from moderation.config import TrainConfig
from moderation.errors import ArtifactError
from moderation.options import build
from moderation.report import render
from moderation.report.plots import Plot
from moderation.run_records import DataFacts, RunRecord
from moderation.scoring.resume import Parts
from moderation.training.callbacks import JsonlLog
from moderation.training.run_record import RunFacts, begin_run, check_run_folder, save_tokenizer
from moderation.training.states import remove_other_states
from tests.attack_table import Attack

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX"),
    pytest.mark.hostile("links out of a run folder"),
]

KEPT = "the user's own"


class Victim:
    """A folder of the user's with a file of every name that somebody might write there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        for name in ("diary", "tokenizer.json", "a.png", "state.json", "parts.json"):
            (path / name).write_text(KEPT)
        self.before = self._look()

    def _look(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.path.iterdir()}

    def is_untouched(self) -> bool:
        return self._look() == self.before


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    return Victim(tmp_path / "home")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


def settings(table_path: Path, **changes: bool) -> TrainConfig:
    return build(TrainConfig, {"data_path": table_path, "output_dir": Path("run"), **changes})


def test_tune_writes_next_to_the_predictions_through_no_link(
    run: RunFolder, victim: Victim, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = np.tile(np.array([[0, 1], [1, 0]], dtype=np.float32), (20, 1))
    write_predictions(run, "val", truth * 0.5 + 0.2, truth, ("a", "b"), split="val")
    words = ["tune", "--preds", str(run.preds("val")), "--labels", str(run.labels("val")), "--bootstrap", "0"]
    run.thresholds.symlink_to(victim.path / "diary")
    with monkeypatch.context() as patch:
        patch.setattr("moderation.commands.tune.tune_thresholds", Mock(side_effect=AssertionError("after the work")))
        assert cli.main(words) == 1
    assert f"{run.thresholds}: a link that leads out of {run.path}" in capsys.readouterr().err
    assert victim.is_untouched()
    assert cli.main([*words, "--out", str(run.thresholds)]) == 0, "the user named the link"
    assert run.thresholds.is_symlink() and not victim.is_untouched()


def test_evaluate_in_the_folder_of_the_checkpoint(
    tiny_run: Path,
    run: RunFolder,
    victim: Victim,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    attack: Attack,
) -> None:
    monkeypatch.setattr("moderation.commands.evaluate.rebuild_splits", Mock(side_effect=AssertionError("work")))
    for path in tiny_run.iterdir():  # reading behind links is fine
        (run.path / path.name).symlink_to(path)

    def refused(target: Path, split: str) -> None:
        words = ["evaluate", "--checkpoint", str(run.checkpoint_best), "--split", split, "--bootstrap", "0"]
        assert cli.main(words) == 1
        assert f"{target}: a link that leads out of" in capsys.readouterr().err
        attack.tried()

    for split in ("val", "test"):
        names = ("preds_{}.npy", "labels_{}.npy", "preds_{}.json", "labels_{}.json", "metrics_{}.json")
        for target in (run.path / name.format(split) for name in names):
            target.unlink()
            target.symlink_to(victim.path / "diary")
            refused(target, split)
            target.unlink()
    refused(run.report, "test")  # which is drawn again
    run.report.unlink()
    refused(run.plots_dir, "test")
    assert victim.is_untouched()


@pytest.mark.parametrize("words", ["check missing.csv", "evaluate --suite hatecheck=missing.csv"])
def test_a_report_that_cannot_be_written_is_found_before_the_tables(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    for name, what in (("link", "it is a link to"), ("folder", "it is a folder")):
        assert cli.main([*words.split(), "--json", str(tmp_path / name)]) == 1
        assert f"{tmp_path / name}: could not be written ({what}" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["folder", "missing folder", "one plot", "page"])
def test_the_report(run: RunFolder, victim: Victim, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(render, "draw_plots", lambda evidence: [Plot("a", "", b"png")])
    monkeypatch.setattr(render, "render", lambda *words: "<p>")
    if kind == "one plot":
        run.plots_dir.mkdir()
        link, target = run.plots_dir / "a.png", victim.path / "a.png"
    elif kind == "page":
        link, target = run.report, victim.path / "diary"
    else:
        link, target = run.plots_dir, victim.path / ("" if kind == "folder" else "new")
    link.symlink_to(target)
    with pytest.raises(ArtifactError, match=f"{link}: a link that leads out of {run.path}"):
        render.save_logs_and_plots(run.path)
    assert victim.is_untouched()


def test_a_training_that_starts_again_removes_only_links(
    run: RunFolder, victim: Victim, table_path: Path, tiny_backbone: Path
) -> None:
    run.tokenizer_dir.symlink_to(victim.path)
    run.resume_dir.symlink_to(victim.path)
    run.plots_dir.symlink_to(victim.path / "new")
    run.log.symlink_to(victim.path / "diary")
    run.run_json.symlink_to(victim.path / "missing")
    chosen = settings(table_path, overwrite=True)
    for one in (settings(table_path), chosen):
        with pytest.raises(ArtifactError, match=r"contains tokenizer, plots, resume, log\.jsonl, run\.json"):
            check_run_folder(run, one)
    run.run_json.unlink()
    RunRecord(settings={}, data=DataFacts()).write(run.run_json)
    check_run_folder(run, chosen)
    begin_run(run, chosen, RunFacts())
    save_tokenizer(run, AutoTokenizer.from_pretrained(tiny_backbone))
    assert {path.name for path in run.path.iterdir()} == {"run.json", "tokenizer"}
    assert not any(path.is_symlink() for path in run.path.iterdir())
    assert victim.is_untouched()


def test_a_training_that_continues_follows_no_link(
    run: RunFolder, victim: Victim, table_path: Path, tiny_backbone: Path
) -> None:
    begin_run(run, settings(table_path), RunFacts())
    chosen = settings(table_path, resume=True)
    check_run_folder(run, chosen)
    for link, target in ((run.log, "diary"), (run.resume_dir, ""), (run.checkpoint_final, "new"), (run.plots_dir, "")):
        link.symlink_to(victim.path / target)
        with pytest.raises(ArtifactError, match=f"{link}: a link that leads out of"):
            check_run_folder(run, chosen)
        link.unlink()
    run.tokenizer_dir.mkdir()
    (run.tokenizer_dir / "tokenizer.json").symlink_to(victim.path / "tokenizer.json")
    save_tokenizer(run, AutoTokenizer.from_pretrained(tiny_backbone))
    assert not (run.tokenizer_dir / "tokenizer.json").is_symlink()
    assert victim.is_untouched()


def test_the_log_and_states_of_a_training(run: RunFolder, victim: Victim) -> None:
    run.log.symlink_to(victim.path / "diary")
    log, state = JsonlLog(run.log), TrainerState(is_world_process_zero=True, log_history=[{"loss": 1.0}])
    for write in (log.on_train_begin, log.on_log):
        with pytest.raises(ArtifactError, match="a link that leads out of"):
            write(Mock(), state, Mock())
    run.resume_dir.mkdir()
    (run.resume_dir / "checkpoint-5").symlink_to(victim.path)
    remove_other_states(run.resume_dir, None)
    assert not [*run.resume_dir.iterdir()]
    assert victim.is_untouched()


def test_parts_of_scored_rows_and_files_of_a_migration(run: RunFolder, victim: Victim) -> None:
    parts = Parts(run.path / "out.csv", {})
    parts.folder.symlink_to(victim.path)
    for resume in (True, False):
        with pytest.raises(ArtifactError, match=r"\.out\.csv\.parts: a link that leads out of"):
            parts.begin(resume=resume)
    (run.path / "report.html").symlink_to(victim.path / "diary")
    with pytest.raises(ArtifactError, match=r"report\.html: a link that leads out of"):
        _write_together({run.path / "thresholds.json": b"", run.path / "report.html": b""})
    assert not (run.path / "thresholds.json").exists()
    assert victim.is_untouched()


def test_links_that_stay_and_links_that_the_user_named(run: RunFolder, victim: Victim, tmp_path: Path) -> None:
    (run.path / "new").mkdir()
    write_json(run.path / "new" / "a.json", {})
    run.thresholds.symlink_to("new/a.json")
    (tmp_path / "link").symlink_to(run.path)
    write_json(tmp_path / "link" / "thresholds.json", {"stays": True})
    assert "stays" in (run.path / "new" / "a.json").read_text()
    (tmp_path / "named").symlink_to(victim.path / "diary")
    write_json(resolve_target(tmp_path / "named"), {})
    assert not victim.is_untouched()


def test_three_files_or_none_on_a_full_disk(
    tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    paths = [tmp_path / name for name in ("thresholds.json", "migration.json", "report.html")]
    _write_together(dict.fromkeys(paths, b"old"))
    for large in range(3):
        contents = {path: b"x" * (2000 if place == large else 10) for place, path in enumerate(paths)}
        with full_disk(1000), pytest.raises(ArtifactError, match=f"{paths[large]}: could not be written"):
            _write_together(contents)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(paths, b"old")
