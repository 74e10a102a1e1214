"""Several models in one classifier: the language of a text decides which one reads it, and with which thresholds."""

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from moderation import Classifier, bundles, cli
from moderation.artifacts import sha256
from moderation.bundles import read_bundle
from moderation.errors import ArtifactError, ConfigError
from moderation.evaluation.probabilities import calibrate
from moderation.manifests import MANIFEST
from moderation.serving.app import create_app
from moderation.tunings import LanguageTuning, Tunings
from tests.language_bundle import ENGLISH, TURKISH, make_many, rewrite

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

GERMAN = "Vielen Dank für diesen Kommentar, das ist wirklich ein schöner Beitrag geworden."
UNCLEAR = "xkq zzv"


@pytest.fixture(scope="module")
def many(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_many(tiny_bundle, tmp_path_factory.mktemp("models"))


@pytest.fixture
def both(tiny_bundle: Path, many: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Classifier]:
    monkeypatch.setattr(bundles, "NAMED", {"en": tiny_bundle, "multi": many})
    with Classifier.load(backend="onnx", threads=1) as classifier:
        yield classifier


def test_each_text_is_read_by_the_model_of_its_language(both: Classifier, tiny_bundle: Path, many: Path) -> None:
    results = both.classify([ENGLISH, TURKISH, GERMAN, UNCLEAR])
    assert [result.language for result in results] == ["en", "tr", "de", "und"]
    english, other = both.models
    versions = [english.version, other.version, other.version, both.model_version]
    assert [result.model_version for result in results] == versions
    assert english.version.split("@")[1] != other.version.split("@")[1]
    assert [bool(result.flagged) for result in results[1:3]] == [True, False]
    assert results[1].thresholds["toxic"] == pytest.approx(0.0001)
    with Classifier.load(many, backend="onnx", threads=1) as alone:
        assert alone.classify(TURKISH) == results[1]
    with Classifier.load(tiny_bundle, backend="onnx", threads=1) as alone:
        assert alone.classify(ENGLISH).probabilities == results[0].probabilities
        assert alone.classify(ENGLISH).language is None
    assert both.languages == ("en", "de", "tr")


def test_a_text_has_the_same_result_alone_in_a_list_and_window_by_window(both: Classifier) -> None:
    texts = [ENGLISH, TURKISH, ENGLISH * 40, GERMAN * 30, UNCLEAR]
    together = both.read(texts)
    for place, text in enumerate(texts):
        assert both.probabilities([text])[0].tobytes() == together.probabilities[place].tobytes()
        windows = both.windows(text)
        assert windows[-1].route == together.routes[place]
        assert {window.route.language for window in windows} == {together.routes[place].language}
        assert both.window_probabilities(windows).max(axis=0).tobytes() == together.probabilities[place].tobytes()
    mixed = [window for text in texts for window in both.windows(text)]
    assert both.window_probabilities(mixed).shape == (len(mixed), len(both.labels))


def test_a_text_of_unclear_language_is_flagged_if_a_model_flags_it(tiny_bundle: Path, many: Path) -> None:
    with Classifier.load(tiny_bundle, backend="onnx") as english, Classifier.load(many, backend="onnx") as other:
        logits = [one.models[0].logits(list(one.models[0].windows(UNCLEAR))) for one in (english, other)]
        maps = [one.bundle.calibrators for one in (english, other)]
        alone = [calibrate(found, own)[0] for found, own in zip(logits, maps, strict=True)]
        both = Classifier([*english.models, *other.models])
        n_flagged = 0
        for times in ((0.9, 1.1), (1.1, 0.9), (0.9, 0.9), (1.1, 1.1)):  # below or above the models' probabilities
            cuts = [np.clip(found * factor, 0.001, 0.999) for found, factor in zip(alone, times, strict=True)]
            both.tunings = tuple(
                Tunings(LanguageTuning(own, tuple(map(float, values)))) for own, values in zip(maps, cuts, strict=True)
            )
            (result,) = both.classify([UNCLEAR])
            expected = (alone[0] >= cuts[0]) | (alone[1] >= cuts[1])
            assert [label in result.flagged for label in both.labels] == expected.tolist()
            assert result.n_windows == 2
            n_flagged += len(result.flagged)
        assert n_flagged == 3 * len(both.labels)


def test_thresholds_that_are_set_hold_for_all_models_and_languages(
    tiny_bundle: Path, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "NAMED", {"en": tiny_bundle, "multi": many})
    with Classifier.load(backend="onnx", threads=1, thresholds={"toxic": 0.8}) as classifier:
        assert classifier.thresholds_by_label["toxic"] == 0.8
        for result in classifier.classify([ENGLISH, TURKISH, GERMAN, UNCLEAR]):
            assert result.thresholds["toxic"] == 0.8
    with pytest.raises(ConfigError, match="is not a label"):
        Classifier.load(thresholds={"other": 0.5})


def test_thresholds_by_language_in_a_file_decide_in_that_language(
    tiny_bundle: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "NAMED", {"en": tiny_bundle, "multi": many})
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps({"thresholds": {"toxic": 0.8}, "by_language": {"tr": {"toxic": 0.3}}}))
    with Classifier.load(backend="onnx", threads=1, thresholds=path) as classifier:
        found = [result.thresholds["toxic"] for result in classifier.classify([ENGLISH, TURKISH, GERMAN])]
    assert found == [0.8, 0.3, 0.8]


def test_languages_are_unknown_if_those_of_one_model_are(
    tiny_bundle: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(many, folder)
    rewrite(folder, languages=[])
    monkeypatch.setattr(bundles, "NAMED", {"en": tiny_bundle, "multi": folder})
    with Classifier.load(backend="onnx", threads=1) as classifier:
        assert classifier.languages == ()


def test_a_sentence_is_decided_at_the_thresholds_of_its_text(client: TestClient) -> None:
    mixed = f"{ENGLISH} {TURKISH}"
    (answer,) = client.post("/v1/predict", json={"texts": [mixed], "sentences": True}).json()["results"]
    assert answer["language"]["code"] == "und"
    assert len(answer["sentences"]) == 2
    for sentence in answer["sentences"]:
        cuts = answer["thresholds"]
        found = sentence["probabilities"]
        assert sentence["flagged"] == [label for label in found if np.float32(found[label]) >= np.float32(cuts[label])]


def test_it_can_be_sent_to_another_process(both: Classifier) -> None:
    with pickle.loads(pickle.dumps(both)) as again:
        assert again.classify([ENGLISH, TURKISH]) == both.classify([ENGLISH, TURKISH])


def test_models_with_other_labels_are_refused(
    tiny_bundle: Path, trained_other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "NAMED", {"en": tiny_bundle, "multi": trained_other})
    with pytest.raises(ArtifactError, match="its labels are not those of"):
        Classifier.load(backend="onnx", threads=1)


@pytest.fixture
def trained_other(tiny_bundle: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "other"
    shutil.copytree(tiny_bundle, folder)
    config = json.loads((folder / "config.json").read_text())
    names = {key: f"other {name}" for key, name in config["id2label"].items()}
    (folder / "config.json").write_text(json.dumps(config | {"id2label": names}))
    content = json.loads((folder / MANIFEST).read_text())
    labels = list(names.values())
    thresholds = dict(zip(labels, content["thresholds"].values(), strict=True))
    facts = {"sha256": sha256(folder / "config.json"), "bytes": (folder / "config.json").stat().st_size}
    rewrite(
        folder,
        labels=labels,
        thresholds=thresholds,
        calibration={"method": "identity"},
        files=content["files"] | {"config.json": facts},
    )
    return folder


def test_a_named_model_is_loaded_alone(both: Classifier, many: Path) -> None:
    with Classifier.load("multi", backend="onnx", threads=1) as classifier:
        assert classifier.bundle.path == many
        assert len(classifier.models) == 1
        assert classifier.classify(ENGLISH).model_version == classifier.model_version


def test_score_names_the_language_and_the_model_of_each_row(both: Classifier, tmp_path: Path) -> None:
    table, output = tmp_path / "texts.csv", tmp_path / "scored.jsonl"
    table.write_text("text\n" + "\n".join(f'"{text}"' for text in (ENGLISH, TURKISH, UNCLEAR)) + "\n")
    assert cli.main(["score", str(table), "-o", str(output), "--backend", "onnx", "--threads", "1"]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["detected_language"] for row in rows] == ["en", "tr", "und"]
    assert [row["model_version"] for row in rows] == [*(model.version for model in both.models), both.model_version]
    assert rows[1]["flagged"] == list(both.labels)
    origin = json.loads((tmp_path / "scored.jsonl.meta.json").read_text())
    assert [model["name"] for model in origin["models"]] == [model.bundle.name for model in both.models]


@pytest.fixture
def client(tiny_bundle: Path, many: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(bundles, "NAMED", {"en": tiny_bundle, "multi": many})
    with TestClient(create_app(backend="onnx", threads=1)) as it:
        yield it


def test_all_three_apis_answer_with_the_model_and_thresholds_of_the_language(
    client: TestClient, both: Classifier
) -> None:
    versions = [model.version for model in both.models]
    answer = client.post("/v1/predict", json={"texts": [ENGLISH, TURKISH, GERMAN]}).json()
    assert [one["language"] for one in answer["results"]] == [
        {"code": code, "supported": True} for code in ("en", "tr", "de")
    ]
    assert [one["model_version"] for one in answer["results"]] == [versions[0], versions[1], versions[1]]
    assert answer["results"][1]["flagged"] == list(both.labels)
    assert answer["results"][1]["thresholds"] != answer["thresholds"]
    again = client.post("/v1/predict", json={"texts": [TURKISH]}).json()  # from the cache
    assert again["results"] == answer["results"][1:2]

    results = client.post("/v1/moderations", json={"input": [ENGLISH, TURKISH]}).json()["results"]
    assert [one["model_version"] for one in results] == versions
    assert results[1]["flagged_labels"] == list(both.labels)

    for text, code, version in ((ENGLISH, "en", versions[0]), (TURKISH, "tr", versions[1])):
        body = {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}}}
        found = client.post("/v1alpha1/comments:analyze", json=body).json()
        assert found["languages"] == [code]
        assert found["modelVersion"] == version
        native = client.post("/v1/predict", json={"texts": [text]}).json()["results"][0]
        score = found["attributeScores"]["TOXICITY"]["summaryScore"]["value"]
        assert np.float32(score) == np.float32(native["probabilities"]["toxic"])

    model = client.get("/v1/model").json()
    assert [one["model_version"] for one in model["models"]] == versions
    assert model["models"][1]["thresholds_by_language"]["tr"]["toxic"] == pytest.approx(0.0001)
    shipped = both.models[0].bundle.thresholds
    assert model["models"][0]["thresholds"] == dict(zip(both.labels, shipped, strict=True))
    assert model["models"][1]["thresholds"]["toxic"] == 0.9999
    assert model["languages"] == ["en", "de", "tr"]


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ([], "expected an object"),
        ({"TR": {}}, "expected up to 500 codes"),
        ({"not a code": {}}, "expected up to 500 codes"),
        ({"tr": []}, r"by_language\.tr: expected an object"),
        ({"und": {}}, "expected up to 500 codes"),
        ({"tr": {"thresholds": {"toxic": 0.5}, "calibration": {"method": "identity"}}}, r"by_language\.tr"),
        ({"tr": {"thresholds": {"toxic": 2}, "calibration": {"method": "identity"}}}, "outside"),
    ],
)
def test_tunings_by_language_that_make_no_sense_are_refused(many: Path, tmp_path: Path, own: Any, words: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(many, folder)
    rewrite(folder, by_language=own)
    with pytest.raises(ArtifactError, match=words):
        read_bundle(folder)


def test_the_format_version_shows_whether_there_are_thresholds_by_language(many: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(many, folder)
    rewrite(folder, format_version=1)
    with pytest.raises(ArtifactError, match="format 1 with thresholds by language"):
        read_bundle(folder)
    content = json.loads((folder / MANIFEST).read_text())
    del content["by_language"]
    (folder / MANIFEST).write_text(json.dumps(content))
    rewrite(folder, format_version=2)
    with pytest.raises(ArtifactError, match="format 2 without"):
        read_bundle(folder)


def test_a_folder_called_like_a_model_is_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundles.find_models(Path("en")) == [bundles.NAMED["en"]]
    (tmp_path / "en").mkdir()
    assert bundles.find_models(Path("en")) == [bundles.NAMED["en"]], "of translations, say"
    (tmp_path / "en" / MANIFEST).write_text("{}")
    assert bundles.find_models(Path("en")) == [Path("en")]
    assert bundles.find_models("./en") == [Path("en")]
    assert bundles.find_models("en") == [bundles.NAMED["en"]]
    assert bundles.find_models("auto") == list(bundles.NAMED.values())
