"""Thresholds that are set for a server: every answer says whose they are, and the cache knows no others."""

import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from moderation.bundles import SHIPPED, read_bundle
from moderation.config import ServeConfig
from moderation.errors import ConfigError
from moderation.flags import merge
from moderation.serving.app import create_app

pytest.importorskip("onnxruntime")
TEXT = "you are an idiot"


def ask(client: TestClient) -> tuple[dict, dict, dict]:
    predicted = client.post("/v1/predict", json={"texts": [TEXT], "sentences": True}).json()
    moderated = client.post("/v1/moderations", json={"input": TEXT}).json()
    return predicted, moderated, client.get("/v1/model").json()


def test_answers_show_whose_thresholds_decided() -> None:
    bundle = read_bundle(SHIPPED)
    shipped = dict(zip(bundle.labels, bundle.thresholds, strict=True))
    with TestClient(create_app(threads=1)) as client:
        predicted, moderated, model = ask(client)
        assert [answer["thresholds_from"] for answer in (predicted, moderated, model)] == ["bundle"] * 3
        assert predicted["thresholds"] == model["thresholds"] == shipped
        before = predicted["results"][0]
        assert "toxic" in before["flagged"]
        assert moderated["results"][0]["flagged"]
    chosen = dict.fromkeys(shipped, 1.0)
    with TestClient(create_app(threads=1, thresholds=chosen)) as client:
        for _ in range(2):  # the second time out of the cache
            predicted, moderated, model = ask(client)
            assert [answer["thresholds_from"] for answer in (predicted, moderated, model)] == ["set"] * 3
            assert predicted["thresholds"] == model["thresholds"] == chosen
            (result,) = predicted["results"]
            assert result["probabilities"] == before["probabilities"]
            assert result["flagged"] == result["sentences"][0]["flagged"] == []
            assert not moderated["results"][0]["flagged"]


@pytest.mark.parametrize("given", [{"spam": 0.5}, {"toxic": 0}])
def test_impossible_thresholds_stop_the_start(given: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"threshold|label"), TestClient(create_app(threads=1, thresholds=given)):
        pass


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--threshold", "spam=0.5"), "'spam' is not a label of this model"),
        (("--threshold", "toxic=0"), "above 0"),
        (("--thresholds", "none.json"), "no such file"),
    ],
)
def test_the_command_refuses_before_it_listens(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "moderation", "serve", "--port", "0", *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_thresholds_are_settings_like_others(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('threshold = ["toxic=0.7"]\nthresholds = "t.json"\n', encoding="utf-8")
    found = merge(ServeConfig, {"config": tmp_path / "s.toml"})
    assert (found.threshold, found.thresholds) == (("toxic=0.7",), Path("t.json"))
    variables = {"MODERATION_THRESHOLD": "toxic=0.8,insult=0.9", "MODERATION_THRESHOLDS": "u.json"}
    found = merge(ServeConfig, {"config": tmp_path / "s.toml"}, variables)
    assert (found.threshold, found.thresholds) == (("toxic=0.8", "insult=0.9"), Path("u.json"))
