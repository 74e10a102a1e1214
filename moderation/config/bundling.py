"""Settings of the verbs around a bundle: export, verify, score."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from moderation.manifests import BUNDLE_NAME
from moderation.options import Options, setting

ExportFormat = Literal["hf", "torch", "onnx", "onnx-int8", "openvino", "torchscript", "triton", "torchserve"]


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
    threads: int | None = setting(None, "processor threads; default: all cores", at_least=1)
