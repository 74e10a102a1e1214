"""Run folders: every file name once; write atomically, read with a clear error, hash.

A file is written under a temporary name in its own folder and renamed when it is complete and on the disk, so that a
reader never meets half a file, and a full disk, a kill or a power cut leaves the old one as it was.
"""

import errno
import hashlib
import io
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moderation.errors import ArtifactError
from moderation.links import refuse_links_out
from moderation.strict_json import NoNumber, RepeatedName, parse_strictly

_MOST_JSON = 64 << 20  # bytes; what runs and bundles hold takes a few MB


@dataclass(frozen=True)
class RunFolder:
    """One training and all that it left behind.

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
        """One JSON object a line: losses, learning rate, validation metrics."""
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
        """State of an unfinished training; gone once it is done."""
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
    """`$MODERATION_CACHE`, else the user's cache folder, as `XDG_CACHE_HOME` names it, plus `moderation`."""
    if named := os.environ.get("MODERATION_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moderation"


def sidecar(array_path: Path) -> Path:
    """Path of the JSON file that names labels, split and kind of a saved array."""
    return array_path.parent / f"{array_path.stem}.json"


@contextmanager
def write_atomically(path: Path, *, folder: Path | None = None, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without an error.

    The temporary name is new at each call, so that two threads may write one path: the last to finish wins, and each
    file is whole. What was written is on the disk before it gets its name.

    Where `path` is a symbolic link, the file that it points to is replaced and the link stays, as long as that file
    lies in the same folder: of folders from elsewhere nobody knows where their links lead. A path that the user named
    may be a link to anywhere; it comes from `resolve_target`. A file that is replaced hands on its rights, owner and
    group; a new one has those that the umask gives.

    Args:
        path: The file.
        folder: That no link on the way may lead out of; None: the one that `path` names.
        private: A new file is for its owner alone, already while it grows.

    Raises:
        ArtifactError: the disk is full or the folder cannot be written, something else than a file stands there, or a
            link points to nothing or out of the folder; nothing is left behind.
    """
    target = find_target(path)
    refuse_links_out(path, folder)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        former = target.stat() if target.exists() else None
        if former is not None or private:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # nobody else reads what grows
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
            f"{path}: could not be written ({error.strerror or type(error).__name__}). What stood there before is "
            "unchanged. Free some space, or choose a folder that may be written."
        ) from error
    finally:
        with suppress(OSError):  # also where the folder itself could not be made
            temporary.unlink()


def find_target(path: Path) -> Path:
    """The file that a path names, behind all links.

    Raises:
        ArtifactError: no plain file, or a link to nothing.
    """
    try:
        target = path.resolve() if path.is_symlink() else path
        if target != path and not target.exists():
            problem = f"it is a link to {target}, where nothing stands"
        elif target.exists() and not target.is_file():
            problem = "a folder stands there" if target.is_dir() else "a device or a pipe stands there"
        else:
            return target
    except (OSError, RuntimeError) as error:  # RuntimeError: Python 3.11 and 3.12 say so of links in a circle
        problem = str(error.strerror) if isinstance(error, OSError) else "it is a link that leads to itself"
    raise ArtifactError(f"{path}: could not be written ({problem}). Choose another name.")


def resolve_target(path: Path) -> Path:
    """As `find_target`, behind the links of the folders, too: wherever links point later, it is the same file.

    It is for names that the user chose, whose links are followed wherever they lead.

    Raises:
        ArtifactError: no plain file, or a link to nothing.
    """
    target = find_target(path)
    try:
        return target.parent.resolve() / target.name
    except (OSError, RuntimeError) as error:  # as in `find_target`
        problem = str(error.strerror) if isinstance(error, OSError) else "it lies behind a link that leads to itself"
    raise ArtifactError(f"{path}: could not be written ({problem}). Choose another name.")


def _hand_on_rights(former: os.stat_result, temporary: Path) -> None:
    """Give a file the rights, owner and group of the one that it replaces; less where this process may not."""
    if os.name != "posix" or temporary.stat().st_nlink > 1:  # a second name of another file, which keeps its own
        return
    mode = stat.S_IMODE(former.st_mode) & 0o777
    try:
        os.chown(temporary, former.st_uid, former.st_gid)
    except OSError:
        try:
            os.chown(temporary, -1, former.st_gid)
        except OSError:
            mode &= 0o707 | (mode & 0o007) << 3  # another group may do no more than everybody may
    temporary.chmod(mode)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; some file systems cannot say."""
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)  # Windows wants the right to write
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise
    finally:
        os.close(descriptor)


def is_failed_write(error: RuntimeError) -> bool:
    """Whether torch's writer of archives could not write: it says so of a full disk, in no other way."""
    return "inline_container" in str(error)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as `to_json_bytes` gives it."""
    with write_atomically(path) as temporary:
        temporary.write_bytes(to_json_bytes(content))


def to_json_bytes(content: Any) -> bytes:
    """Indented JSON. NaN is refused: absent numbers are null.

    Names of files that are no UTF-8 come back from `read_json` as they were.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "backslashreplace")  # which JSON reads as well


@contextmanager
def open_regular(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file to read it.

    Raises:
        OSError: there is none that can be read, or it is a pipe or a device, which might be read for ever.
    """
    wanted = ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")  # without the first a pipe would wait for its writer
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in wanted)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "a pipe or a device, not a regular file", str(path))
        yield file


def read_bytes(path: Path, most: int) -> bytes:
    """Read a regular file of limited size.

    Raises:
        OSError: as of `open_regular`, or the file is larger.
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
        raise ArtifactError(f"{path}: holds no JSON object; expected {what}.")
    return content


def write_array(path: Path, array: npt.NDArray[Any], about: Mapping[str, object]) -> None:
    """Write an array as `.npy` and then, beside it, `about` and the array's SHA-256 as its sidecar."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    with write_atomically(path) as temporary:
        temporary.write_bytes(content.getbuffer())
    write_json(sidecar(path), {**about, "sha256": hashlib.sha256(content.getbuffer()).hexdigest()})


def write_predictions(
    run: RunFolder,
    name: str,
    probabilities: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    labels: Sequence[str],
    *,
    split: str,
    calibrated: bool = False,
) -> None:
    """Write probabilities and targets, each with a sidecar that names labels, split and kind.

    Args:
        run: Where to write.
        name: Of the files: the split's, or that of another table.
        probabilities: float32 `(n_examples, n_labels)`, in [0, 1].
        targets: float32, of the same shape, 0 or 1.
        labels: Order of the columns.
        split: What the examples serve for: `train`, `val` or `test`.
        calibrated: Whether the probabilities went through the run's calibrators.
    """
    about = {"labels": list(labels), "split": split}
    write_array(run.preds(name), probabilities, about | {"kind": "probabilities", "calibrated": calibrated})
    write_array(run.labels(name), targets, about | {"kind": "targets"})


def read_array(path: Path) -> npt.NDArray[Any]:
    """Read a `.npy` file; pickled objects inside are refused.

    Raises:
        ArtifactError: missing, truncated, not an array, not numeric, or another one than its sidecar was written with.
    """
    beside = sidecar(path)
    try:
        with open_regular(path) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest() if beside.is_file() else None
            file.seek(0)
            array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file; expected an array saved by numpy (.npy).") from error
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); expected an array (.npy).") from error
    # A damaged header lets numpy raise whatever its parser meets, MemoryError and TokenError too.
    except Exception as error:
        raise ArtifactError(
            f"{path}: not a readable .npy file of numbers (truncated, or another format); "
            "expected float32 (n_examples, n_labels), saved with numpy.save."
        ) from error
    if array.dtype.kind not in "fiub":
        raise ArtifactError(f"{path}: holds no numeric array; expected float32 (n_examples, n_labels).")
    if found is None:
        return array
    recorded = read_json(beside, "what is known of the array beside it").get("sha256")
    if recorded not in (None, found):
        raise ArtifactError(
            f"{path}: was changed since {beside.name} was written beside it, or what wrote both was killed in between "
            "(its SHA-256 differs). Write both again (those of a run: moderation evaluate), or restore it; where the "
            f"array is right, move {beside.name} away."
        )
    return array


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}).") from error


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name by a hard link; copy it where links are not to be had.

    Files of a bundle are replaced and never rewritten in place, so that two names may share their bytes.

    Args:
        source: The file.
        target: Its second name; a file that stands there is replaced, missing folders are made.

    Raises:
        ArtifactError: the target cannot be written.
    """
    with write_atomically(target) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:  # another disk, a file system without links
            shutil.copyfile(source, temporary)
