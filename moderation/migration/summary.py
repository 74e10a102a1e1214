"""A migration in words for the terminal, as JSON, and as the thresholds file that the server takes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from moderation.evaluation.chosen_thresholds import FORMAT, VERSION
from moderation.evaluation.tables import align, interval, number
from moderation.migration.attributes import Attribute, Change
from moderation.migration.matching import Match


@dataclass(frozen=True)
class Together:
    """Comments that any attribute flags, before and with the new thresholds.

    Args:
        n: Comments.
        n_old: Flagged before.
        n_new: Flagged now.
        agreement: Share decided as before.
        kappa: Cohen's; None where one side decides all comments alike.
    """

    n: int
    n_old: int
    n_new: int
    agreement: float
    kappa: float | None


@dataclass(frozen=True)
class Migration:
    """Everything that was found.

    Args:
        source: The table's path.
        model_version: Of the bundle.
        calibrated: Whether its probabilities are.
        attributes: Each with its matches; none where a share to flag was asked for.
        rates: Label -> the match of the share that was asked for.
        together: Any attribute at all; None without old scores.
        kept: Labels that keep the bundle's threshold.
    """

    source: str
    model_version: str
    calibrated: bool
    attributes: Sequence[Attribute]
    rates: Mapping[str, Match]
    together: Together | None
    kept: Sequence[str]

    @property
    def thresholds(self) -> dict[str, float]:
        """Label -> its new threshold."""
        return {one.label: one.taken.threshold for one in self.attributes} | {
            label: match.threshold for label, match in self.rates.items()
        }


def to_thresholds(migration: Migration) -> dict[str, Any]:
    """What `serve --thresholds`, `score --thresholds` and `Classifier.load(thresholds=...)` read."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "about": {
            "calibrated": migration.calibrated,
            "chosen_by": "moderation migrate",
            "model_version": migration.model_version,
        },
        "thresholds": {label: {"threshold": value} for label, value in migration.thresholds.items()},
    }


def to_json(migration: Migration) -> dict[str, Any]:
    """All numbers; no text of a comment."""
    return {
        "version": 1,
        "source": migration.source,
        "model_version": migration.model_version,
        "attributes": [
            {
                "name": one.name,
                "label": one.label,
                "old_threshold": one.old_threshold,
                "n": one.n,
                "n_flagged_before": one.n_old,
                "rank_correlation": one.rank_correlation,
                "by_rate": asdict(one.by_rate),
                "by_agreement": asdict(one.by_agreement),
                "taken": one.basis,
                "changes": [asdict(change) for change in one.changes],
            }
            for one in migration.attributes
        ],
        "rates": {
            label: {
                name: value for name, value in asdict(match).items() if name in ("threshold", "interval", "n_flagged")
            }
            for label, match in migration.rates.items()
        },
        "together": None if migration.together is None else asdict(migration.together),
        "kept": list(migration.kept),
    }


def format_migration(migration: Migration, texts: Mapping[int, str] | None = None) -> str:
    """Tables for the terminal.

    Args:
        migration: What was found.
        texts: Row number -> comment, to show beside the changes; None: rows by number alone.
    """
    parts = [f"{migration.source}, {migration.model_version}"]
    if migration.attributes:
        parts += [_format_matches(migration.attributes), *_format_changes(migration.attributes, texts)]
    if migration.rates:
        parts.append(_format_rates(migration.rates))
    if migration.together is not None:
        together = migration.together
        parts.append(
            f"flagged for any attribute: {together.n_old:,} of {together.n:,} before, {together.n_new:,} now; "
            f"{together.agreement:.1%} decided as before (kappa {number(together.kappa)})"
        )
    if migration.kept:
        parts.append(f"as the bundle has them: {', '.join(migration.kept)}")
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
        "new, gone: comments that are flagged now and were not, and the other way round; *: taken"
    )
    return f"{align(rows)}\n{notes}"


def _format_changes(attributes: Sequence[Attribute], texts: Mapping[int, str] | None) -> list[str]:
    return [
        f"{one.name}: decided otherwise, first those that move most\n"
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
