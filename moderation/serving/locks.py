"""One process at a time, by a lock of the operating system: it ends with the process that holds it, however it ends."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from moderation.errors import ArtifactError

WAIT_S = 30.0
"""Within which a lock must come free; whoever holds one changes a small file."""

_LOOK_S = 0.02

if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only one, among processes and threads, to change a file.

    The lock is on a file of its own beside it, `NAME.lock`, which stays: the file itself is replaced at every change.

    Args:
        path: The file; it need not exist, but its folder is made.

    Raises:
        ArtifactError: the folder cannot be written, or somebody else does not let go in time.
    """
    lock = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        with suppress(OSError):  # somebody else's
            lock.chmod(0o600)  # a umask may have taken away what the owner needs
    except OSError as error:
        raise ArtifactError(
            f"{lock}: could not be made ({error.strerror}). Choose a folder that may be written."
        ) from error
    try:
        end = time.monotonic() + WAIT_S
        while not _is_taken(descriptor):
            if time.monotonic() > end:
                raise ArtifactError(f"{path}: another process has been changing it for {WAIT_S:g} s. Try again.")
            time.sleep(_LOOK_S)
        yield
    finally:
        os.close(descriptor)  # which lets go


def _is_taken(descriptor: int) -> bool:
    try:
        _take(descriptor)
    except OSError:
        return False
    return True
