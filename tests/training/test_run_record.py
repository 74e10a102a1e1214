"""run.json: written flat, read whatever version wrote it, and what is wrong in it is named."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from moderation.artifacts import RunFolder
from moderation.errors import ArtifactError, ConfigError
from moderation.flags import to_plain
from moderation.options import build, change
from moderation.run_records import BackboneFacts, read_record
from moderation.training.options import TrainOptions
from moderation.training.run_record import RunFacts, _check_same_run, begin_run, check_run_folder
from moderation.training.runs import run_settings

KEPT = Path(__file__).parent / "records" / "run-0.1.json"
"""The run.json of a training before settings were made of parts."""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    shutil.copy(KEPT, tmp_path / "run.json")
    return RunFolder(tmp_path)


def test_an_older_record_is_read_and_written_again_to_the_byte(run: RunFolder) -> None:
    record = read_record(run.run_json)
    assert (record.status, record.processes, record.splits) == ("done", 1, {"train": 480, "val": 60, "test": 60})
    record.write(run.run_json)
    assert run.run_json.read_bytes() == KEPT.read_bytes()


def test_older_settings_become_those_of_today(run: RunFolder) -> None:
    options = run_settings(run)
    assert (options.fit.batch_size, options.model.max_length, options.run.seed) == (16, 32, 42)
    assert options.data.data_path == Path("comments.csv")
    plain = to_plain(options)
    kept = json.loads(KEPT.read_text(encoding="utf-8"))["settings"]
    assert plain == kept | {"partial_labels": False, "languages": ["en"]}  # which came later, with these defaults
    assert [name for name in plain if name in kept] == [*kept]


def test_a_short_record_is_enough(run: RunFolder) -> None:
    """As the first versions wrote it, without hashes of files and some settings."""
    content = json.loads(KEPT.read_text(encoding="utf-8"))
    for name in ("files", "processes", "training", "git"):
        del content[name]
    del content["settings"]["fold_disguises"]
    run.run_json.write_text(json.dumps(content), encoding="utf-8")
    assert (read_record(run.run_json).files, read_record(run.run_json).git) == (None, None)
    assert run_settings(run).model.fold_disguises is False


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"files": ["x"]}, "files is not an object"),
        ({"processes": "1"}, "processes is not a whole number"),
        ({"settings": None}, "settings is not an object"),
        ({"hardware": {"cpu": "x"}}, "hardware.cores is missing"),
        ({"version": "1"}, "format version"),
        ({"version": True}, "format version"),
        ({"version": 1.5}, "format version"),
        ({"format": "another"}, "not in the format"),
    ],
)
def test_problems_of_a_record_are_named(run: RunFolder, change: dict[str, object], where: str) -> None:
    content = json.loads(KEPT.read_text(encoding="utf-8")) | change
    run.run_json.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ArtifactError, match=rf"run\.json: .*{where}"):
        read_record(run.run_json)


def test_a_record_of_a_newer_version_is_refused_and_one_without_a_version_is_read(run: RunFolder) -> None:
    content = json.loads(KEPT.read_text(encoding="utf-8"))
    run.run_json.write_text(json.dumps(content | {"version": 2}), encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(ArtifactError, match=r"run\.json: format version 2, expected 1\. Update this program"):
            check_run_folder(run, settings(overwrite=overwrite))
    del content["version"]
    run.run_json.write_text(json.dumps(content), encoding="utf-8")
    assert read_record(run.run_json).status == "done"


def settings(**changes: object) -> TrainOptions:
    return build(TrainOptions, {"data_path": Path("comments.csv"), **changes})


@pytest.mark.parametrize("content", [None, "", "{}", '{"format": "of another program"}', "a folder"])
def test_overwrite_spares_a_folder_that_shows_no_run(run: RunFolder, content: str | None) -> None:
    """A project folder may well have folders named plots, or wandb."""
    run.run_json.unlink()
    if content == "a folder":
        run.run_json.mkdir()
    elif content is not None:
        run.run_json.write_text(content, encoding="utf-8")
    (run.path / "wandb").mkdir()
    with pytest.raises(ArtifactError, match=r"(?s)run\.json.*(move them away|remove the folder yourself)"):
        check_run_folder(run, settings(overwrite=True))


def test_overwrite_removes_what_the_run_wrote_and_nothing_else(run: RunFolder) -> None:
    ours = ("plots", "tokenizer", "resume", "preds_val.npy", "metrics_test.json", "log.jsonl")
    others = ("tensorboard", "wandb", "notes.txt", "metrics.json", "mlflow.db")
    for name in (*ours, *others):  # the run tracked nothing
        (run.path / name).write_bytes(b"") if "." in name else (run.path / name).mkdir()
    check_run_folder(run, settings(overwrite=True))
    begin_run(run, settings(overwrite=True, data_path=KEPT, track=("wandb",)), RunFacts())
    assert {path.name for path in run.path.iterdir()} == {*others, "run.json"}
    begin_run(run, settings(overwrite=True, data_path=KEPT), RunFacts())
    assert {path.name for path in run.path.iterdir()} == {*others, "run.json"} - {"wandb"}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    ("name", "put"),
    [
        ("checkpoint_final.pt", Path.mkdir),
        ("report.html", Path.mkdir),
        ("plots", Path.touch),
        ("resume", Path.touch),
    ],
)
def test_what_is_in_the_way_is_found_before_the_training(
    run: RunFolder, name: str, put: Callable[[Path], None], resume: bool
) -> None:
    begin_run(run, settings(overwrite=True, data_path=KEPT), RunFacts())
    put(run.path / name)
    with pytest.raises(ArtifactError, match=f"{run.path / name}: "):
        check_run_folder(run, settings(overwrite=not resume, resume=resume, data_path=KEPT))


def test_a_state_that_cannot_be_resumed_is_found_before_the_training(run: RunFolder) -> None:
    begin_run(run, settings(data_path=KEPT), RunFacts())
    run.resume_dir.mkdir()
    (run.resume_dir / "checkpoint-20").mkdir()
    (run.resume_dir / "checkpoint-20" / "state.json").write_text("{}", encoding="utf-8")
    (run.resume_dir / "checkpoint-30").symlink_to("missing")
    for message in ("checkpoint-30: a link to nothing", r"state\.json: not a list of a state's files"):
        with pytest.raises(ArtifactError, match=message):
            check_run_folder(run, settings(resume=True, data_path=KEPT))
        (run.resume_dir / "checkpoint-30").unlink(missing_ok=True)


def test_a_run_that_is_older_than_a_setting_goes_on_with_its_default(tiny_run: Path, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(tiny_run, tmp_path / "run"))
    record = json.loads(run.run_json.read_text(encoding="utf-8"))
    for name in ("partial_labels", "languages"):
        del record["settings"][name]
    run.run_json.write_text(json.dumps(record | {"status": "interrupted"}), encoding="utf-8")
    _check_same_run(run, read_record(run.run_json), run_settings(run))
    with pytest.raises(ConfigError, match=r"languages: was \['en'\], is \['de'\]"):
        _check_same_run(run, read_record(run.run_json), change(run_settings(run), languages=("de",)))


@pytest.mark.parametrize("changed", ["weights", "config", "tokenizer"])
def test_a_run_goes_on_with_its_own_backbone_only(run: RunFolder, changed: str) -> None:
    backbone = BackboneFacts("x", config_sha256="a", tokenizer_sha256="b")
    facts = RunFacts(labels=("toxic",), precision="fp32", splits={}, backbone=backbone)
    options = settings(resume=True, data_path=KEPT)
    begin_run(run, options, facts)  # the record of an older version knows no hashes of these files
    begin_run(run, options, facts)
    other = dataclasses.replace(facts, backbone=dataclasses.replace(backbone, **{f"{changed}_sha256": "c"}))
    if changed == "weights":  # those of a run with random weights are not known
        begin_run(run, options, other)
        other = dataclasses.replace(facts, backbone=dataclasses.replace(backbone, weights_sha256="d"))
    with pytest.raises(ArtifactError, match=rf"the backbone changed since this run began \({changed}\)"):
        begin_run(run, options, other)
