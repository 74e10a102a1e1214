"""How old decisions are matched; imports little, so that `--help` is quick."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from moderation.categories import perspective_name
from moderation.errors import ConfigError
from moderation.options import Options, setting

DEFAULT_OLD_THRESHOLD = 0.8
"""The default of Coral, and of most guides to the Perspective API."""

OLD_DECISIONS = "the old decisions"
"""Heading of the settings that describe them."""

Basis = Literal["rate", "agreement"]


@dataclass(frozen=True, kw_only=True)
class MatchOptions(Options):
    """How attributes are matched.

    Args:
        old_threshold: Numbers in (0, 1], one for all attributes or `NAME=NUMBER`.
        match: Which match is taken.
        changes: Comments to list for each attribute.
        bootstrap: Resamples of the intervals.
        seed: Of the resamples.
    """

    old_threshold: tuple[str, ...] = setting(
        (str(DEFAULT_OLD_THRESHOLD),),
        "old score from which a comment was flagged: one number for all attributes, or TOXICITY=0.7 INSULT=0.9",
        OLD_DECISIONS,
        metavar="NUMBER",
    )
    match: Basis = setting(
        "rate",
        "which threshold goes into thresholds.json: the one that flags as many comments as before, or the one that "
        "agrees best with the old decisions",
        OLD_DECISIONS,
    )
    changes: int = setting(
        20,
        "list up to N comments per attribute that are now decided differently, by row number",
        at_least=0,
    )
    bootstrap: int = setting(500, "bootstrap samples for the intervals; 0: no intervals", at_least=0)
    seed: int = setting(42, "seed of the bootstrap", at_least=0)

    def problems(self) -> list[str]:
        """Old thresholds that are not valid."""
        try:
            _ = self.old_thresholds
        except ConfigError as error:
            return [str(error)]
        return []

    @property
    def old_thresholds(self) -> dict[str, float]:
        """Attribute -> its old threshold; `""` -> that of all other attributes.

        Raises:
            ConfigError: a value without a number in (0, 1], an unknown attribute, or one that is named twice.
        """
        found: dict[str, float] = {"": DEFAULT_OLD_THRESHOLD}
        for name, value in read_numbers("--old-threshold", self.old_threshold).items():
            known = perspective_name(name) if name else ""
            if known is None:
                raise ConfigError(f"--old-threshold: {name} is not an attribute of the Perspective API.")
            if known and known in found:
                raise ConfigError(f"--old-threshold: {known} is given more than once.")
            found[known] = value
        return found


def read_numbers(flag: str, words: Sequence[str], *, one_allowed: bool = True) -> dict[str, float]:
    """Read words of the form `NUMBER` or `NAME=NUMBER`.

    Args:
        flag: The flag, for error messages.
        words: The values that the flag was given.
        one_allowed: Whether the number may be 1.

    Returns:
        Name -> number above 0 and up to 1; the number without a name has the key "".

    Raises:
        ConfigError: a value is not a number, or out of range, or a name is given twice.

    >>> read_numbers("--flag-rate", ["0.05", "toxic=0.1"])
    {'': 0.05, 'toxic': 0.1}
    """
    found: dict[str, float] = {}
    for word in words:
        name, _, text = word.rpartition("=")
        name = name.strip()
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not 0 < value <= 1 or (value == 1 and not one_allowed):
            end = "at most 1" if one_allowed else "below 1"
            raise ConfigError(
                f"{flag} is {word[:40]!r}, expected a number above 0 and {end} (80 % is 0.8), or NAME=NUMBER for a "
                "single one."
            )
        if name in found:
            raise ConfigError(f"{flag}: {name or 'the number for all'} is given more than once.")
        found[name] = value
    return found
