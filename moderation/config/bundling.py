"""Settings of the verbs that write or read a bundle: export, verify, score."""

from dataclasses import dataclass
from pathlib import Path

from moderation.export.options import ExportOptions
from moderation.forms import FormName
from moderation.inference.options import INCLUDED, THRESHOLD_HELP, THRESHOLDS_HELP, Backend
from moderation.manifests import BUNDLE_NAME
from moderation.options import Options, part, setting
from moderation.scoring.options import ScoreOptions

ExportFormat = FormName


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Options):
    """Settings of `moderation export`."""

    run: Path = setting(None, "run folder of a finished training")
    to: Path = setting(None, "folder of the bundle to write", metavar="FOLDER")
    name: str | None = setting(None, "name of the model; default: that of the run folder", metavar="NAME")
    map: tuple[str, ...] = setting(
        (),
        "OpenAI's or Perspective's name for a label, such as offensive=harassment; may be repeated",
        metavar="LABEL=NAME",
    )
    overlap: int | None = setting(
        None, "tokens that neighbouring windows of a long text share; default: a quarter of a window", at_least=0
    )
    data_path: Path | None = setting(None, "the run's table, if it has moved since")
    export: ExportOptions = part(ExportOptions)

    def problems(self) -> list[str]:
        """Problems between settings: a missing path, or a name that a folder cannot have."""
        problems = [f"--{name} is missing" for name in ("run", "to") if getattr(self, name) is None]
        if self.name is not None and not BUNDLE_NAME.fullmatch(self.name):
            problems.append(f"--name is {self.name}, expected up to 200 letters, digits, '.', '_' and '-' only")
        return problems


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(Options):
    """Settings of `moderation verify`."""

    bundle: Path | None = setting(None, "folder of a bundle, or en; default: all that are included")
    threads: int | None = setting(None, "processor threads; default: all cores, but one for torch forms", at_least=1)


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(Options):
    """Settings of `moderation score`."""

    table: ScoreOptions = part(ScoreOptions)
    text: str | None = setting(None, "one text to score, instead of a file", metavar="TEXT", once=True)
    model: Path | None = setting(
        None,
        "folder of a bundle, or of a finished run, which torch then runs; or an included model: " + INCLUDED,
        short=("-m",),
        metavar="FOLDER",
    )
    backend: Backend = setting("auto", "engine; auto uses the fastest one that is in the bundle and installed")
    threads: int | None = setting(None, "processor threads; default: all cores", at_least=1)
    thresholds: Path | None = setting(None, THRESHOLDS_HELP)
    threshold: tuple[str, ...] = setting((), THRESHOLD_HELP, metavar="LABEL=NUMBER")

    @property
    def of_lines(self) -> bool:
        """Whether lines of standard input, or the one text, are scored instead of a file."""
        return self.text is not None or self.table.reads_pipe

    @property
    def extras(self) -> tuple[str, ...]:
        """Extras of this toolkit that scoring needs: lines in and JSON lines out need no table."""
        return ("onnx",) if self.of_lines and self.table.writes_pipe else ("onnx", "tables")

    def problems(self) -> list[str]:
        """Problems between settings: nothing to score, or two things at once."""
        problems: list[str] = []
        if self.text is not None and self.table.input_path is not None:
            problems.append("--text and an input file are both given; give only one of them")
        if self.text is None and self.table.input_path is None:
            problems.append("nothing to score: give a table, - for standard input, or a text with --text")
        if self.text is not None:
            problems += [problem for problem in self.table.pipe_problems() if problem not in self.table.problems()]
        return problems
