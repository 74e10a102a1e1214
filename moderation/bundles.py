"""Bundles: one sealed folder with weights, tokenizer, labels, thresholds and the SHA-256 of every file.

`moderation.json` is the seal: it names each file with its hash, and its `version` is the hash of its own content. So a
bundle whose version is known is known to the last byte.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moderation.artifacts import RunFolder, read_json, sha256, write_json
from moderation.calibrators import Calibrator, read_calibrators
from moderation.categories import check_mapping
from moderation.config import BUNDLE_NAME
from moderation.errors import ArtifactError, ConfigError
from moderation.escapes import escape_name
from moderation.labels import as_labels, check_same_labels

MANIFEST = "moderation.json"
TOKENIZER = "tokenizer.json"
MODEL_CONFIG = "config.json"
CARD = "README.md"
TRAINING_TEXTS = "training_texts.npy"
FORMAT = "content-moderation bundle"
FORMAT_VERSION = 1
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,7}")
_UPGRADE = "Cure: take a newer version of the toolkit."

SHIPPED = Path(__file__).parent / "models" / "compact-en"
"""The bundle that the package brings, used where none is named."""


@dataclass(frozen=True)
class Form:
    """One of the ways in which a bundle holds its model.

    Args:
        name: As in `--formats`.
        main_file: The file by which its presence is known; `{name}` stands for the bundle's name.
        extra: Of the package, needed to run it.
        runs: Whether `Classifier` can run it; the others are for servers of other makers.
    """

    name: str
    main_file: str
    extra: str | None
    runs: bool = True


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("hf", "model.safetensors", "train"),
        Form("torch", "pytorch_model.bin", "train", runs=False),
        Form("onnx", "onnx/model.onnx", "onnx"),
        Form("onnx-int8", "onnx/model_int8.onnx", "onnx"),
        Form("openvino", "openvino/model.xml", "openvino"),
        Form("torchscript", "torchscript/model.pt", "train"),
        Form("triton", "triton/{name}/config.pbtxt", None, runs=False),
        Form("torchserve", "torchserve/{name}.mar", None, runs=False),
    )
}


@dataclass(frozen=True)
class Bundle:
    """What a bundle's manifest says, checked.

    Args:
        path: The folder.
        name: Of the model, as chosen at export.
        version: SHA-256 of the manifest's content, 64 hex digits.
        labels: Order of the logits.
        thresholds: One per label, in that order, in [0, 1].
        calibrators: One per label, in that order, applied to logits before the sigmoid.
        window_length: Tokens that the encoder reads at once, special ones included.
        window_overlap: Tokens that two neighbouring windows share.
        languages: That the model was trained on.
        forms: Form -> facts about it: its files, layers left in float.
        files: Path relative to the folder, with slashes -> `sha256`, `bytes`.
        manifest: All of it, also metrics, parity and provenance.
        mapping: Label -> OpenAI's categories and Perspective's attributes that it was mapped to at export.
    """

    path: Path
    name: str
    version: str
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    calibrators: tuple[Calibrator, ...]
    window_length: int
    window_overlap: int
    languages: tuple[str, ...]
    forms: dict[str, dict[str, Any]]
    files: dict[str, dict[str, Any]]
    manifest: dict[str, Any]
    mapping: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def short_version(self) -> str:
        """Name and the first twelve digits of the version, as results carry it."""
        return f"{self.name}@{self.version[:12]}"

    @property
    def is_calibrated(self) -> bool:
        """Whether a calibrator changes some label's probabilities."""
        return any(calibrator.method != "none" for calibrator in self.calibrators)


def read_bundle(path: Path) -> Bundle:
    """Read a bundle's manifest. The files' hashes are compared by `check_files`.

    Raises:
        ArtifactError: no bundle, one of a newer version, a changed manifest, labels unlike those of config.json.
    """
    path = Path(path)
    if path.is_file():
        raise ArtifactError(
            f"{path}: this is a file; expected the folder of a bundle, as `moderation export` writes it."
        )
    if not path.is_dir():
        raise ArtifactError(f"{path}: no such folder; expected a bundle, as `moderation export` writes it.")
    run = RunFolder(path)
    if not (path / MANIFEST).is_file() and any(file.is_file() for file in (run.run_json, run.checkpoint_best)):
        raise ArtifactError(
            f"{path}: this is a run folder, and no bundle yet. Export it first: moderation export {path} --to "
            f"{path.name}-bundle, and name {path.name}-bundle instead."
        )
    if not (path / MANIFEST).is_file():
        raise ArtifactError(
            f"{path}: not a bundle (it holds no {MANIFEST}). Cure: moderation export RUN --to {path.name}-bundle"
        )
    content = read_json(path / MANIFEST, "a bundle's manifest")
    if content.get("format") != FORMAT:
        raise ArtifactError(f"{path / MANIFEST}: the file of another program; expected {FORMAT!r}.")
    version = content.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise ArtifactError(
            f"{path / MANIFEST}: bundle format {version!r}; this version of the toolkit reads "
            f"{FORMAT_VERSION}. {_UPGRADE}"
        )
    if content.get("version") != manifest_version(content):
        raise ArtifactError(
            f"{path / MANIFEST}: changed since the export (its version is not the hash of its content). Take the "
            "bundle from its source again, or export it anew."
        )
    bundle = _checked(path, content)
    _check_config(bundle)
    return bundle


def check_files(bundle: Bundle, names: Iterable[str] | None = None) -> None:
    """Compare files with the manifest: all of them are there in their size, and those named have their hash.

    Args:
        bundle: From `read_bundle`.
        names: Files to hash; None: all.

    Raises:
        ArtifactError: names the first file that is missing or not the one that was exported.
    """
    for name, facts in bundle.files.items():
        file = bundle.path / name
        if not file.is_file():
            raise ArtifactError(f"{file}: missing; the bundle's {MANIFEST} names it. Take the whole bundle again.")
        if file.stat().st_size != facts["bytes"]:
            raise ArtifactError(_describe_change(file, f"{file.stat().st_size:,} bytes", f"{facts['bytes']:,} bytes"))
    for name in bundle.files if names is None else names:
        if name not in bundle.files:
            raise ArtifactError(f"{bundle.path / name}: not named in the bundle's {MANIFEST}; it will not be used.")
        if (found := sha256(bundle.path / name)) != bundle.files[name]["sha256"]:
            raise ArtifactError(
                _describe_change(bundle.path / name, f"SHA-256 {found}", f"SHA-256 {bundle.files[name]['sha256']}")
            )


def write_manifest(path: Path, content: dict[str, Any]) -> Bundle:
    """Seal a folder: hash every file in it and write `moderation.json`.

    Args:
        path: The folder.
        content: What the manifest says; `format`, `format_version`, `files` and `version` are filled in.

    Raises:
        ArtifactError: the content is not that of a bundle, or the folder cannot be written.
    """
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    files = {name: {"sha256": sha256(path / name), "bytes": (path / name).stat().st_size} for name in names}
    files.pop(MANIFEST, None)
    sealed = {"format": FORMAT, "format_version": FORMAT_VERSION} | content | {"files": files}
    sealed["version"] = manifest_version(sealed)
    bundle = _checked(path, sealed)
    _check_config(bundle)
    write_json(path / MANIFEST, sealed)
    return bundle


def describe_calibrators(labels: Sequence[str], calibrators: Sequence[Calibrator]) -> dict[str, Any]:
    """What the manifest says under `calibration`.

    >>> describe_calibrators(["toxic"], [Calibrator()])
    {'method': 'identity'}
    """
    if all(calibrator.method == "none" for calibrator in calibrators):
        return {"method": "identity"}
    content = {label: calibrator.to_plain() for label, calibrator in zip(labels, calibrators, strict=True)}
    return {"method": "per-label", "labels": content}


def manifest_version(content: dict[str, Any]) -> str:
    """SHA-256 of a manifest without its `version`: of its JSON with sorted keys and no spaces.

    >>> manifest_version({"a": 1, "version": "x"}) == manifest_version({"a": 1})
    True
    """
    rest = {key: value for key, value in content.items() if key != "version"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _checked(path: Path, content: dict[str, Any]) -> Bundle:
    where = path / MANIFEST
    try:
        labels = as_labels(content["labels"])
        thresholds = content["thresholds"]
        check_same_labels(list(thresholds), labels, f"{where} (thresholds)")
        bundle = Bundle(
            path=path,
            name=_read_name(content["name"]),
            version=str(content["version"]),
            labels=labels,
            thresholds=tuple(float(thresholds[label]) for label in labels),
            calibrators=_read_calibration(content["calibration"], labels),
            window_length=int(content["window"]["length"]),
            window_overlap=int(content["window"]["overlap"]),
            languages=_read_languages(content["languages"]),
            forms={str(name): dict(facts) for name, facts in content["forms"].items()},
            files={str(name): dict(facts) for name, facts in content["files"].items()},
            manifest=content,
            mapping=check_mapping(content.get("mapping", {}), labels),
        )
        problem = _find_problem(bundle)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, ArtifactError):
            raise
        reason = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__} in what it should hold"
        raise ArtifactError(f"{where}: not a manifest that can be read ({reason}).") from error
    if problem:
        raise ArtifactError(f"{where}: {problem}")
    return bundle


def _read_name(name: Any) -> str:
    """A name as `export` takes it: it stands in the header of every answer."""
    if isinstance(name, str) and BUNDLE_NAME.fullmatch(name):
        return name
    raise ConfigError(f"name is {escape_name(repr(name))}, expected up to 200 letters, digits, '.', '_' and '-'")


def _read_languages(codes: Any) -> tuple[str, ...]:
    if isinstance(codes, list) and all(isinstance(code, str) and _LANGUAGE.fullmatch(code) for code in codes):
        return tuple(codes)
    raise ConfigError(f"languages is {escape_name(repr(codes))}, expected a list of codes such as en or pt-BR")


def _read_calibration(content: dict[str, Any], labels: tuple[str, ...]) -> tuple[Calibrator, ...]:
    """Calibrators as `describe_calibrators` wrote them; `identity` is what bundles of uncalibrated models say."""
    method = content["method"]
    if method == "identity":
        return (Calibrator(),) * len(labels)
    if method == "per-label":
        return read_calibrators(content["labels"], labels)
    raise ConfigError(f"calibration {method!r} is not known to this version of the toolkit. {_UPGRADE}")


def _find_problem(bundle: Bundle) -> str | None:
    if not all(math.isfinite(value) and 0 <= value <= 1 for value in bundle.thresholds):
        return "a threshold outside [0, 1]."
    if not 0 <= bundle.window_overlap < bundle.window_length - 2:
        return f"windows of {bundle.window_length} tokens with an overlap of {bundle.window_overlap}."
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in bundle.files):
        return "a file outside the bundle."
    if any(
        not isinstance(facts.get("sha256"), str) or not isinstance(facts.get("bytes"), int)
        for facts in bundle.files.values()
    ):
        return "a file without its SHA-256 and size."
    for name, facts in bundle.forms.items():
        files = facts.get("files")
        main_file = FORMS[name].main_file.format(name=bundle.name) if name in FORMS else None
        if not isinstance(files, list) or not bundle.files.keys() >= {*files, *filter(None, [main_file])}:
            return f"form {name} without files that are sealed."
        if main_file and main_file not in files:
            return f"form {name} without {main_file}."
    if unsealed := {TOKENIZER, MODEL_CONFIG} - bundle.files.keys():
        return f"{' and '.join(sorted(unsealed))} not among its files."
    return None


def _check_config(bundle: Bundle) -> None:
    """The plain Hugging Face folder has the manifest's labels, reads its windows, and brings no code."""
    where = bundle.path / MODEL_CONFIG
    config = read_json(where, "the model's configuration")
    names = config.get("id2label", {})
    try:
        found = [str(names[key]) for key in sorted(names, key=int)]
    except (ValueError, TypeError):
        found = []
    check_same_labels(found, bundle.labels, f"{where} (id2label)")
    if "auto_map" in config:
        raise ArtifactError(f"{where}: names code to run (auto_map); a bundle holds none. Do not use it.")
    if not isinstance(config.get("pad_token_id") or 0, int):
        raise ArtifactError(f"{where}: its pad_token_id is no number.")
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and positions < bundle.window_length:
        raise ArtifactError(f"{where}: reads {positions} tokens, and the bundle's windows have {bundle.window_length}.")


def _describe_change(file: Path, found: str, expected: str) -> str:
    return (
        f"{file}: not the file that was exported.\n  found:    {found}\n  expected: {expected}\n"
        "It was changed or damaged on its way. Take the whole bundle again."
    )
