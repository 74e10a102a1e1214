"""Options of an export: which forms to write, and how they are compared."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from moderation.forms import FormName
from moderation.options import Options, setting


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Options):
    """Which forms a bundle gets, what its card says, and how the forms are compared with torch."""

    formats: tuple[FormName, ...] = setting(
        ("hf", "onnx", "onnx-int8"),
        f"forms of the model to write, any of {', '.join(get_args(FormName))}",
        metavar="FORM",
    )
    allow: tuple[FormName, ...] = setting(
        (), "keep these forms even if their answers differ too much from torch's", metavar="FORM"
    )
    about: Path | None = setting(
        None, "Markdown file with text for the model card, without a title: purpose, data, licences, known faults"
    )
    licence: str = setting(
        "other", "licence of the model, as the hub names it, for the card's metadata", metavar="LICENCE"
    )
    overwrite: bool = setting(False, "replace the bundle in the folder")
    parity_texts: int = setting(2000, "number of real texts on which each form is compared with torch", at_least=1)
    threads: int | None = setting(None, "processor threads; default: all cores", at_least=1)

    def problems(self) -> list[str]:
        """Problems between settings: no form, or one that is allowed and not written."""
        problems = [] if self.formats else ["--formats is empty, expected one or more forms"]
        known = get_args(FormName)
        if unused := [form for form in self.allow if form in known and form not in self.formats]:
            problems.append(f"--allow {', '.join(unused)}: not among --formats, so there is nothing to keep")
        return problems
