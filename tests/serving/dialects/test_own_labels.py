"""Bundles whose labels are not Jigsaw's: what the foreign dialects say of them, and how they are told."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from moderation import cli
from moderation.bundles import MODEL_CONFIG, Bundle, read_bundle, write_manifest
from moderation.config import ServeConfig
from moderation.errors import ArtifactError
from moderation.export.card import write_card
from moderation.flags import from_plain
from moderation.manifests import MANIFEST, Manifest, manifest_version
from moderation.serving.app import create_app
from tests.serving.in_process import ask

OWN = ("offensive", "spam", "off topic", "gore", "rude", "advert")
OTHER = ("offensive", "plug", "off topic", "gore", "rude", "advert")
PARTLY = ("Self-Harm", "spam", "hate", "gore", "identity_attack", "toxicity")
NATIVE = {"url": "/v1/predict", "json": {"texts": ["you idiot", "kind"]}}
OPENAI = {"url": "/v1/moderations", "json": {"input": ["you idiot", "kind"]}}
MODEL = {"method": "GET", "url": "/v1/model"}


def analyze(*names: str) -> dict[str, Any]:
    body = {"comment": {"text": "you idiot"}, "requestedAttributes": {name: {} for name in names}, "languages": ["en"]}
    return {"url": "/comments:analyze", "json": body}


def relabel(source: Path, folder: Path, labels: tuple[str, ...], **more: Any) -> Bundle:
    """A copy of a bundle with other names for its labels."""
    old = read_bundle(source).labels
    names = dict(zip(old, labels, strict=True))

    def rename(part: Any) -> Any:
        if isinstance(part, dict):
            return {names.get(key, key): rename(value) for key, value in part.items()}
        if isinstance(part, list):
            return [rename(item) for item in part]
        return names.get(part, part) if isinstance(part, str) else part

    shutil.copytree(source, folder)
    config = json.loads((folder / MODEL_CONFIG).read_text())
    config |= {"id2label": dict(enumerate(labels)), "label2id": {label: place for place, label in enumerate(labels)}}
    (folder / MODEL_CONFIG).write_text(json.dumps(config))
    return write_manifest(folder, Manifest.from_plain(rename(json.loads((folder / MANIFEST).read_text())) | more))


def check_flagged(flagged: bool, result: dict[str, Any]) -> None:
    assert result["flagged"] == flagged == bool(result["flagged_labels"])


def test_a_model_without_a_category_refuses_openais_requests(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = relabel(tiny_bundle, tmp_path / "own", OWN)
    app = create_app(bundle.path, threads=1)
    refused, native, model, missing = ask(app, OPENAI, NATIVE, MODEL, analyze("TOXICITY"))
    assert (refused.status_code, native.status_code) == (501, 200)
    error = refused.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("server_error", "no_categories", None)
    assert "--map" in error["message"]
    assert model.json()["labels_without_category"] == list(OWN)
    assert not any(category["supported"] for category in model.json()["categories"].values())
    assert (missing.status_code, missing.json()["error"]["message"]) == (400, "Unknown requested attribute: TOXICITY")


def test_a_mapping_in_the_settings_is_used(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = relabel(tiny_bundle, tmp_path / "own", OWN)
    words = ["offensive=harassment", "offensive=TOXICITY", "gore=violence/graphic"]
    app = create_app(bundle.path, threads=1, map=words)
    spoken, native, scored, model = ask(app, OPENAI, NATIVE, analyze("TOXICITY", "SPAM"), MODEL)
    for result, own in zip(spoken.json()["results"], native.json()["results"], strict=True):
        assert result["category_scores"]["harassment"] == own["probabilities"]["offensive"]
        assert result["category_scores"]["violence/graphic"] == own["probabilities"]["gore"]
        assert result["categories"]["harassment"] == ("offensive" in own["flagged"])
        assert result["flagged_labels"] == own["flagged"]
        check_flagged(bool(own["flagged"]), result)
    scores = scored.json()["attributeScores"]
    own = native.json()["results"][0]["probabilities"]
    assert scores["TOXICITY"]["summaryScore"]["value"] == own["offensive"]
    assert scores["SPAM"]["summaryScore"]["value"] == own["spam"]
    assert model.json()["attributes"]["TOXICITY"] == "offensive"
    assert model.json()["labels_without_category"] == ["spam", "off topic", "rude", "advert"]


def test_known_names_map_by_themselves(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = relabel(tiny_bundle, tmp_path / "partly", PARTLY)
    spoken, native, scored = ask(
        create_app(bundle.path, threads=1), OPENAI, NATIVE, analyze("TOXICITY", "IDENTITY_ATTACK")
    )
    for result, own in zip(spoken.json()["results"], native.json()["results"], strict=True):
        p = own["probabilities"]
        assert result["category_scores"]["self-harm"] == p["Self-Harm"]
        assert result["category_scores"]["hate"] == max(p["hate"], p["identity_attack"])
        assert result["category_scores"]["harassment"] == p["toxicity"]
        assert result["category_scores"]["hate/threatening"] == 0.0
    assert scored.json()["attributeScores"].keys() == {"TOXICITY", "IDENTITY_ATTACK"}


def test_a_text_that_only_a_label_without_category_flags_is_flagged(tiny_bundle: Path, tmp_path: Path) -> None:
    thresholds = {label: float(label != "spam") for label in PARTLY}  # spam alone is flagged, and always
    bundle = relabel(tiny_bundle, tmp_path / "partly", PARTLY, thresholds=thresholds)
    (answer,) = ask(create_app(bundle.path, threads=1), OPENAI)
    for result in answer.json()["results"]:
        assert (result["flagged"], result["flagged_labels"]) == (True, ["spam"])
        assert not any(result["categories"].values())


def test_the_log_reports_at_the_start_which_labels_have_no_category(
    tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings_of(bundle: Path, *mapping: str) -> list[Any]:
        caplog.clear()
        ask(create_app(bundle, threads=1, map=mapping), MODEL)
        return [record for record in caplog.records if record.levelname == "WARNING"]

    other = relabel(tiny_bundle, tmp_path / "other", OTHER)
    partly = relabel(tiny_bundle, tmp_path / "partly", PARTLY)
    assert warnings_of(tiny_bundle) == []
    openai, perspective = warnings_of(other.path)
    assert "/v1/moderations answers 501" in openai.getMessage()
    assert "Perspective" in perspective.getMessage()
    (openai,) = warnings_of(other.path, "rude=TOXICITY")
    assert "/v1/moderations answers 501" in openai.getMessage()
    (found,) = warnings_of(partly.path)
    assert (list(found.labels), "--map" in found.cure) == (["spam", "gore"], True)
    assert warnings_of(partly.path, "spam=illicit", "gore=violence/graphic") == []


@pytest.mark.parametrize("word", ["nobody=harassment", "toxic=harrasment", "toxic", "toxic=TOXICITY,threat=TOXICITY"])
def test_an_impossible_mapping_stops_the_start(
    word: str, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "--model", str(tiny_bundle), "--port", "0", "--map", word]) == 2
    assert "--map:" in capsys.readouterr().err


def test_a_bundle_keeps_its_mapping_and_settings_override_it(tiny_bundle: Path, tmp_path: Path) -> None:
    kept = {"offensive": ["harassment", "TOXICITY"], "gore": ["violence/graphic"]}
    bundle = relabel(tiny_bundle, tmp_path / "own", OWN, mapping=kept)
    assert read_bundle(bundle.path).mapping == {label: tuple(names) for label, names in kept.items()}
    (model,) = ask(create_app(bundle.path, threads=1), MODEL)
    assert model.json()["categories"]["harassment"]["labels"] == ["offensive"]
    (model,) = ask(create_app(bundle.path, threads=1, map=["offensive=hate", "rude=TOXICITY"]), MODEL)
    assert model.json()["categories"]["harassment"]["supported"] is False
    assert model.json()["categories"]["hate"]["labels"] == ["offensive"]
    assert model.json()["attributes"]["TOXICITY"] == "rude"
    card = write_card(bundle)
    assert "| offensive | `harassment` | `TOXICITY` |" in card
    assert "| spam | - | `SPAM` |" in card


@pytest.mark.parametrize(
    "mapping",
    [{"nobody": ["hate"]}, {"toxic": ["hat"]}, {"toxic": "hate"}, ["toxic"], {"toxic": [1]}, {"toxic": None}, 5],
    ids=str,
)
def test_an_impossible_mapping_in_a_bundle_is_refused(mapping: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    content = json.loads((folder / MANIFEST).read_text()) | {"mapping": mapping}
    (folder / MANIFEST).write_text(json.dumps(content | {"version": manifest_version(content)}))
    with pytest.raises(ArtifactError, match="not a readable manifest"):
        read_bundle(folder)


def test_an_older_bundle_has_no_mapping(tiny_bundle: Path) -> None:
    assert "mapping" not in json.loads((tiny_bundle / MANIFEST).read_text())
    assert read_bundle(tiny_bundle).mapping == {}


def test_settings_take_a_list_from_a_file() -> None:
    read = from_plain(ServeConfig, {"map": ["a, b=hate"], "openai_images": "ignore"}, "serve.toml")
    dialects = read.server.dialects
    assert (dialects.map, dialects.openai_images) == (("a, b=hate",), "ignore")
