"""Clients of the Perspective API, unmodified but for the address, against a real server."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from tests.attack_table import Attack

CLIENTS = Path(__file__).parents[1] / "clients"
COMMENT = "you stupid idiot"
ATTRIBUTES = ("TOXICITY", "SEVERE_TOXICITY", "PROFANITY", "THREAT", "INSULT", "IDENTITY_ATTACK")


def toxicity(url: str, text: str) -> float:
    """What the server says of the text in its own language."""
    answer = httpx.post(f"{url}/v1/predict", json={"texts": [text]})
    return float(answer.json()["results"][0]["probabilities"]["toxic"])


@pytest.fixture
def google(keyed_server: Any) -> Iterator[Any]:
    """Google's client for Python, which learns from the discovery document how to call."""
    discovery = pytest.importorskip("googleapiclient.discovery")
    server, key = keyed_server
    with discovery.build(
        "commentanalyzer",
        "v1alpha1",
        developerKey=key,
        discoveryServiceUrl=f"{server.url}/$discovery/rest?version=v1alpha1",
        static_discovery=False,
    ) as client:
        yield client


def test_googles_python_client_analyzes(google: Any) -> None:
    asked = {
        "comment": {"text": f"\N{PILE OF POO} Kind bread. {COMMENT}"},
        "requestedAttributes": {name: {} for name in ATTRIBUTES},
        "languages": ["en"],
        "spanAnnotations": True,
        "doNotStore": True,
        "clientToken": "a token",
    }
    answer = google.comments().analyze(body=asked).execute()
    assert answer["attributeScores"].keys() == set(ATTRIBUTES)
    assert (answer["languages"], answer["clientToken"]) == (["en"], "a token")
    scores = answer["attributeScores"]["TOXICITY"]
    assert [(span["begin"], span["end"]) for span in scores["spanScores"]] == [(0, 14), (15, 31)]
    assert 0 <= scores["summaryScore"]["value"] <= 1


def test_googles_python_client_suggests_a_score(google: Any) -> None:
    asked = {
        "comment": {"text": COMMENT},
        "attributeScores": {"TOXICITY": {"summaryScore": {"value": 1.0}}},
        "doNotStore": True,
        "clientToken": "a token",
    }
    answer = google.comments().suggestscore(body=asked).execute()
    assert answer["clientToken"] == "a token"


def test_googles_python_client_reports_what_is_wrong(google: Any) -> None:
    from googleapiclient.errors import HttpError

    asked = {"comment": {"text": "bello"}, "requestedAttributes": {"TOXICITY": {}}, "languages": ["it"]}
    with pytest.raises(HttpError) as caught:
        google.comments().analyze(body=asked).execute()
    assert caught.value.status_code == 400
    assert caught.value.reason == "Attribute TOXICITY does not support request languages: it"
    assert caught.value.error_details[0]["errorType"] == "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"


@pytest.fixture(scope="session")
def packages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clients that npm has, installed as the lock file says, once for all runs."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    lock = (CLIENTS / "package-lock.json").read_bytes()
    name, cache = f"npm-clients-{hashlib.sha256(lock).hexdigest()[:12]}", getattr(request.config, "cache", None)
    folder = cache.mkdir(name) if cache else tmp_path_factory.mktemp(name)
    for name in ("package.json", "package-lock.json", "analyze.cjs", "redirect.cjs"):
        shutil.copy(CLIENTS / name, folder)
    if not (folder / "node_modules" / "perspective-api-client").is_dir():
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            pytest.skip("npm gets no answer from its registry")
        if done.returncode:
            pytest.skip(f"npm cannot install the clients: {done.stderr[:200]}")
    return folder


def test_the_npm_client_analyzes(keyed_server: Any, packages: Path) -> None:
    server, key = keyed_server

    def ask(key: str, *calls: Any) -> list[dict[str, Any]]:
        done = subprocess.run(
            ["node", "--require", "./redirect.cjs", "analyze.cjs"],
            cwd=packages,
            env=os.environ | {"MODERATION_URL": server.url, "MODERATION_KEY": key},
            input="".join(json.dumps(call) + "\n" for call in calls),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    plain, several, unknown = ask(
        key,
        [COMMENT, {}],
        [f"<p>{COMMENT}</p>", {"attributes": ["toxicity", "insult"], "doNotStore": False}],
        [COMMENT, {"attributes": ["FUN"]}],
    )
    assert plain["attributeScores"].keys() == {"TOXICITY"}
    assert several["attributeScores"].keys() == {"TOXICITY", "INSULT"}
    assert plain["attributeScores"]["TOXICITY"] == several["attributeScores"]["TOXICITY"]
    assert unknown == {"name": "ResponseError", "message": "Unknown requested attribute: FUN", "status": 400}
    [refused] = ask("wrong", [COMMENT, {}])
    assert refused["message"] == "API key not valid. Please pass a valid API key."


def cut_in_javascript(url: str, key: str, texts: list[str]) -> list[dict[str, Any]]:
    """What a program of a few lines gets with `fetch`, and what it cuts out of each text."""
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    done = subprocess.run(
        ["node", str(CLIENTS / "sentences.cjs")],
        env=os.environ | {"MODERATION_URL": url, "MODERATION_KEY": key},
        input="".join(json.dumps(text) + "\n" for text in texts),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.hostile("offsets: emoji in JavaScript")
def test_fetch_in_javascript_cuts_out_whole_sentences(keyed_server: Any, attack: Attack) -> None:
    server, key = keyed_server
    random = Random(0)
    words = [
        "kind",
        "\U0001f600",
        "caf\u00e9",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "e\u0301",
        "\U0001f44d\U0001f3fd",
    ]
    texts, expected = [], []
    for _ in range(attack.cases(100, 1000)):
        sentences = [f"You {' '.join(random.choices(words, k=3))} idiot!" for _ in range(random.randint(1, 4))]
        texts.append(" ".join(sentences))
        expected.append(sentences)
    found = cut_in_javascript(server.url, key, texts)
    assert [one["status"] for one in found] == [200] * len(texts)
    assert [one["sentences"] for one in found] == expected
    attack.tried(len(texts))


def test_fetch_in_javascript_learns_why_a_server_without_keys_refuses_it(server: Any) -> None:
    (found,) = cut_in_javascript(server.url, "any", ["kind"])
    assert (found["status"], "Send Content-Type: application/json" in found["error"]["message"]) == (415, True)


@pytest.mark.parametrize("attribute", ["TOXICITY", "SEVERE_TOXICITY", "TOXICITY_EXPERIMENTAL"])
@pytest.mark.parametrize("base", ["", "/v1alpha1"])
def test_the_two_calls_of_coral(server: Any, attribute: str, base: str) -> None:
    """Coral asks before a comment is shown, and tells later what its moderator decided.

    It waits 800 ms; how soon answers come, benchmarks measure.
    """
    endpoint = f"{server.url}{base}"
    with httpx.Client(timeout=30) as client:
        answer = client.post(
            f"{endpoint}/comments:analyze",
            params={"key": "any"},
            json={
                "comment": {"text": COMMENT},
                "doNotStore": True,
                "languages": ["en"],
                "requestedAttributes": {attribute: {}},
            },
        )
    score = answer.json()["attributeScores"][attribute]["summaryScore"]["value"]
    if attribute.startswith("TOXICITY"):
        assert score == toxicity(server.url, COMMENT)
    for decided in (0, 1):
        answer = httpx.post(
            f"{endpoint}/comments:suggestscore",
            params={"key": "any"},
            json={
                "comment": {"text": COMMENT},
                "attributeScores": {attribute: {"summaryScore": {"value": decided}}},
                "communityId": "Coral:forum.example",
                "clientToken": "comment:4f2a",
            },
        )
        assert (answer.status_code, answer.json()["clientToken"]) == (200, "comment:4f2a")
