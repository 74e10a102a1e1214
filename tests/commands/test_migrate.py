"""`moderation migrate` from end to end with the included model: known relations, thresholds, errors."""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moderation import Classifier, cli
from moderation.inference.routing import Reading

SECRET = "you are an absolute walnut and an idiot"


def with_old_scores(texts: list[str]) -> pd.DataFrame:
    """Comments with old scores that rise with this model's probabilities, and one that holds nothing."""
    with Classifier.load() as classifier:
        probabilities = classifier.probabilities(texts).astype(float)
        labels = classifier.labels
    return pd.DataFrame(
        {
            "comment_text": [*texts, " "],
            "TOXICITY": [*np.sqrt(probabilities[:, labels.index("toxic")]), 0.5],
            "Insult": [*(0.1 + 0.8 * probabilities[:, labels.index("insult")]), 0.5],
            "FLIRTATION": [*np.linspace(0, 1, len(texts)), 0.5],
        }
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Some comments with old scores."""
    texts = [f"you are a{' very' * (i % 7)} {word}" for i, word in enumerate(["idiot", "friend", "fool", "baker"] * 10)]
    texts[7] = SECRET
    path = tmp_path_factory.mktemp("migrate") / "old.csv"
    with_old_scores(texts).to_csv(path, index=False)
    return path


def run(*words: object) -> int:
    return cli.main(["migrate", *map(str, words), "--bootstrap", "50"])


def test_known_thresholds_are_found_and_accepted_by_the_classifier(table, tmp_path, capsys, caplog) -> None:
    caplog.set_level("INFO")
    folder = tmp_path / "out"
    assert run(table, "-o", folder, "--old-threshold", "0.8", "insult=0.5") == 0
    numbers = json.loads((folder / "migration.json").read_text())
    assert numbers["thresholds_sha256"] == hashlib.sha256((folder / "thresholds.json").read_bytes()).hexdigest()
    found = {one["name"]: one["by_rate"] for one in numbers["attributes"]}
    for name, truth in (("TOXICITY", 0.8**2), ("INSULT", 0.5)):
        assert found[name]["interval"][0] <= truth <= found[name]["interval"][1]
        assert found[name]["kappa"] == 1
    with Classifier.load(thresholds=folder / "thresholds.json") as classifier:
        assert classifier.thresholds_by_label["toxic"] == found["TOXICITY"]["threshold"]
        assert classifier.thresholds_by_label["obscene"] == 1
        assert classifier.thresholds_from == "set"
        flagged = sum(bool(one.flagged) for one in classifier.classify(pd.read_csv(table).comment_text[:40].tolist()))
    assert flagged == numbers["together"]["n_new"], "what is printed is what will be flagged"
    printed = capsys.readouterr().out
    assert "so turned off (threshold 1): severe_toxic, obscene, threat, identity_hate" in printed
    assert "Note: INSULT: only" in printed
    assert "languages" not in printed
    assert "FLIRTATION: the model has no label for it" in caplog.text
    assert "1 of 41 rows left out" in caplog.text
    page = (folder / "report.html").read_text()
    assert "data:image/png;base64," in page
    for said in (printed, page, json.dumps(numbers), caplog.text):
        assert "walnut" not in said


@pytest.mark.slow
def test_known_thresholds_are_found_on_5000_real_comments(shared: Path, tmp_path) -> None:
    comments = pd.read_parquet(shared / "data/jigsaw/train.parquet", columns=["comment_text"])["comment_text"]
    with_old_scores(comments.head(5000).tolist()).to_parquet(tmp_path / "old.parquet")
    assert run(tmp_path / "old.parquet", "-o", tmp_path / "out", "--old-threshold", "0.8", "insult=0.5") == 0
    numbers = json.loads((tmp_path / "out/migration.json").read_text())
    found = {one["name"]: one["by_rate"] for one in numbers["attributes"]}
    for name, truth in (("TOXICITY", 0.8**2), ("INSULT", 0.5)):
        low, high = found[name]["interval"]
        assert low <= truth <= high, (name, found[name])


def test_labels_without_old_scores_may_keep_their_thresholds(table, tmp_path, capsys) -> None:
    words = ("-o", tmp_path / "out", "--old-threshold", "0.8", "insult=0.5", "--others", "bundle")
    assert run(table, *words) == 0
    assert "with the bundle's threshold: severe_toxic" in capsys.readouterr().out
    with Classifier.load() as shipped, Classifier.load(thresholds=tmp_path / "out/thresholds.json") as classifier:
        assert classifier.thresholds_by_label["obscene"] == shipped.thresholds_by_label["obscene"]


def test_comments_without_an_old_score_do_not_count_as_agreement(table, tmp_path, capsys) -> None:
    frame = pd.read_csv(table)[["comment_text", "TOXICITY"]]
    frame.loc[frame.index % 4 > 1, "TOXICITY"] = None
    frame.to_csv(tmp_path / "half.csv", index=False)
    assert run(tmp_path / "half.csv", "-o", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "of 20 before" in printed
    assert "20 of 40 comments have no old score" in printed


def test_texts_are_shown_on_request(table, tmp_path, capsys) -> None:
    frame = pd.read_csv(table)
    frame.loc[7, "TOXICITY"] = 0.0
    frame.to_csv(tmp_path / "changed.csv", index=False)
    assert run(tmp_path / "changed.csv", "-o", tmp_path / "out", "--match", "agreement", "--show-texts") == 0
    assert "walnut" in capsys.readouterr().out
    assert all(b"walnut" not in path.read_bytes() for path in (tmp_path / "out").iterdir())


def test_comments_in_other_languages_and_low_thresholds_are_reported(tmp_path, capsys) -> None:
    words = (("el vecino", "tu hermano", "mi profesor"), ("no entiende nada de lo que pasa", "merece que lo echen hoy"))
    texts = [f"{who} {what}, {number} veces" for who in words[0] for what in words[1] for number in range(5)]
    scores = [0.9 if "echen" in text else 0.1 for text in texts]
    pd.DataFrame({"body": texts, "TOXICITY": scores}).to_csv(tmp_path / "es.csv", index=False)
    assert run(tmp_path / "es.csv", "-o", tmp_path / "out", "--model", "en") == 0
    printed = capsys.readouterr().out
    assert "Note: 30 of 30 sampled comments are in languages that the model was not trained on (es 30)" in printed
    assert "is very low for this model" in printed
    assert "veces" not in printed


def test_a_share_to_flag_without_old_scores(table, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid", None)
    assert run(table, "-o", tmp_path / "out", "--flag-rate", "0.1", "toxic=0.25", "--model", "en") == 0
    numbers = json.loads((tmp_path / "out" / "migration.json").read_text())
    assert numbers["rates"]["toxic"]["n_flagged"] == 10
    assert numbers["rates"]["insult"]["n_flagged"] == 4
    printed = capsys.readouterr().out
    assert f"flagged for any label: {numbers['together']['n_new']} of 40" in printed
    assert (
        "it was not checked whether the model reads the language" in printed and "pip install '.[migrate]'" in printed
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--old-threshold 80", 2, "expected a number above 0"),
        ("--old-threshold 0.8 0.7", 2, "given more than once"),
        ("--old-threshold TOXIC=0.8", 2, "not an attribute of the Perspective API"),
        ("--old-threshold THREAT=0.8", 2, "no old scores for THREAT"),
        ("--flag-rate 0.1 --match agreement", 2, "no effect with --flag-rate"),
        ("--flag-rate rude=0.1", 2, "not a label of this model"),
        ("--old-threshold 1", 1, "No attribute could be matched"),
    ],
)
def test_impossible_migrations_are_refused_and_nothing_is_written(table, tmp_path, capsys, words, code, said) -> None:
    assert run(table, "-o", tmp_path / "out", *words.split()) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_earlier_migration_is_replaced_only_on_request(table, tmp_path, capsys) -> None:
    assert run(table, "-o", tmp_path) == 0
    assert run(table, "-o", tmp_path) == 1
    assert "--overwrite" in capsys.readouterr().err
    (tmp_path / "migration.json").unlink()
    odd = tmp_path / os.fsdecode(b"caf\xe9.csv")
    odd.write_bytes(table.read_bytes())
    assert run(odd, "-o", tmp_path, "--overwrite") == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Thresholds in place of" in page and r"caf\udce9.csv" in page


@pytest.mark.parametrize("name", ["thresholds.json", "migration.json", "report.html"])
def test_nothing_but_an_earlier_migration_is_replaced(table, tmp_path, capsys, name) -> None:
    """Such as what a training run, or somebody's own hand, has written; or the table, where a link leads to it."""
    kept = table.read_bytes()
    content = {"format": "content-moderation thresholds", "about": {"chosen_by": "moderation train"}, "thresholds": {}}
    for make in (lambda path: path.write_text(json.dumps(content)), lambda path: path.symlink_to(table)):
        (tmp_path / name).unlink(missing_ok=True)
        make(tmp_path / name)
        assert run(table, "-o", tmp_path, "--overwrite") == 1
        said = "leads out of" if (tmp_path / name).is_symlink() else "not written by an earlier migration"
        assert said in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == [name]
    assert table.read_bytes() == kept


def test_a_model_that_answers_no_number_sets_no_threshold(table, tmp_path, capsys, monkeypatch) -> None:
    def nothing(self: Classifier, texts: list[str]) -> Reading:
        return Reading(np.full((len(texts), 6), np.nan, np.float32), np.ones(len(texts), np.int64), [])

    monkeypatch.setattr(Classifier, "read", nothing)
    assert run(table, "-o", tmp_path / "out") == 1
    assert "its answer to 40 of 40 comments is not a number" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
