"""Settings of `moderation migrate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moderation.inference.options import Backend
from moderation.options import Options, no_effect, setting
from moderation.tables.options import DELIMITER_HELP, ESCAPE_HELP, QUOTING_HELP, TEXT_COLUMN_HELP, Quoting

DEFAULT_OLD_THRESHOLD = 0.8
"""That of Coral, and of most guides to the Perspective API."""

_OLD = "the old decisions"
_TABLE = "how the table is written"


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
        None, "the API's answers in a file of their own (.jsonl), one a line in the order of the table", _OLD
    )
    old_threshold: tuple[str, ...] = setting(
        (str(DEFAULT_OLD_THRESHOLD),),
        "from which old score on a comment was flagged: one number for all attributes, or TOXICITY=0.7 INSULT=0.9",
        _OLD,
        metavar="NUMBER",
    )
    match: Literal["rate", "agreement"] = setting(
        "rate",
        "which threshold goes into thresholds.json: the one that flags as many comments as before, or the one that "
        "agrees best with the old decisions",
        _OLD,
    )
    flag_rate: tuple[str, ...] = setting(
        (),
        "without old scores: flag this share of the comments, for every label (0.05) or by label (toxic=0.05)",
        _OLD,
        metavar="SHARE",
    )
    others: Literal["off", "bundle"] = setting(
        "off",
        "labels without old scores: off writes a threshold of 1 for them, so that they flag next to nothing; bundle "
        "keeps the bundle's",
    )
    changes: int = setting(
        20, "comments to list for each attribute that are decided otherwise, by row number", at_least=0
    )
    show_texts: bool = setting(False, "show the first 80 characters of these comments on the terminal")
    bootstrap: int = setting(500, "resamples of the intervals; 0: none", at_least=0)
    seed: int = setting(42, "seed of the resamples", at_least=0)
    overwrite: bool = setting(False, "replace what the folder holds of an earlier migration, and nothing else")
    model: Path | None = setting(
        None, "folder of a bundle; default: the included English model", short=("-m",), metavar="FOLDER"
    )
    backend: Backend = setting("auto", "engine; auto takes the fastest that the bundle holds and that is installed")
    threads: int | None = setting(None, "processor threads; default: all cores", at_least=1)
    text_column: str = setting("comment_text", TEXT_COLUMN_HELP, _TABLE)
    delimiter: str | None = setting(None, DELIMITER_HELP, _TABLE, metavar="CHARACTER")
    quoting: Quoting = setting("standard", QUOTING_HELP, _TABLE)
    escape: str | None = setting(None, ESCAPE_HELP, _TABLE, metavar="CHARACTER")

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
        if self.flag_rate:
            problems += no_effect(self, ["answers", "old_threshold", "match"], "of no effect beside --flag-rate")
        return problems
