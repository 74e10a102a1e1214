"""Counts of the scored rows and their results."""

from collections import Counter
from collections.abc import Sequence

from moderation.language_codes import UNDETERMINED
from moderation.tables.columns import show_rows

_KINDS_SHOWN = 10
_ROWS_SHOWN = 6  # one more than are printed, to show that there are more


class ScoreSummary:
    """Counts over the batches of one table, in order.

    Args:
        labels: Of the classifier.
        languages: Languages that the model was trained on; empty: not known.
        thresholds: Which thresholds decide, in words; empty: not shown.

    Attributes:
        n_rows: Rows of the table.
        n_new: Rows that this run computed; the others were kept from an earlier run.
        n_failed: Rows with an error.
        n_flagged: Rows with one flagged label or more.
    """

    def __init__(self, labels: Sequence[str], languages: Sequence[str] = (), thresholds: str = "") -> None:
        self._thresholds = thresholds
        self.n_rows = self.n_new = self.n_failed = self.n_flagged = 0
        self._flagged = Counter(dict.fromkeys(labels, 0))
        self._trained_on = tuple(languages)
        self._foreign: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._first_rows: dict[str, list[int]] = {}

    def add(
        self,
        flagged: Sequence[Sequence[str] | None],
        languages: Sequence[str | None],
        errors: Sequence[str | None],
    ) -> None:
        """Count the next rows.

        Args:
            flagged: For each row the flagged labels; None: it was not scored.
            languages: For each row the language; None: not detected.
            errors: For each row its error; None: no error.
        """
        for labels in flagged:
            if labels:
                self.n_flagged += 1
                self._flagged.update(labels)
        if self._trained_on:
            known = (None, UNDETERMINED, *self._trained_on)
            self._foreign.update(code for code in languages if code is not None and code not in known)
        for row, error in enumerate(errors, start=self.n_rows + 1):
            if error is not None:
                self._errors[error] += 1
                rows = self._first_rows.setdefault(error, [])
                rows += [row] if len(rows) < _ROWS_SHOWN else []
                self.n_failed += 1
        self.n_rows += len(errors)

    def to_text(self, seconds: float, path: str) -> str:
        """A few lines for people: rows, errors by kind, flagged rows per label, speed, path of the output."""
        scored = self.n_rows - self.n_failed
        lines = [f"{self.n_rows:>11,} rows", f"{scored:>11,} scored", f"{self.n_failed:>11,} with an error"]
        common = self._errors.most_common()
        lines += [
            f"{count:>15,} {error}: {show_rows(self._first_rows[error])}" for error, count in common[:_KINDS_SHOWN]
        ]
        if len(common) > _KINDS_SHOWN:
            others = sum(count for _, count in common[_KINDS_SHOWN:])
            lines.append(f"{others:>15,} others, of {len(common) - _KINDS_SHOWN} kinds")
        lines.append(
            f"{self.n_flagged:>11,} flagged at all ({self.n_flagged / scored if scored else 0:.2%} of those scored)"
        )
        lines += [
            f"{count:>11,} flagged {label} ({count / scored if scored else 0:.2%})"
            for label, count in self._flagged.items()
        ]
        if self._foreign:
            most = ", ".join(f"{code} {count:,}" for code, count in self._foreign.most_common(_KINDS_SHOWN))
            lines.append(
                f"{self._foreign.total():>11,} probably in languages that the model was not trained on ({most}): "
                "do not rely on its answers there"
            )
        earlier = f" ({self.n_rows - self.n_new:,} were kept from earlier runs)" if self.n_new < self.n_rows else ""
        speed = self.n_new / seconds if seconds > 0 else 0.0
        lines.append(f"{speed:>11,.0f} rows/s over {self.n_new:,} rows{earlier}, model loading included")
        lines += [f"thresholds: {self._thresholds}"] if self._thresholds else []
        return "\n".join([*lines, "" if path == "-" else path]).rstrip("\n")
