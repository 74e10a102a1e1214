"""The origin of a scored file: model, thresholds, input and settings; the same after an interruption.

A Parquet file has it in its metadata, under `content-moderation`; other formats and packed files have a JSON file next
to them. It contains no time, so that an interrupted run produces the same bytes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moderation.artifacts import read_json, sha256, write_json
from moderation.errors import ArtifactError
from moderation.extras import toolkit_version
from moderation.inference.classifier import Classifier
from moderation.language_codes import UNDETERMINED
from moderation.manifests import FileFacts
from moderation.tunings import Tunings

KEY = "content-moderation"
FORMAT = "content-moderation scores"
VERSION = 1
BLANK = "0" * 64
"""The digits of a SHA-256 that is not known yet."""
_NO_FILE: dict[str, object] = {"bytes": None, "sha256": None}


@dataclass(frozen=True)
class InputFacts:
    """The file that was scored.

    Args:
        name: Its name; `-` for standard input.
        content: Its size and hash; None: it was not a file.
    """

    name: str
    content: FileFacts | None = None

    def to_plain(self) -> dict[str, object]:
        """The facts for JSON."""
        return {"name": self.name} | (describe_content(self.content) if self.content else _NO_FILE)


def describe_file(path: Path) -> FileFacts:
    """Size and SHA-256 of a file."""
    return FileFacts(sha256(path), path.stat().st_size)


def describe_content(facts: FileFacts) -> dict[str, object]:
    """Size and hash of a file, for the JSON file next to a scored file."""
    return {"bytes": facts.bytes, "sha256": facts.sha256}


@dataclass(frozen=True)
class Origin:
    """The origin of a scored file.

    Args:
        classifier: What scored it.
        input: The file that was scored.
        settings: Settings on which the file's content depends, as plain values.
    """

    classifier: Classifier
    input: InputFacts
    settings: Mapping[str, object]

    def to_plain(self, n_rows: int, n_failed: int) -> dict[str, object]:
        """The origin for JSON.

        Args:
            n_rows: Rows of the file.
            n_failed: Rows with an error.
        """
        classifier = self.classifier
        bundle = classifier.bundle
        return {
            "format": FORMAT,
            "version": VERSION,
            "toolkit": f"content-moderation {toolkit_version()}",
            "model": {"name": bundle.name, "version": bundle.version, "backend": classifier.backend_name},
            **({} if classifier.router is None else {"models": describe_models(classifier)}),
            "model_version": classifier.model_version,
            "labels": list(classifier.labels),
            "thresholds": classifier.thresholds_by_label,
            "thresholds_from": classifier.thresholds_from,
            "input": self.input.to_plain(),
            "settings": dict(self.settings),
            "rows": n_rows,
            "errors": n_failed,
        }


def describe_models(classifier: Classifier) -> list[dict[str, object]]:
    """Name, version, backend and thresholds of each model, as plain values."""
    labels = classifier.labels
    return [
        {
            "name": model.bundle.name,
            "version": model.bundle.version,
            "backend": model.backend_name,
            "thresholds": dict(zip(labels, tunings.general.thresholds, strict=True)),
            "thresholds_by_language": tunings.thresholds_by_language(labels),
        }
        for model, tunings in zip(classifier.models, classifier.tunings, strict=True)
    ]


def describe_thresholds(classifier: Classifier) -> str:
    """Which thresholds decide, in a few words for people."""
    if classifier.thresholds_from == "bundle":
        return "the bundle's"
    pairs = [(model.bundle.tunings, after) for model, after in zip(classifier.models, classifier.tunings, strict=True)]
    labels = classifier.labels
    changed = {label for before, after in pairs for label in _changed(before, after, UNDETERMINED, labels)}
    found = (code for before, after in pairs for code in after.by_language if _changed(before, after, code, labels))
    codes = sorted(set(found))
    moved = [f"{label} {value:g}" for label, value in classifier.thresholds_by_label.items() if label in changed]
    rest = "" if len(moved) == len(labels) else "; all others as in the bundle" if moved else "as in the bundle"
    own = f"; in {', '.join(codes)} by themselves" if codes and not moved else ""
    return f"set ({', '.join(moved)}{rest}{own})"


def _changed(before: Tunings, after: Tunings, code: str, labels: Sequence[str]) -> list[str]:
    """Labels with another threshold in a language."""
    pairs = zip(labels, before.of(code).thresholds, after.of(code).thresholds, strict=True)
    return [label for label, old, new in pairs if old != new]


def encode_metadata(content: Mapping[str, object], *, sealed: bool) -> dict[str, str]:
    """Key and value for the metadata of a Parquet file.

    Args:
        content: From `Origin.to_plain`.
        sealed: Leave a place at the end for the file's SHA-256.
    """
    whole = {**content, "output": {"sha256": BLANK}} if sealed else content
    text = json.dumps(whole, ensure_ascii=False, allow_nan=False)
    return {KEY: text.encode("utf-8", "backslashreplace").decode()}  # for names that are not UTF-8, as in `write_json`


def sidecar_of(output: Path) -> Path:
    """The JSON file next to a scored file that does not contain its record."""
    return output.with_name(f"{output.name}.meta.json")


def check_sidecar(output: Path) -> None:
    """Refuse to overwrite a file that has the sidecar's name but is not one.

    Raises:
        ArtifactError: there is such a file.
    """
    path = sidecar_of(output)
    if not path.exists():
        return
    try:
        is_ours = read_json(path, "").get("format") == FORMAT
    except ArtifactError:
        is_ours = False
    if not is_ours:
        raise ArtifactError(
            f"{path}: the file exists and was not written by this toolkit; the record of {output.name} would be "
            "written there. Move it away, or choose another name for --output."
        )


def write_sidecar(output: Path, content: Mapping[str, object], made: FileFacts) -> None:
    """Write the origin of a scored file next to it, with the output's size and hash."""
    write_json(sidecar_of(output), {**content, "output": describe_content(made)})
