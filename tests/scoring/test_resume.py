"""Parts: rows that are finished and kept, whatever their sizes, until they make the output."""

import dataclasses
import os

import pyarrow as pa
import pytest

from moderation.errors import ArtifactError
from moderation.scoring.resume import Part, Parts, check_output
from moderation.scoring.run import missing_rows
from moderation.scoring.writers import output_format

BATCH = pa.RecordBatch.from_pydict({"text": ["a", "b"]})


def finish(parts, found):
    return list(parts.finish(found, output_format(parts.output), BATCH.schema))


def begun(path, fingerprint=None):
    parts = Parts(path, fingerprint or {})
    assert parts.begin(resume=False) == []
    return parts


def test_parts_become_the_output_and_go(tmp_path):
    check_output(tmp_path / "o.csv", resume=False, overwrite=False)
    parts = begun(tmp_path / "o.csv", {"model": "m"})
    first = parts.write(0, [BATCH])
    with pytest.raises(ArtifactError, match="--resume"):
        check_output(parts.output, resume=False, overwrite=False)
    with pytest.raises(ArtifactError, match="model was m, now n"):
        dataclasses.replace(parts, fingerprint={"model": "n"}).begin(resume=True)
    assert parts.begin(resume=True) == [first]
    second = parts.write(2, [BATCH, BATCH])
    assert (second.first, second.n_rows, second.end) == (2, 4, 6)
    assert sum(batch.num_rows for batch in finish(parts, [first, second])) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["o.csv"]
    assert parts.output.read_text() == "text\na\nb\na\nb\na\nb\n"
    with pytest.raises(ArtifactError, match=r"the file exists\."):
        check_output(parts.output, resume=False, overwrite=False)
    check_output(parts.output, resume=False, overwrite=True)


def test_an_incomplete_or_foreign_part_does_not_count(tmp_path):
    parts = begun(tmp_path / "o.csv", {"input": "a"})
    part = parts.write(0, [BATCH])
    other = begun(tmp_path / "other.csv", {"input": "b"}).write(0, [BATCH])
    content = (tmp_path / ".other.csv.parts" / other.name).read_bytes()
    (parts.folder / other.name).write_bytes(content)
    assert parts.read(other) is None, "the same rows of another input"
    assert parts.begin(resume=True) == [part]
    (parts.folder / part.name).write_bytes((parts.folder / part.name).read_bytes()[:100])
    assert parts.begin(resume=True) == []


def test_two_runs_that_write_one_output_never_mix_their_rows(tmp_path):
    parts = begun(tmp_path / "o.csv", {"input": "a"})
    mine = [parts.write(0, [BATCH])]
    others = begun(tmp_path / "o.csv", {"input": "b"})  # with --overwrite, say
    theirs = [others.write(0, [pa.RecordBatch.from_pydict({"text": ["x"]})])]
    mine.append(parts.write(2, [BATCH]))
    assert others.begin(resume=True) == theirs
    with pytest.raises(ArtifactError, match="another run with the same output"):
        finish(parts, mine)
    finish(others, theirs)
    assert others.output.read_text() == "text\nx\n"


def test_only_one_of_overlapping_parts_is_used(tmp_path):
    parts = begun(tmp_path / "o.csv")
    first, _, third = parts.write(0, [BATCH]), parts.write(1, [BATCH]), parts.write(5, [BATCH])
    assert parts.begin(resume=True) == [first, third]
    assert list(missing_rows(0, 8, [first, third])) == [(2, 5), (7, 8)]
    assert list(missing_rows(1, 2, [first, third])) == []
    assert list(missing_rows(4, 6, [first, third])) == [(4, 5)]
    assert list(missing_rows(8, 9, [Part(0, 3, "")])) == [(8, 9)]


def test_an_output_that_appeared_meanwhile_is_not_replaced_without_overwrite(tmp_path):
    parts = begun(tmp_path / "o.csv")
    part = parts.write(0, [BATCH])
    parts.output.write_text("mine", encoding="utf-8")
    with pytest.raises(ArtifactError, match="--resume --overwrite"):
        check_output(parts.output, resume=True, overwrite=False)
    check_output(parts.output, resume=True, overwrite=True)
    assert parts.begin(resume=True) == [part], "the parts of a run with --overwrite are not lost"


def test_a_run_continues_after_a_kill_between_writing_the_output_and_removing_its_parts(tmp_path, monkeypatch):
    parts = begun(tmp_path / "o.csv")
    part = parts.write(0, [BATCH])
    with monkeypatch.context() as killed:
        killed.setattr(Parts, "remove", lambda self: None)
        finish(parts, [part])
    written = parts.output.read_bytes()
    check_output(parts.output, resume=True, overwrite=False)
    assert parts.begin(resume=True) == [part]
    finish(parts, [part])
    assert parts.output.read_bytes() == written
    assert [path.name for path in tmp_path.iterdir()] == ["o.csv"]


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")])
def test_a_part_that_went_missing_or_was_changed_stops_and_keeps_the_others(tmp_path, damage):
    parts = begun(tmp_path / "o.parquet")
    first, second = parts.write(0, [BATCH]), parts.write(2, [BATCH])
    damage(parts.folder / second.name)
    with pytest.raises(ArtifactError, match="disappeared or was changed"):
        finish(parts, [first, second])
    assert {first.name, "parts.json"} <= {path.name for path in parts.folder.iterdir()}
    assert not parts.output.exists()
    assert parts.begin(resume=True) == [first]


def test_parts_of_another_format_are_named_as_such(tmp_path):
    parts = begun(tmp_path / "o.csv")
    parts.about.write_text('{"format": 1}', encoding="utf-8")
    with pytest.raises(ArtifactError, match="another version of the toolkit"):
        parts.begin(resume=True)


@pytest.mark.skipif(os.name != "posix", reason="permissions")
def test_only_the_owner_can_read_the_parts(tmp_path):
    assert begun(tmp_path / "new" / "o.csv", {"model": "m"}).folder.stat().st_mode & 0o777 == 0o700
