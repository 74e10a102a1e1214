"""The files in which workers store their counts, in a temporary folder that exists while the server runs.

A worker's files are named after its place among the workers, not after its process. The successor of a worker that
ended continues with its files, so that counts never fall and there are never more files than concurrent workers.

No problem with that folder stops an answer. A file gets its full size before it is mapped, since writing to a mapped
page for which the disk has no room kills the process. If there is no room, the worker counts in memory, which no other
worker can read.
"""

import errno
import mmap
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

from moderation.errors import ArtifactError

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # read when prometheus_client is imported, in this process and in its workers
_PREFIX = "moderation-counts-"
_FILE_BYTES = 1 << 16  # of a new file, as in prometheus_client; a full file doubles
_ENTRY_BYTES = 32  # of an entry at most, in addition to its name

if sys.platform == "win32":

    def _hold(folder: Path) -> int | None:
        return None
else:
    import fcntl

    def _hold(folder: Path) -> int | None:
        """Lock a folder of this user until this process ends; None: it belongs to another user, or is locked."""
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_uid == os.geteuid():
                return descriptor
        except OSError:
            pass
        os.close(descriptor)
        return None


@contextmanager
def counts_folder() -> Iterator[None]:
    """Make the folder for this server's workers, and remove it at the end; also remove those of killed servers.

    Raises:
        ArtifactError: there is no writable folder for temporary files.
    """
    try:
        new = Path(tempfile.mkdtemp(prefix="moderation-new-"))
        _remove_abandoned(new.parent)
        held = _hold(new)  # before it gets the name that others look for
        folder = new.rename(new.with_name(_PREFIX + new.name.removeprefix("moderation-new-")))
    except OSError as error:
        raise ArtifactError(
            f"The folder for temporary files cannot be used ({error.strerror}). Set TMPDIR to another one."
        ) from error
    os.environ[_VARIABLE] = str(folder)
    try:
        yield
    finally:
        remove_counts()
        del os.environ[_VARIABLE]
        if held is not None:
            os.close(held)


def renew_folder() -> None:
    """In the supervisor, before a worker starts: make the folder again if something removed it."""
    folder = Path(os.environ[_VARIABLE])
    with suppress(OSError):  # it exists, or cannot be made: then the worker counts in memory
        folder.mkdir(mode=0o700)
        _hold(folder)


def find_counts() -> Path | None:
    """The folder, if it exists and belongs to this user; None: this process keeps its own counts."""
    if _VARIABLE not in os.environ:
        return None
    folder = Path(os.environ[_VARIABLE])
    try:
        found = folder.lstat()
    except OSError:
        return None
    own = sys.platform == "win32" or found.st_uid == os.geteuid()
    return folder if own and stat.S_ISDIR(found.st_mode) else None


def remove_counts() -> None:
    """Remove the folder, at the end or because the supervisor is gone; workers that still answer are not affected."""
    shutil.rmtree(os.environ[_VARIABLE], ignore_errors=True)


def take_place(place: int) -> None:
    """In a worker, before it counts anything: use the files of a place that no living worker has."""
    folder = find_counts()
    if folder is None:
        values.ValueClass = values.MutexValue
        return
    values.MmapedDict = _CountFile  # type: ignore[misc]
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]
    with suppress(OSError):  # then its processor time and memory are not reported
        _process_file(folder, place).write_text(str(os.getpid()))


def leave_place(place: int) -> None:
    """In the supervisor: the worker at this place is dead; remove what it reported about its state."""
    if folder := find_counts():
        with suppress(OSError):
            mark_process_dead(place)  # type: ignore[no-untyped-call]
            _process_file(folder, place).unlink(missing_ok=True)


def worker_ids() -> list[int]:
    """Process ids of the workers; without a common folder, of this process."""
    folder = find_counts()
    if folder is None:
        return [os.getpid()]
    found = []
    for path in folder.glob("worker_*"):
        with suppress(OSError, ValueError):  # it ended, or is about to begin
            found.append(int(path.read_text()))
    return sorted(found)


def _process_file(folder: Path, place: int) -> Path:
    return folder / f"worker_{place}"


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        held = _hold(folder)
        if held is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)


class _CountFile(MmapedDict):
    """A file of counts with its full size reserved; a dictionary in memory as soon as there is no room."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._in_memory = False
        try:
            _make(Path(filename))
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
        except (OSError, ValueError):
            self._in_memory = True
            self._m = mmap.mmap(-1, _FILE_BYTES)
            self._capacity = _FILE_BYTES
            self._positions: dict[str, int] = {}
            self._used = 8  # where the first entry begins

    def close(self) -> None:
        if self._in_memory:
            self._m.close()
        else:
            super().close()  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        while self._used + len(key.encode()) + _ENTRY_BYTES > self._capacity:
            self._grow(2 * self._capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _grow(self, n_bytes: int) -> None:
        before = self._m
        if not self._in_memory:
            try:
                _reserve(self._f.fileno(), n_bytes)
                self._m = mmap.mmap(self._f.fileno(), n_bytes)
            except (OSError, ValueError):
                self._in_memory = True
                self._f.close()
        if self._in_memory:
            self._m = mmap.mmap(-1, n_bytes)
            self._m[: self._used] = before[: self._used]
        self._capacity = n_bytes


def _make(path: Path) -> None:
    """Make a file of counts with its full size reserved, or no file.

    Raises:
        OSError: there is no room.
    """
    with path.open("ab") as file:
        n_bytes = os.fstat(file.fileno()).st_size
        try:
            _reserve(file.fileno(), max(n_bytes, _FILE_BYTES))
        except OSError:
            if n_bytes == 0:
                path.unlink()
            raise


def _reserve(descriptor: int, n_bytes: int) -> None:
    """Extend a file to a size, with room reserved for every byte; without room, it keeps its size.

    Raises:
        OSError: there is no room.
    """
    before = os.fstat(descriptor).st_size
    try:
        if sys.platform in ("win32", "darwin"):
            missing = n_bytes - before
            if missing > 0 and os.write(descriptor, bytes(missing)) < missing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        else:
            os.posix_fallocate(descriptor, 0, n_bytes)
    except OSError:
        os.ftruncate(descriptor, before)
        raise
