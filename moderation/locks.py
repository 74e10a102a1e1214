"""One writer at a time: a claim on an output, by a lock of the operating system and a record of who holds it.

The lock ends with the process, however it ends, so that nothing of a killed one has to be cleared away. It is held on
a file of its own, since outputs are replaced when they are whole: `.NAME.lock` beside the output, or `.lock` in a
folder. The file goes with the claim. Whoever opened it before that finds that what it locked has no name any more, and
tries again.
"""

import datetime
import errno
import json
import logging
import os
import platform
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from moderation.errors import ArtifactError
from moderation.escapes import escape_name

_FORMAT = "content-moderation lock"
_START = json.dumps({"format": _FORMAT})[:-1].encode()
_RECORD_BYTES = 1 << 16
_KEYS = {"size": "bytes"}  # of the record, where they are not the names of fields
_UNKNOWN = "which one is not known"
_LOOK_S = 0.02
_RECORD_S = 1.0  # within which whoever took a lock has said who it is

_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL}

logger = logging.getLogger(__name__)

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # behind the record, which others may then read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@dataclass(frozen=True)
class Owner:
    """Who holds a lock, as its file says. Another process wrote it, so that each value may be missing, or anything.

    Args:
        verb: Command that runs.
        process: Its id.
        host: Where it runs.
        started: When it took the lock, in UTC.
        input: What it reads.
        size: Bytes of that.
    """

    verb: object = None
    process: object = None
    host: object = None
    started: object = None
    input: object = None
    size: object = None

    @classmethod
    def from_bytes(cls, content: bytes) -> "Owner | None":
        """The owner of which `to_bytes` wrote; None: it is not known (yet)."""
        try:
            record = json.loads(content)
        except ValueError:
            return None
        if not isinstance(record, dict) or not record:
            return None
        return cls(**{one.name: record.get(_KEYS.get(one.name, one.name)) for one in fields(cls)})

    def to_bytes(self) -> bytes:
        """The content of the lock file."""
        known = {_KEYS.get(name, name): value for name, value in asdict(self).items() if value is not None}
        return json.dumps({"format": _FORMAT} | known).encode()

    def __str__(self) -> str:
        shown = {name: escape_name(value) for name, value in asdict(self).items() if value is not None}
        words = f"moderation {shown.get('verb')}"
        if "input" in shown:
            words += f" of {shown['input']}" + (f" ({shown['size']} bytes)" if "size" in shown else "")
        return f"{words}, process {shown.get('process')} on {shown.get('host')}, since {shown.get('started')}"


@contextmanager
def claimed(
    path: Path, verb: str, *, inside: bool = False, source: Path | None = None, wait_s: float = 0.0
) -> Iterator[None]:
    """Be the only one, among processes and threads, to write an output.

    A link and other spellings of a path are the same output. Folders on the way to it are made; those that nothing was
    written to go again.

    Args:
        path: A file, or a folder; it need not exist.
        verb: What is done, for the message that others get.
        inside: Keep the lock in the folder instead of beside it: the folder itself stays, and may be all that can be
            written.
        source: What is read, for the message.
        wait_s: Seconds to wait for somebody else to let go.

    Raises:
        ArtifactError: somebody else holds it, or the folder cannot be written.
    """
    target = Path(os.path.realpath(path))
    lock = target / ".lock" if inside else target.with_name(f".{target.name}.lock")
    if inside and target.exists() and not target.is_dir():
        raise ArtifactError(f"{path}: is a file; expected a folder. Choose another name.")
    missing = [folder for folder in (lock.parent, *lock.parent.parents) if not folder.exists()]
    try:
        descriptor = _hold(lock, path, wait_s)
        try:
            _write_record(descriptor, lock, path, _describe(verb, source))
            yield
        finally:
            _let_go(descriptor, lock)
    finally:
        for folder in missing:
            with suppress(OSError):  # it holds something by now
                folder.rmdir()


def _hold(lock: Path, path: Path, wait_s: float) -> int:
    """The descriptor of a lock file that is ours, and that has its name."""
    end = time.monotonic() + wait_s
    while True:
        descriptor = _open(lock)
        try:
            is_ours = _is_locked(descriptor, lock)
            if is_ours and _has_name(descriptor, lock):
                _check_content(descriptor, lock)
                return descriptor
            owner, late = Owner.from_bytes(_read(descriptor)), time.monotonic() - end
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not is_ours and late > (0 if owner else _RECORD_S):
            waited = f" (waited {wait_s:g} s)" if wait_s else ""
            raise ArtifactError(
                f"{path}: another process is writing it: {owner or _UNKNOWN}{waited}. Wait until it ends, stop it, or "
                "write somewhere else."
            )
        time.sleep(_LOOK_S)


def _open(lock: Path) -> int:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        flags = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY"))
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ArtifactError(
                f"{lock}: could not be made: the name is too long for this file system. Choose a shorter one."
            ) from error
        left = " If a run of somebody else left it, and is over, remove it." if os.path.lexists(lock) else ""
        raise ArtifactError(
            f"{lock}: could not be made ({error.strerror}). Choose a folder that may be written.{left}"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArtifactError(f"{lock}: a pipe or a device, where a lock would be written. Move it away.")
    with suppress(OSError):  # somebody else's
        lock.chmod(0o600)  # a umask may have taken away what the owner needs
    return descriptor


def _is_locked(descriptor: int, lock: Path) -> bool:
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno not in _NO_LOCKS:
            raise ArtifactError(f"{lock}: could not be locked ({error.strerror}). Choose another folder.") from error
        logger.warning("%s: this file system has no locks. Let no other run write there meanwhile.", lock.parent)
    return True


def _has_name(descriptor: int, lock: Path) -> bool:
    """Whether a file still stands under its name: its last owner may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), lock.stat())
    except FileNotFoundError:
        return False


def _check_content(descriptor: int, lock: Path) -> None:
    """Refuse a file that happens to have the lock's name, and that a record would replace."""
    found = _read(descriptor)
    if not (found.startswith(_START) or _START.startswith(found)):
        raise ArtifactError(f"{lock}: is no lock of this toolkit, which would write there. Move it away.")


def _let_go(descriptor: int, lock: Path) -> None:
    with suppress(OSError):
        if _has_name(descriptor, lock):
            lock.unlink()
    os.close(descriptor)
    if sys.platform == "win32":  # where what is open cannot be removed, and what others opened neither
        with suppress(OSError):
            lock.unlink()


def _describe(verb: str, source: Path | None) -> Owner:
    """This process as the owner of a lock."""
    size = None
    with suppress(OSError):
        size = source.stat().st_size if source is not None and source.is_file() else None
    return Owner(
        verb=verb,
        process=os.getpid(),
        host=platform.node(),
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        input=None if source is None else str(source),
        size=size,
    )


def _write_record(descriptor: int, lock: Path, path: Path, owner: Owner) -> None:
    """Say in the lock file who holds it, in place of whoever was killed while holding it."""
    former = Owner.from_bytes(_read(descriptor))
    if former is not None and former.host not in (None, owner.host):
        logger.info("%s: taken over from %s. Should that still run there, stop one of the two.", path, former)
    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, owner.to_bytes())
    except OSError as error:
        raise ArtifactError(f"{lock}: could not be written ({error.strerror}). Free some space.") from error


def _read(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, _RECORD_BYTES)
