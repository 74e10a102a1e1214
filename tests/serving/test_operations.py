"""What operators are given: metrics that exist, rules and a dashboard that name no others, and a quiet log."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from moderation.bundles import read_bundle
from moderation.serving.app import create_app
from tests.serving.conftest import Server, started, wait_until
from tests.serving.in_process import ask
from tests.serving.processes.test_lifecycle import predict_until_all_answered, workers_of

FOLDER = Path(__file__).parents[2] / "deploy/prometheus"
DOCUMENT = Path(__file__).parents[2] / "docs/operations.md"
PROMTOOL = shutil.which("promtool")
NAMES = re.compile(r"\b(?:moderation|process)_[a-z_]+\b")


def families_of(server: Server) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)}


@pytest.fixture(scope="module")
def pair(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server of two workers with a shadow, a copy of their bundle, and the folder of that."""
    folder = tmp_path_factory.mktemp("pair")
    shadow = shutil.copytree(tiny_bundle, folder / "shadow")
    words = ["--workers", "2", "--backend", "onnx", "--shadow-share", "1", "--cache-texts", "0"]
    with started(tiny_bundle, folder, *words, "--shadow", str(shadow)) as server:
        yield server, shadow


def labels_of(server: Server, *others: Server) -> dict[str, set[str]]:
    """Every name of a series that servers give, the first once it has answered something, and its labels."""
    text = {"comment": {"text": "you idiot"}}
    for path, body in (
        ("v1/predict", {"texts": ["you idiot"]}),
        ("comments:analyze", text | {"requestedAttributes": {"TOXICITY": {}, "SPAM": {}}}),
        ("comments:suggestscore", text | {"attributeScores": {"TOXICITY": {"summaryScore": {"value": 1}}}}),
    ):
        assert httpx.post(f"{server.url}/{path}", json=body, timeout=30).status_code == 200
    found = {"moderation_flagged_total": {"label"}}  # where the model flags nothing
    for family in (family for one in (server, *others) for family in families_of(one).values()):
        found.setdefault(family.name, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> dict[str, str]:
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    board = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    found = {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    found["variable"] = board["templating"]["list"][1]["query"]["query"].removeprefix("label_values(").split(",")[0]
    return found | {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in board["panels"]
        for target in panel["targets"]
    }


def test_rules_and_dashboard_name_metrics_that_exist(server: Server) -> None:
    there = labels_of(server)
    asked = {name: set(NAMES.findall(words)) for name, words in expressions().items()}
    assert all(names or "up{" in expressions()[name] for name, names in asked.items()), asked
    assert {name: names - there.keys() for name, names in asked.items() if names - there.keys()} == {}
    for name, words in expressions().items():
        lists = re.findall(r"\b(?:by|on|without|ignoring|group_left|group_right) *\(([^)]*)\)", words)
        labels = {label.strip() for some in lists for label in some.split(",")} | set(
            re.findall(r"(\w+) *[=!]~?\"", words)
        )
        known = {"job", "instance", ""}.union(*(there[metric] for metric in asked[name]))
        assert labels <= known, (name, labels - known)


def test_the_dashboard_is_complete() -> None:
    """What Grafana would not say: a panel over another one, without a source, or of a variable that nobody sets."""
    board = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel.keys() == {"id", "type", "title", "datasource", "gridPos", "fieldConfig", "targets"}
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["type"] in ("timeseries", "table")
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert all(0 <= x < 24 and y >= 0 for x, y in cells) and not taken & cells, panel["title"]
        taken |= cells
        letters = [target["refId"] for target in panel["targets"]]
        assert letters and len(set(letters)) == len(letters)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    names = [variable["name"] for variable in board["templating"]["list"]]
    assert names == ["datasource", "job"]
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(board))) == {*names, "__rate_interval"}
    assert all('job="$job"' in target["expr"] for panel in board["panels"] for target in panel["targets"])


def promtool(*words: str | Path, given: str = "") -> None:
    done = subprocess.run([str(PROMTOOL), *map(str, words)], input=given, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_prometheus_accepts_rules_dashboard_scrape_configuration_and_metrics(server: Server, tmp_path: Path) -> None:
    promtool("check", "rules", FOLDER / "alerts.yml")
    promtool("check", "config", "--syntax-only", FOLDER / "scrape.yml")  # the key's file is not here
    words = {name: words.replace("$__rate_interval", "5m") for name, words in expressions().items()}
    rules = [{"record": f"expression:{number}", "expr": each} for number, each in enumerate(words.values())]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", "--lint-fatal", tmp_path / "rules.yml")
    promtool("check", "metrics", given=httpx.get(f"{server.url}/metrics").text)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_each_alert_fires_for_its_problem_and_not_otherwise() -> None:
    path = FOLDER / "alerts_test.yml"
    promtool("test", "rules", path)
    tried = {
        re.findall(r'alertname="(\w+)"', case["expr"])[0]
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
        for case in test["promql_expr_test"]
        if case["exp_samples"]
    }
    untried = {"ModerationWorkersRestart"}
    assert expressions().keys() & tried == tried
    assert {name for name in expressions() if name.startswith("Moderation")} - tried <= untried


def test_every_rule_states_what_to_do() -> None:
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"] and rule["annotations"]["action"], rule["alert"]
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert rule["alert"] in DOCUMENT.read_text(encoding="utf-8")


def starts_of(*workers: tuple[int, float, float]) -> list[dict[str, str]]:
    """What Prometheus reads once a minute for an hour of workers, each with its process id, first and last minute."""
    told: dict[int, list[str]] = {}
    for pid, first, last in workers:
        values = told.setdefault(pid, ["_"] * 60)
        for minute in range(60):
            if first <= minute < last:
                values[minute] = str(60 * first)
    name = 'process_start_time_seconds{{job="moderation", instance="x", pid="{}"}}'
    return [{"series": name.format(pid), "values": " ".join(values)} for pid, values in told.items()]


NINE = [(pid, -600, 60) for pid in range(9)]


@pytest.mark.parametrize(
    ("workers", "fires"),
    [
        (NINE, False),
        ([(pid + turn, 30 * turn, 30 * turn + 30) for turn in (0, 1) for pid in range(0, 18, 2)], False),
        ([(7, -600, 30), (7, 30.5, 60)], False),
        ([(7, -600, 30), (7, 30.5, 34), (7, 34.5, 60)], False),
        ([*NINE, *((100 + minute, minute, minute + 3) for minute in range(0, 60, 3))], True),
        ([(7, minute + 1, minute + 4) for minute in range(0, 60, 4)], True),
    ],
    ids=["many workers", "a reload", "a restart", "two restarts", "one of many dies", "the only one dies"],
)
def test_the_alert_for_workers_distinguishes_a_reload_from_deaths_however_many_there_are(
    workers: list[tuple[int, float, float]], fires: bool, tmp_path: Path
) -> None:
    """The last ones have the same process id as those before, as in a container, and are missing now and then."""
    program = shutil.which("promtool")
    if not program:
        pytest.skip("promtool is not installed")
    (rule,) = [
        rule
        for group in yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        if rule["alert"] == "ModerationWorkersRestart"
    ]
    said = {name: words.replace("{{ $labels.instance }}", "x") for name, words in rule["annotations"].items()}
    alert = {"exp_labels": rule["labels"] | {"instance": "x"}, "exp_annotations": said}
    expected = [
        {"eval_time": f"{minute}m", "alertname": rule["alert"], "exp_alerts": [alert] if fires else []}
        for minute in ((40, 59) if fires else range(60))
    ]
    case = {"interval": "1m", "input_series": starts_of(*workers), "alert_rule_test": expected}
    (tmp_path / "case.yml").write_text(json.dumps({"rule_files": [str(FOLDER / "alerts.yml")], "tests": [case]}))
    found = subprocess.run(
        [program, "test", "rules", tmp_path / "case.yml"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_documents_show_the_scrape_configuration_every_metric_and_no_other(
    server: Server, pair: tuple[Server, Path]
) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    shown = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", document, flags=re.DOTALL)[0])["scrape_configs"][0]
    whole = yaml.safe_load((FOLDER / "scrape.yml").read_text(encoding="utf-8"))["scrape_configs"][0]
    assert shown.items() <= whole.items()
    there = labels_of(server, pair[0])
    every = "".join(path.read_text(encoding="utf-8") for path in sorted(DOCUMENT.parent.glob("*.md")))
    serving = (DOCUMENT.parent / "serving.md").read_text(encoding="utf-8")
    assert set(NAMES.findall(document + serving)) - {"moderation_shadow_"} <= there.keys()
    said = dict(re.findall(r"`((?:moderation|process)_[a-z_]+)\{([\w,]+)\}`", every))
    for name, family in (families_of(server) | families_of(pair[0])).items():
        full = f"{name}_total" if family.type == "counter" else name
        assert f"`{full}" in every, full
        labels = set().union(*(sample.labels for sample in family.samples)) - {"le"}
        assert not labels or set(said.get(full, "").split(",")) == labels, (full, labels)


def test_the_scrape_configuration_reads_a_server_with_keys(keyed_server: tuple[Server, str]) -> None:
    server, key = keyed_server
    (job,) = yaml.safe_load((FOLDER / "scrape.yml").read_text(encoding="utf-8"))["scrape_configs"]
    headers = {"Authorization": f"{job['authorization']['type']} {key}"}
    assert httpx.get(server.url + job["metrics_path"], headers=headers).status_code == 200
    assert httpx.get(server.url + job["metrics_path"]).status_code == 401


def test_each_worker_reports_model_program_and_process(pair: tuple[Server, Path], tiny_bundle: Path) -> None:
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


def test_all_workers_report_a_shadow_and_a_damaged_one_is_not_adopted(pair: tuple[Server, Path]) -> None:
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
    wait_until(lambda: "the old one keeps running" in "".join(server.log))
    (reason,) = (line["error"] for line in server.lines() if line["event"] == "this worker cannot start")
    assert str(model) in reason
    assert httpx.post(f"{server.url}/v1/predict", json={"texts": ["kind"]}, timeout=60).status_code == 200
    wait_until(lambda: is_compared(n_asked + 1))
    workers_of(server)[0].kill()
    wait_until(lambda: '"ready"' in "".join(server.log).partition('"this worker has no shadow"')[2])
    assert httpx.post(f"{server.url}/v1/predict", json={"texts": ["kind"]}, timeout=60).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_a_probe_leaves_no_line_in_the_log(path: str, server: Server) -> None:
    asked = f"probe-{path[1:]}"
    assert httpx.get(server.url + path, headers={"X-Request-Id": asked}).status_code == 200
    assert not [line for line in server.lines() if line.get("request_id") == asked]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_a_refused_probe_leaves_a_line_in_the_log(path: str, keyed_server: tuple[Server, str], server: Server) -> None:
    asked = f"refused-{path[1:]}"
    answer = httpx.post(server.url + path, headers={"X-Request-Id": asked})
    assert answer.status_code == 405
    assert [line["status"] for line in server.lines() if line.get("request_id") == asked] == [405]


def test_readyz_reports_whether_decisions_can_be_kept(tiny_bundle: Path, server: Server) -> None:
    (answer,) = ask(create_app(tiny_bundle, threads=1, feedback_url=""), {"method": "GET", "url": "/readyz"})
    assert answer.json() == {"status": "ready", "feedback": "off"}
    assert httpx.get(f"{server.url}/readyz").json() == {"status": "ready", "feedback": "ready"}
