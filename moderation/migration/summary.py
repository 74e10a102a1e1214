"""What a migration found, and its text for the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moderation.migration.attributes import Attribute, Change
from moderation.migration.matching import Match
from moderation.text_tables import align, interval, number


@dataclass(frozen=True)
class Together:
    """Comments that any label flags with the new thresholds, including labels without old scores: as in `flagged`.

    Args:
        n: Comments; if there are old scores, only those that have one.
        n_new: Flagged now.
        n_old: Flagged before for any attribute; None without old scores, like the next two.
        agreement: Share decided as before.
        kappa: Cohen's; also None if one side decides all comments alike.
    """

    n: int
    n_new: int
    n_old: int | None = None
    agreement: float | None = None
    kappa: float | None = None


@dataclass(frozen=True)
class Migration:
    """Everything that a migration found.

    Args:
        source: The table's path.
        model_version: Of the bundle.
        calibrated: Whether its probabilities are calibrated.
        attributes: Each with its matches; empty if a share to flag was requested.
        rates: Label -> the match for the requested share.
        together: Over all labels.
        others: Labels without old scores -> their threshold.
        warnings: What makes the thresholds doubtful.
        left: Labels without old scores that keep the thresholds of each bundle and language.
    """

    source: str
    model_version: str
    calibrated: bool
    attributes: Sequence[Attribute]
    rates: Mapping[str, Match]
    together: Together
    others: Mapping[str, float]
    warnings: Sequence[str]
    left: Sequence[str] = ()

    @property
    def thresholds(self) -> dict[str, float]:
        """Label -> its new threshold."""
        return (
            {one.label: one.taken.threshold for one in self.attributes}
            | {label: match.threshold for label, match in self.rates.items()}
            | dict(self.others)
        )

    @property
    def in_words(self) -> list[str]:
        """Sentences for the terminal and the page."""
        together = self.together
        if together.n_old is None or together.agreement is None:
            said = [f"flagged for any label: {together.n_new:,} of {together.n:,} ({together.n_new / together.n:.1%})"]
        else:
            said = [
                f"flagged for any label: {together.n_old:,} of {together.n:,} before, {together.n_new:,} now; "
                f"{together.agreement:.1%} decided as before (kappa {number(together.kappa)})"
            ]
        off = [label for label, threshold in self.others.items() if threshold == 1]
        kept = [*(label for label in self.others if label not in off), *self.left]
        if off:
            said.append(f"without old scores, so turned off (threshold 1): {', '.join(off)}")
        if kept:
            said.append(f"without old scores, so with the bundle's threshold: {', '.join(kept)}")
        return said


def format_migration(migration: Migration, texts: Mapping[int, str] | None = None) -> str:
    """Tables for the terminal.

    Args:
        migration: What was found.
        texts: Row number -> comment, to show next to the changes; None: only row numbers.
    """
    parts = [f"{migration.source}, {migration.model_version}"]
    if migration.attributes:
        parts += [_format_matches(migration.attributes), *_format_changes(migration.attributes, texts)]
    if migration.rates:
        parts.append(_format_rates(migration.rates))
    parts.append("\n".join(migration.in_words))
    if migration.warnings:
        parts.append("\n".join(f"Note: {warning}" for warning in migration.warnings))
    return "\n\n".join(parts)


def _format_matches(attributes: Sequence[Attribute]) -> str:
    header = [
        "attribute",
        "label",
        "cut",
        "threshold",
        "95 % interval",
        "flags",
        "new",
        "gone",
        "agreement",
        "kappa",
        "rank",
    ]
    rows = [header]
    for one in attributes:
        before = [one.name, one.label, "before", number(one.old_threshold, 4), "", f"{one.n_old:,}", *[""] * 4]
        rows.append([*before, number(one.rank_correlation)])
        for basis, match in (("rate", one.by_rate), ("agreement", one.by_agreement)):
            chosen = f"{basis} *" if basis == one.basis else basis
            rows.append(
                [
                    *("", "", chosen, number(match.threshold, 4), interval(match.interval), f"{match.n_flagged:,}"),
                    *(f"{match.n_newly_flagged:,}", f"{match.n_no_longer_flagged:,}"),
                    *(f"{match.agreement:.1%}", number(match.kappa), ""),
                ]
            )
    notes = (
        "before: Perspective's threshold and flags; rank: Spearman's correlation of old scores and probabilities\n"
        "rate: the threshold that flags as many; agreement: the one that agrees best beyond chance (Cohen's kappa)\n"
        "new: flagged now but not before; gone: the opposite; *: used"
    )
    return f"{align(rows)}\n{notes}"


def _format_changes(attributes: Sequence[Attribute], texts: Mapping[int, str] | None) -> list[str]:
    return [
        f"{one.name}: changed decisions, the largest moves first\n"
        + align(
            [
                ["row", "old score", "probability", "now", *([""] if texts else [])],
                *(_row(c, texts) for c in one.changes),
            ]
        )
        for one in attributes
        if one.changes
    ]


def _row(change: Change, texts: Mapping[int, str] | None) -> list[str]:
    shown = [] if texts is None else [" ".join(texts[change.row].split())[:80]]
    return [
        f"{change.row:,}",
        number(change.old_score),
        number(change.probability),
        "flagged" if change.flagged else "not",
        *shown,
    ]


def _format_rates(rates: Mapping[str, Match]) -> str:
    rows = [["label", "threshold", "95 % interval", "flags"]]
    rows += [[label, number(m.threshold, 4), interval(m.interval), f"{m.n_flagged:,}"] for label, m in rates.items()]
    return align(rows)
