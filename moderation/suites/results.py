"""The result of measuring a suite: figures for the summary, tables to read, numbers for JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from moderation.evaluation.split_metrics import Interval
from moderation.suites.options import SuiteOptions


@dataclass(frozen=True)
class Figure:
    """One number of a suite that is in the summary.

    Args:
        measure: Its name, the same for every model.
        value: In [0, 1] unless the measure says otherwise; None if it is undefined.
        interval: 95 % interval.
        detail: What it refers to, such as the worst identity term.
    """

    measure: str
    value: float | None
    interval: Interval | None = None
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column holds names, the others figures."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class SuiteResult:
    """The result of one suite.

    Args:
        n_rows: Rows that were measured.
        figures: For the summary, the most important first.
        tables: To read.
        numbers: All numbers: a dataclass, or a mapping of some, which `documents.to_plain` turns into JSON.
        notes: What the reader has to know.
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
        name: The name that the user gave it.
        kind: One of `registry.KINDS`.
        path: File or folder.
        files: Name -> SHA-256 of each file read.
        n_rows: Rows of the file; the result's own count is smaller with `max_texts`.
        seconds: Time that it took.
        result: Its result.
        of_authors: Whether these may be the rows for which figures were published; a user's own table in the form of a
            suite is not.
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
        thresholds_from: Where they come from: `bundle`, or `set`.
        languages: Languages that the model was trained on.
        options: How it was measured.
        table_settings: Settings for reading the suites' tables.
        suites: In the requested order.
        seconds: For all suites.
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
