"""What became of the rows that were scored, counted as they come."""

from collections import Counter
from collections.abc import Sequence

from moderation.data.languages import UNDETERMINED
from moderation.tables.columns import show_rows

_KINDS_SHOWN = 10
_ROWS_SHOWN = 6  # one more than are written out, which says that there are more


class ScoreSummary:
    """Counts over the batches of one table, in order.

    Args:
        labels: Of the classifier.
        languages: That the model was trained on; none: it is not known.
        thresholds: Whose thresholds decide, in words; empty: nothing is said of it.

    Attributes:
        n_rows: Rows of the table.
        n_new: Those of them that this run computed; the others had been kept by an earlier one.
        n_failed: Rows with an error.
        n_flagged: Rows with one label or more.
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
            flagged: Of each row the labels that are flagged; None: it was not scored.
            languages: Of each row the language; None: nobody told.
            errors: Of each row what is wrong; None: nothing.
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
        """A few lines for people: rows, errors by kind, flagged rows per label, speed, where it all is."""
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
        earlier = f" ({self.n_rows - self.n_new:,} had been kept)" if self.n_new < self.n_rows else ""
        speed = self.n_new / seconds if seconds > 0 else 0.0
        lines.append(f"{speed:>11,.0f} rows/s over {self.n_new:,} rows{earlier}, model loading included")
        lines += [f"thresholds: {self._thresholds}"] if self._thresholds else []
        return "\n".join([*lines, "" if path == "-" else path]).rstrip("\n")
