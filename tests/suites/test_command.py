"""`moderation evaluate BUNDLE --suite ...` on a real bundle: tables, files, faults, and no torch."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from moderation import Classifier, cli
from moderation.bundles import read_bundle, write_manifest
from moderation.config import EvaluateConfig
from moderation.data.options import SplitOptions
from moderation.data.splits import load_splits
from moderation.evaluation.metrics import eval_with_thresholds
from moderation.options import build
from moderation.suites.registry import KINDS

ROOT = Path(__file__).parents[2]


def words_for(suites: dict[str, Path]) -> list[str]:
    return [f"{kind}={path}" for kind, path in suites.items()]


def test_every_suite_of_a_real_bundle(tiny_bundle, suites, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    words = ["evaluate", str(tiny_bundle), "--suite", *words_for(suites), "--bootstrap", "10", "--threads", "1"]
    assert cli.main([*words, "--output-dir", str(out)]) == 0
    said = capsys.readouterr()
    assert "Loading PyTorch" not in said.err
    assert said.out.splitlines()[0].startswith("suite ")
    content = json.loads((out / "suites.json").read_text(encoding="utf-8"))
    assert set(content["suites"]) == set(KINDS)
    assert content["model_version"].endswith("/onnx-int8")
    assert (out / "suites.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert said.out.rstrip().splitlines()[-2:] == [str(out / "suites.json"), str(out / "suites.html")]


def test_the_training_table_is_measured_on_its_test_split(tiny_bundle, table_path, tmp_path, capsys) -> None:
    words = ["evaluate", str(tiny_bundle), "--suite", f"jigsaw={table_path}", "--bootstrap", "0", "--threads", "1"]
    assert cli.main([*words, "--backend", "onnx", "--json", str(tmp_path / "a.json")]) == 0
    ours = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["suites"]["jigsaw"]["numbers"]
    splits = load_splits(SplitOptions(data_path=table_path))
    with Classifier.load(tiny_bundle, backend="onnx", threads=1) as classifier:
        probabilities = classifier.probabilities(splits.frames["test"]["comment_text"].tolist())
        expected = eval_with_thresholds(
            probabilities, splits.targets("test"), splits.labels, classifier.thresholds, bootstrap=0
        )
    assert ours["n_examples"] == expected["n_examples"] == 60
    assert ours["macro"] == pytest.approx(expected["macro"])


def test_a_table_of_texts_that_the_model_has_seen_is_reported(
    tiny_bundle, table_path, tmp_path, capsys, caplog
) -> None:
    """Also in another format, in part and in another order, where the file's hash says nothing."""
    seen = load_splits(SplitOptions(data_path=table_path)).frames["train"].sample(50, random_state=1)
    fresh = seen.head(20).assign(comment_text=[f"nobody wrote this {row}" for row in range(20)])
    path = tmp_path / "mixed.parquet"
    pd.concat([fresh, seen]).to_parquet(path)
    words = ["evaluate", str(tiny_bundle), "--suite", f"ours:jigsaw={path}", "--bootstrap", "0", "--threads", "1"]
    assert cli.main([*words, "--json", str(tmp_path / "a.json")]) == 0
    note = "50 of the 70 texts were in the training data, which makes the figures too good."
    said = capsys.readouterr()
    assert f"ours: {note}" in caplog.text
    assert note in said.out
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["suites"]["ours"]["notes"] == [note]
    load_splits(SplitOptions(data_path=table_path)).frames["test"].to_csv(tmp_path / "test.csv", index=False)
    words[3] = f"ours:jigsaw={tmp_path / 'test.csv'}"
    caplog.clear()
    assert cli.main(words) == 0
    assert "in the training data" not in capsys.readouterr().out + caplog.text


def test_a_bundle_is_measured_without_torch(tiny_bundle, suites) -> None:
    words = ["evaluate", str(tiny_bundle), "--suite", *words_for(suites), "--bootstrap", "0", "--threads", "1"]
    code = f"""
import sys
from moderation import cli
assert cli.main({words!r}) == 0
assert not [name for name in ("torch", "transformers", "datasets") if name in sys.modules]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ("BUNDLE", 2, "--suite is missing"),
        ("BUNDLE --suite cases.csv", 2, "expected KIND=PATH"),
        ("BUNDLE --suite mine:hatechek=a.csv", 2, "unknown kind 'hatechek'"),
        ("BUNDLE --suite surge=none.csv", 1, "suite surge: none.csv: no such file"),
        ("none --suite surge=SURGE", 1, "none: no such folder; expected a bundle"),
        ("BUNDLE --suite hatecheck=SURGE", 1, "no column 'functionality', 'test_case', 'label_gold', 'target_ident'"),
        (
            "BUNDLE --suite surge=SURGE --checkpoint a.pt --batch-size 8",
            2,
            "--checkpoint, --batch-size: not for a bundle",
        ),
        ("BUNDLE --suite surge=SURGE --max-texts 0 --seed -1", 2, "--max-texts is 0, expected 1 or more"),
        ("--json j.json", 2, "--json: only for a bundle; also name a suite"),
        ("--checkpoint a.pt --split val --delimiter ;", 2, "--delimiter: no effect without --data-path"),
        ("--checkpoint a.pt --suite surge=SURGE", 2, "--suite: only for a bundle; leave --checkpoint out"),
        ("--checkpoint a.pt --max-texts 5", 2, "--max-texts: only for a bundle"),
    ],
)
def test_a_problem_is_named(words, code, complaint, tiny_bundle, suites, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"BUNDLE": str(tiny_bundle), "SURGE": str(suites["surge"])}
    given = words
    for name, path in places.items():
        given = given.replace(name, path)
    assert cli.main(["evaluate", *given.split()]) == code
    said = capsys.readouterr()
    assert complaint in said.err
    assert not said.out


def test_without_a_bundle_the_included_model_is_measured(suites, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", "--suite", f"surge={suites['surge']}", "--bootstrap", "0"]) == 0
    assert "compact-en@" in capsys.readouterr().out


def test_suites_may_be_in_one_flag_or_several_or_in_a_file(tmp_path) -> None:
    parser = cli.build_parser()
    together = vars(parser.parse_args(["evaluate", "b", "--suite", "a=1", "c=2"]))
    apart = vars(parser.parse_args(["evaluate", "b", "--suite", "a=1", "--suite", "c=2"]))
    assert together["suite"] == apart["suite"] == ("a=1", "c=2")
    settings = tmp_path / "suites.toml"
    settings.write_text('bundle = "b"\nsuite = ["a=1", "c=2"]\n', encoding="utf-8")
    flags = vars(parser.parse_args(["evaluate", "--config", str(settings)]))
    flags.pop("verb")
    assert cli.merge(EvaluateConfig, flags) == build(EvaluateConfig, {"bundle": Path("b"), "suite": ("a=1", "c=2")})


def test_a_table_is_read_in_the_languages_of_the_bundle(tiny_bundle, table, tmp_path) -> None:
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    bundle = write_manifest(folder, replace(read_bundle(folder), languages=("de",)))
    own = table.head(60).assign(lang=["de", "en", "en"] * 20)
    own["comment_text"] += " oder so"
    own.to_csv(tmp_path / "own.csv", index=False)
    words = ["evaluate", str(bundle.path), "--suite", f"jigsaw={tmp_path / 'own.csv'}", "--bootstrap", "0"]
    assert cli.main([*words, "--threads", "1", "--backend", "onnx", "--json", str(tmp_path / "a.json")]) == 0
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["suites"]["jigsaw"]["numbers"]
    assert found["n_examples"] == 20
