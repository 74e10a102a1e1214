"""Settings of the verbs around a bundle: export, verify, score."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from moderation.config.declaring import (
    CSV_SAFE_HELP,
    DELIMITER_HELP,
    ESCAPE_HELP,
    QUOTING_HELP,
    TEXT_COLUMN_HELP,
    THRESHOLD_HELP,
    THRESHOLDS_HELP,
    Backend,
    Quoting,
)
from moderation.escapes import LONGEST_NAME
from moderation.options import Options, no_effect, setting

ExportFormat = Literal["hf", "torch", "onnx", "onnx-int8", "openvino", "torchscript", "triton", "torchserve"]

BUNDLE_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
"""What a bundle may be called: servers make folders and addresses of it."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Options):
    """Settings of `moderation export`."""

    run: Path = setting(None, "run folder of a finished training")
    to: Path = setting(None, "folder of the bundle to write", metavar="FOLDER")
    formats: tuple[ExportFormat, ...] = setting(
        ("hf", "onnx", "onnx-int8"),
        f"forms of the model to write, out of {', '.join(get_args(ExportFormat))}",
        metavar="FORM",
    )
    allow: tuple[ExportFormat, ...] = setting(
        (), "keep these forms even if their answers differ too much from torch's", metavar="FORM"
    )
    name: str | None = setting(None, "name of the model; default: that of the run folder", metavar="NAME")
    about: Path | None = setting(
        None, "Markdown for the model card, without a title: purpose, data, licences, known faults"
    )
    licence: str = setting(
        "other", "licence of the model by the hub's name for it, for the card's metadata", metavar="LICENCE"
    )
    map: tuple[str, ...] = setting(
        (),
        "what OpenAI or Perspective call a label, such as offensive=harassment; may be given again",
        metavar="LABEL=NAME",
    )
    overwrite: bool = setting(False, "replace the bundle that the folder holds")
    overlap: int | None = setting(
        None, "tokens that two windows of a long text share; default: a quarter of a window", at_least=0
    )
    parity_texts: int = setting(2000, "real texts on which each form is compared with torch", at_least=1)
    data_path: Path | None = setting(None, "the run's table, if it was moved since")
    threads: int | None = setting(None, "processor threads; default: all cores", at_least=1)

    def problems(self) -> list[str]:
        """Problems between settings: a missing path, an unknown form, a name no folder can have, a number."""
        problems = [f"--{name} is missing" for name in ("run", "to") if getattr(self, name) is None]
        known = get_args(ExportFormat)
        if not self.formats:
            problems.append("--formats is empty, expected one or more forms")
        if self.name is not None and not BUNDLE_NAME.fullmatch(self.name):
            problems.append(f"--name is {self.name}, expected up to 200 letters, digits, '.', '_' and '-' alone")
        if unused := [form for form in self.allow if form in known and form not in self.formats]:
            problems.append(f"--allow {', '.join(unused)}: not among --formats, so that there is nothing to keep")
        return problems


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(Options):
    """Settings of `moderation verify`."""

    bundle: Path | None = setting(None, "folder of a bundle; default: the included English model")
    threads: int | None = setting(None, "processor threads; default: all cores, one for forms of torch", at_least=1)


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
    resume: bool = setting(
        False, "go on from what an interrupted run of the same command kept; nothing is done where it finished"
    )
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
