"""What measuring a suite gives: figures for the summary, tables to read, numbers for JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from moderation.evaluation.split_metrics import Interval
from moderation.suites.options import SuiteOptions


@dataclass(frozen=True)
class Figure:
    """One number of a suite that stands in the summary.

    Args:
        measure: What it is, the same words for every model.
        value: In [0, 1] unless the measure says otherwise; None where it is undefined.
        interval: 95 % interval.
        detail: What it belongs to, such as the identity term that is the worst.
    """

    measure: str
    value: float | None
    interval: Interval | None = None
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of words under a header; the first column names, the others hold figures."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class SuiteResult:
    """What one suite says of a model.

    Args:
        n_rows: Rows that were measured.
        figures: For the summary, the most telling first.
        tables: To read.
        numbers: All of them: a dataclass, or a mapping of some, which `documents.to_plain` turns into JSON.
        notes: What has to be known to read them.
    """

    n_rows: int
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]
    numbers: object
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MeasuredSuite:
    """A suite as it was named, and its result.

    Args:
        name: That the user gave it.
        kind: One of `suites.KINDS`.
        path: File or folder.
        files: Name -> SHA-256 of each file read.
        n_rows: Rows there; the result's own count is smaller with `max_texts`.
        seconds: That it took.
        result: Of it.
        of_authors: Whether these may be the rows on which others published figures; a table of one's own that has the
            form of a suite is none of them.
    """

    name: str
    kind: str
    path: str
    files: dict[str, str]
    n_rows: int
    seconds: float
    result: SuiteResult
    of_authors: bool = True

    @property
    def whole(self) -> bool:
        """Whether every row was measured."""
        return self.result.n_rows == self.n_rows


@dataclass(frozen=True)
class SuitesReport:
    """All suites of one bundle.

    Args:
        model_version: Bundle and backend.
        bundle_version: 64 hex digits.
        thresholds: Label -> threshold.
        thresholds_from: Whose they are: `bundle`, or `set`.
        languages: That the model was trained on.
        options: How it was measured.
        table_settings: What was said of how the suites' tables are written.
        suites: In the order asked for.
        seconds: Of all.
        n_computed: Different texts that the model read.
    """

    model_version: str
    bundle_version: str
    thresholds: dict[str, float]
    languages: tuple[str, ...]
    options: SuiteOptions
    table_settings: Mapping[str, object] = field(default_factory=dict)
    suites: tuple[MeasuredSuite, ...] = field(default=())
    seconds: float = 0.0
    n_computed: int = 0
    thresholds_from: str = "bundle"
