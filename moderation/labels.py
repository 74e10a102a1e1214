"""The ordered labels. Every array is built by indexing with them, and every saved array travels with them."""

import unicodedata
from collections.abc import Sequence

from moderation.errors import ArtifactError, ConfigError
from moderation.escapes import LONGEST_NAME, escape_name

JIGSAW_LABELS: tuple[str, ...] = (
    "toxic",
    "severe_toxic",
    "obscene",
    "threat",
    "insult",
    "identity_hate",
)


def as_labels(names: Sequence[str]) -> tuple[str, ...]:
    """Return `names` as an ordered tuple of labels.

    Raises:
        ConfigError: no name, an empty one, one that nobody could read, or two that look alike.

    >>> as_labels(["toxic", "threat"])
    ('toxic', 'threat')
    """
    labels = tuple(names)
    if isinstance(names, str) or not labels or not all(isinstance(name, str) and name.strip() for name in labels):
        raise ConfigError("Labels: expected a list of one or more names, none of them empty.")
    for place, name in enumerate(labels, start=1):
        if problem := name_problem(name):
            raise ConfigError(f"Labels: number {place} of {len(labels)} {problem}.")
    if alike := find_alike(labels):
        raise ConfigError(f"Labels: {', '.join(alike)} named more than once. Name each label once.")
    return labels


def name_problem(name: str) -> str:
    r"""Why a name is none that people could read and tell from others; empty where it is one.

    The name itself is not repeated: where the header of a table is missing, it may be a comment.

    >>> name_problem("identity hate"), name_problem("toxic\x1b[2J")
    ('', 'holds the character U+001B, which cannot be seen; expected letters, digits, signs and plain blanks')
    """
    if len(name) > LONGEST_NAME:
        return f"has {len(name):,} characters; expected up to {LONGEST_NAME}"
    odd = next((character for character in name if not character.isprintable()), None)
    if odd is not None:
        return (
            f"holds the character U+{ord(odd):04X}, which cannot be seen; expected letters, digits, signs and plain "
            "blanks"
        )
    if not any(unicodedata.category(character)[0] in "LNPS" for character in name):
        return "holds nothing that can be seen by itself; expected letters, digits or signs"
    return ""


def find_alike(names: Sequence[str]) -> list[str]:
    r"""Names that stand more than once, also in another notation of the same characters; sorted, each once.

    >>> find_alike(["caf\u00e9", "tea", "cafe\u0301"])
    ['café']
    """
    normal = [unicodedata.normalize("NFC", name) for name in names]
    return sorted({name for name in normal if normal.count(name) > 1})


def check_same_labels(found: Sequence[str], expected: Sequence[str], where: str) -> None:
    """Refuse an artifact whose labels are not `expected`, in that very order.

    Args:
        found: Labels that the artifact carries.
        expected: Labels of what it is used with.
        where: Names the artifact in the message.

    Raises:
        ArtifactError: the labels or their order differ.
    """
    if tuple(found) == tuple(expected):
        return
    same = sorted(found) == sorted(expected)
    raise ArtifactError(
        f"{where}: {'the labels stand in another order' if same else 'made for other labels'}.\n"
        f"  found:    {', '.join(map(escape_name, found))}\n"
        f"  expected: {', '.join(expected)}\n"
        "Use files that belong to the same run."
    )
