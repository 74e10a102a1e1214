"""run.json: written flat, read whatever version wrote it, and what is wrong in it is named."""

import json
import shutil
from pathlib import Path

import pytest

from moderation.artifacts import RunFolder
from moderation.errors import ArtifactError
from moderation.flags import to_plain
from moderation.training.run_record import read_record
from moderation.training.runs import run_settings

KEPT = Path(__file__).parent / "records" / "run-0.1.json"
"""The run.json of a training before settings were made of parts."""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    shutil.copy(KEPT, tmp_path / "run.json")
    return RunFolder(tmp_path)


def test_an_older_record_is_read_and_written_again_to_the_byte(run: RunFolder) -> None:
    record = read_record(run)
    assert (record.status, record.processes, record.splits) == ("done", 1, {"train": 480, "val": 60, "test": 60})
    record.write(run.run_json)
    assert run.run_json.read_bytes() == KEPT.read_bytes()


def test_older_settings_become_those_of_today(run: RunFolder) -> None:
    options = run_settings(run)
    assert (options.fit.batch_size, options.model.max_length, options.run.seed) == (16, 32, 42)
    assert options.data.data_path == Path("comments.csv")
    plain = to_plain(options)
    assert plain == json.loads(KEPT.read_text(encoding="utf-8"))["settings"]
    assert [*plain] == [*json.loads(KEPT.read_text(encoding="utf-8"))["settings"]]


def test_a_short_record_is_enough(run: RunFolder) -> None:
    """As the first versions wrote it, without hashes of files and some settings."""
    content = json.loads(KEPT.read_text(encoding="utf-8"))
    for name in ("files", "processes", "training", "git"):
        del content[name]
    del content["settings"]["fold_disguises"]
    run.run_json.write_text(json.dumps(content), encoding="utf-8")
    assert (read_record(run).files, read_record(run).git) == (None, None)
    assert run_settings(run).model.fold_disguises is False


@pytest.mark.parametrize(
    ("change", "where"),
    [({"files": ["x"]}, "in files"), ({"processes": "1"}, "in processes"), ({"settings": None}, "in settings")],
)
def test_problems_of_a_record_are_named(run: RunFolder, change: dict[str, object], where: str) -> None:
    content = json.loads(KEPT.read_text(encoding="utf-8")) | change
    run.run_json.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ArtifactError, match=rf"run\.json: no record of a run \(damaged {where}"):
        read_record(run)
