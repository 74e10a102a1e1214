"""The manifest of a bundle, `moderation.json`: one dataclass, with one reader and one writer.

Each value that affects answers has one type and bounds; the reader names the key of a value that does not fit.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Self

from moderation.calibrators import Calibrator, read_calibrators
from moderation.categories import check_mapping
from moderation.errors import ArtifactError, ConfigError
from moderation.escapes import LONGEST_NAME, escape_name
from moderation.labels import check_same_labels
from moderation.language_codes import UNDETERMINED, base_language
from moderation.manifest_values import (
    LANGUAGE,
    is_whole,
    read_labels,
    read_languages,
    read_object,
    read_text,
    read_thresholds,
    read_window,
)
from moderation.tunings import LanguageTuning, Tunings

MANIFEST = "moderation.json"
FORMAT = "content-moderation bundle"
FORMAT_VERSION = 1
WITH_LANGUAGES = 2
"""Format version of a bundle with thresholds by language: a program that knows only 1 would decide without them."""

BUNDLE_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
"""Allowed names of bundles: servers turn them into folders and addresses."""

_MOST_LANGUAGES = 500
_SHA256_DIGITS = frozenset("0123456789abcdef")
_KNOWN = {"format", "format_version", "version", "name", "labels", "thresholds", "calibration", "window", "languages"}
_KNOWN |= {"forms", "mapping", "files", "by_language"}


@dataclass(frozen=True)
class FileFacts:
    """Facts about a file's content.

    Args:
        sha256: 64 hex digits.
        bytes: Its size.
    """

    sha256: str
    bytes: int


@dataclass(frozen=True)
class FormFacts:
    """A form in one bundle.

    Args:
        files: Its files, all sealed; paths relative to the folder, with slashes.
        left_in_float: Groups of layers that an int8 form keeps in float32, where 8 bits cost too much; None: none.
    """

    files: tuple[str, ...]
    left_in_float: tuple[str, ...] | None = None

    def to_plain(self) -> dict[str, list[str]]:
        """The facts, ready for JSON."""
        kept = {} if self.left_in_float is None else {"left_in_float": list(self.left_in_float)}
        return {"files": list(self.files)} | kept


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle records about itself.

    Args:
        name: Name of the model, as chosen at export.
        labels: Order of the logits.
        thresholds: One per label, in that order, in [0, 1].
        calibrators: One per label, in that order, applied to logits before the sigmoid.
        by_language: Language code -> calibrators and thresholds of its own; all other texts have those above.
        window_length: Tokens that the encoder reads at once, including special ones.
        window_overlap: Tokens that two neighbouring windows share.
        languages: The languages that the model was trained on.
        records: What was measured and where the model comes from. They do not affect answers and are copied unchanged:
            `metrics`, `curves`, `provenance`, `parity`, and whatever a later version adds.
        forms: Form -> facts about it in this bundle.
        mapping: Label -> OpenAI's categories and Perspective's attributes that it was mapped to at export.
        files: Path relative to the folder, with slashes -> its hash and size; filled in when a folder is sealed.
        version: SHA-256 of the rest, 64 hex digits; likewise.
    """

    name: str
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    calibrators: tuple[Calibrator, ...]
    window_length: int
    window_overlap: int
    languages: tuple[str, ...]
    records: Mapping[str, Any] = field(default_factory=dict)
    forms: Mapping[str, FormFacts] = field(default_factory=dict)
    mapping: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    by_language: Mapping[str, LanguageTuning] = field(default_factory=dict)
    files: Mapping[str, FileFacts] = field(default_factory=dict)
    version: str = ""

    @classmethod
    def from_plain(cls, content: Mapping[str, object], where: str = MANIFEST, **more: Any) -> Self:
        """Read a manifest.

        Args:
            content: The content of the JSON file.
            where: Its name in messages.
            more: Other fields of a subclass.

        Raises:
            ArtifactError: a value is missing, of another type or out of bounds.
        """
        try:
            labels = read_labels(content)
            thresholds = read_thresholds(content)
            check_same_labels(list(thresholds), labels, f"{where} (thresholds)")
            length, overlap = read_window(content)
            files = read_files(content)
            return cls(
                name=read_name(content),
                labels=labels,
                thresholds=tuple(thresholds[label] for label in labels),
                calibrators=read_calibration(content, labels),
                window_length=length,
                window_overlap=overlap,
                languages=read_languages(content),
                records={key: value for key, value in content.items() if key not in _KNOWN},
                forms=read_forms(content, files),
                mapping=read_own_mapping(content, labels),
                by_language=read_by_language(content, labels),
                files=files,
                version=read_text(content, "version"),
                **more,
            )
        except ConfigError as error:
            raise ArtifactError(f"{where}: not a readable manifest. {str(error)[:2_000]}") from error

    def to_plain(self) -> dict[str, object]:
        """The manifest ready for JSON, with the version of its content."""
        content: dict[str, object] = {
            "format": FORMAT,
            "format_version": WITH_LANGUAGES if self.by_language else FORMAT_VERSION,
            "name": self.name,
            "labels": list(self.labels),
            "thresholds": dict(zip(self.labels, self.thresholds, strict=True)),
            "calibration": describe_calibrators(self.labels, self.calibrators),
            "window": {"length": self.window_length, "overlap": self.window_overlap, "pooling": "max"},
            "languages": list(self.languages),
        }
        if self.by_language:
            content["by_language"] = {code: _describe(self.labels, own) for code, own in self.by_language.items()}
        content |= self.records
        content["forms"] = {name: facts.to_plain() for name, facts in self.forms.items()}
        if self.mapping:
            content["mapping"] = {label: list(names) for label, names in self.mapping.items()}
        content["files"] = {name: {"sha256": it.sha256, "bytes": it.bytes} for name, it in self.files.items()}
        return content | {"version": manifest_version(content)}

    @property
    def tunings(self) -> Tunings:
        """Its calibrators and thresholds, in general and by language."""
        return Tunings(LanguageTuning(self.calibrators, self.thresholds), self.by_language)

    @property
    def is_calibrated(self) -> bool:
        """Whether a calibrator changes some label's probabilities."""
        return self.tunings.is_calibrated


def manifest_version(content: Mapping[str, object]) -> str:
    """SHA-256 of a manifest without its `version`, as JSON with sorted keys and no spaces.

    >>> manifest_version({"a": 1, "version": "x"}) == manifest_version({"a": 1})
    True
    """
    rest = {key: value for key, value in content.items() if key != "version"}
    try:
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    except (RecursionError, ValueError, TypeError):
        raise ArtifactError(f"{MANIFEST}: nested too deeply, or contains a value that JSON cannot represent.") from None
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def describe_calibrators(labels: Sequence[str], calibrators: Sequence[Calibrator]) -> dict[str, object]:
    """The entry `calibration` of the manifest.

    >>> describe_calibrators(["toxic"], [Calibrator()])
    {'method': 'identity'}
    """
    if all(calibrator.method == "none" for calibrator in calibrators):
        return {"method": "identity"}
    content = {label: calibrator.to_plain() for label, calibrator in zip(labels, calibrators, strict=True)}
    return {"method": "per-label", "labels": content}


def _describe(labels: Sequence[str], tuning: LanguageTuning) -> dict[str, object]:
    return {
        "thresholds": dict(zip(labels, tuning.thresholds, strict=True)),
        "calibration": describe_calibrators(labels, tuning.calibrators),
    }


def read_by_language(content: Mapping[str, object], labels: tuple[str, ...]) -> dict[str, LanguageTuning]:
    """Language code -> its calibrators and thresholds; empty if the bundle has none.

    Raises:
        ConfigError: a code is not one, or a language lacks a label.
    """
    if "by_language" not in content:
        return {}
    found: dict[str, LanguageTuning] = {}
    for code, own in read_object(content, "by_language").items():
        is_code = LANGUAGE.fullmatch(code) and code == base_language(code) != UNDETERMINED
        if not is_code or len(found) >= _MOST_LANGUAGES:
            raise ConfigError(f"by_language: expected up to {_MOST_LANGUAGES} codes such as tr or ur-Latn.")
        if not isinstance(own, dict):
            raise ConfigError(f"by_language.{code}: expected an object.")
        thresholds = read_thresholds(own)
        check_same_labels(list(thresholds), labels, f"by_language.{code} (thresholds)")
        cuts = tuple(thresholds[label] for label in labels)
        found[code] = LanguageTuning(read_calibration(own, labels), cuts)
    return found


def read_name(content: Mapping[str, object]) -> str:
    """A name that `export` accepts: it is in the header of every answer.

    Raises:
        ConfigError: it is missing, or contains other characters.
    """
    name = read_text(content, "name")
    if not BUNDLE_NAME.fullmatch(name):
        raise ConfigError(
            f"name is {escape_name(name)}, expected up to {LONGEST_NAME} letters, digits, '.', '_' and '-'."
        )
    return name


def read_own_mapping(content: Mapping[str, object], labels: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Label -> its names in other APIs; empty if the bundle has none.

    Raises:
        ConfigError: it has another structure, or names that these APIs do not know.
    """
    mapping: Any = content.get("mapping", {})
    try:
        return check_mapping(mapping, labels)
    except TypeError as error:
        raise ConfigError(f"{error}: expected label -> list of names") from None


def read_calibration(content: Mapping[str, object], labels: tuple[str, ...]) -> tuple[Calibrator, ...]:
    """One calibrator per label; bundles of uncalibrated models have `identity`.

    Raises:
        ConfigError: an unknown method, or an invalid map.
    """
    calibration = read_object(content, "calibration")
    method = calibration.get("method")
    if method == "identity":
        return (Calibrator(),) * len(labels)
    if method == "per-label":
        return read_calibrators(read_object(calibration, "labels"), labels)
    raise ConfigError(
        f"calibration {escape_name(repr(method))} is not known to this version of the toolkit. Install a newer version."
    )


def read_files(content: Mapping[str, object]) -> dict[str, FileFacts]:
    """Path -> hash and size.

    Raises:
        ConfigError: a path does not lead into the folder, or a file has no hash and size.
    """
    found = {}
    for name, facts in read_object(content, "files").items():
        if not _is_inside(name):
            raise ConfigError(
                f"files: {escape_name(name)} is outside the bundle, or not a path; expected a path with slashes."
            )
        digest, size = (facts.get("sha256"), facts.get("bytes")) if isinstance(facts, dict) else (None, None)
        is_digest = isinstance(digest, str) and len(digest) == 64 and _SHA256_DIGITS.issuperset(digest)
        if not is_digest or not is_whole(size) or size < 0:
            raise ConfigError(f"files: {escape_name(name)} has no SHA-256 and size.")
        found[name] = FileFacts(str(digest), size)
    return found


def read_forms(content: Mapping[str, object], files: Mapping[str, FileFacts]) -> dict[str, FormFacts]:
    """Form -> facts about it; all of its files are sealed.

    Raises:
        ConfigError: a form without sealed files.
    """
    found = {}
    for name, facts in read_object(content, "forms").items():
        named = facts.get("files") if isinstance(facts, dict) else None
        if not isinstance(named, list) or not all(isinstance(file, str) and file in files for file in named):
            raise ConfigError(f"forms: form {escape_name(name)} has files that are not sealed, or none.")
        left = facts.get("left_in_float") if isinstance(facts, dict) else None
        found[name] = FormFacts(tuple(named), tuple(map(str, left)) if isinstance(left, list) else None)
    return found


def _is_inside(name: str) -> bool:
    """Whether a path leads to a file within the folder, and is written in its one normal way."""
    path = PurePosixPath(name)
    plain = name.isprintable() and "\\" not in name and ":" not in name and path.as_posix() == name
    return plain and not path.is_absolute() and ".." not in path.parts and 0 < len(path.parts) <= 16 and name != "."
