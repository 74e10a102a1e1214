"""Options of scoring: what to read, write and save on the way; imports little, so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path

from moderation.options import Options, no_effect, setting
from moderation.tables.options import (
    CSV_SAFE_HELP,
    DELIMITER_HELP,
    ESCAPE_HELP,
    QUOTING_HELP,
    TEXT_COLUMN,
    TEXT_COLUMN_HELP,
    Quoting,
)

PIPE = "-"
"""Standard input or output, in the place of a file."""

_NO_WAY_BACK = "--resume needs a file to read and one to write; standard input and output cannot go back"


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(Options):
    """What to read, how to write it, and what to save on the way."""

    input_path: Path | None = setting(
        None, "texts to score: CSV, TSV, Parquet or JSONL, also .gz .zip .zst; -: standard input, one text per line"
    )
    output: Path | None = setting(
        None,
        "file to write; its ending decides the format, the same ones as above; -: JSON lines on standard output, the "
        "default for standard input and --text",
        short=("-o",),
    )
    text_column: str = setting(TEXT_COLUMN, TEXT_COLUMN_HELP)
    delimiter: str | None = setting(None, DELIMITER_HELP, metavar="CHARACTER")
    quoting: Quoting = setting("standard", QUOTING_HELP)
    escape: str | None = setting(None, ESCAPE_HELP, metavar="CHARACTER")
    flag_columns: bool = setting(False, "also write a true/false column flag_LABEL for each label")
    csv_safe: bool = setting(False, CSV_SAFE_HELP)
    chunk_rows: int = setting(
        2000, "save finished rows after this many, or after about 15 seconds if that is sooner", at_least=1
    )
    resume: bool = setting(
        False, "continue from what an interrupted run of the same command saved; do nothing if it finished"
    )
    overwrite: bool = setting(False, "replace the output; without --resume, also what an interrupted run saved")

    @property
    def reads_pipe(self) -> bool:
        """Whether lines of standard input are scored."""
        return str(self.input_path) == PIPE

    @property
    def writes_pipe(self) -> bool:
        """Whether results go to standard output."""
        return str(self.output or PIPE) == PIPE

    def problems(self) -> list[str]:
        """Problems between settings: some have no effect with standard input or output."""
        problems = self.pipe_problems() if self.reads_pipe else []
        if self.writes_pipe:
            problems += no_effect(self, ["csv_safe"], "no effect on standard output, which gets JSON lines")
        if self.resume and not self.reads_pipe and str(self.output) == PIPE:
            problems.append(_NO_WAY_BACK)
        return problems

    def pipe_problems(self) -> list[str]:
        """What does not fit standard input: settings of tables, and resuming an interrupted run."""
        of_tables = ["text_column", "delimiter", "quoting", "escape"]
        problems = no_effect(self, of_tables, "no effect on standard input, which has one text per line")
        return [*problems, _NO_WAY_BACK] if self.resume else problems
