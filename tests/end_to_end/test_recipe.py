"""What the recipe of the shipped model uses beyond a plain training, from the table to the classifier."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from moderation import Classifier, cli
from moderation.config import TrainConfig
from moderation.data.cleaning import load_english_only
from moderation.data.disguises import edit_text
from moderation.flags import merge
from moderation.labels import JIGSAW_LABELS

pytestmark = pytest.mark.usefixtures("unpainted")

ROOT = Path(__file__).parents[2]
SMALL = ["--max-length", "32", "--epochs", "2", "--batch-size", "16", "--lr", "1e-3", "--bootstrap", "0"]
OPTIONS = ["--negatives", "0.5", "--disguised", "0.2", "--fold-disguises"]


@pytest.fixture(scope="module")
def extra(tmp_path_factory):
    path = tmp_path_factory.mktemp("extra") / "extra.csv"
    rows = [{"comment_text": f"kind river sentence number {i}"} | dict.fromkeys(JIGSAW_LABELS, 0) for i in range(20)]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(table_path, tiny_backbone, extra, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "recipe"
    words = ["train", "--data-path", str(table_path), "--backbone", str(tiny_backbone), "--output-dir", str(folder)]
    assert cli.main([*words, "--extra-train-path", str(extra), *SMALL, *OPTIONS]) == 0
    return folder


def test_the_record_says_what_was_added_and_how_much_was_seen(run):
    record = json.loads((run / "run.json").read_text())
    assert record["splits"] == {"train": 600, "val": 60, "test": 60}  # (480 + 20) and a fifth of them again
    assert record["data"]["added"] == {"extra": 20, "disguised": 100}
    assert len(record["data"]["extra_train_sha256"]) == 64
    assert 600 < record["training"]["examples"] < 1200  # two epochs, less of the clean ones
    assert "Extra table, SHA-256" in (run / "report.html").read_text()


@pytest.mark.usefixtures("short_texts")
def test_the_bundle_reads_a_disguised_text_as_the_plain_one_also_without_the_extra_table(run, extra, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    hidden = extra.with_suffix(".hidden")
    extra.rename(hidden)
    try:
        words = ["--bootstrap", "0", "--checkpoint", str(run / "checkpoint_best.pt")]
        assert cli.main(["evaluate", *words]) == 0
        words = ["--to", str(tmp_path / "bundle"), "--formats", "hf,onnx", "--parity-texts", "20", "--threads", "1"]
        assert cli.main(["export", str(run), *words]) == 0
    finally:
        hidden.rename(extra)
    assert "rebuilt without it" in caplog.text
    plain = "You stupid idiot, nobody wants you here"
    texts = [plain, edit_text("homoglyphs", plain, seed=1), edit_text("zero-width characters", plain, seed=1)]
    assert len(set(texts)) == 3
    for backend in ("torch", "onnx"):
        with Classifier.load(tmp_path / "bundle", backend=backend, threads=1) as classifier:
            first, *others = classifier.probabilities(texts).tolist()
            assert others == [first, first]
    assert cli.main(["verify", str(tmp_path / "bundle"), "--threads", "1"]) == 0


def test_both_ways_to_choose_what_an_epoch_sees_are_refused_together(table_path, capsys):
    assert cli.main(["train", "--data-path", str(table_path), "--negatives", "0.5", "--balanced-sampler"]) == 2
    assert "leave one of them out" in capsys.readouterr().err


def test_the_recipe_is_accepted_by_train():
    flags = {"config": ROOT / "configs" / "compact-en.toml", "data_path": Path("train.csv")}
    config = merge(TrainConfig, flags)
    assert config.model.fold_disguises
    assert str(config.data.extra_train_path) == "runs/counterparts.csv"


def test_the_name_of_a_group_says_nothing_about_its_sentences(tmp_path):
    target = tmp_path / "counterparts.csv"
    command = [sys.executable, ROOT / "examples" / "counterparts.py", target]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    table = load_english_only(target)
    assert table.attrs["labels"] == JIGSAW_LABELS
    assert (table["toxic"] >= table[list(JIGSAW_LABELS)].max(axis=1)).all(), "whatever has a label is toxic"
    frame = pd.read_csv(target)
    assert len(frame) == len(table)
    shares = {}
    for group in ("muslim", "lesbian", "deaf", "white", "homosexual", "refugee"):
        rows = frame[frame["comment_text"].str.contains(rf"(?i)\b{group}", regex=True)]
        assert len(rows) > 50
        shares[group] = rows["toxic"].mean()
    assert max(shares.values()) - min(shares.values()) < 0.08, shares
