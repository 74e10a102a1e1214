"""A table in several languages, from training to a bundle: fitted, decided and measured by the language recognised."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moderation import Classifier, cli
from moderation.bundles import read_bundle
from moderation.evaluation.language_calibration import load_tunings

pytest.importorskip("onnxruntime")

FRAMES = {
    "en": "I think that the {} article about this is {}",
    "de": "Ich finde diesen Beitrag wirklich {} {}",
    "tr": "Bu güzel haber için çok teşekkürler dostlar {} {}",
}
WORDS = {True: "stupid idiot", False: "kind bread"}  # which the tiny vocabulary has


def make_table(path: Path, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = []
    for code, frame in FRAMES.items():
        for number in range(n):
            bad = bool(rng.random() < 0.3)
            right = rng.random() < (0.9 if code == "en" else 0.7)  # the model is surer than it should be elsewhere
            word = WORDS[bad if right else not bad]
            text = frame.format(word, f"{seed}{number}")
            rows.append(
                {"comment_text": text, "lang": code, "toxic": int(bad), "insult": int(bad) if code == "en" else ""}
            )
    pd.DataFrame(rows).to_csv(path, index=False)


def test_a_run_in_three_languages(tiny_backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, n in (("train", 60), ("val", 320), ("test", 40)):
        make_table(tmp_path / f"{name}.csv", n, seed=len(name))
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    tables = [
        f"--{'data' if name == 'train' else name}-path={tmp_path / f'{name}.csv'}" for name in ("train", "val", "test")
    ]
    settings = "--languages any --partial-labels --max-length 64 --epochs 2 --batch-size 16 --lr 5e-3"
    settings += " --bootstrap 0 --threads 1"
    words = ["train", *tables, "--backbone", str(tiny_backbone), "--output-dir", str(run), *settings.split()]
    assert cli.main(words) == 0
    tunings = load_tunings(run / "calibration.json", run / "thresholds.json", ("toxic", "insult"))
    assert set(tunings.by_language) == {"de", "en", "tr"}
    assert tunings.of("tr").thresholds[1] == tunings.general.thresholds[1], "nobody asked about insults there"
    known = json.loads((run / "labels_val.json").read_text())["languages"]
    assert pd.Series(known).value_counts().to_dict() == {"en": 320, "de": 320, "tr": 320}

    metrics = json.loads((run / "metrics_test.json").read_text())
    assert set(metrics["languages"]) == {"de", "en", "tr"}
    test = pd.read_csv(tmp_path / "test.csv")
    with Classifier.load(run, threads=1) as classifier:
        results = classifier.classify(test["comment_text"].tolist())
    turkish = [
        (result, truth)
        for result, truth, code in zip(results, test["toxic"], test["lang"], strict=True)
        if code == "tr"
    ]
    hits = [("toxic" in result.flagged) for result, truth in turkish if truth]
    assert metrics["languages"]["tr"]["toxic"]["recall"] == pytest.approx(np.mean(hits))
    assert turkish[0][0].thresholds["toxic"] == tunings.of("tr").thresholds[0]

    capsys.readouterr()
    assert (
        cli.main(
            ["tune", "--preds", str(run / "preds_val.npy"), "--labels", str(run / "labels_val.npy"), "--bootstrap", "0"]
        )
        == 0
    )
    assert "\ntr\n" in capsys.readouterr().out
    export = ["export", str(run), "--to", str(bundle), "--formats", "onnx", "--parity-texts", "60", "--threads", "1"]
    assert cli.main(export) == 0
    sealed = read_bundle(bundle)
    assert sealed.tunings == tunings
    assert set(sealed.languages) == {"de", "en", "tr"}
    assert sealed.records["metrics"].keys() == {"val", "test"}
    assert "| tr | toxic |" in (bundle / "README.md").read_text()
    with Classifier.load(bundle, threads=1) as classifier:
        assert [result.flagged for result in classifier.classify(test["comment_text"].tolist())] == [
            r.flagged for r in results
        ]
