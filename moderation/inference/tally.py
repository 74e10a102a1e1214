"""What became of the rows of a scored table, counted batch by batch."""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from moderation.data.columns import show_rows
from moderation.data.languages import UNDETERMINED

_KINDS_SHOWN = 10
_ROWS_SHOWN = 6  # one more than are written out, which says that there are more


class Tally:
    """Counts over the batches of one table, in order.

    Args:
        labels: Of the classifier.
        languages: That the model was trained on; none: it is not known.

    Attributes:
        n_rows: Rows of the table.
        n_new: Those of them that this run computed; the others had been kept by an earlier one.
        n_failed: Rows with an error.
        n_flagged: Rows with one label or more.
    """

    def __init__(self, labels: Sequence[str], languages: Sequence[str] = ()) -> None:
        self.n_rows = self.n_new = self.n_failed = self.n_flagged = 0
        self._flagged = Counter(dict.fromkeys(labels, 0))
        self._trained_on = tuple(languages)
        self._foreign: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._first_rows: dict[str, list[int]] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a scored batch."""
        for answer in pc.value_counts(batch.column("flagged")).to_pylist():
            self.n_flagged += answer["counts"] if answer["values"] else 0
            for label in (answer["values"] or "").split(","):
                if label:
                    self._flagged[label] += answer["counts"]
        for answer in pc.value_counts(batch.column("detected_language")).to_pylist():
            if self._trained_on and answer["values"] not in (None, UNDETERMINED, *self._trained_on):
                self._foreign[answer["values"]] += answer["counts"]
        errors = batch.column("error")
        if errors.null_count < len(errors):
            for row, error in enumerate(errors.to_pylist(), start=self.n_rows + 1):
                if error is not None:
                    self._errors[error] += 1
                    rows = self._first_rows.setdefault(error, [])
                    rows += [row] if len(rows) < _ROWS_SHOWN else []
                    self.n_failed += 1
        self.n_rows += batch.num_rows

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
                f"{self._foreign.total():>11,} seem to be in languages that the model was not trained on ({most}): do "
                "not rely on its answers there"
            )
        earlier = f" ({self.n_rows - self.n_new:,} had been kept)" if self.n_new < self.n_rows else ""
        speed = self.n_new / seconds if seconds > 0 else 0.0
        lines.append(f"{speed:>11,.0f} rows/s over {self.n_new:,} rows{earlier}, model loading included")
        return "\n".join([*lines, "" if path == "-" else path]).rstrip("\n")
