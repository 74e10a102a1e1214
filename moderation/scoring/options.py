"""Settings of `moderation score`; light enough for `--help`."""

from dataclasses import dataclass
from pathlib import Path

from moderation.inference.options import THRESHOLD_HELP, THRESHOLDS_HELP, Backend
from moderation.options import Options, no_effect, setting
from moderation.tables.options import (
    CSV_SAFE_HELP,
    DELIMITER_HELP,
    ESCAPE_HELP,
    QUOTING_HELP,
    TEXT_COLUMN_HELP,
    Quoting,
)


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(Options):
    """Settings of `moderation score`."""

    input_path: Path | None = setting(
        None, "texts to score: CSV, TSV, Parquet or JSONL, also .gz .zip .zst; -: a text a line on standard input"
    )
    text: str | None = setting(None, "one text to score, in place of a file", metavar="TEXT", once=True)
    output: Path | None = setting(
        None,
        "file to write, in the format of its ending, the same as above; -: JSON lines to standard output, the default "
        "for standard input and --text",
        short=("-o",),
    )
    model: Path | None = setting(
        None, "folder of a bundle; default: the included English model", short=("-m",), metavar="FOLDER"
    )
    text_column: str = setting("comment_text", TEXT_COLUMN_HELP)
    delimiter: str | None = setting(None, DELIMITER_HELP, metavar="CHARACTER")
    quoting: Quoting = setting("standard", QUOTING_HELP)
    escape: str | None = setting(None, ESCAPE_HELP, metavar="CHARACTER")
    backend: Backend = setting("auto", "engine; auto takes the fastest that the bundle holds and that is installed")
    threads: int | None = setting(None, "processor threads; default: all cores", at_least=1)
    thresholds: Path | None = setting(None, THRESHOLDS_HELP)
    threshold: tuple[str, ...] = setting((), THRESHOLD_HELP, metavar="LABEL=NUMBER")
    flag_columns: bool = setting(False, "also write a true/false column flag_LABEL for each label")
    csv_safe: bool = setting(False, CSV_SAFE_HELP)
    chunk_rows: int = setting(
        2000, "rows after which what is finished is kept, if not sooner: every 15 seconds or so", at_least=1
    )
    resume: bool = setting(False, "go on from what an interrupted run of the same command kept")
    overwrite: bool = setting(False, "replace the output; without --resume, also what an interrupted run kept")

    @property
    def extras(self) -> tuple[str, ...]:
        """Extras of this toolkit that scoring needs: lines in and JSON lines out need no table."""
        piped = str(self.input_path or "-") == "-" and str(self.output or "-") == "-"
        return ("onnx",) if piped else ("onnx", "tables")

    def problems(self) -> list[str]:
        """Problems between settings: a path is missing, or a value that cannot be."""
        problems: list[str] = []
        piped = self.text is not None or str(self.input_path) == "-"
        if self.text is not None and self.input_path is not None:
            problems.append("--text and a file to read were given; name one of them")
        if self.text is None and self.input_path is None:
            problems.append("nothing to score: name a table, - for standard input, or a text with --text")
        if piped:
            of_tables = ["text_column", "delimiter", "quoting", "escape"]
            problems += no_effect(self, of_tables, "of no effect on standard input, a text a line")
        if str(self.output or "-") == "-":
            problems += no_effect(self, ["csv_safe"], "of no effect on standard output, which gets JSON lines")
        if self.resume and (piped or str(self.output) == "-"):
            problems.append("--resume needs a file to read and one to write; standard input and output cannot go back")
        return problems
