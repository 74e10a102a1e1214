"""What a bundle's manifest may say: each value of one type and within bounds, or one error that names its key."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, TypeGuard

from moderation.calibrators import Calibrator, read_calibrators
from moderation.errors import ConfigError
from moderation.escapes import LONGEST_NAME, escape_name
from moderation.labels import as_labels

BUNDLE_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
"""What a bundle may be called: servers make folders and addresses of it."""
LONGEST_WINDOW = 1 << 17  # tokens; the longest encoders read some ten thousand
_MOST_LABELS = 1_000
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,7}")
_SHA256_DIGITS = frozenset("0123456789abcdef")


def read_text(content: Mapping[str, Any], key: str) -> str:
    """A short text.

    Raises:
        ConfigError: it is missing, or another kind of value.
    """
    value = content.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
        raise ConfigError(f"{key}: expected a text of 1 to {LONGEST_NAME} characters.")
    return value


def read_labels(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The ordered labels.

    Raises:
        ConfigError: they are no list of different names.
    """
    return as_labels(_texts(content, "labels", _MOST_LABELS))


def read_languages(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The languages that the model was trained on.

    Raises:
        ConfigError: they are no list of codes.
    """
    codes = tuple(_texts(content, "languages", _MOST_LABELS))
    if not all(map(_LANGUAGE.fullmatch, codes)):
        raise ConfigError("languages: expected a list of codes such as en or pt-BR.")
    return codes


def read_thresholds(content: Mapping[str, Any]) -> dict[str, float]:
    """Label -> threshold.

    Raises:
        ConfigError: one of them is no number in [0, 1].
    """
    thresholds = read_object(content, "thresholds")
    _texts({"thresholds": list(thresholds)}, "thresholds", _MOST_LABELS)
    for value in thresholds.values():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:  # nor is NaN
            raise ConfigError("thresholds: one that is missing or outside [0, 1]; expected a number for each label.")
    return {label: float(value) for label, value in thresholds.items()}


def read_window(content: Mapping[str, Any]) -> tuple[int, int]:
    """Length and overlap of windows, in tokens.

    Raises:
        ConfigError: they are no such numbers, or the overlap leaves no room.
    """
    window = read_object(content, "window")
    length, overlap = window.get("length"), window.get("overlap")
    if not is_whole(length) or not is_whole(overlap) or length > LONGEST_WINDOW:
        raise ConfigError(
            f"window: expected a length of at most {LONGEST_WINDOW:,} tokens and an overlap, as whole numbers."
        )
    if not 0 <= overlap < length - 2:
        raise ConfigError(f"window: windows of {length} tokens with an overlap of {overlap} leave no room for text.")
    if window.get("pooling", "max") != "max":
        raise ConfigError("window: expected the pooling max, the only one that this version of the toolkit knows.")
    return length, overlap


def read_calibration(content: Mapping[str, Any], labels: tuple[str, ...]) -> tuple[Calibrator, ...]:
    """One calibrator per label; `identity` is what bundles of uncalibrated models say.

    Raises:
        ConfigError: a method that is not known, or maps that are none.
    """
    calibration = read_object(content, "calibration")
    method = calibration.get("method")
    if method == "identity":
        return (Calibrator(),) * len(labels)
    if method == "per-label":
        return read_calibrators(read_object(calibration, "labels"), labels)
    raise ConfigError(
        f"calibration {escape_name(repr(method))} is not known to this version of the toolkit. Cure: take a newer one."
    )


def read_files(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Path -> `sha256` and `bytes`.

    Raises:
        ConfigError: a path that is not one within the folder, or a file without its hash and size.
    """
    files = read_object(content, "files")
    for name, facts in files.items():
        if not _is_inside(name):
            raise ConfigError(
                f"files: {escape_name(name)} is a file outside the bundle, or no path; expected one with slashes."
            )
        digest, size = (facts.get("sha256"), facts.get("bytes")) if isinstance(facts, dict) else (None, None)
        is_digest = isinstance(digest, str) and len(digest) == 64 and _SHA256_DIGITS.issuperset(digest)
        if not is_digest or not is_whole(size) or size < 0:
            raise ConfigError(f"files: {escape_name(name)} stands there without its SHA-256 and size.")
    return {name: dict(facts) for name, facts in files.items()}


def read_forms(content: Mapping[str, Any], files: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Form -> facts about it, its `files` among them, all of which are sealed.

    Raises:
        ConfigError: a form without them.
    """
    forms = read_object(content, "forms")
    for name, facts in forms.items():
        named = facts.get("files") if isinstance(facts, dict) else None
        if not isinstance(named, list) or not all(isinstance(file, str) and file in files for file in named):
            raise ConfigError(f"forms: form {escape_name(name)} without files that are sealed.")
    return {name: dict(facts) for name, facts in forms.items()}


def read_object(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ConfigError: it is missing, or another kind of value.
    """
    value = content.get(key)
    if not isinstance(value, dict):
        raise ConfigError(f"{key}: expected an object.")
    return value


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number, which `true` is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _texts(content: Mapping[str, Any], key: str, most: int) -> list[str]:
    values = content.get(key)
    if not isinstance(values, list) or len(values) > most:
        raise ConfigError(f"{key}: expected a list of at most {most:,} names.")
    if not all(isinstance(value, str) and 0 < len(value) <= LONGEST_NAME for value in values):
        raise ConfigError(f"{key}: expected names of 1 to {LONGEST_NAME} characters.")
    return values


def _is_inside(name: str) -> bool:
    """Whether a path leads to a file within the folder, and is written in the one way in which it can be."""
    path = PurePosixPath(name)
    plain = name.isprintable() and "\\" not in name and ":" not in name and path.as_posix() == name
    return plain and not path.is_absolute() and ".." not in path.parts and 0 < len(path.parts) <= 16 and name != "."
