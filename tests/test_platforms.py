"""What the code does on Windows and macOS, simulated here: docs/platforms.md says what that proves and what not."""

import ast
import asyncio
import errno
import fcntl
import importlib.util
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import psutil
import pytest

from moderation import artifacts, cores, memory
from moderation.errors import ArtifactError
from moderation.export import staging
from moderation.serving.connection import connections
from moderation.serving.feedback import databases
from moderation.serving.processes import listening, stopping, supervisor
from moderation.training import environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="simulates the other systems on Linux")

ROOT = Path(__file__).parents[1]
POSIX_ONLY = ("chown", "fork", "geteuid", "getuid", "mknod", "posix_fallocate", "sched_getaffinity")
POSIX_FLAGS = ("O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK")


def windows_os() -> SimpleNamespace:
    """The module `os` as it is on Windows: without what is POSIX's alone, and with no way to open a folder."""
    names = {name: value for name, value in vars(os).items() if name not in (*POSIX_ONLY, *POSIX_FLAGS)}

    def open_file(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if os.path.isdir(path):  # noqa: PTH112
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return os.open(path, flags, mode)

    return SimpleNamespace(**names | {"name": "nt", "open": open_file})


class Locking(ModuleType):
    """`msvcrt`, whose locks are a descriptor's: the same process cannot take a second one either."""

    LK_NBLCK = 2

    def locking(self, descriptor: int, mode: int, n_bytes: int) -> None:
        assert (mode, n_bytes) == (self.LK_NBLCK, 1)
        assert os.lseek(descriptor, 0, os.SEEK_CUR) >= 1 << 16, "the record stays readable"
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PermissionError(errno.EACCES, "Permission denied") from error


def load_on_windows(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A second copy of a module, imported as on Windows."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", Locking("msvcrt"))
    found = importlib.util.find_spec(name)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    monkeypatch.setattr(module, "os", windows_os())
    return module


@pytest.fixture
def unlink_like_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file can be removed while this process has it open."""
    real: Callable[..., None] = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        for descriptor in Path("/proc/self/fd").iterdir():
            if descriptor.exists() and path.exists() and descriptor.samefile(path):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)


@pytest.mark.usefixtures("unlink_like_windows")
def test_on_windows_an_output_has_one_writer_and_no_lock_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = load_on_windows("moderation.locks", monkeypatch)
    for _ in range(2):
        with locks.claimed(tmp_path / "out.csv", "score"):
            with pytest.raises(ArtifactError, match=f"moderation score, process {os.getpid()}"):
                locks.claimed(tmp_path / "out.csv", "score").__enter__()
            (tmp_path / "out.csv").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_on_windows_files_and_folders_are_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "os", windows_os())
    monkeypatch.setattr(staging, "os", windows_os())
    for content in ({"first": 1}, {"second": 2}):  # the second replaces a file, whose rights are POSIX's alone
        artifacts.write_json(tmp_path / "a.json", content)
    with artifacts.open_regular(tmp_path / "a.json") as file:
        assert b"second" in file.read()
    with staging.staged_folder(tmp_path / "bundle", overwrite=False) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_bytes(b"x")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.json", "bundle", "file", "inner"]


def test_on_windows_workers_count_in_a_folder_that_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = load_on_windows("moderation.serving.processes.count_files", monkeypatch)
    monkeypatch.setattr(counts.tempfile, "tempdir", str(tmp_path))
    with counts.counts_folder():
        counts.renew_folder()
        assert counts.find_counts() == next(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_without_posix_a_file_of_counts_grows_by_being_written(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = load_on_windows("moderation.serving.processes.count_files", monkeypatch)
    monkeypatch.setattr(sys, "platform", system)
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    counts._reserve(descriptor, 1000)
    assert os.fstat(descriptor).st_size == 1000
    monkeypatch.setattr(counts.os, "write", lambda *_: 10)  # the disk is full
    with pytest.raises(OSError, match="No space left"):
        counts._reserve(descriptor, 2000)
    assert os.fstat(descriptor).st_size == 1000
    os.close(descriptor)


def test_without_what_posix_counts_cores_memory_and_files_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(cores, "os", windows_os())
    nowhere = Path("/nowhere")
    monkeypatch.setattr(cores, "_CGROUP", nowhere)
    assert cores.count_cores() == (os.cpu_count() or 1)
    assert memory.free_bytes(nowhere, nowhere) is None
    assert connections._count_free_files() == connections.MAX_CONNECTIONS


def test_peak_memory_is_in_bytes_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    usage = SimpleNamespace(ru_maxrss=5_000)
    monkeypatch.setattr(resource, "getrusage", lambda _: usage)
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=7_000))
    monkeypatch.setattr(psutil, "Process", lambda: process)
    for system, expected in (("linux", 5_000 * 1024), ("darwin", 5_000), ("win32", 7_000)):
        monkeypatch.setattr(sys, "platform", system)
        assert environment.peak_memory_bytes() == expected


def test_without_posix_a_database_is_made_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "mknod")
    databases._make_private(tmp_path / "feedback.db")
    databases._make_private(tmp_path / "feedback.db")
    assert (tmp_path / "feedback.db").stat().st_mode & 0o777 == 0o600


def test_without_posix_an_address_is_bound_without_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(socket, "AF_UNIX")  # nor has Windows this
    with listening.bind("127.0.0.1", 0) as bound:
        assert bound.getsockname()[1] > 0


def test_without_linux_a_listener_stops_without_a_packet_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the loop of Windows has no readers to remove."""

    async def stop() -> None:
        listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setattr(stopping.ctypes, "create_string_buffer", pytest.fail)
        monkeypatch.setattr(asyncio.get_running_loop(), "remove_reader", not_implemented, raising=False)
        stopping._accept_no_more(listener, for_all=True)
        assert stopping._close_listener(listener) == []
        monkeypatch.undo()

    def not_implemented(descriptor: int) -> None:
        raise NotImplementedError

    asyncio.run(stop())


def test_no_module_needs_at_import_what_windows_lacks() -> None:
    lacking = {"fcntl", "grp", "pwd", "resource", "termios", "tty"}
    for path in [*(ROOT / "moderation").rglob("*.py"), ROOT / "model_training.py"]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            names |= {str(node.module)} if isinstance(node, ast.ImportFrom) else set()
            assert not names & lacking, path


def test_without_its_signals_a_worker_is_ended_as_uvicorn_does() -> None:
    ended: list[str] = []
    worker = SimpleNamespace(terminate=lambda: ended.append("terminate"), send=lambda number: ended.append("send"))
    crew = SimpleNamespace(_leaving=[], _leave_within_s=1.0)
    supervisor._Supervisor._retire(crew, worker, None)  # type: ignore[arg-type]
    assert ended == ["terminate"] and len(crew._leaving) == 1
