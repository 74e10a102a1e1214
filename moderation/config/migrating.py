"""Settings of `moderation migrate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moderation.errors import ConfigError
from moderation.inference.options import INCLUDED, Backend
from moderation.migration.options import OLD_DECISIONS, MatchOptions, read_numbers
from moderation.options import Options, no_effect, part, setting
from moderation.tables.options import DELIMITER_HELP, ESCAPE_HELP, QUOTING_HELP, TEXT_COLUMN, TEXT_COLUMN_HELP, Quoting


@dataclass(frozen=True, kw_only=True)
class CommentTable(Options):
    """The format of the table of comments."""

    text_column: str = setting(TEXT_COLUMN, TEXT_COLUMN_HELP)
    delimiter: str | None = setting(None, DELIMITER_HELP, metavar="CHARACTER")
    quoting: Quoting = setting("standard", QUOTING_HELP)
    escape: str | None = setting(None, ESCAPE_HELP, metavar="CHARACTER")


@dataclass(frozen=True, kw_only=True)
class MigrateConfig(Options):
    """Settings of `moderation migrate`."""

    input_path: Path = setting(
        None,
        "comments with their old scores: columns named like Perspective's attributes (TOXICITY, ...), or one column "
        "with the API's answers in JSON; CSV, TSV, Parquet or JSONL, also .gz .zip .zst",
    )
    output_dir: Path = setting(
        None,
        "folder to write: thresholds.json (for serve and score), migration.json (numbers), report.html (for people)",
        short=("-o",),
    )
    answers: Path | None = setting(
        None, "the API's answers in a separate file (.jsonl), one per line in the order of the table", OLD_DECISIONS
    )
    others: Literal["off", "bundle"] = setting(
        "off",
        "labels without old scores: off gives them a threshold of 1, so that they flag almost nothing; bundle keeps "
        "the bundle's thresholds",
    )
    matching: MatchOptions = part(MatchOptions)
    flag_rate: tuple[str, ...] = setting(
        (),
        "if there are no old scores: flag this share of the comments, for every label (0.05) or by label (toxic=0.05)",
        OLD_DECISIONS,
        metavar="SHARE",
    )
    show_texts: bool = setting(
        False, "show the first 80 characters of the comments that --changes lists, on the terminal only"
    )
    overwrite: bool = setting(False, "replace the files of an earlier migration in the folder, and nothing else")
    model: Path | None = setting(
        None, f"folder of a bundle, or an included model: {INCLUDED}", short=("-m",), metavar="FOLDER"
    )
    backend: Backend = setting("auto", "engine; auto uses the fastest one that is in the bundle and installed")
    threads: int | None = setting(None, "processor threads; default: all cores", at_least=1)
    table: CommentTable = part(CommentTable, "format of the table")

    @property
    def flag_rates(self) -> dict[str, float]:
        """Label -> share of the comments to flag; `""` -> that of all other labels. Empty if none was given.

        Raises:
            ConfigError: a value without a number between 0 and 1, or a label that is named twice.
        """
        return read_numbers("--flag-rate", self.flag_rate, one_allowed=False)

    def problems(self) -> list[str]:
        """Problems between settings: a path is missing, or a value is invalid."""
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
            problems += no_effect(self, ["answers", "old_threshold", "match"], "no effect with --flag-rate")
        return problems
