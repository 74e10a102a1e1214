"""The suites as text: one summary of all suites with published figures, then each suite's tables."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from moderation.report.pages import render
from moderation.suites.published import published_beside
from moderation.suites.results import Figure, MeasuredSuite, SuitesReport, Table
from moderation.text_tables import align, interval, number

HEADER = ("suite", "measure", "value", "95 % interval", "others")
_TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Summary:
    """The one table, and the notes under it.

    Args:
        rows: Under `HEADER`; only the first row of each suite has its name.
        footnotes: Sources of published figures, numbered from 1, and why some are not comparable.
    """

    rows: tuple[tuple[str, ...], ...]
    footnotes: tuple[str, ...]


def summarise(report: SuitesReport) -> Summary:
    """Gather the figures of all suites, each with what others published."""
    rows, footnotes = [], []
    for suite in report.suites:
        for place, figure in enumerate(suite.result.figures):
            others = []
            for entry, obstacle in published_beside(suite, figure.measure):
                note = f"{entry.source}." + (f" Not comparable: {obstacle}." if obstacle else "")
                if note not in footnotes:
                    footnotes.append(note)
                doubt = ", not comparable" if obstacle else ""
                others.append(f"{entry.system} {_value(entry.value)} [{footnotes.index(note) + 1}{doubt}]")
            rows.append((suite.name if not place else "", *_cells(figure), "; ".join(others)))
    return Summary(tuple(rows), tuple(footnotes))


def format_suites(report: SuitesReport) -> str:
    """Write the summary and all tables for the terminal."""
    summary = summarise(report)
    notes = [f"[{place}] {note}" for place, note in enumerate(summary.footnotes, start=1)]
    parts = ["\n".join([_align_left([HEADER, *summary.rows]), *notes])]
    parts += [part for suite in report.suites for part in _format_suite(suite)]
    parts.append(describe(report))
    return "\n\n".join(parts)


def describe(report: SuitesReport) -> str:
    """One line: which model, how much, how long."""
    rows = sum(suite.result.n_rows for suite in report.suites)
    decided = ", ".join(f"{label} {value:.4g}" for label, value in report.thresholds.items())
    whose = f"; thresholds were set: {decided}" if report.thresholds_from == "set" else ""
    return (
        f"{report.model_version}: {rows:,} rows of {', '.join(suite.name for suite in report.suites)}; "
        f"{report.n_computed:,} different texts read, {report.seconds:,.0f} s{whose}"
    )


def title(suite: MeasuredSuite) -> str:
    """A suite's heading."""
    kind = "" if suite.kind == suite.name else f" ({suite.kind})"
    part = "" if suite.whole else f", a seeded part of {suite.n_rows:,}"
    return f"{suite.name}{kind}: {suite.result.n_rows:,} rows{part}"


def _format_suite(suite: MeasuredSuite) -> Iterator[str]:
    yield "\n".join([title(suite), *suite.result.notes])
    for table in suite.result.tables:
        yield "\n".join([table.title, _align_table(table), *([table.note] if table.note else [])])


def _align_table(table: Table) -> str:
    return align([table.header, *table.rows])


def _align_left(rows: list[tuple[str, ...]]) -> str:
    """Align names and published figures to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for suite, measure, value, spread, others in rows:
        cells = (
            suite.ljust(widths[0]),
            measure.ljust(widths[1]),
            value.rjust(widths[2]),
            spread.rjust(widths[3]),
            others,
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _cells(figure: Figure) -> tuple[str, str, str]:
    name = f"{figure.measure} ({figure.detail})" if figure.detail else figure.measure
    return name, number(figure.value), interval(figure.interval)


def _value(value: float) -> str:
    """As many digits as were published.

    >>> _value(0.895), _value(0.9886)
    ('0.895', '0.9886')
    """
    return f"{value:.4f}".rstrip("0") if value != round(value, 3) else f"{value:.3f}"


def render_page(report: SuitesReport) -> str:
    """Write the page."""
    values = {"header": HEADER, "summary": summarise(report), "description": describe(report), "title": title}
    return render(_TEMPLATE, {"report": report} | values)
