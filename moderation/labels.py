"""The ordered labels. Every array is built by indexing with them, and every saved array comes with them."""

import unicodedata
from collections import Counter
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
        ConfigError: no names, an empty or unreadable one, or two that look alike.

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
    r"""Why people could not read a name or tell it from others; empty if they can.

    The name itself is not repeated: if the header of a table is missing, it may be a comment.

    >>> name_problem("identity hate"), name_problem("toxic\x1b[2J")
    ('', 'contains the invisible character U+001B; expected letters, digits, signs and plain blanks')
    """
    if len(name) > LONGEST_NAME:
        return f"has {len(name):,} characters; expected up to {LONGEST_NAME}"
    odd = next((character for character in name if not character.isprintable()), None)
    if odd is not None:
        return f"contains the invisible character U+{ord(odd):04X}; expected letters, digits, signs and plain blanks"
    if not any(unicodedata.category(character)[0] in "LNPS" for character in name):
        return "contains nothing visible; expected letters, digits or signs"
    return ""


def find_alike(names: Sequence[str]) -> list[str]:
    r"""Names that occur more than once, also in another notation of the same characters; sorted, each once.

    >>> find_alike(["caf\u00e9", "tea", "cafe\u0301"])
    ['café']
    """
    counts = Counter(unicodedata.normalize("NFC", name) for name in names)
    return sorted(name for name, n in counts.items() if n > 1)


def check_same_labels(found: Sequence[str], expected: Sequence[str], where: str) -> None:
    """Refuse an artifact whose labels are not `expected`, in exactly that order.

    Args:
        found: Labels of the artifact.
        expected: Labels of what it is used with.
        where: The artifact's name in the message.

    Raises:
        ArtifactError: the labels or their order differ.
    """
    if tuple(found) == tuple(expected):
        return
    same = sorted(found) == sorted(expected)
    raise ArtifactError(
        f"{where}: {'the labels are in another order' if same else 'made for other labels'}.\n"
        f"  found:    {', '.join(map(escape_name, found))}\n"
        f"  expected: {', '.join(expected)}\n"
        "Use files that belong to the same run."
    )
