"""Bundles: whatever is not as it was exported is refused and named."""

import json
import shutil
from pathlib import Path

import pytest

from moderation import Classifier, artifacts
from moderation.artifacts import write_json
from moderation.bundles import (
    SHIPPED,
    check_files,
    read_bundle,
    write_manifest,
)
from moderation.calibrators import Calibrator
from moderation.errors import ArtifactError
from moderation.manifests import MANIFEST, Manifest, describe_calibrators, manifest_version
from tests.bundle_mutator import seal


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    return folder


def rewrite(folder: Path, *, seal: bool = False, **changes) -> None:
    """Change the manifest; `seal`: with a version that fits, as somebody would who wants to deceive."""
    content = json.loads((folder / MANIFEST).read_text()) | changes
    if seal:
        content["version"] = manifest_version(content)
    (folder / MANIFEST).write_text(json.dumps(content))


def test_a_bundle_reads_back_what_was_sealed(tiny_bundle):
    bundle = read_bundle(tiny_bundle)
    check_files(bundle)
    assert len(bundle.version) == 64
    assert len(bundle.thresholds) == len(bundle.labels)
    on_disk = {file.relative_to(tiny_bundle).as_posix() for file in tiny_bundle.rglob("*") if file.is_file()}
    assert set(bundle.files) == on_disk - {MANIFEST}


def test_each_small_file_is_read_once_at_load(tiny_bundle, monkeypatch):
    read, names = artifacts.read_bytes, []
    monkeypatch.setattr(artifacts, "read_bytes", lambda path, most: names.append(path.name) or read(path, most))
    Classifier.load(tiny_bundle, backend="onnx", threads=1).close()
    assert sorted(names) == ["config.json", MANIFEST, "tokenizer_config.json"]


def test_sealing_again_changes_nothing(copy):
    before = (copy / MANIFEST).read_bytes()
    write_manifest(copy, read_bundle(copy))
    assert (copy / MANIFEST).read_bytes() == before


def test_the_shipped_manifest_is_written_as_it_was_read(tmp_path):
    before = (SHIPPED / MANIFEST).read_bytes()
    write_json(tmp_path / MANIFEST, read_bundle(SHIPPED).to_plain())
    assert (tmp_path / MANIFEST).read_bytes() == before


def test_additional_facts_of_older_or_newer_manifests_are_kept(copy):
    content = json.loads((copy / MANIFEST).read_text())
    del content["curves"]  # as before there were any
    content |= {"news": {"of": "later"}, "mapping": {"toxic": ["harassment"]}}
    content["forms"]["onnx-int8"]["left_in_float"] = ["head"]
    written = Manifest.from_plain(content).to_plain()
    assert written | {"version": ""} == content | {"version": ""}
    assert written["version"] == manifest_version(content)


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json", "config.json"])
def test_a_flipped_bit_is_refused_at_load_and_named(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        Classifier.load(copy, backend="onnx")


def test_a_flipped_bit_in_a_form_that_is_not_loaded_is_left_to_verify(copy):
    content = bytearray((copy / "torchscript/model.pt").read_bytes())
    content[-1] ^= 1
    (copy / "torchscript/model.pt").write_bytes(content)
    Classifier.load(copy, backend="onnx").close()
    with pytest.raises(ArtifactError, match=r"torchscript/model\.pt"):
        check_files(read_bundle(copy))


def test_a_missing_file_is_refused_at_load_and_named(copy):
    (copy / "torchscript/model.pt").unlink()
    with pytest.raises(ArtifactError, match=r"torchscript/model\.pt: missing"):
        Classifier.load(copy, backend="onnx")


def test_swapped_labels_are_refused(copy):
    content = json.loads((copy / MANIFEST).read_text())
    labels = [*reversed(content["labels"])]
    rewrite(copy, labels=labels)
    with pytest.raises(ArtifactError, match="changed since the export"):
        Classifier.load(copy)
    thresholds = {label: content["thresholds"][label] for label in labels}
    rewrite(copy, labels=labels, thresholds=thresholds, seal=True)
    with pytest.raises(ArtifactError, match=r"config\.json.*another order"):
        Classifier.load(copy)


def test_swapped_labels_in_the_models_configuration_are_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    names = config["id2label"]
    names["0"], names["1"] = names["1"], names["0"]
    (copy / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    with pytest.raises(ArtifactError, match=r"config\.json"):
        Classifier.load(copy)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"auto_map": {"AutoConfig": "code.Config"}}, "names code to run"),
        ({"pad_token_id": [1]}, "pad_token_id"),
        ({"pad_token_id": 10**30, "vocab_size": None}, "pad_token_id"),
        ({"pad_token_id": 10**6, "vocab_size": None}, "pad_token_id is not in tokenizer.json"),
        ({"pad_token_id": 10**25, "vocab_size": 10**30}, "vocab_size"),
        ({"id2label": {"0": 0}}, "other labels"),
    ],
)
def test_a_models_configuration_that_makes_no_sense_is_refused(copy, changes, words):
    config = json.loads((copy / "config.json").read_text()) | changes
    (copy / "config.json").write_text(json.dumps(config))
    seal(copy)
    with pytest.raises(ArtifactError, match=words):
        Classifier.load(copy)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "a cake"}, "another program"),
        ({"format_version": 3}, "newer version of the toolkit"),
        ({"format_version": True}, "bundle format True"),
        ({"format_version": 1.0}, "bundle format 1.0"),
        ({"languages": [None]}, "languages: expected"),
        ({"languages": "en"}, "languages: expected"),
        ({"languages": ["en\r\nX-Evil: 1"]}, "languages: expected"),
        ({"name": None}, "name: expected"),
        ({"name": ""}, "name: expected"),
        ({"name": "n\u00e4me"}, "name is n\u00e4me"),
        ({"name": "a\r\nX-Evil: 1"}, "name is"),
        ({"name": "\u202ename"}, "name is"),
        ({"name": "../name"}, "name is"),
        ({"name": "x" * 201}, "name: expected a text of 1 to 200"),
        ({"labels": ["toxic\x1b[2J"]}, r"number 1 of 1 contains the invisible character U\+001B"),
        ({"labels": ["toxic", None]}, "not a readable manifest"),
        ({"calibration": {"method": "astrology"}}, "calibration 'astrology'"),
        ({"calibration": {}}, "not a readable manifest"),
        ({"calibration": None}, "not a readable manifest"),
        ({"calibration": {"method": "per-label"}}, "not a readable manifest"),
        ({"calibration": {"method": "per-label", "labels": {"toxic": {"method": "none"}}}}, "expected toxic, severe"),
        ({"thresholds": {}}, "thresholds"),
        ({"labels": []}, "not a readable manifest"),
        ({"labels": 3}, "not a readable manifest"),
        ({"window": {"length": 8, "overlap": 8}}, "windows of 8 tokens"),
        ({"forms": None}, "not a readable manifest"),
        ({"files": {"../../etc/passwd": {"sha256": "", "bytes": 1}}}, "outside the bundle"),
        ({"files": {}, "forms": {}}, "missing from its files"),
        ({"forms": {"onnx": {}}}, "form onnx has"),
        ({"forms": {"onnx": {"files": None}}}, "form onnx has"),
        ({"forms": {"onnx": {"files": []}}}, "form onnx has no onnx/model.onnx"),
        ({"forms": {"onnx": {"files": ["onnx/other.onnx"]}}}, "form onnx has"),
        ({"files": {"config.json": {}}}, "has no SHA-256"),
        ({"window": {"length": float("inf"), "overlap": 8}}, "Infinity, which is not a JSON number"),
        ({"window": {"length": 512, "overlap": 8}}, r"config\.json: reads 64 tokens"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(copy, changes, words):
    rewrite(copy, seal=True, **changes)
    with pytest.raises(ArtifactError, match=words):
        read_bundle(copy)


def test_a_threshold_outside_the_range_is_refused(copy):
    thresholds = json.loads((copy / MANIFEST).read_text())["thresholds"]
    rewrite(copy, seal=True, thresholds=dict.fromkeys(thresholds, 1.5))
    with pytest.raises(ArtifactError, match=r"outside \[0, 1\]"):
        read_bundle(copy)


@pytest.mark.parametrize(
    ("calibrator", "words"),
    [
        ({"method": "spline"}, "method 'spline' is not known"),
        ({"method": "platt", "slope": 1.0}, "expected intercept, slope"),
        ({"method": "temperature", "slope": -1.0}, "slope -1.0"),
        ({"method": "platt", "slope": 1.0, "intercept": float("nan")}, "NaN, which is not a JSON number"),
        ({"method": "isotonic", "knots": [[0.0, 1.0], [1.0, 0.5]]}, "do not rise"),
        ({"method": "isotonic", "knots": [[1.0, 0.0], [1.0, 0.5]]}, "do not rise"),
        ({"method": "isotonic", "knots": []}, "0 knots"),
        ([1.0, 0.0], "a method and its parameters"),
    ],
)
def test_impossible_calibrators_are_refused(copy, calibrator, words):
    labels = json.loads((copy / MANIFEST).read_text())["labels"]
    content = {label: {"method": "none"} for label in labels} | {labels[-1]: calibrator}
    rewrite(copy, seal=True, calibration={"method": "per-label", "labels": content})
    with pytest.raises(ArtifactError, match=words):
        read_bundle(copy)


def test_calibrators_read_back_what_was_described(copy):
    labels = read_bundle(copy).labels
    calibrators = (
        Calibrator("temperature", slope=0.5),
        Calibrator("platt", slope=2.0, intercept=-1.25),
        Calibrator("isotonic", knots=((-1.0, -3.0), (0.5, 2.0))),
        *(Calibrator(),) * 3,
    )
    rewrite(copy, seal=True, calibration=describe_calibrators(labels, calibrators))
    assert read_bundle(copy).calibrators == calibrators
    rewrite(copy, seal=True, calibration=describe_calibrators(labels, (Calibrator(),) * 6))
    assert json.loads((copy / MANIFEST).read_text())["calibration"] == {"method": "identity"}
    assert read_bundle(copy).calibrators == (Calibrator(),) * 6


def test_anything_but_a_bundle_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no such folder"):
        read_bundle(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match="moderation export"):
        read_bundle(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(ArtifactError, match="not valid JSON"):
        read_bundle(tmp_path)


def test_a_file_that_is_not_sealed_is_not_used(copy):
    with pytest.raises(ArtifactError, match="not listed"):
        check_files(read_bundle(copy), ["onnx/other.onnx"])
