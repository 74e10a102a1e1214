"""One unclosed quote in a table, and what else people's tables hold, by every verb that reads one."""

import csv
import gzip
from pathlib import Path

import pandas as pd
import pytest

from moderation import cli

pytestmark = pytest.mark.usefixtures("unpainted")

HEAD = "id,comment_text,toxic\n"


def rows(first: int, last: int) -> str:
    return "".join(f"{n},ordinary remark number {n},{n % 2}\n" for n in range(first, last + 1))


TABLE = HEAD + rows(1, 4) + '5,"lol never closed,1\n' + rows(6, 59) + '60,he "quoted" me,0\n' + rows(61, 64)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def test_score_names_the_row_and_scores_the_others(broken: Path, tiny_bundle: Path, tmp_path: Path, capsys) -> None:
    words = ["score", str(broken), "-m", str(tiny_bundle), "--backend", "onnx", "-o", str(tmp_path / "o.csv")]
    assert cli.main(words) == 3
    shown = capsys.readouterr().out
    assert "64 rows" in shown
    assert "1 a quote is opened and never closed" in shown
    assert "--quoting none: row 5" in shown
    with (tmp_path / "o.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["id"] for row in found] == [str(n) for n in range(1, 65)]
    assert [bool(row["error"]) for row in found] == [n == 5 for n in range(1, 65)]
    assert cli.main([*words, "--overwrite", "--quoting", "none"]) == 0
    assert pd.read_csv(tmp_path / "o.csv")["comment_text"][4] == '"lol never closed'


def test_check_train_evaluate_and_suites_refuse_and_name_the_row(
    broken: Path, tiny_run: Path, tiny_bundle: Path, tiny_backbone: Path, capsys
) -> None:
    packed = broken.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(broken.read_bytes()))
    for words in (
        ["check", str(broken)],
        ["check", str(packed)],
        ["train", "--data-path", str(broken), "--backbone", str(tiny_backbone), "--dry-run"],
        ["evaluate", "--checkpoint", str(tiny_run / "checkpoint_best.pt"), "--data-path", str(broken)],
        ["evaluate", str(tiny_bundle), "--suite", f"jigsaw={broken}"],
        ["evaluate", str(tiny_bundle), "--suite", f"mine={broken}"],
    ):
        assert cli.main(words) == 1, words
        said = capsys.readouterr()
        assert "a quote is opened and never closed" in said.err
        assert "rows: 5 (" in said.err
        assert "--quoting none" in said.err
        assert "rows used" not in said.err + said.out
    assert cli.main(["check", str(broken), "--quoting", "none"]) == 0


@pytest.mark.usefixtures("short_texts")
def test_a_table_with_unusual_columns_is_trained_on_and_rebuilt(
    table: pd.DataFrame, tiny_backbone: Path, tmp_path: Path, capsys
) -> None:
    """Backslashes, semicolons, a text column `Tweet` and all labels in one column: train, evaluate, export alike."""
    names = ("toxic", "insult")
    cells = ["|".join(name for name in names if row[name]) or "none" for _, row in table.iterrows()]
    path = tmp_path / "tweets.csv"
    frame = pd.DataFrame({"Tweet": 'he said "x"; ' + table["comment_text"], "labels": cells})
    frame.to_csv(path, index=False, sep=";", escapechar="\\", doublequote=False)
    run = tmp_path / "run"
    words = f"train --data-path {path} --backbone {tiny_backbone} --output-dir {run} --threads 1 --max-length 32"
    form = ["--delimiter", ";", "--escape", "\\", "--labels-in", "labels"]
    assert cli.main([*words.split(), *form, "--epochs", "1", "--batch-size", "16", "--bootstrap", "0"]) == 0
    checkpoint = ["evaluate", "--checkpoint", str(run / "checkpoint_best.pt"), "--bootstrap", "0"]
    assert cli.main(checkpoint) == 0
    assert cli.main([*checkpoint, "--data-path", str(path)]) == 0
    other = tmp_path / "other.csv"
    plain = pd.DataFrame({"text": table["comment_text"], "rude": table["toxic"] > 0, "mean": table["insult"] > 0})
    plain.to_csv(other, index=False)
    flags = ["--label-format", "columns", "--label-columns", "rude,mean", "--delimiter", ",", "--text-column", "text"]
    assert cli.main([*checkpoint, "--data-path", str(other), *flags]) == 0
    assert cli.main([*checkpoint, "--data-path", str(other), *flags[:2], "--label-columns", "rude"]) == 2
    assert "expected 2, one per label" in capsys.readouterr().err
    pytest.importorskip("onnxruntime")
    words = f"export {run} --to {tmp_path / 'bundle'} --formats hf,onnx --threads 1 --parity-texts 20"
    assert cli.main(words.split()) == 0


def test_your_own_table_gets_no_published_figures(tiny_bundle: Path, table_path: Path, tmp_path: Path, capsys) -> None:
    own = tmp_path / "own.csv"
    pd.read_csv(table_path).head(200).to_csv(own, index=False)
    words = ["evaluate", str(tiny_bundle), "--bootstrap", "0", "--backend", "onnx"]
    assert cli.main([*words, "--suite", f"mine:jigsaw={own}"]) == 0
    shown = capsys.readouterr().out
    assert "Detoxify" not in shown and "challenge" not in shown
    pd.read_csv(own).assign(id=[f"{n:016x}" for n in range(200)]).to_csv(own, index=False)
    assert cli.main([*words, "--suite", f"mine:jigsaw={own}"]) == 0
    shown = capsys.readouterr().out
    assert "Detoxify" in shown and "not comparable" in shown
