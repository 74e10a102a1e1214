"""A second bundle beside the one that answers: what it would decide otherwise is counted, and nobody notices it."""

import asyncio
import dataclasses
import json
import logging
import random
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from moderation import Classifier, cli
from moderation.bundles import SHIPPED, read_bundle
from moderation.config import ServeConfig
from moderation.errors import ArtifactError, ConfigError
from moderation.evaluation.reliability import wilson_interval
from moderation.inference.classifier import TextResult
from moderation.inference.routing import Reading, Route
from moderation.inference.windows import Window
from moderation.options import build
from moderation.serving.app import create_app
from moderation.serving.shadow import scoring as shadow_module
from moderation.serving.shadow.counts import ShadowCounts
from moderation.serving.shadow.scoring import AfterAnswer, Shadow, choose_shadow_backend, find_common_labels, is_chosen
from moderation.serving.state import state_of
from tests.serving.conftest import Server, wait_until

pytest.importorskip("onnxruntime")
Probabilities = npt.NDArray[np.float32]

TEXTS = ["you idiot", "kind river bread.", "kill them! damn stupid idiot. fine", "", "a b c d e f g " * 20 + "idiot"]
NOTHING = Reading(np.zeros((1, 6), np.float32), np.ones(1, np.int64), [Route()])
SHADOW_THRESHOLDS = {"toxic": 0.02, "insult": 1.0}  # so that both kinds of changes are among the texts


@pytest.fixture(scope="module")
def client(tiny_bundle: Path) -> Iterator[TestClient]:
    """The built-in model, with the tiny one as a shadow of every text."""
    app = create_app(
        SHIPPED, threads=1, shadow=tiny_bundle, shadow_share=1.0, shadow_thresholds=SHADOW_THRESHOLDS, max_wait_s=60
    )
    with TestClient(app) as it:
        yield it


def shadow_of(client: TestClient) -> Shadow:
    found = state_of(client.app).shadow  # type: ignore[arg-type]
    assert found is not None
    return found


def read_report(client: TestClient) -> dict[str, Any]:
    answer = client.get("/v1/shadow")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def n_settled(client: TestClient) -> int:
    report = read_report(client)
    return int(report["texts"] + report["dropped"] + report["failed"])


def ask(client: TestClient, *texts: str) -> None:
    before = n_settled(client)
    assert client.post("/v1/predict", json={"texts": texts}).status_code == 200
    wait_until(lambda: n_settled(client) == before + len(texts))


def test_texts_of_every_api_are_compared_label_by_label(client: TestClient, tiny_bundle: Path) -> None:
    """Also those that come from the cache; of a text that is asked by its sentences the whole alone."""
    comment = {"comment": {"text": TEXTS[0]}, "requestedAttributes": {"TOXICITY": {}}}
    large = 9_000 * " "  # behind the body, which then is worked on beside the event loop
    for path, body, padding in (
        ("/v1/predict", {"texts": TEXTS, "sentences": True}, ""),
        ("/v1/predict", {"texts": TEXTS}, large),
        ("/v1/moderations", {"input": TEXTS}, ""),
        ("/v1alpha1/comments:analyze", comment, ""),
    ):
        sent = {"content": json.dumps(body) + padding, "headers": {"Content-Type": "application/json"}}
        assert client.post(path, **sent).status_code == 200, path
    asked = [*TEXTS * 3, TEXTS[0]]
    wait_until(lambda: n_settled(client) == len(asked))
    main = Classifier.load(SHIPPED, threads=1).classify(asked)
    shadow = Classifier.load(tiny_bundle, threads=1, thresholds=SHADOW_THRESHOLDS).classify(asked)
    report, metrics = read_report(client), client.get("/metrics").text
    assert (report["texts"], report["dropped"], report["failed"], report["share"]) == (len(asked), 0, 0, 1.0)
    n_changed = sum(one.flagged != other.flagged for one, other in zip(main, shadow, strict=True))
    assert report["changed"]["texts"] == n_changed > 0
    assert list(report["labels"]) == list(main[0].probabilities)
    for label, found in report["labels"].items():
        pairs = [(label in one.flagged, label in other.flagged) for one, other in zip(main, shadow, strict=True)]
        cells = {"both_flagged": (True, True), "only_main": (True, False)}
        cells |= {"only_shadow": (False, True), "neither": (False, False)}
        assert {name: found[name] for name in cells} == {name: pairs.count(cell) for name, cell in cells.items()}
        differs = pairs.count((True, False)) + pairs.count((False, True))
        low, high = (float(bound) for bound in wilson_interval(differs, len(asked)))
        expected = {"texts": differs, "share": differs / len(asked), "low": low, "high": high}
        assert found["changed"] == pytest.approx(expected)
        apart = [
            abs(one.probabilities[label] - other.probabilities[label]) for one, other in zip(main, shadow, strict=True)
        ]
        assert found["mean_difference"] == pytest.approx(np.mean(apart))
        assert found["largest_difference"] == max(apart)
        for name, (by_main, by_shadow) in cells.items():
            words = {True: "flagged", False: "clean"}
            series = f'{{label="{label}",main="{words[by_main]}",models="{shadow_of(client).counts.models}"'
            line = f'moderation_shadow_decisions_total{series},shadow="{words[by_shadow]}"}} {float(found[name])}'
            assert line in metrics.splitlines(), line
    assert {label: report["shadow"]["thresholds"][label] for label in SHADOW_THRESHOLDS} == SHADOW_THRESHOLDS
    bundle = read_bundle(tiny_bundle)
    info = f'moderation_shadow_info{{backend="onnx-int8",name="{bundle.name}",version="{bundle.version}"}} 1.0'
    assert info in metrics.splitlines()


def test_a_shadow_that_raises_is_counted_and_logged_once_without_the_text(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before, expected = read_report(client), client.post("/v1/predict", json={"texts": ["marzipan"]}).json()
    wait_until(lambda: n_settled(client) == before["texts"] + 1)

    def fail(windows: Sequence[Window]) -> Probabilities:
        raise RuntimeError("marzipan")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(shadow_of(client).classifier, "window_probabilities", fail)
        for _ in range(3):
            ask(client, "marzipan")
        assert client.post("/v1/predict", json={"texts": ["marzipan"]}).json() == expected
        wait_until(lambda: read_report(client)["failed"] == before["failed"] + 4)
        patch.setattr(shadow_of(client).classifier, "window_probabilities", lambda windows: np.full((1, 6), np.nan))
        ask(client, "marzipan", "marzipan")
    said = [record.__dict__ for record in caplog.records if record.name == shadow_module.__name__]
    assert [facts["error"].partition(":")[0] for facts in said] == [
        "RuntimeError",
        str(shadow_of(client).classifier.bundle.path),
    ]
    assert "marzipan" not in str(said)
    ask(client, "it goes on")
    assert read_report(client)["texts"] == before["texts"] + 2
    assert read_report(client)["failed"] == before["failed"] + 6


def test_while_a_shadow_hangs_answers_continue_and_excess_texts_are_dropped(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before, shadow = read_report(client), shadow_of(client)
    engine, began, go = shadow.classifier.window_probabilities, threading.Event(), threading.Event()

    def hang(windows: Sequence[Window]) -> Probabilities:
        began.set()
        assert go.wait(60)
        return engine(windows)

    monkeypatch.setattr(shadow.classifier, "window_probabilities", hang)
    monkeypatch.setattr(shadow_module, "MAX_TEXTS", 3)
    monkeypatch.setattr(shadow_module, "MAX_CHARACTERS", 50)
    try:
        assert client.post("/v1/predict", json={"texts": ["it hangs at this"]}).status_code == 200
        assert began.wait(60)
        for texts in (["x" * 51], ["y" * 40], ["z" * 20, "a"], ["b", "c"], ["d" * 9]):
            assert client.post("/v1/predict", json={"texts": texts}).status_code == 200
        assert (len(shadow._waiting), shadow._n_characters) == (3, 42)
        assert read_report(client)["dropped"] == before["dropped"] + 4
    finally:
        go.set()
    wait_until(lambda: read_report(client)["texts"] == before["texts"] + 4)
    assert shadow._n_characters == 0
    assert [record.message for record in caplog.records if "keep up" in record.message] == [
        "the shadow cannot keep up; texts are dropped"
    ]


def test_the_shadow_computes_only_while_the_main_bundle_has_a_thread_to_spare(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, shadow, order = state_of(client.app).service, shadow_of(client), []  # type: ignore[arg-type]
    engines = {"main": service.classifier.window_probabilities, "shadow": shadow.classifier.window_probabilities}
    began, go = threading.Event(), threading.Event()

    def main(windows: Sequence[Window]) -> Probabilities:
        began.set()
        assert go.wait(60)
        order.append("main")
        found: Probabilities = engines["main"](windows)
        return found

    def note(windows: Sequence[Window]) -> Probabilities:
        order.append("shadow")
        found: Probabilities = engines["shadow"](windows)
        return found

    n_looks = 0

    def look() -> bool:
        nonlocal n_looks
        n_looks += 1
        return bool(service.has_free_thread)

    wait_until(lambda: service.has_free_thread)
    monkeypatch.setattr(shadow, "_may_work", look)
    monkeypatch.setattr(service.classifier, "window_probabilities", main)
    monkeypatch.setattr(shadow.classifier, "window_probabilities", note)
    before = n_settled(client)
    busy = threading.Thread(target=client.post, args=("/v1/predict",), kwargs={"json": {"texts": ["kept busy"]}})
    busy.start()
    assert began.wait(60) and not service.has_free_thread
    shadow.take([("waits", service.classifier.decide(NOTHING)[0])])
    wait_until(lambda: n_looks >= 3)
    go.set()
    busy.join()
    wait_until(lambda: n_settled(client) == before + 2)
    assert order == ["main", "shadow", "shadow"]


def test_a_text_goes_to_the_shadow_once_its_answer_was_sent() -> None:
    seen: list[str] = []
    result = TextResult({"toxic": 0.5}, (), 1, "a@b/c")
    shadow = Shadow.__new__(Shadow)  # without its thread
    shadow.share = 1.0
    shadow.take = lambda answered: seen.append(f"shadow {len(answered)}")  # type: ignore[method-assign]

    async def route(scope: Any, receive: Any, send: Any) -> None:
        shadow.offer(["a", "b"], [result, result])
        await send({"type": "answer"})
        shadow.offer(["c"], [result])
        if scope["path"] == "/fails":
            raise RuntimeError

    async def send(message: Any) -> None:
        seen.append(message["type"])

    async def receive() -> Any:
        raise AssertionError

    for path in ("/works", "/fails"):
        seen.clear()
        passing = AfterAnswer(route, lambda: shadow)({"type": "http", "path": path}, receive, send)
        if path == "/works":
            asyncio.run(passing)
        else:
            with pytest.raises(RuntimeError):
                asyncio.run(passing)
        assert seen == ["answer", "shadow 3"]
    seen.clear()
    shadow.offer(["outside of a request"], [result])
    assert seen == ["shadow 1"]


def test_a_stop_waits_for_no_shadow_that_hangs(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is dropped; no text is lost without being counted."""
    monkeypatch.setattr(shadow_module, "_LONGEST_STOP_S", 0.1)
    classifier, registry = Classifier.load(tiny_bundle, threads=1), CollectorRegistry()
    counts = ShadowCounts(registry)
    counts.started(classifier, classifier, classifier.labels)
    engine, began, go = classifier.window_probabilities, threading.Event(), threading.Event()
    classifier.window_probabilities = lambda windows: (began.set(), go.wait(60), engine(windows))[2]  # type: ignore
    shadow = Shadow(classifier, counts, share=1.0, may_work=lambda: True)
    (result,) = classifier.decide(NOTHING)
    shadow.take([(f"{number}", result) for number in range(5)])
    assert began.wait(60)
    shadow.close()
    assert shadow._thread.is_alive() and shadow._thread.daemon
    shadow.take([("too late", result)])
    assert registry.get_sample_value("moderation_shadow_dropped_total", {"models": counts.models}) == 5
    go.set()
    shadow._thread.join(60)
    assert not classifier.models[0]._engine.is_open, "it is closed by the one who used it"


def test_a_text_of_too_many_tokens_is_dropped(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_module, "MAX_TOKENS", 100)
    before = read_report(client)
    ask(client, "a " * 200, "short")
    after = read_report(client)
    assert (after["dropped"], after["texts"]) == (before["dropped"] + 1, before["texts"] + 1)


def test_only_the_text_decides_whether_it_is_in_the_share() -> None:
    rng = random.Random(0)
    texts = ["".join(map(chr, rng.choices(range(32, 0x3000), k=rng.randrange(30)))) + str(n) for n in range(5_000)]
    chosen = {share: {text for text in texts if is_chosen(text, share)} for share in (1e-9, 0.01, 0.1, 0.5, 1.0)}
    assert chosen[1.0] == set(texts) and not chosen[1e-9]
    assert chosen[0.01] < chosen[0.1] < chosen[0.5]
    for share in (0.01, 0.1, 0.5):
        low, high = (float(bound) for bound in wilson_interval(len(chosen[share]), len(texts)))
        assert low - 0.01 < share < high + 0.01


def test_labels_that_only_one_bundle_has_are_left_out_and_no_common_label_is_refused(tiny_bundle: Path) -> None:
    tiny = read_bundle(tiny_bundle)
    other = dataclasses.replace(tiny, labels=("spam", "insult", "toxic"))
    assert find_common_labels(tiny, other) == ("toxic", "insult")
    with pytest.raises(ConfigError, match="no label in common"):
        find_common_labels(tiny, dataclasses.replace(tiny, labels=("spam",)))
    assert choose_shadow_backend(tiny, "torch") == "onnx-int8"
    assert choose_shadow_backend(tiny, "onnx") == "onnx"
    only_torch = dataclasses.replace(tiny, forms={"hf": tiny.forms["hf"]})
    with pytest.raises(ConfigError, match="share its threads"):
        choose_shadow_backend(only_torch, "auto")


def test_an_impossible_shadow_is_refused_at_the_start(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a file of the bundle the command says so; a changed one is found where a worker loads it."""
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    model = bundle / "onnx/model_int8.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with (
        pytest.raises(ArtifactError, match="model_int8"),
        TestClient(create_app(tiny_bundle, threads=1, shadow=bundle)),
    ):
        pass
    (tmp_path / "thresholds.json").write_text(json.dumps({"spam": 0.5}), encoding="utf-8")
    for words, code, said in (
        (["--shadow", str(tmp_path / "none")], 1, "none"),
        (["--shadow", str(tmp_path)], 1, "moderation.json"),
        (
            ["--shadow", str(bundle), "--shadow-thresholds", str(tmp_path / "thresholds.json")],
            2,
            "'spam' is not a label",
        ),
        (["--shadow", str(bundle), "--shadow-share", "0"], 2, "--shadow-share is 0.0, expected above 0 and at most 1"),
        (["--shadow-share", "0.2"], 2, "--shadow-share: no effect without --shadow"),
    ):
        assert cli.main(["serve", "--port", "0", *words]) == code, words
        assert said in capsys.readouterr().err
    for share in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="--shadow-share"):
            build(ServeConfig, {"shadow": tiny_bundle, "shadow_share": share})
    with pytest.raises(ConfigError, match="--shadow-thresholds: no effect"):
        ServeConfig(shadow_thresholds=tmp_path / "thresholds.json")


def test_without_a_shadow_there_is_no_report_and_with_keys_it_needs_one(
    server: Server, keyed_server: tuple[Server, str]
) -> None:
    answer = httpx.get(f"{server.url}/v1/shadow")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found")
    assert "--shadow" in answer.json()["error"]["message"]
    assert "moderation_shadow" not in httpx.get(f"{server.url}/metrics").text
    keyed, key = keyed_server
    sent = ({}, {"X-API-Key": key})
    assert [httpx.get(f"{keyed.url}/v1/shadow", headers=headers).status_code for headers in sent] == [401, 404]
