"""Files of a run: whole or not at all, read with a clear error, hashed."""

import dataclasses
import errno
import hashlib
import json
import os
import stat
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moderation import artifacts
from moderation.arrays import read_array, sidecar, write_array
from moderation.artifacts import RunFolder, read_json, sha256, write_atomically, write_json
from moderation.errors import ArtifactError, ModerationError
from moderation.evaluation.chosen_thresholds import read_chosen
from tests.attack_table import Attack


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_file_of_a_run_has_a_name_of_its_own(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    named = [getattr(run, name) for name, kind in vars(RunFolder).items() if isinstance(kind, property)]
    named += [of(split) for of in (run.preds, run.labels, run.metrics) for split in ("train", "val", "test")]
    named += [sidecar(of(split)) for of in (run.preds, run.labels) for split in ("train", "val", "test")]
    assert len(set(named)) == len(named)
    assert {path.parent for path in named} == {tmp_path}
    assert run.preds("val").name == "preds_val.npy"
    assert run.labels("val").name == "labels_val.npy"
    assert run.checkpoint_best.name == "checkpoint_best.pt"
    assert run.thresholds.name == "thresholds.json"
    assert sidecar(run.preds("val")).name == "preds_val.json"


def test_a_run_folder_is_a_name_and_nothing_more(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "not-there")
    assert not run.path.exists()
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.path = tmp_path  # type: ignore[misc]


def test_a_file_appears_whole_under_its_name_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.txt"
    with write_atomically(path) as temporary:
        assert temporary.parent == path.parent, "a rename between file systems would not be atomic"
        temporary.write_text("whole", encoding="utf-8")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "whole"
    assert names_in(path.parent) == ["a.txt"]


def test_two_writers_of_one_path_do_not_meet(tmp_path: Path) -> None:
    """In one process too: each has a temporary file of its own, and the last to finish wins."""
    path = tmp_path / "a.txt"
    with write_atomically(path) as first, write_atomically(path) as second:
        assert first != second
        first.write_text("first", encoding="utf-8")
        second.write_text("second", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "first", "the outer block ends last"
    assert names_in(tmp_path) == ["a.txt"]


def test_many_threads_write_one_path_and_every_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_json(path, {"number": number, "more": "x" * 5000}), range(64)))
        assert len(read_json(path, "a test")["more"]) == 5000
    assert names_in(tmp_path) == ["a.json"]


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    synced = []

    def sync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, path.exists()))

    monkeypatch.setattr(os, "fsync", sync)
    with write_atomically(path) as temporary:
        temporary.write_text("whole", encoding="utf-8")
        inode = temporary.stat().st_ino
    assert synced[0] == (inode, False), "the file first, while it has no name"
    if os.name == "posix":
        assert synced[1:] == [(tmp_path.stat().st_ino, True)], "then the folder with its name"


def test_a_disk_that_fails_at_the_last_moment_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ArtifactError, match="Input/output error"):
        write_json(path, {})
    assert path.read_text(encoding="utf-8") == "old"
    assert names_in(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("bug"), OSError(28, "No space left on device")])
def test_an_error_leaves_the_old_file_and_no_temporary_one(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises((ArtifactError, type(error))) as caught, write_atomically(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise error
    assert path.read_text(encoding="utf-8") == "old"
    assert names_in(tmp_path) == ["a.txt"]
    if isinstance(error, OSError):
        assert isinstance(caught.value, ArtifactError)
        assert str(path) in str(caught.value)
        assert "No space left on device" in str(caught.value)
    else:
        assert caught.value is error, "what is no fault of the file system is handed on as it is"


POSIX = pytest.mark.skipif(sys.platform == "win32", reason="links and permissions of POSIX")


@POSIX
@pytest.mark.hostile("symbolic links")
def test_the_target_of_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    file = tmp_path / "there" / "a.json"
    file.write_text("{}", encoding="utf-8")
    (tmp_path / "one").symlink_to("there/a.json")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    (tmp_path / "folder").symlink_to("there")
    for number, path in enumerate((tmp_path / "one", tmp_path / "two", tmp_path / "folder" / "a.json")):
        write_json(path, {"number": number})
        assert json.loads(file.read_text(encoding="utf-8")) == {"number": number}
    assert [path.is_symlink() for path in sorted(tmp_path.iterdir())] == [True, True, False, True]
    assert names_in(tmp_path / "there") == ["a.json"]


@POSIX
@pytest.mark.hostile("symbolic links")
def test_something_that_is_not_a_file_is_not_replaced_by_one(tmp_path: Path, attack: Attack) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to-nothing").symlink_to("nothing")
    (tmp_path / "to-nowhere").symlink_to("no/folder/at/all")
    (tmp_path / "to-folder").symlink_to("folder")
    (tmp_path / "to-device").symlink_to("/dev/null")
    (tmp_path / "to-itself").symlink_to("to-itself")
    (tmp_path / "in").symlink_to("circle")
    (tmp_path / "circle").symlink_to("in")
    before = names_in(tmp_path)
    kinds = {"to-nothing": "which does not exist", "to-nowhere": "which does not exist", "to-itself": "", "in": ""}
    kinds |= {
        "folder": "a folder",
        "to-folder": "a folder",
        "pipe": "device or a pipe",
        "to-device": "device or a pipe",
    }
    for name, words in kinds.items():
        with pytest.raises(ArtifactError, match=rf"{name}: could not be written \(.*{words}"):
            write_json(tmp_path / name, {})
    assert names_in(tmp_path) == before
    assert Path("/dev/null").is_char_device()
    attack.tried(len(kinds))


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o444, 0o664])
def test_a_new_file_gets_the_permissions_of_the_one_it_replaces(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.json"
    write_json(path, {})
    new = stat.S_IMODE(path.stat().st_mode)
    path.chmod(mode)
    with write_atomically(path) as temporary:
        temporary.write_text("{}", encoding="utf-8")
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600, "nobody else reads what grows"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    write_json(tmp_path / "b.json", {})
    assert stat.S_IMODE((tmp_path / "b.json").stat().st_mode) == new, "a new one has what the umask gives"
    with write_atomically(tmp_path / "c.json", private=True) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        temporary.write_text("{}")
    assert stat.S_IMODE((tmp_path / "c.json").stat().st_mode) == 0o600, "unless it is for its owner alone"


@POSIX
def test_a_group_that_cannot_be_kept_gets_no_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {})
    path.chmod(0o664)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    write_json(path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_file_in_place_of_the_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"run[/\\]run\.json: could not be written"):
        write_json(tmp_path / "run" / "run.json", {})
    assert (tmp_path / "run").read_text(encoding="utf-8") == "a file"


def test_json_is_readable_utf8_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    content = {"name": "Übel", "numbers": [1, 0.5, None], "nested": {"b": True}}
    write_json(path, content)
    assert read_json(path, "a test") == content
    assert "Übel" in path.read_text(encoding="utf-8")
    assert path.read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_values_that_json_cannot_hold_are_refused_and_nothing_is_written(tmp_path: Path, number: float) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"value": number})
    assert read_json(path, "a test") == {"old": 1}
    assert names_in(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "no such file"),
        (b"", "not valid JSON"),
        (b'{"a": 1', "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_json_that_cannot_be_used_is_named_with_what_was_expected(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "thresholds.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=complaint) as caught:
        read_json(path, "thresholds of a run")
    assert str(path) in str(caught.value)
    assert "expected thresholds of a run" in str(caught.value)


def test_a_folder_in_place_of_a_file_is_a_clear_error(tmp_path: Path) -> None:
    for read in (lambda path: read_json(path, "a test"), read_array, sha256):
        with pytest.raises(ArtifactError, match=str(tmp_path.name)):
            read(tmp_path)


def test_an_array_comes_back_bit_by_bit_with_its_sidecar(tmp_path: Path) -> None:
    path = tmp_path / "preds_val.npy"
    array = np.random.default_rng(0).random((7, 3), dtype=np.float32)
    write_array(path, array, {"labels": ["a", "b", "c"], "split": "val"})
    again = read_array(path)
    assert again.dtype == np.float32
    assert again.tobytes() == array.tobytes()
    beside = json.loads(sidecar(path).read_text(encoding="utf-8"))
    assert (beside["split"], beside["sha256"]) == ("val", sha256(path))
    assert names_in(tmp_path) == ["preds_val.json", "preds_val.npy"]


def test_a_kill_between_an_array_and_its_sidecar_leaves_the_new_array_and_a_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "preds_val.npy"
    write_array(path, np.zeros((7, 3)), {"split": "val"})
    with monkeypatch.context() as patch:
        patch.setattr("moderation.arrays.write_json", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_array(path, np.ones((7, 3)), {"split": "val"})
    assert np.load(path).all()
    with pytest.raises(ArtifactError, match=r"killed between .* moderation evaluate"):
        read_array(path)
    write_array(path, np.ones((7, 3)), {"split": "val"})
    assert read_array(path).all()


def test_an_array_that_is_replaced_while_it_is_read_is_the_one_that_was_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = tmp_path / "preds_val.npy", np.lib.format.read_array
    write_array(path, np.ones((7, 3)), {"split": "val"})

    def read_late(file: IO[bytes], **settings: bool) -> object:
        path.unlink()
        np.save(path, np.zeros((7, 3)))
        return read(file, **settings)

    monkeypatch.setattr(np.lib.format, "read_array", read_late)
    assert read_array(path).all()


def saved(array: object, path: Path, *, pickled: bool = False) -> bytes:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=pickled)
    return path.read_bytes()


def broken_arrays(folder: Path) -> dict[str, bytes]:
    whole = saved(np.ones((50, 2), dtype=np.float32), folder / "whole.npy")
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        archive.writestr("a.txt", "a" * 1000)
    np.savez(folder / "several.npz", a=np.ones(3))
    huge = whole.replace(b"(50, 2)", b"(50, 2" + b"0" * 14 + b")").replace(b" " * 14 + b"\n", b"\n")
    assert len(huge) == len(whole)
    return {
        "empty": b"",
        "cut in the header": whole[:20],
        "cut in the numbers": whole[:-10],
        "a size that no machine holds": huge,
        "text": b"toxic,threat\n0,1\n",
        "pickled objects": saved(np.array([{"a": 1}], dtype=object), folder / "o.npy", pickled=True),
        "a bare pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.",
        "strings": saved(np.array(["a", "b"]), folder / "s.npy"),
        "complex numbers": saved(np.array([1j]), folder / "c.npy"),
        "a zip": (folder / "z.zip").read_bytes(),
        "a cut zip": (folder / "z.zip").read_bytes()[:30],
        "several arrays": (folder / "several.npz").read_bytes(),
    }


@pytest.mark.hostile("odd .npy")
def test_an_array_that_cannot_be_used_is_refused(tmp_path: Path, attack: Attack) -> None:
    path = tmp_path / "preds.npy"
    with pytest.raises(ArtifactError, match="no such file"):
        read_array(path)
    for what, content in broken_arrays(tmp_path).items():
        path.write_bytes(content)
        with pytest.raises(ArtifactError) as caught:
            read_array(path)
        assert str(caught.value).startswith(f"{path}: "), what
        attack.tried()


@pytest.mark.hostile("pickles")
def test_a_pickle_in_an_array_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    saved(np.array([Trap()], dtype=object), tmp_path / "trap.npy", pickled=True)
    with pytest.raises(ArtifactError):
        read_array(tmp_path / "trap.npy")
    assert not (tmp_path / "ran").exists()


@pytest.mark.hostile("odd .npy")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 127), byte=st.integers(0, 255), cut=st.integers(0, 160))
def test_a_damaged_array_gives_numbers_or_a_clear_error_and_nothing_else(
    tmp_path: Path, position: int, byte: int, cut: int, attack: Attack
) -> None:
    attack.tried()
    path = tmp_path / "damaged.npy"
    content = bytearray(saved(np.ones((4, 2), dtype=np.float32), path))
    content[position] = byte
    path.write_bytes(content[: len(content) - cut if cut < 40 else None])
    try:
        array = read_array(path)
    except ArtifactError as error:
        assert str(path) in str(error)
    else:
        assert array.dtype.kind in "fiub"


@pytest.mark.parametrize("content", [b"", b"a", os.urandom(3 * 2**20 + 1)], ids=["empty", "one byte", "3 MiB"])
def test_the_hash_is_that_of_hashlib(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    assert sha256(path) == hashlib.sha256(content).hexdigest()


def test_the_hash_of_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"gone\.csv: cannot be read"):
        sha256(tmp_path / "gone.csv")


@pytest.mark.skipif(sys.platform == "win32", reason="file permissions of POSIX")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ArtifactError, match="Permission denied"):
            write_json(tmp_path / "a.json", {})
    finally:
        tmp_path.chmod(0o700)


@POSIX
@pytest.mark.hostile("pipes and devices")
@pytest.mark.parametrize("read", [lambda path: read_json(path, "a thing"), read_array, sha256, read_chosen])
def test_a_pipe_or_a_device_is_not_waited_for(read: Callable[[Path], object], tmp_path: Path, attack: Attack) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to-pipe").symlink_to("pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "terminal").symlink_to("/dev/tty")
    for name in ("pipe", "to-pipe", "endless", "terminal"):
        with pytest.raises(ModerationError, match=r"cannot be read"):
            read(tmp_path / name)
        attack.tried()


@pytest.mark.hostile("pipes and devices")
def test_json_beyond_its_limit_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "_MOST_JSON", 1 << 20)
    (tmp_path / "a.json").write_text('{"a": 1}' + " " * (1 << 20), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"a\.json: cannot be read \(more than 1 MiB\)"):
        read_json(tmp_path / "a.json", "a thing")


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_constant_that_is_not_a_json_number_is_refused_with_the_file(number, tmp_path):
    (tmp_path / "run.json").write_text(f'{{"a": [{number}]}}')
    with pytest.raises(ArtifactError, match=r"run\.json: not valid JSON \(.*number.*\); expected a run"):
        read_json(tmp_path / "run.json", "a run")
