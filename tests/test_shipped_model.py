"""The model that the package brings: there, whole, small, without a network, and sensible."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from moderation import Classifier, cli
from moderation.bundles import SHIPPED, read_bundle
from moderation.data.training_texts import count_seen, read_sketch
from moderation.tables.reading import read_table

ROOT = Path(__file__).parents[1]
WITHOUT_NETWORK = """
import socket, sys
def refuse(*_, **__):
    raise OSError("no network here")
socket.socket.connect = socket.getaddrinfo = refuse
from moderation.__main__ import main
code = main()
assert not {"torch", "transformers", "huggingface_hub"} & sys.modules.keys()
sys.exit(code)
"""


@pytest.fixture(scope="module")
def classifier():
    with Classifier.load() as found:
        yield found


def score(lines: str, *words: str) -> tuple[list[dict[str, object]], str]:
    command = [sys.executable, "-c", WITHOUT_NETWORK, "score", "-", *words]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_an_insult_on_standard_input_is_flagged_offline_without_torch():
    (insult, thanks), _ = score("you are an idiot\nThank you, that helped a lot.\n")
    assert "toxic" in insult["flagged"]
    assert "insult" in insult["flagged"]
    assert insult["p_toxic"] > 0.8
    assert thanks["flagged"] == []
    assert thanks["p_toxic"] < 0.05
    assert str(insult["model_version"]).startswith("compact-en@")


def test_a_text_in_another_language_is_named():
    (row,), said = score("Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter von gestern.\n", "--model", "en")
    assert row["detected_language"] == "de"
    assert "not trained on (de 1)" in said


def test_it_is_small_and_complete(capsys):
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25_000_000
    assert cli.main(["verify"]) == 0, "where no bundle is named it is this one"
    said = capsys.readouterr().out
    assert "compact-en@" in said
    bounded = r"^onnx-int8 +\d+ +\S+ +\S+ \(limit 2e-02\) +passed$"
    assert re.search(bounded, said, re.MULTILINE), "the limit is beside the difference from the export, which it bounds"


def test_its_card_is_the_one_in_the_docs():
    assert (ROOT / "docs" / "model-card.md").read_bytes() == (SHIPPED / "README.md").read_bytes()


def test_it_knows_that_it_was_trained_on_the_sample():
    bundle = read_bundle(SHIPPED)
    sketch = read_sketch(bundle)
    if sketch is None:
        pytest.skip("exported before bundles had a sketch of their training texts")
    texts = read_table(ROOT / "moderation" / "data" / "sample" / "comments.csv")["comment_text"]
    seen = count_seen(texts, sketch)
    assert seen.n_found == seen.n_looked_up > 0
    assert count_seen((f"nobody wrote this {row}" for row in range(10_000)), sketch).n_found == 0


def test_it_was_trained_as_its_recipe_states():
    bundle = read_bundle(SHIPPED)
    assert bundle.languages == ("en",)
    assert bundle.records["provenance"]["backbone"]["name"] == "minilm"
    assert {row["form"] for row in bundle.records["parity"] if row["passed"]} >= {"onnx-int8"}


@pytest.mark.parametrize(
    ("text", "flagged"),
    [
        ("You are a pathetic idiot and nobody wants you here.", True),
        ("you are a \u0455tupid \u0456di\u043et", True),
        ("I will find you and kill you.", True),
        ("My gay neighbour brought soup when I was ill, what a lovely man.", False),
        ("The second paragraph needs a source, I think.", False),
        ("We killed the process and restarted the server.", False),
    ],
)
def test_plain_cases(classifier, text, flagged):
    assert bool(classifier.classify([text])[0].flagged) is flagged
