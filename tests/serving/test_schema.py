"""The OpenAPI document and the server agree: schemathesis calls every operation, rightly and wrongly, with all checks.

A long run by hand: `MODERATION_FUZZ_S=900 pytest -m slow tests/serving/test_schema.py`; its report is in the log.
"""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.serving.conftest import Server

LONG_S = int(os.environ.get("MODERATION_FUZZ_S", "900"))
BOUNDED = ("--generation-deterministic", "--max-examples", "30")
# One thread: in several, Python 3.11's ast.parse, by which hypothesis describes its strategies, may raise SystemError.
LONG = ("--max-time", str(LONG_S), "--phases", "coverage,fuzzing,stateful", "--seed", "1", "--workers", "1")
# Google's servers say 400 to a wrong key, not 401, and to a text that seems to be in a language that they do not know;
# so does ours where it speaks as they do.
CONFIG = """
[checks]
enabled = true

[[operations]]
include-path-regex = "/comments:"
checks.ignored_auth.enabled = false
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "429", "5xx"]
"""

logger = logging.getLogger(__name__)


def check(server: Server, folder: Path, *words: str) -> str:
    """Run schemathesis with all checks; what it says, where it found nothing."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
    fixed = ["--no-color", "--request-timeout", "30", "--continue-on-failure"]
    done = subprocess.run([*command, *fixed, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    operations = sum(map(len, httpx.get(f"{server.url}/openapi.json").json()["paths"].values()))
    assert operations >= 11
    assert f"Tested: {operations}\n" in done.stdout
    assert not [line for line in list(server.log) if '"fault"' in line or "Traceback" in line]
    return done.stdout


def count_cases(output: str) -> int:
    (found,) = re.findall(r"generated, (\d+) passed", output)
    return int(found)


def test_the_server_does_what_its_document_describes(server: Server, tmp_path: Path) -> None:
    assert count_cases(check(server, tmp_path, *BOUNDED)) > 1000


def test_a_server_with_keys_does_so_too(keyed_server: tuple[Server, str], tmp_path: Path) -> None:
    server, key = keyed_server
    document = httpx.get(f"{server.url}/openapi.json").json()
    assert document["paths"]["/v1/predict"]["post"]["security"] == [{"bearer": []}, {"header": []}, {"query": []}]
    assert document["paths"]["/livez"]["get"]["security"] == []
    few = ("--generation-deterministic", "--max-examples", "5")  # all that differs here is who may ask
    output = check(server, tmp_path, *few, "--header", f"Authorization: Bearer {key}")
    assert count_cases(output) > 200
    for path in (path for path in document["paths"] if "/comments:" in path):
        refused = [httpx.post(server.url + path, json={}, headers=sent) for sent in ({}, {"X-API-Key": "wrong"})]
        assert [answer.status_code for answer in refused] == [403, 400]
        assert "API key not valid" in refused[1].text


@pytest.mark.slow
@pytest.mark.timeout(2 * LONG_S + 600)
def test_for_a_long_time(server: Server, keyed_server: tuple[Server, str], tmp_path: Path) -> None:
    keyed, key = keyed_server
    for one, words in ((server, []), (keyed, ["--header", f"Authorization: Bearer {key}"])):
        output = check(one, tmp_path, *LONG, *words)
        logger.warning("%d cases passed", count_cases(output))
