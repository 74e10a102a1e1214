"""Values of a manifest: each has one type and bounds, and an error names its key."""

import re
from collections.abc import Mapping
from typing import TypeGuard

from moderation.errors import ConfigError
from moderation.escapes import LONGEST_NAME
from moderation.labels import as_labels

LONGEST_WINDOW = 1 << 17  # tokens; the longest encoders read about ten thousand
LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,7}")
_MOST_LABELS = 1_000


def read_text(content: Mapping[str, object], key: str) -> str:
    """A short text.

    Raises:
        ConfigError: it is missing, or another kind of value.
    """
    value = content.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
        raise ConfigError(f"{key}: expected a text of 1 to {LONGEST_NAME} characters.")
    return value


def read_labels(content: Mapping[str, object]) -> tuple[str, ...]:
    """The ordered labels.

    Raises:
        ConfigError: they are not a list of different names.
    """
    return as_labels(_texts(content, "labels", _MOST_LABELS))


def read_languages(content: Mapping[str, object]) -> tuple[str, ...]:
    """The languages that the model was trained on.

    Raises:
        ConfigError: they are not a list of codes.
    """
    codes = tuple(_texts(content, "languages", _MOST_LABELS))
    if not all(map(LANGUAGE.fullmatch, codes)):
        raise ConfigError("languages: expected a list of codes such as en or pt-BR.")
    return codes


def read_thresholds(content: Mapping[str, object]) -> dict[str, float]:
    """Label -> threshold.

    Raises:
        ConfigError: one of them is not a number in [0, 1].
    """
    thresholds = read_object(content, "thresholds")
    _texts({"thresholds": list(thresholds)}, "thresholds", _MOST_LABELS)
    found = {}
    for label, value in thresholds.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:  # NaN is refused, too
            raise ConfigError("thresholds: one is missing or outside [0, 1]; expected a number for each label.")
        found[label] = float(value)
    return found


def read_window(content: Mapping[str, object]) -> tuple[int, int]:
    """Length and overlap of windows, in tokens.

    Raises:
        ConfigError: they are not such numbers, or the overlap leaves no room.
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


def read_object(content: Mapping[str, object], key: str) -> Mapping[str, object]:
    """A JSON object.

    Raises:
        ConfigError: it is missing, or another kind of value.
    """
    value = content.get(key)
    if not isinstance(value, dict):
        raise ConfigError(f"{key}: expected an object.")
    return value


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number; `true` is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _texts(content: Mapping[str, object], key: str, most: int) -> list[str]:
    values = content.get(key)
    if not isinstance(values, list) or len(values) > most:
        raise ConfigError(f"{key}: expected a list of at most {most:,} names.")
    if not all(isinstance(value, str) and 0 < len(value) <= LONGEST_NAME for value in values):
        raise ConfigError(f"{key}: expected names of 1 to {LONGEST_NAME} characters.")
    return values
