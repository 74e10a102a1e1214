"""Settings of `moderation migrate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moderation.errors import ConfigError
from moderation.inference.options import Backend
from moderation.migration.options import OLD_DECISIONS, MatchOptions, read_numbers
from moderation.options import Options, no_effect, part, setting
from moderation.tables.options import DELIMITER_HELP, ESCAPE_HELP, QUOTING_HELP, TEXT_COLUMN_HELP, Quoting


@dataclass(frozen=True, kw_only=True)
class CommentTable(Options):
    """How the table of comments is written."""

    text_column: str = setting("comment_text", TEXT_COLUMN_HELP)
    delimiter: str | None = setting(None, DELIMITER_HELP, metavar="CHARACTER")
    quoting: Quoting = setting("standard", QUOTING_HELP)
    escape: str | None = setting(None, ESCAPE_HELP, metavar="CHARACTER")


@dataclass(frozen=True, kw_only=True)
class MigrateConfig(Options):
    """Settings of `moderation migrate`."""

    input_path: Path = setting(
        None,
        "comments with their old scores: columns named as Perspective's attributes (TOXICITY, ...), or a column of the "
        "API's answers in JSON; CSV, TSV, Parquet or JSONL, also .gz .zip .zst",
    )
    output_dir: Path = setting(
        None,
        "folder to write: thresholds.json (for serve and score), migration.json (numbers), report.html (for people)",
        short=("-o",),
    )
    answers: Path | None = setting(
        None, "the API's answers in a file of their own (.jsonl), one a line in the order of the table", OLD_DECISIONS
    )
    others: Literal["off", "bundle"] = setting(
        "off",
        "labels without old scores: off writes a threshold of 1 for them, so that they flag next to nothing; bundle "
        "keeps the bundle's",
    )
    matching: MatchOptions = part(MatchOptions)
    flag_rate: tuple[str, ...] = setting(
        (),
        "without old scores: flag this share of the comments, for every label (0.05) or by label (toxic=0.05)",
        OLD_DECISIONS,
        metavar="SHARE",
    )
    show_texts: bool = setting(False, "show the first 80 characters of these comments on the terminal")
    overwrite: bool = setting(False, "replace what the folder holds of an earlier migration, and nothing else")
    model: Path | None = setting(
        None, "folder of a bundle; default: the included English model", short=("-m",), metavar="FOLDER"
    )
    backend: Backend = setting("auto", "engine; auto takes the fastest that the bundle holds and that is installed")
    threads: int | None = setting(None, "processor threads; default: all cores", at_least=1)
    table: CommentTable = part(CommentTable, "how the table is written")

    @property
    def flag_rates(self) -> dict[str, float]:
        """Label -> share of the comments to flag; `""` -> that of all others. Empty where none was given.

        Raises:
            ConfigError: a word without a number between 0 and 1, or a label that is named twice.
        """
        return read_numbers("--flag-rate", self.flag_rate, one_allowed=False)

    def problems(self) -> list[str]:
        """Problems between settings: a path is missing, or a value that cannot be."""
        problems = [
            f"{flag} is missing: {what}"
            for flag, what, value in (
                ("INPUT", "the table of comments", self.input_path),
                ("--output-dir", "the folder to write", self.output_dir),
            )
            if value is None
        ]
        try:
            _ = self.flag_rates
        except ConfigError as error:
            problems.append(str(error))
        if self.flag_rate:
            problems += no_effect(self, ["answers", "old_threshold", "match"], "of no effect beside --flag-rate")
        return problems
