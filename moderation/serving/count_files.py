"""The files in which workers keep their counts, and the temporary folder that holds them while the server runs.

A worker's files are named after its place among the workers, not after its process. Who takes the place of a worker
that ended goes on with its files, so that counts never fall and there are no more files than workers at one time.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import values
from prometheus_client.multiprocess import mark_process_dead

from moderation.errors import ArtifactError

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # read where prometheus_client is imported, in this process and in its workers
_PREFIX = "moderation-counts-"

if sys.platform == "win32":

    def _hold(folder: Path) -> int | None:
        return None
else:
    import fcntl

    def _hold(folder: Path) -> int | None:
        """Lock a folder of this user until this process ends; None: it is another's, or another process holds it."""
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
    """Make the folder for this server's workers, and remove it at the end; also those of servers that were killed.

    Raises:
        ArtifactError: there is no folder for temporary files that may be written.
    """
    try:
        new = Path(tempfile.mkdtemp(prefix="moderation-new-"))
        _remove_abandoned(new.parent)
        held = _hold(new)  # before it has the name by which others look for it
        folder = new.rename(new.with_name(_PREFIX + new.name.removeprefix("moderation-new-")))
    except OSError as error:
        raise ArtifactError(
            f"The folder for temporary files cannot be used ({error.strerror}). Name another one in TMPDIR."
        ) from error
    os.environ[_VARIABLE] = str(folder)
    try:
        yield
    finally:
        remove_counts()
        del os.environ[_VARIABLE]
        if held is not None:
            os.close(held)


def find_counts() -> Path | None:
    """The folder; None: this process keeps its counts by itself."""
    folder = Path(os.environ.get(_VARIABLE, ""))
    return folder if _VARIABLE in os.environ and folder.is_dir() else None


def remove_counts() -> None:
    """Remove the folder, at the end or because the supervisor is gone; workers that still answer lose nothing by it."""
    shutil.rmtree(os.environ[_VARIABLE], ignore_errors=True)


def take_place(place: int) -> None:
    """In a worker, before it counts anything: use the files of a place that no living worker has."""
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]
    if folder := find_counts():
        _process_file(folder, place).write_text(str(os.getpid()))


def leave_place(place: int) -> None:
    """In the supervisor: the worker at this place is dead, and what it told of its own state goes."""
    if folder := find_counts():
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
