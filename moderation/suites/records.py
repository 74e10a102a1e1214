"""`suites.json`: every number of all suites, with the published figures for each."""

from collections.abc import Mapping
from dataclasses import dataclass

from moderation.documents import Document, to_plain
from moderation.evaluation.split_metrics import Interval
from moderation.suites.published import published_beside
from moderation.suites.results import MeasuredSuite, SuitesReport


@dataclass(frozen=True)
class OthersFigure:
    """A published figure, and why it is not comparable; None if it is."""

    system: str
    value: float
    source: str
    not_comparable: str | None


@dataclass(frozen=True)
class FigureRecord:
    """A figure of the summary; the first four fields are those of `results.Figure`."""

    measure: str
    value: float | None
    interval: Interval | None
    detail: str
    others: tuple[OthersFigure, ...]


@dataclass(frozen=True)
class SuiteRecord:
    """One suite, as in `results.MeasuredSuite`; `numbers` depend on its kind."""

    kind: str
    path: str
    files: Mapping[str, str]
    n_rows: int
    seconds: float
    of_authors: bool
    n_measured: int
    figures: tuple[FigureRecord, ...]
    notes: tuple[str, ...]
    numbers: Mapping[str, object]


@dataclass(frozen=True)
class Sampling:
    """The options with which suites were measured."""

    bootstrap: int
    seed: int
    max_texts: int | None


@dataclass(frozen=True)
class SuitesRecord:
    """All suites of one bundle, as in `results.SuitesReport`; `suites` by name."""

    model_version: str
    bundle_version: str
    thresholds: Mapping[str, float]
    languages: tuple[str, ...]
    options: Sampling
    table_settings: Mapping[str, object]
    seconds: float
    n_computed: int
    thresholds_from: str
    suites: Mapping[str, SuiteRecord]


SUITES = Document(SuitesRecord, "suites.json as `moderation evaluate` writes it", extra=True)


def record_suites(report: SuitesReport) -> SuitesRecord:
    """All numbers of a report."""
    options = report.options
    return SuitesRecord(
        model_version=report.model_version,
        bundle_version=report.bundle_version,
        thresholds=report.thresholds,
        languages=report.languages,
        options=Sampling(options.bootstrap, options.seed, options.max_texts),
        table_settings=report.table_settings,
        seconds=report.seconds,
        n_computed=report.n_computed,
        thresholds_from=report.thresholds_from,
        suites={suite.name: _record_suite(suite) for suite in report.suites},
    )


def _record_suite(suite: MeasuredSuite) -> SuiteRecord:
    result = suite.result
    return SuiteRecord(
        kind=suite.kind,
        path=suite.path,
        files=suite.files,
        n_rows=suite.n_rows,
        seconds=suite.seconds,
        of_authors=suite.of_authors,
        n_measured=result.n_rows,
        figures=tuple(
            FigureRecord(
                measure=figure.measure,
                value=figure.value,
                interval=figure.interval,
                detail=figure.detail,
                others=tuple(
                    OthersFigure(entry.system, entry.value, entry.source, obstacle or None)
                    for entry, obstacle in published_beside(suite, figure.measure)
                ),
            )
            for figure in result.figures
        ),
        notes=result.notes,
        numbers=to_plain(result.numbers),
    )
