"""The ordered labels. Every array is built by indexing with them, and every saved array travels with them."""

from collections.abc import Sequence

from moderation.errors import ArtifactError, ConfigError

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
        ConfigError: no name, an empty one, or one that stands twice.

    >>> as_labels(["toxic", "threat"])
    ('toxic', 'threat')
    """
    labels = tuple(names)
    if isinstance(names, str) or not labels or not all(labels):
        raise ConfigError("Labels: expected a list of one or more names, none of them empty.")
    twice = sorted({name for name in labels if labels.count(name) > 1})
    if twice:
        raise ConfigError(f"Labels: {', '.join(twice)} named more than once. Name each label once.")
    return labels


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
        f"  found:    {', '.join(found)}\n"
        f"  expected: {', '.join(expected)}\n"
        "Use files that belong to the same run."
    )
