"""Claims on outputs: one writer at a time, who is named to all others, and nothing left behind."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from moderation import cli, locks
from moderation.errors import ArtifactError
from moderation.locks import claimed, refuse_claimed
from tests.attack_table import Attack

TWO_RUNS = "two runs, one output"

HOLD = """
import sys
from pathlib import Path
from moderation.locks import claimed
with claimed(Path(sys.argv[1]), "score", source=Path(sys.argv[2]), inside=len(sys.argv) > 3):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(path: Path, source: Path = Path("in.csv"), *, inside: bool = False) -> Iterator[subprocess.Popen[str]]:
    """Another process that has claimed an output."""
    words = [sys.executable, "-c", HOLD, str(path), str(source), *["inside"] * inside]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_pipe_under_the_name_of_a_lock_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".out.csv.lock")
    with pytest.raises(ArtifactError, match=r"\.out\.csv\.lock: a lock must be written here, but this is a pipe"):
        claimed(tmp_path / "out.csv", "score").__enter__()


@pytest.mark.hostile(TWO_RUNS)
def test_the_second_writer_is_refused_and_learns_who_was_first(tmp_path: Path, attack: Attack) -> None:
    (tmp_path / "in.csv").write_text("123456", encoding="utf-8")
    (tmp_path / "link.csv").symlink_to("out.csv")
    (tmp_path / "here").symlink_to(tmp_path)
    with held(tmp_path / "out.csv", tmp_path / "in.csv") as first:
        for name in ("out.csv", "link.csv", "here/out.csv", "here/here/link.csv", "./out.csv"):
            with pytest.raises(ArtifactError, match="another process is writing it") as caught:
                claimed(tmp_path / name, "score").__enter__()
            said = str(caught.value)
            assert f"moderation score of {tmp_path / 'in.csv'} (6 bytes), process {first.pid} on" in said
            attack.tried()
        with claimed(tmp_path / "other.csv", "score"):
            pass
        assert (tmp_path / ".out.csv.lock").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".out.csv.lock").exists(), "it was killed"
    with claimed(tmp_path / "out.csv", "score"):
        record = json.loads((tmp_path / ".out.csv.lock").read_bytes())
        assert (record["process"], record["host"]) == (os.getpid(), platform.node())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "in.csv", "link.csv"]


def test_a_process_that_ends_by_itself_releases_its_lock_too(tmp_path: Path) -> None:
    with held(tmp_path / "out.csv") as first:
        first.communicate("")
        with claimed(tmp_path / "out.csv", "score"):
            pass
    assert not list(tmp_path.iterdir())


def test_threads_never_hold_the_same_claim_at_once_although_its_file_comes_and_goes(tmp_path: Path) -> None:
    alone, worked = threading.Lock(), []

    def work(number: int) -> None:
        with claimed(tmp_path / "out.csv", "score", wait_s=60):
            assert alone.acquire(blocking=False)
            worked.append(number)
            alone.release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(64)))
    assert sorted(worked) == list(range(64))
    assert not list(tmp_path.iterdir())


def test_a_claim_on_a_file_that_was_removed_before_it_was_locked_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner lets go between the opening and the locking of the next one."""
    lock, real, n_opened = tmp_path / ".out.csv.lock", locks._lock, []

    def late(descriptor: int) -> None:
        if not n_opened:
            lock.unlink()
        n_opened.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(locks, "_lock", late)
    with claimed(tmp_path / "out.csv", "score"), pytest.raises(ArtifactError):
        claimed(tmp_path / "out.csv", "score").__enter__()
    assert len(n_opened) >= 3
    assert not list(tmp_path.iterdir())


def test_a_folder_keeps_its_lock_inside_and_is_not_left_behind(tmp_path: Path) -> None:
    with claimed(tmp_path / "a" / "b" / "run", "train", inside=True):
        assert (tmp_path / "a" / "b" / "run" / ".lock").exists()
        with pytest.raises(ArtifactError, match="moderation train, process"):
            claimed(tmp_path / "a" / "b" / "run", "evaluate", inside=True).__enter__()
    assert not list(tmp_path.iterdir())
    with claimed(tmp_path / "run", "train", inside=True):
        (tmp_path / "run" / "kept").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["kept"]
    with pytest.raises(ArtifactError, match="is a file; expected a folder"):
        claimed(tmp_path / "run" / "kept", "train", inside=True).__enter__()


@pytest.mark.parametrize("content", [b"mine", b'{"format": "another"}', b"\0" * 100])
def test_a_file_with_the_name_of_a_lock_is_not_overwritten(content: bytes, tmp_path: Path) -> None:
    lock = tmp_path / ".out.csv.lock"
    lock.write_bytes(content)
    with pytest.raises(ArtifactError, match="not a lock file of this toolkit"):
        claimed(tmp_path / "out.csv", "score").__enter__()
    assert lock.read_bytes() == content


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
def test_a_link_in_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"")
    (tmp_path / ".out.csv.lock").symlink_to("victim")
    with pytest.raises(ArtifactError, match="remove it"):
        claimed(tmp_path / "out.csv", "score").__enter__()
    assert (tmp_path / "victim").read_bytes() == b""


@pytest.mark.parametrize("cut", [0, 5, 36, 60])
def test_a_record_that_a_kill_left_half_written_blocks_nobody(cut: int, tmp_path: Path) -> None:
    lock = tmp_path / ".out.csv.lock"
    lock.write_bytes(locks._describe("score", None).to_bytes()[:cut])
    with claimed(tmp_path / "out.csv", "score"):
        assert json.loads(lock.read_bytes())["process"] == os.getpid()


def test_whoever_was_killed_on_another_host_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A volume's locks may not reach from host to host."""
    owner = replace(locks._describe("score", Path("in\x1b[2J\udcff.csv")), host="elsewhere", process=7)
    (tmp_path / ".out.csv.lock").write_bytes(owner.to_bytes())
    with caplog.at_level("INFO", logger="moderation"), claimed(tmp_path / "out.csv", "score"):
        pass
    (said,) = (entry.getMessage() for entry in caplog.records)
    assert "taken over from moderation score of in\\u001b[2J\\udcff.csv, process 7 on elsewhere" in said


def test_a_file_system_without_locks_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks, "_lock", refuse)
    monkeypatch.setattr(locks, "_NO_LOCKS", {95})
    with claimed(tmp_path / "out.csv", "score"):
        pass
    assert "has no locks" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "out.csv", tmp_path / ("x" * 252)):
        with pytest.raises(ArtifactError, match="could not be created"):
            claimed(path, "score").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


VERBS: dict[str, tuple[str, Callable[[Path], Path], bool]] = {
    "train": ("train --data-path {0}/t.csv --output-dir {0}/run", lambda folder: folder / "run", True),
    "resumed": ("train --data-path {0}/t.csv --output-dir {0}/run --resume", lambda folder: folder / "run", True),
    "replaced": ("train --data-path {0}/t.csv --output-dir {0}/run --overwrite", lambda folder: folder / "run", True),
    "tune": ("tune --preds {0}/run/preds_val.npy --labels {0}/run/labels_val.npy", lambda folder: folder / "run", True),
    "tune --out": (
        "tune --preds {0}/run/preds_val.npy --labels {0}/run/labels_val.npy --out {0}/mine.json",
        lambda folder: folder / "mine.json",
        False,
    ),
    "evaluate": ("evaluate --checkpoint {0}/run/checkpoint_best.pt", lambda folder: folder / "run", True),
    "export": ("export {0}/run --to {0}/bundle --formats hf", lambda folder: folder / "bundle", False),
    "exported": ("export {0}/run --to {0}/bundle --formats hf", lambda folder: folder / "run", True),
    "suites": ("evaluate --suite hatecheck={0}/t.csv --json {0}/b.json", lambda folder: folder / "b.json", False),
    "page": (
        "evaluate --suite hatecheck={0}/t.csv --output-dir {0}/b",
        lambda folder: folder / "b" / "suites.html",
        False,
    ),
    "feedback": ("feedback export -o {0}/f.csv --overwrite", lambda folder: folder / "f.csv", False),
    "migrate": ("migrate {0}/t.csv -o {0}/m", lambda folder: folder / "m", True),
    "score": ("score {0}/t.csv -o {0}/s.csv --overwrite", lambda folder: folder / "s.csv", False),
    "a text": ("score --text hello -o {0}/s.csv --overwrite", lambda folder: folder / "s.csv", False),
}


@pytest.mark.hostile(TWO_RUNS)
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_writes_for_some_time_is_refused(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, output, inside = VERBS[verb]
    (tmp_path / "t.csv").write_text("comment_text,toxic\na,0\nb,1\n", encoding="utf-8")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}", encoding="utf-8")
    with claimed(output(tmp_path), "score", inside=inside):
        before = sorted(tmp_path.rglob("*"))
        assert cli.main(words.format(tmp_path).split()) == 1
        assert "another process is writing it: moderation score, process" in capsys.readouterr().err
        assert sorted(tmp_path.rglob("*")) == before


def test_readers_claim_nothing_and_need_no_right_to_write(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lock = tmp_path / ".lock"
    refuse_claimed(tmp_path)
    assert not lock.exists()
    lock.write_text("left by a process that was killed", encoding="utf-8")
    lock.chmod(0o400)
    refuse_claimed(tmp_path)
    assert lock.read_text(encoding="utf-8") == "left by a process that was killed"
    lock.unlink()
    lock.symlink_to("elsewhere")
    refuse_claimed(tmp_path)
    assert "whether a run is writing there is unknown" in caplog.text
    lock.unlink()
    with held(tmp_path, inside=True) as first, pytest.raises(ArtifactError, match=f"process {first.pid} on .*Wait"):
        refuse_claimed(tmp_path)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of POSIX")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_signal_frees_the_claim(number: str, tmp_path: Path) -> None:
    with held(tmp_path / "out.csv") as first:
        first.send_signal(getattr(signal, number))
        first.wait(30)
        with claimed(tmp_path / "out.csv", "score"):
            pass
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_too_long_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the name is too long"), claimed(tmp_path / ("x" * 254), "score"):
        pass
