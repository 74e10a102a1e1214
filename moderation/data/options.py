"""Settings of labelled comments and their splits; imports little, so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moderation.options import Options, part, setting
from moderation.tables.options import DELIMITER_HELP, ESCAPE_HELP, QUOTING_HELP, TEXT_COLUMN, TEXT_COLUMN_HELP, Quoting

LabelFormat = Literal["auto", "columns", "names", "list", "json", "class"]

LANGUAGE = "lang"
"""Column of the language codes in a table of clean rows, if more languages than English are kept."""

LABEL_CUT_HELP = (
    "fractions in [0, 1], or numbers of votes, count as positive from this value on; without it, both are refused"
)
LABELS_IN_HELP = "one column with all labels of a row: names, a list, JSON, or a class"
LABEL_FORMAT_HELP = (
    "format of --labels-in: names (toxic|insult), list, json ({toxic: 1}), class (one name), auto (as it looks); "
    "columns: ignore --labels-in, since each label has its own column"
)
LABEL_NONE_HELP = (
    "names in --labels-in that mean no label; default: none, normal, clean, neither, ok, not, and names that begin "
    "with not_"
)

PARTIAL_LABELS_HELP = (
    "an empty label cell means that nobody asked about that label: leave it out of the loss and the figures"
)
LANGUAGE_COLUMN_HELP = "column of language codes, for --languages; default: 'lang' or 'language' where there is one"
LANGUAGES_HELP = "language codes to keep, where there is a column of them; any: all languages"


@dataclass(frozen=True, kw_only=True)
class TableOptions(Options):
    """How to read a table of labelled comments.

    Args:
        text_column: Column of the texts; where the default is not there, the one column of a usual name (`text`,
            `comment`, `tweet`, ...) is taken, which is logged, and arrives under the name of the default.
        label_columns: Label columns in the order of the targets; None: the Jigsaw six, as far as present, else every
            column of 0 and 1, of true and false, or of yes and no. The log names them, and other columns that may be
            labels too. With `labels_in`: the labels to take from there.
        label_cut: In (0, 1]: labels may be fractions in [0, 1] and count as positive from this value on. A whole number
            from 1 on: labels may be numbers of votes. None: a fraction or a number of votes is an error.
        labels_in: One column that holds all labels of a row, as `label_forms.spread_labels` reads it.
        label_format: `names`, `list`, `json` or `class`: how it does; `auto`: as it looks; `columns`: take no notice of
            `labels_in`.
        label_none: Names there that mean no label; None: none, normal, clean, neither, ok, not and not_... .
        delimiter: Field delimiter of a CSV file; None: a comma, for TSV a tab.
        quoting: What quotes mean in a CSV file: `standard` or `none`, as `csv_dialects.CsvDialect` has it.
        escape: Its escape character, as there.
        partial_labels: Empty label cells mean that the label is unknown: it is left out of the loss, and of the figures
            of this label. False: they are an error.
        language_column: Column of language codes; None: `lang` or `language` where there is one.
        languages: Codes of which rows are kept, so that `en` keeps `EN`, `en-US` and the like; `any`: all rows.
        detect_language: Also leave out texts that are clearly not English: at least 20 letters, and another language
            has a probability of at least 0.5. Texts that are too short or undecided are kept and counted. About 4,000
            texts a second. Needs the extra `languages`.

    Raises:
        ConfigError: a value out of range.

    >>> TableOptions(label_columns=("toxic", "insult"), label_cut=0.5).label_cut
    0.5
    """

    text_column: str = setting(TEXT_COLUMN, TEXT_COLUMN_HELP)
    label_columns: tuple[str, ...] | None = setting(
        None, "label columns; default: the Jigsaw six if present, otherwise every column of 0/1, true/false or yes/no"
    )
    label_cut: float | None = setting(None, LABEL_CUT_HELP)
    labels_in: str | None = setting(None, LABELS_IN_HELP, metavar="COLUMN")
    label_format: LabelFormat = setting("auto", LABEL_FORMAT_HELP)
    label_none: tuple[str, ...] | None = setting(None, LABEL_NONE_HELP, metavar="CLASS")
    delimiter: str | None = setting(None, DELIMITER_HELP, metavar="CHARACTER")
    quoting: Quoting = setting("standard", QUOTING_HELP)
    escape: str | None = setting(None, ESCAPE_HELP, metavar="CHARACTER")
    partial_labels: bool = setting(False, PARTIAL_LABELS_HELP)
    language_column: str | None = setting(None, LANGUAGE_COLUMN_HELP)
    languages: tuple[str, ...] = setting(("en",), LANGUAGES_HELP, metavar="CODE")
    detect_language: bool = setting(False, "detect each text's language and keep only English")

    @property
    def only_english(self) -> bool:
        """Whether rows in other languages are left out."""
        return {code.strip().lower() for code in self.languages} == {"en"}

    @property
    def one_column(self) -> str | None:
        """The column that holds all labels of a row; None where each label has its own."""
        return None if self.label_format == "columns" else self.labels_in

    def problems(self) -> list[str]:
        """A cut that cuts nothing, and a format of a column that is not named."""
        problems, cut = [], self.label_cut
        if cut is not None and not (0 < cut <= 1 or (cut > 1 and float(cut).is_integer())):
            problems.append(
                f"--label-cut is {cut}, expected more than 0 and at most 1 for fractions, or a whole number of votes."
            )
        if self.label_format not in ("auto", "columns") and self.labels_in is None:
            problems.append(f"--label-format {self.label_format} needs --labels-in, which names the column.")
        if not all(code.strip() for code in self.languages) or not self.languages:
            problems.append("--languages names no language; expected codes such as en, or any.")
        if self.detect_language and not self.only_english:
            problems.append("--detect-language keeps English only; leave it or --languages out.")
        if self.partial_labels and self.one_column is not None:
            problems.append("--partial-labels needs a column for each label; leave it or --labels-in out.")
        return problems


@dataclass(frozen=True, kw_only=True)
class SplitOptions(Options):
    """The tables of a run, and how they become train, val and test.

    Args:
        data_path: Table of the train split, and of each split that has no table of its own.
        table: How it is written, and every further one.
        val_path: Table of the val split.
        test_path: Table of the test split.
        val_size: Share of the texts of `data_path` for validation, without `val_path`; in (0, 1).
        test_size: Share of the texts of `data_path` for testing, without `test_path`; in (0, 1).
        max_train_examples: Keep a seeded part of the train split.
        extra_train_path: Further table for the train split alone, added to that part; texts of val and test are left
            out of it.
        disguised: Disguised copies per row to add to the train split, in [0, 1].

    Raises:
        ConfigError: a value out of range.

    >>> SplitOptions(data_path=Path("train.csv"), val_size=0.2).test_size
    0.1
    """

    data_path: Path = setting(None, "labelled comments: CSV, TSV, Parquet or JSONL, also .gz .zip .zst")
    table: TableOptions = part(TableOptions)
    val_path: Path | None = setting(None, "validation table; default: a part of --data-path")
    test_path: Path | None = setting(None, "test table; default: a part of --data-path")
    val_size: float = setting(0.1, "share of the texts for validation", metavar="SHARE", above=0, below=1)
    test_size: float = setting(0.1, "share of the texts for testing", metavar="SHARE", above=0, below=1)
    max_train_examples: int | None = setting(
        None, "train on a random sample of this many rows of the train split", at_least=1
    )
    extra_train_path: Path | None = setting(
        None, "another table with the same columns, for the train split only; texts of val and test are left out"
    )
    disguised: float = setting(
        0.0,
        "disguised copies to add per train row, each with one of the edits that people use to hide words "
        "(docs/suites.md); with --fold-disguises, only edits that folding does not fully undo",
        at_least=0,
        at_most=1,
    )

    def problems(self) -> list[str]:
        """Shares that leave nothing to train on."""
        if self.val_size + self.test_size >= 1:
            return [f"--test-size is {self.test_size}, expected less than 1 together with --val-size"]
        return []


@dataclass(frozen=True, kw_only=True)
class SealedSplits(Options):
    """Everything on which the splits of a run depend, as a bundle seals it."""

    data: SplitOptions = part(SplitOptions)
    seed: int = setting(42, "seed of the splits", at_least=0, at_most=2**32 - 1)
    fold_disguises: bool = setting(False, "whether the tokenizer undoes some disguises")
