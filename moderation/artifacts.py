"""Run folders: every file name once; write atomically, read with clear errors, hash.

A file is written under a temporary name in its own folder and renamed once it is complete and on the disk. So a reader
never sees half a file, and a full disk, a kill or a power cut leaves the old one unchanged.
"""

import errno
import hashlib
import io
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moderation.errors import ArtifactError
from moderation.links import refuse_links_out
from moderation.strict_json import NoNumber, RepeatedName, parse_strictly

_MOST_JSON = 64 << 20  # bytes; those of runs and bundles take a few MB


@dataclass(frozen=True)
class RunFolder:
    """One training and everything that it produced.

    Args:
        path: The folder; it need not exist yet.
    """

    path: Path

    @property
    def run_json(self) -> Path:
        """Merged settings, data hash, split sizes, versions, hardware, seconds per phase."""
        return self.path / "run.json"

    @property
    def checkpoint_best(self) -> Path:
        """Weights with the best validation metric."""
        return self.path / "checkpoint_best.pt"

    @property
    def checkpoint_final(self) -> Path:
        """Weights after the last step."""
        return self.path / "checkpoint_final.pt"

    @property
    def tokenizer_dir(self) -> Path:
        """The tokenizer's own files."""
        return self.path / "tokenizer"

    @property
    def thresholds(self) -> Path:
        """One tuned threshold per label."""
        return self.path / "thresholds.json"

    @property
    def calibration(self) -> Path:
        """One calibrator per label; runs without calibration have none."""
        return self.path / "calibration.json"

    @property
    def log(self) -> Path:
        """One JSON object per line: losses, learning rate, validation metrics."""
        return self.path / "log.jsonl"

    @property
    def plots_dir(self) -> Path:
        """Pictures, PNG."""
        return self.path / "plots"

    @property
    def report(self) -> Path:
        """The self-contained page."""
        return self.path / "report.html"

    @property
    def resume_dir(self) -> Path:
        """State of an unfinished training; removed when it is done."""
        return self.path / "resume"

    def preds(self, split: str) -> Path:
        """Probabilities of a split, float32 `(n_examples, n_labels)`."""
        return self.path / f"preds_{split}.npy"

    def labels(self, split: str) -> Path:
        """Targets of a split, float32 `(n_examples, n_labels)`."""
        return self.path / f"labels_{split}.npy"

    def metrics(self, split: str) -> Path:
        """Numbers of a split."""
        return self.path / f"metrics_{split}.json"


def default_cache_dir() -> Path:
    """`$MODERATION_CACHE`, otherwise `moderation` in the user's cache folder (`$XDG_CACHE_HOME` or `~/.cache`)."""
    if named := os.environ.get("MODERATION_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moderation"


@contextmanager
def write_atomically(path: Path, *, folder: Path | None = None, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` when the block ends without an error.

    Each call uses a new temporary name, so two threads can write the same path: the last to finish wins, and each
    file is complete. The content is on the disk before it gets its name.

    If `path` is a symbolic link, the file that it points to is replaced and the link stays, provided that the file is
    in the same folder: links in a folder from elsewhere may lead anywhere. A path that the user named may be a link to
    anywhere; pass it through `resolve_target` first. A replaced file passes on its permissions, owner and group; a new
    one gets those that the umask gives.

    Args:
        path: The file.
        folder: The folder that no link on the way may lead out of; None: the parent of `path`.
        private: Only the owner can read a new file, even while it is being written.

    Raises:
        ArtifactError: the disk is full, the folder cannot be written, something other than a file is there, or a link
            points to nothing or out of the folder; nothing is left behind.
    """
    target = find_target(path)
    refuse_links_out(path, folder)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        former = target.stat() if target.exists() else None
        if former is not None or private:
            # Nobody else can read it while it grows.
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            temporary.chmod(0o600)  # a umask may have taken away what the owner needs
        yield temporary
        sync(temporary)
        if former is not None:
            _hand_on_rights(former, temporary)
        temporary.replace(target)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            sync(target.parent)
    except OSError as error:
        raise ArtifactError(
            f"{path}: could not be written ({error.strerror or type(error).__name__}). The old file, if "
            "any, is unchanged. Free some space, or choose a folder that you can write to."
        ) from error
    finally:
        with suppress(OSError):  # also if the folder itself could not be created
            temporary.unlink()


def find_target(path: Path) -> Path:
    """The file that a path names, with all links followed.

    Raises:
        ArtifactError: not a regular file, or a link to nothing.
    """
    try:
        target = path.resolve() if path.is_symlink() else path
        if target != path and not target.exists():
            problem = f"it is a link to {target}, which does not exist"
        elif target.exists() and not target.is_file():
            problem = "it is a folder" if target.is_dir() else "it is a device or a pipe"
        else:
            return target
    except (OSError, RuntimeError) as error:  # RuntimeError: raised by Python 3.11 and 3.12 for links in a circle
        problem = str(error.strerror) if isinstance(error, OSError) else "it is a link to itself"
    raise ArtifactError(f"{path}: could not be written ({problem}). Choose another name.")


def resolve_target(path: Path) -> Path:
    """Like `find_target`, but also follow links among the folders, so that later changes of links do not matter.

    For paths that the user named: their links are followed wherever they lead.

    Raises:
        ArtifactError: not a regular file, or a link to nothing.
    """
    target = find_target(path)
    try:
        return target.parent.resolve() / target.name
    except (OSError, RuntimeError) as error:  # as in `find_target`
        problem = str(error.strerror) if isinstance(error, OSError) else "its folder is a link to itself"
    raise ArtifactError(f"{path}: could not be written ({problem}). Choose another name.")


def _hand_on_rights(former: os.stat_result, temporary: Path) -> None:
    """Give a file the permissions, owner and group of the one that it replaces, as far as this process may."""
    if os.name != "posix" or temporary.stat().st_nlink > 1:  # a hard link to another file, which keeps its own
        return
    mode = stat.S_IMODE(former.st_mode) & 0o777
    try:
        os.chown(temporary, former.st_uid, former.st_gid)
    except OSError:
        try:
            os.chown(temporary, -1, former.st_gid)
        except OSError:
            mode &= 0o707 | (mode & 0o007) << 3  # another group may do no more than everybody
    temporary.chmod(mode)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; some file systems cannot report this."""
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)  # Windows requires write access
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise
    finally:
        os.close(descriptor)


def is_failed_write(error: RuntimeError) -> bool:
    """Whether torch's archive writer could not write; this is the only way in which it reports a full disk."""
    return "inline_container" in str(error)


def write_json(path: Path, content: Any) -> None:
    """Write `content` in the format of `to_json_bytes`."""
    with write_atomically(path) as temporary:
        temporary.write_bytes(to_json_bytes(content))


def to_json_bytes(content: Any) -> bytes:
    """Indented JSON. NaN is refused: missing numbers are null.

    `read_json` restores even names of files that are not UTF-8.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "backslashreplace")  # valid JSON, too


@contextmanager
def open_regular(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file to read it.

    Raises:
        OSError: it cannot be read, or it is a pipe or a device, which could be read forever.
    """
    wanted = ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")  # without the first, a pipe would wait for its writer
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in wanted)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "a pipe or a device, not a regular file", str(path))
        yield file


def read_bytes(path: Path, most: int) -> bytes:
    """Read a regular file of limited size.

    Raises:
        OSError: as for `open_regular`, or the file is larger.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"more than {most >> 20} MiB", str(path))
    return content


def read_json(path: Path, what: str, *, unique_keys: bool = False) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.
        what: What it ought to be, for the message.
        unique_keys: Refuse a key that stands twice in one object, of which other readers may take the other value.

    Raises:
        ArtifactError: missing, not a regular file, far larger than such files are, not JSON, or not an object;
            NaN, infinity and 1e999 are no JSON.
    """
    try:
        text = read_bytes(path, _MOST_JSON).decode("utf-8")
        content = parse_strictly(text, unique_names=unique_keys)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file; expected {what}.") from error
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); expected {what}.") from error
    except (ValueError, RecursionError) as error:
        reason = f" ({error})" if isinstance(error, (NoNumber, RepeatedName)) else ""
        raise ArtifactError(f"{path}: not valid JSON{reason}; expected {what}.") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{path}: not a JSON object; expected {what}.")
    return content


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}).") from error


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name with a hard link; copy it if links are not available.

    Files of a bundle are replaced and never rewritten in place, so two names can share their bytes.

    Args:
        source: The file.
        target: Its second name; an existing file is replaced, missing folders are created.

    Raises:
        ArtifactError: the target cannot be written.
    """
    with write_atomically(target) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:  # another disk, a file system without links
            shutil.copyfile(source, temporary)
