"""The kinds of suites: the columns that identify each, and how it is read and measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from moderation.bundles import Bundle
from moderation.data.cleaning import PLAIN_FORM, read_unchecked
from moderation.data.options import TableOptions
from moderation.errors import ConfigError, DataError
from moderation.escapes import escape_name
from moderation.labels import name_problem
from moderation.suites import binary, evasion, hatecheck, jigsaw, labelled, madlibs, open_sets, toxic_spans
from moderation.suites.options import SuiteOptions
from moderation.suites.results import SuiteResult
from moderation.suites.scorer import Scorer
from moderation.tables.columns import find_text_column, show_names

Reader = Callable[[Path, Bundle, TableOptions], pd.DataFrame]
Measure = Callable[[pd.DataFrame, Scorer, SuiteOptions], SuiteResult]


@dataclass(frozen=True)
class Kind:
    """One kind of suite.

    Args:
        name: As in `--suite NAME:KIND=PATH`.
        read: File or folder -> rows.
        measure: Rows -> result.
        columns: Columns that identify the kind of a file; empty: the kind has to be named.
        takes_part: Whether `measure` itself applies `max_texts`.
    """

    name: str
    read: Reader
    measure: Measure
    columns: tuple[str, ...] = ()
    takes_part: bool = False


KINDS: dict[str, Kind] = {
    kind.name: kind
    # Kinds with more specific columns come first.
    for kind in (
        Kind("madlibs", madlibs.read_madlibs, madlibs.measure_madlibs, madlibs.COLUMNS),
        Kind(
            "multilingual-hatecheck",
            hatecheck.read_multilingual_hatecheck,
            hatecheck.measure_multilingual_hatecheck,
            ("mhc_case_id", *hatecheck.COLUMNS),
        ),
        Kind("hatecheck", hatecheck.read_hatecheck, hatecheck.measure_hatecheck, hatecheck.COLUMNS),
        Kind("toxic-spans", toxic_spans.read_toxic_spans, toxic_spans.measure_toxic_spans, toxic_spans.COLUMNS),
        Kind("surge", binary.read_surge, binary.measure_binary, binary.SURGE_COLUMNS),
        Kind("open", open_sets.read_open, open_sets.measure_open, open_sets.COLUMNS),
        Kind("jigsaw-multilingual", jigsaw.read_multilingual, jigsaw.measure_multilingual, jigsaw.MULTILINGUAL_COLUMNS),
        Kind("jigsaw", labelled.read_labelled, jigsaw.measure_labels),
        Kind("evasion", evasion.read_evasion, evasion.measure_evasion, takes_part=True),
        Kind("binary", binary.read_binary, binary.measure_binary),
    )
}


@dataclass(frozen=True)
class Suite:
    """A suite as the user named it.

    Args:
        name: Its name in tables and files.
        path: File, or a folder of files.
        kind: Name of its kind; None: identified by its columns.
    """

    name: str
    path: Path
    kind: str | None = None


def parse_suite(word: str) -> Suite:
    """Read `KIND=PATH`, `NAME:KIND=PATH`, or `NAME=PATH` for a file whose columns identify its kind.

    Raises:
        ConfigError: another form, or an unknown kind.

    >>> parse_suite("hatecheck=cases.csv").kind, parse_suite("ours:binary=a.csv").name, parse_suite("ours=a.csv").kind
    ('hatecheck', 'ours', None)
    """
    left, equals, path = word.partition("=")
    name, colon, kind = left.partition(":")
    if not (equals and path and name) or (colon and not kind):
        raise ConfigError(f"--suite {word}: expected KIND=PATH, NAME:KIND=PATH or NAME=PATH. Kinds: {', '.join(KINDS)}")
    if colon and kind not in KINDS:
        raise ConfigError(f"--suite {word}: unknown kind {kind!r}. Kinds: {', '.join(KINDS)}")
    if problem := name_problem(name):
        raise ConfigError(f"--suite {escape_name(word)}: its name {problem}.")
    return Suite(name, Path(path).expanduser(), kind or (name if name in KINDS else None))


def parse_suites(words: Sequence[str]) -> list[Suite]:
    """Read the suites of a command.

    Raises:
        ConfigError: a word that does not name a suite, or two suites with one name.
    """
    suites = [parse_suite(word) for word in words]
    names = [suite.name for suite in suites]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"--suite: {', '.join(twice)} named more than once. Give each its own name: NAME:KIND=PATH")
    return suites


def find_kind(suite: Suite, bundle: Bundle, form: TableOptions = PLAIN_FORM) -> Kind:
    """The kind of a suite: the one named, else the one whose columns its file has.

    Raises:
        DataError: the file cannot be read, or its columns match no kind.
    """
    if suite.kind is not None:
        return KINDS[suite.kind]
    names = read_unchecked(hatecheck.files_of(suite.path)[0], form).head(1000)
    for kind in KINDS.values():
        if kind.columns and set(kind.columns) <= set(names.columns):
            return kind
    text_column = find_text_column(names.columns, form.text_column, str(suite.path))
    if text_column in names.columns:
        if form.one_column is not None or len(set(bundle.labels) & set(form.label_columns or names.columns)) > 1:
            return KINDS["jigsaw"]
        if len(binary.find_targets(names, text_column, form)) == 1:
            return KINDS["binary"]
    raise DataError(
        f"{suite.path}: its columns match no kind of suite; columns there: {show_names(names.columns)}. Name the kind "
        f"in --suite {suite.name}:KIND=PATH, one of {', '.join(KINDS)}; or, for your own table, name the columns with "
        "--text-column and --label-columns, and set the cut for shares or votes with --label-cut."
    )
