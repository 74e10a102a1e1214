"""The server's own language over a real socket: the classifier's own numbers, and what every answer carries."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import JSONResponse

from moderation import Classifier
from moderation.bundles import read_bundle
from moderation.config import ServeConfig
from moderation.errors import ConfigError
from moderation.options import change
from moderation.serving import openapi
from moderation.serving.app import create_app
from moderation.serving.dialects import native
from moderation.serving.options import EMBEDDED, ServerOptions
from tests.serving.conftest import Server
from tests.serving.in_process import ask

TEXTS = ["you idiot", "kind river bread.", "kill them! damn stupid idiot. fine", "", "x " * 400 + "idiot"]


def predict(server: Server, texts: list[str], **more: object) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/v1/predict", json={"texts": texts, **more}, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return Classifier.load(tiny_bundle, threads=1)


def test_answers_are_the_classifiers_own_to_the_last_digit(server: Server, classifier: Classifier) -> None:
    answer = predict(server, TEXTS)
    assert answer["model_version"] == classifier.model_version
    assert answer["thresholds"] == dict(zip(classifier.labels, classifier.thresholds.tolist(), strict=True))
    for found, expected in zip(answer["results"], classifier.classify(TEXTS), strict=True):
        assert found["probabilities"] == expected.probabilities
        assert found["flagged"] == list(expected.flagged)
        assert found["n_windows"] == expected.n_windows
        assert "sentences" not in found
    assert [result["n_windows"] > 1 for result in answer["results"]] == [False, False, False, False, True]


def test_sentences_are_classified_by_themselves(server: Server, classifier: Classifier) -> None:
    text = "\U0001f469\u200d\U0001f4bb kind river. You idiot! fine bread"
    (result,) = predict(server, [text], sentences=True)["results"]
    pieces = [text[part["begin"] : part["end"]] for part in result["sentences"]]
    assert pieces == ["\U0001f469\u200d\U0001f4bb kind river.", "You idiot!", "fine bread"]
    for part, expected in zip(result["sentences"], classifier.classify(pieces), strict=True):
        assert part["probabilities"] == expected.probabilities
        assert part["flagged"] == list(expected.flagged)


def test_a_foreign_language_is_reported(server: Server) -> None:
    texts = [
        "Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter.",
        "An ordinary English sentence, is it not?",
    ]
    found = [result["language"] for result in predict(server, [*texts, "ok"])["results"]]
    assert found == [
        {"code": "de", "supported": False},
        {"code": "en", "supported": True},
        {"code": "und", "supported": True},
    ]


def test_concurrent_clients_get_their_own_answers(server: Server, classifier: Classifier) -> None:
    texts = [f"kind river {i} {'idiot' if i % 3 else 'bread'} " * (1 + i % 7) for i in range(60)]
    expected = [result.probabilities for result in classifier.classify(texts)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda text: predict(server, [text])["results"][0]["probabilities"], texts))
    assert found == expected


def test_the_model_is_described(server: Server, tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    model = httpx.get(f"{server.url}/v1/model").json()
    assert (model["name"], model["version"], tuple(model["labels"])) == (bundle.name, bundle.version, bundle.labels)
    assert model["card"] == (tiny_bundle / "README.md").read_text(encoding="utf-8")
    assert model["curves"] == bundle.records["curves"]
    assert model["categories"]["sexual"] == {"labels": [], "supported": False}
    assert model["categories"]["hate/threatening"] == {"labels": ["identity_hate", "threat"], "supported": True}
    assert model["labels_without_category"] == ["obscene"]
    assert model["attributes"]["TOXICITY"] == "toxic"


def test_every_answer_names_the_model_and_protects_the_browser(server: Server, classifier: Classifier) -> None:
    for path, status in (("/v1/model", 200), ("/readyz", 200), ("/nowhere", 404), ("/v1/predict", 405)):
        answer = httpx.get(server.url + path, headers={"X-Request-Id": "mine-1"})
        assert answer.status_code == status
        assert answer.headers["X-Request-Id"] == "mine-1"
        assert answer.headers["X-Model-Version"] == classifier.model_version
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "server" not in answer.headers
    assert httpx.get(f"{server.url}/v1/predict").headers["Allow"] == "POST"
    made_up = httpx.get(f"{server.url}/livez", headers={"X-Request-Id": "a b" * 99}).headers["X-Request-Id"]
    assert len(made_up) == 32


@pytest.mark.parametrize(
    ("body", "status", "kind", "words"),
    [
        ({"texts": "idiot"}, 422, "invalid_request", "body.texts"),
        ({"texts": [1]}, 422, "invalid_request", "body.texts.0"),
        ({}, 422, "invalid_request", "body.texts"),
        ({"texts": ["a"], "idiot": 1}, 422, "invalid_request", "unknown field"),
        ({"texts": ["a"] * 257}, 413, "too_many_texts", "256"),
        ({"texts": ["a" * 2_000_001]}, 413, "too_large", "too large"),
    ],
)
def test_a_wrong_body_is_refused_without_repeating_it(
    server: Server, body: object, status: int, kind: str, words: str
) -> None:
    answer = httpx.post(f"{server.url}/v1/predict", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == kind
    assert words in answer.json()["error"]["message"]
    assert "idiot" not in answer.text


def read_metrics(server: Server) -> dict[str, float]:
    families = text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
    return {
        sample.name + "".join(f",{value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_second_time_is_from_the_cache_and_counted(server: Server) -> None:
    before = read_metrics(server)
    text = "you idiot, nobody sent this before"
    first, second = predict(server, [text]), predict(server, [text, text])
    assert second["results"] == first["results"] * 2
    after = read_metrics(server)
    assert after["moderation_cache_hits_total"] - before["moderation_cache_hits_total"] == 2
    assert after["moderation_cache_misses_total"] - before["moderation_cache_misses_total"] == 1
    assert after["moderation_texts_total"] - before["moderation_texts_total"] == 3
    for label in first["results"][0]["probabilities"]:
        name = f"moderation_flagged_total,{label}"
        assert after.get(name, 0) - before.get(name, 0) == 3 * (label in first["results"][0]["flagged"])
    name = "moderation_requests_total,POST,/v1/predict,200"
    assert after[name] - before.get(name, 0) == 2
    for histogram in ("queue", "tokenise", "inference"):
        name = f"moderation_{histogram}_seconds_count"
        assert after[name] - before[name] >= 1


def test_no_text_is_in_log_or_metrics(server: Server) -> None:
    begin = len(server.log)
    predict(server, ["marzipan idiot"], sentences=True)
    httpx.post(f"{server.url}/v1/predict", json={"texts": [1], "marzipan": "marzipan"})
    httpx.get(f"{server.url}/marzipan?key=marzipan")
    metrics = httpx.get(f"{server.url}/metrics").text
    lines = server.lines(begin)
    requests = [line for line in lines if line["event"] == "request" and line["route"] == "/v1/predict"]
    assert [line["status"] for line in requests] == [200, 422]
    assert all(line["request_id"] and line["ms"] > 0 for line in requests)
    assert "marzipan" not in "".join(server.log) + metrics


def test_the_applications_defaults_are_the_commands() -> None:
    differs = {"feedback_url": None, "drain_s": None}  # inside another program nothing is stored and no signal taken
    assert change(ServeConfig().server, **differs) == EMBEDDED


def test_a_setting_of_another_name_or_out_of_range_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(TypeError, match="max_text"):
        create_app(tiny_bundle, max_text=3)
    with pytest.raises(ConfigError, match="--timeout-s is 0"):
        create_app(tiny_bundle, ServerOptions(threads=1), timeout_s=0)


def test_the_server_needs_no_torch(tiny_bundle: Path) -> None:
    code = f"""
import sys
from fastapi.testclient import TestClient
from moderation.serving.app import create_app
with TestClient(create_app({str(tiny_bundle)!r}, threads=1)) as client:
    assert client.post("/v1/predict", json={{"texts": ["you idiot"]}}).status_code == 200
print(*[name for name in ("torch", "transformers", "datasets", "sklearn", "pandas") if name in sys.modules], "end")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["end"]


def test_keys_are_not_a_path(tiny_bundle: Path) -> None:
    for keys in ("keys.json", Path("keys.json"), "", {}, b"k"):
        with pytest.raises(TypeError, match="read_keys"):
            create_app(tiny_bundle, keys=keys)  # type: ignore[arg-type]


def test_the_document_is_written_once_for_each_prefix(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []
    monkeypatch.setattr(openapi, "JSONResponse", lambda content: written.append(content) or JSONResponse(content))
    app = create_app(tiny_bundle, threads=1, trusted_proxy=["127.0.0.1"])
    prefixed = {"headers": {"X-Forwarded-Prefix": "/prefix"}}
    asked = [{"method": "GET", "url": "/openapi.json"} | more for more in ({}, prefixed, {}, prefixed)]
    plain, with_prefix, *others = ask(app, *asked)
    assert "servers" not in plain.json() and len(plain.json()["paths"]) > 8
    assert with_prefix.json() == plain.json() | {"servers": [{"url": "/prefix"}]}
    assert [answer.content for answer in others] == [plain.content, with_prefix.content]
    assert len(written) == 2


@pytest.mark.hostile("bundle: model card")
def test_a_card_of_any_length_and_encoding_is_cut_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = tmp_path / "README.md"
    card.write_bytes(b"\xff" + b"a" * 1_000_000)
    monkeypatch.setattr(native, "check_files", lambda *_: None)
    bundle = SimpleNamespace(path=tmp_path, files=[card.name])
    found = native._read_card(SimpleNamespace(classifier=SimpleNamespace(bundle=bundle)))
    assert found == "\ufffd" + "a" * (len(found) - 1) and len(found) == 500_000
