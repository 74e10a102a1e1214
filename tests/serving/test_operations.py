"""What operators are given: metrics that exist, rules and a dashboard that name no others, and a quiet log."""

import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from moderation.bundles import read_bundle
from moderation.serving.shadow_counts import ShadowCounts
from tests.serving.conftest import Server, started
from tests.serving.test_lifecycle import predict_until_all_answered, wait_until

FOLDER = Path(__file__).parents[2] / "deploy/prometheus"
DOCUMENT = Path(__file__).parents[2] / "docs/operations.md"
NAMES = re.compile(r"\b(?:moderation|process)_[a-z_]+\b")


def families_of(server: Server) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)}


def names_of(server: Server) -> set[str]:
    """Every name of a series that the server gives, once it has answered something."""
    httpx.post(f"{server.url}/v1/predict", json={"texts": ["you idiot"]}, timeout=30)
    names = {sample.name for family in families_of(server).values() for sample in family.samples}
    counted = CollectorRegistry()
    ShadowCounts(counted)  # of a server that has a shadow
    names |= {metric.name + end for metric in counted.collect() for end in ("", "_total")}
    return names | {family.name for family in families_of(server).values()} | {"moderation_flagged_total"}


def expressions() -> dict[str, str]:
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    board = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    found = {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    return found | {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in board["panels"]
        for target in panel["targets"]
    }


def test_rules_and_dashboard_name_metrics_that_exist(server: Server) -> None:
    there = names_of(server)
    asked = {name: set(NAMES.findall(words)) for name, words in expressions().items()}
    assert all(names or "up{" in expressions()[name] for name, names in asked.items()), asked
    assert {name: names - there for name, names in asked.items() if names - there} == {}
    for words in expressions().values():
        assert words.count("(") == words.count(")") and words.count("{") == words.count("}")


def test_the_dashboard_has_no_two_panels_of_one_place_or_number() -> None:
    board = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in board["panels"]})


def test_every_rule_says_what_to_do() -> None:
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"] and rule["annotations"]["action"], rule["alert"]
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert rule["alert"] in DOCUMENT.read_text(encoding="utf-8")


def test_the_document_shows_the_scrape_configuration_and_no_unknown_metric(server: Server) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    shown = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", document, flags=re.DOTALL)[0])["scrape_configs"][0]
    whole = yaml.safe_load((FOLDER / "scrape.yml").read_text(encoding="utf-8"))["scrape_configs"][0]
    assert shown.items() <= whole.items()
    assert set(NAMES.findall(document)) <= names_of(server)


def test_the_scrape_configuration_reads_a_server_with_keys(keyed_server: tuple[Server, str]) -> None:
    server, key = keyed_server
    (job,) = yaml.safe_load((FOLDER / "scrape.yml").read_text(encoding="utf-8"))["scrape_configs"]
    headers = {"Authorization": f"{job['authorization']['type']} {key}"}
    assert httpx.get(server.url + job["metrics_path"], headers=headers).status_code == 200
    assert httpx.get(server.url + job["metrics_path"]).status_code == 401


@pytest.fixture(scope="module")
def pair(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server of two workers with a shadow, a copy of their bundle, and the folder of that."""
    folder = tmp_path_factory.mktemp("pair")
    shadow = shutil.copytree(tiny_bundle, folder / "shadow")
    words = (
        "--workers",
        "2",
        "--backend",
        "onnx",
        "--shadow",
        str(shadow),
        "--shadow-share",
        "1",
        "--cache-texts",
        "0",
    )
    with started(tiny_bundle, folder, *words) as server:
        yield server, shadow


def test_model_program_and_process_are_said_of_each_worker(pair: tuple[Server, Path], tiny_bundle: Path) -> None:
    bundle, (server, _) = read_bundle(tiny_bundle), pair
    pids: set[str] = set()
    for _ in range(300):  # the second worker comes when it has loaded the model
        families = families_of(server)
        pids = {sample.labels["pid"] for sample in families["process_resident_memory_bytes"].samples}
        if len(pids) == 2:
            break
        httpx.get(f"{server.url}/livez")
    (model,) = families["moderation_model_info"].samples
    assert (model.labels["name"], model.labels["version"]) == (bundle.name, bundle.version)
    assert (model.labels["backend"], model.value) == ("onnx", 1)
    (build,) = families["moderation_build_info"].samples
    assert build.value == 1 and build.labels["python"]
    assert len(pids) == 2
    for name in ("process_cpu_seconds", "process_open_fds", "process_start_time_seconds"):
        assert all(sample.value > 0 for sample in families[name].samples), name


def test_a_shadow_is_told_of_all_workers_and_a_damaged_one_is_not_taken_over(pair: tuple[Server, Path]) -> None:
    """The old one goes on, in workers that go on; what it has counted stays."""
    server, shadow = pair
    n_asked = predict_until_all_answered(server, 2)
    report: dict[str, Any] = {}

    def is_compared(n_texts: int) -> bool:
        nonlocal report
        report = httpx.get(f"{server.url}/v1/shadow", timeout=60).json()
        return bool(report["texts"] + report["dropped"] == n_texts)

    wait_until(lambda: is_compared(n_asked))
    assert report["failed"] == report["changed"]["texts"] == 0 < report["texts"]
    assert all(found["largest_difference"] == 0 for found in report["labels"].values()), "they are the same"
    flagged = {s.labels["label"]: s.value for s in families_of(server)["moderation_flagged"].samples if s.value}
    if not report["dropped"]:
        assert {label: n for label, found in report["labels"].items() if (n := found["both_flagged"])} == flagged
    model = shadow / "onnx/model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the old one goes on" in "".join(server.log))
    (reason,) = (line["error"] for line in server.lines() if line["event"] == "this worker cannot start")
    assert str(model) in reason
    assert httpx.post(f"{server.url}/v1/predict", json={"texts": ["kind"]}, timeout=60).status_code == 200
    wait_until(lambda: is_compared(n_asked + 1))


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_a_probe_leaves_no_line_in_the_log(path: str, server: Server) -> None:
    asked = f"probe-{path[1:]}"
    assert httpx.get(server.url + path, headers={"X-Request-Id": asked}).status_code == 200
    assert not [line for line in server.lines() if line.get("request_id") == asked]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_a_probe_that_is_refused_does(path: str, keyed_server: tuple[Server, str], server: Server) -> None:
    asked = f"refused-{path[1:]}"
    answer = httpx.post(server.url + path, headers={"X-Request-Id": asked})
    assert answer.status_code == 405
    assert [line["status"] for line in server.lines() if line.get("request_id") == asked] == [405]


def test_readyz_says_whether_decisions_can_be_kept(tiny_bundle: Path, tmp_path: Path) -> None:
    with started(tiny_bundle, tmp_path, "--feedback-url", "") as server:
        assert httpx.get(f"{server.url}/readyz").json() == {"status": "ready", "feedback": "off"}


def test_readyz_of_a_server_that_keeps_decisions(server: Server) -> None:
    assert httpx.get(f"{server.url}/readyz").json() == {"status": "ready", "feedback": "ready"}
