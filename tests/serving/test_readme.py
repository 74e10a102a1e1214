"""The server's part of the README: each curl is answered as its language wants it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.serving.conftest import Server

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
CURLS = re.findall(r"^curl .*$", README, flags=re.MULTILINE)


def test_there_is_one_for_each_language() -> None:
    assert [re.findall(r":8000(/[^ ']*)", line) for line in CURLS] == [
        ["/v1/predict"],
        ["/v1/moderations"],
        ["/v1alpha1/comments:analyze"],
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("line", CURLS, ids=lambda line: line.split("8000")[1].split()[0])
def test_it_is_answered(line: str, server: Server) -> None:
    done = subprocess.run(line.replace("http://127.0.0.1:8000", server.url), shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    if "/v1/predict" in line:
        (result,) = answer["results"]
        cuts = httpx.get(f"{server.url}/v1/model").json()["thresholds"]
        assert result["flagged"] == [label for label in cuts if result["probabilities"][label] >= cuts[label]]
        assert result["sentences"]
    elif "/v1/moderations" in line:
        assert 0 <= answer["results"][0]["category_scores"]["harassment"] <= 1
    else:
        assert set(answer["attributeScores"]) == {"TOXICITY", "INSULT"}
        assert 0 <= answer["attributeScores"]["TOXICITY"]["summaryScore"]["value"] <= 1
