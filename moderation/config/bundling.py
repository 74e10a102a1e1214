"""Settings of the verbs around a bundle: export, verify, score."""

from dataclasses import dataclass
from pathlib import Path

from moderation.export.options import ExportOptions
from moderation.forms import FormName
from moderation.manifests import BUNDLE_NAME
from moderation.options import Options, part, setting

ExportFormat = FormName


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Options):
    """Settings of `moderation export`."""

    run: Path = setting(None, "run folder of a finished training")
    to: Path = setting(None, "folder of the bundle to write", metavar="FOLDER")
    name: str | None = setting(None, "name of the model; default: that of the run folder", metavar="NAME")
    map: tuple[str, ...] = setting(
        (),
        "what OpenAI or Perspective call a label, such as offensive=harassment; may be given again",
        metavar="LABEL=NAME",
    )
    overlap: int | None = setting(
        None, "tokens that two windows of a long text share; default: a quarter of a window", at_least=0
    )
    data_path: Path | None = setting(None, "the run's table, if it was moved since")
    export: ExportOptions = part(ExportOptions)

    def problems(self) -> list[str]:
        """Problems between settings: a missing path, or a name no folder can have."""
        problems = [f"--{name} is missing" for name in ("run", "to") if getattr(self, name) is None]
        if self.name is not None and not BUNDLE_NAME.fullmatch(self.name):
            problems.append(f"--name is {self.name}, expected up to 200 letters, digits, '.', '_' and '-' alone")
        return problems


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(Options):
    """Settings of `moderation verify`."""

    bundle: Path | None = setting(None, "folder of a bundle; default: the included English model")
    threads: int | None = setting(None, "processor threads; default: all cores", at_least=1)
