"""The SHA-256 of a scored file in its record, which shows whether the file was changed later.

Most files have their record next to them. A Parquet file contains its own, which cannot name the file's SHA-256. It
names that of the file with zeros in place of these digits.
"""

import hashlib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from moderation.artifacts import open_regular, sync
from moderation.errors import ArtifactError
from moderation.manifests import FileFacts
from moderation.scoring.origins import BLANK, KEY, describe_file, write_sidecar
from moderation.scoring.writers import OutputFormat
from moderation.strict_json import parse_strictly

_END = b'"}}'  # of the record: the digits are its last value
_PIECE_BYTES = 1 << 20


def seal(path: Path, output: Path, form: OutputFormat, content: dict[str, object]) -> FileFacts:
    """Record the SHA-256 of a scored file in it or next to it.

    Args:
        path: The complete file, under a temporary name.
        output: The name that it is about to get.
        form: Its format.
        content: Its origin, from `Origin.to_plain`; a file that contains its record has it already.

    Returns:
        Size and SHA-256 of the sealed file.

    Raises:
        ArtifactError: the disk is full or broken.
    """
    if form.holds_record:
        place, digits = _find_digits(path), _hash_without_digits(path).encode()
        try:
            with path.open("r+b") as file:
                file.seek(place)
                file.write(digits)
            sync(path)
        except OSError as error:
            raise ArtifactError(f"{output}: could not be written ({error.strerror}). Free some space.") from error
        return describe_file(path)
    made = describe_file(path)
    write_sidecar(output, content, made)
    return made


def read_record(path: Path) -> dict[str, object]:
    """The record in a Parquet file.

    Raises:
        pa.ArrowException, OSError, ValueError, KeyError, RecursionError: it has none, or is damaged.
    """
    found = parse_strictly(_read_text(path))
    if not isinstance(found, dict):
        raise ValueError("not a record")
    return found


def is_unchanged(path: Path, found: str) -> bool:
    """Whether a Parquet file that contains its record is the one that was sealed.

    Args:
        path: The file.
        found: The SHA-256 in its record.

    Raises:
        pa.ArrowException, OSError, ValueError, KeyError: it has no record, or is damaged.
    """
    return _hash_without_digits(path) == found


def _read_text(path: Path) -> bytes:
    with open_regular(path) as file:
        text: bytes = (pa.parquet.read_metadata(file).metadata or {})[KEY.encode()]
    return text


def _find_digits(path: Path) -> int:
    """Position of the digits in the file: the record is in its footer, whose length is near its end."""
    text = _read_text(path)
    if not text.endswith(_END):
        raise ValueError("a record without a SHA-256")
    with open_regular(path) as file:
        file.seek(-8, os.SEEK_END)
        start = file.tell() - int.from_bytes(file.read(4), "little")
        file.seek(start)
        return start + file.read().index(text) + len(text) - len(_END) - len(BLANK)


def _hash_without_digits(path: Path) -> str:
    found, left = hashlib.sha256(), _find_digits(path)
    with open_regular(path) as file:
        while left and (piece := file.read(min(left, _PIECE_BYTES))):
            found.update(piece)
            left -= len(piece)
        file.seek(len(BLANK), os.SEEK_CUR)
        found.update(BLANK.encode() + file.read())
    return found.hexdigest()
