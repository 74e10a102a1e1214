"""One writer at a time: a claim on an output, with a lock of the operating system and a record of who holds it.

The lock ends with the process, however it ends, so a killed process leaves nothing to clean up. It is held on a
separate file, since outputs are replaced once they are complete: `.NAME.lock` next to the output, or `.lock` in a
folder. The file is removed with the claim. A process that opened it before that notices that the file it locked has no
name any more, and tries again.
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
_KEYS = {"size": "bytes"}  # keys of the record that differ from the names of fields
_UNKNOWN = "which process is unknown"
_LOOK_S = 0.02
_RECORD_S = 1.0  # time within which a process that took a lock has recorded who it is

_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL}

logger = logging.getLogger(__name__)

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # after the record, which others can then read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    _share = _lock
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _share(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


@dataclass(frozen=True)
class Owner:
    """Who holds a lock, according to its file. Another process wrote it, so each value may be missing, or anything.

    Args:
        verb: The command that is running.
        process: Its id.
        host: Where it runs.
        started: When it took the lock, in UTC.
        input: What it reads.
        size: Size of the input in bytes.
    """

    verb: object = None
    process: object = None
    host: object = None
    started: object = None
    input: object = None
    size: object = None

    @classmethod
    def from_bytes(cls, content: bytes) -> "Owner | None":
        """The owner that `to_bytes` wrote; None: it is not known (yet)."""
        try:
            record = json.loads(content)
        except (ValueError, RecursionError):
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
    """Be the only process and thread that writes an output.

    Links and other spellings of a path count as the same output. Missing folders on the way to it are created, and
    removed again if nothing was written to them.

    Args:
        path: A file, or a folder; it need not exist.
        verb: The command, for the message that other processes show.
        inside: Keep the lock in the folder instead of next to it: the folder itself stays, and may be the only place
            that can be written.
        source: The input, for the message.
        wait_s: Seconds to wait for another process to release it.

    Raises:
        ArtifactError: another process holds it, or the folder cannot be written.
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
            with suppress(OSError):  # it is not empty any more
                folder.rmdir()


def refuse_claimed(path: Path) -> None:
    """Refuse to read a folder that another process is writing. Readers claim nothing, so several may read at once.

    Args:
        path: A folder that keeps its lock inside.

    Raises:
        ArtifactError: another process holds the lock.
    """
    lock = Path(os.path.realpath(path)) / ".lock"
    flags = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY"))
    try:
        descriptor = os.open(lock, (os.O_RDWR if sys.platform == "win32" else os.O_RDONLY) | flags)
    except FileNotFoundError:
        return
    except OSError as error:  # another user's, left behind or held
        logger.warning("%s: cannot be opened (%s), so whether a run is writing there is unknown.", lock, error.strerror)
        return
    try:
        is_free = not stat.S_ISREG(os.fstat(descriptor).st_mode) or _is_locked(descriptor, lock, shared=True)
        if not is_free:
            owner = Owner.from_bytes(_read(descriptor)) or _UNKNOWN
            raise ArtifactError(f"{path}: another process is writing it: {owner}. Wait until it ends, or stop it.")
    finally:
        os.close(descriptor)


def _hold(lock: Path, path: Path, wait_s: float) -> int:
    """The descriptor of a lock file that we hold, and that still has its name."""
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
                "choose another output."
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
                f"{lock}: could not be created: the name is too long for this file system. Choose a shorter one."
            ) from error
        left = " If another user's run left it, and that run has ended, remove it." if os.path.lexists(lock) else ""
        raise ArtifactError(
            f"{lock}: could not be created ({error.strerror}). Choose a folder that you can write to.{left}"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArtifactError(f"{lock}: a lock must be written here, but this is a pipe or a device. Move it away.")
    with suppress(OSError):  # it belongs to another user
        lock.chmod(0o600)  # a umask may have taken away what the owner needs
    return descriptor


def _is_locked(descriptor: int, lock: Path, *, shared: bool = False) -> bool:
    try:
        (_share if shared else _lock)(descriptor)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno not in _NO_LOCKS:
            raise ArtifactError(f"{lock}: could not be locked ({error.strerror}). Choose another folder.") from error
        logger.warning(
            "%s: this file system has no locks. Do not let another run write there at the same time.", lock.parent
        )
    return True


def _has_name(descriptor: int, lock: Path) -> bool:
    """Whether a file still has its name: its last owner may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), lock.stat())
    except FileNotFoundError:
        return False


def _check_content(descriptor: int, lock: Path) -> None:
    """Refuse a file that happens to have the lock's name: the record would overwrite it."""
    found = _read(descriptor)
    if not (found.startswith(_START) or _START.startswith(found)):
        raise ArtifactError(f"{lock}: not a lock file of this toolkit, and a lock would overwrite it. Move it away.")


def _let_go(descriptor: int, lock: Path) -> None:
    with suppress(OSError):
        if _has_name(descriptor, lock):
            lock.unlink()
    with suppress(OSError):  # what was done under the lock is done
        os.close(descriptor)
    if sys.platform == "win32":  # where an open file cannot be removed, whoever opened it
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
    """Record in the lock file who holds it, replacing a process that was killed while holding it."""
    former = Owner.from_bytes(_read(descriptor))
    if former is not None and former.host not in (None, owner.host):
        logger.info("%s: taken over from %s. If that is still running there, stop one of the two.", path, former)
    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, owner.to_bytes())
    except OSError as error:
        raise ArtifactError(f"{lock}: could not be written ({error.strerror}). Free some space.") from error


def _read(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, _RECORD_BYTES)
