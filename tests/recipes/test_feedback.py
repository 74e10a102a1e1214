"""moderation feedback export: the newest decision about each text, as a table in any format, and what is left out."""

from contextlib import closing
from pathlib import Path

import pytest

from moderation import cli
from moderation.data.loading import load_english_only
from moderation.serving.feedback import Decision, FeedbackStore

ODD = 'a "quote", a comma,\r\na line, \N{PILE OF POO}, \u202e and \0'


def fill(path: Path, *decisions: tuple[str, dict[str, float], bool]) -> str:
    url = f"sqlite:///{path}"
    with closing(FeedbackStore(url)) as store:
        for text, scores, keep_text in decisions:
            store.add(Decision(text, keep_text, {name.upper(): scores[name] for name in scores}, scores, ("en",), "m"))
    return url


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Decisions about five texts, of which three have a text and both labels."""
    return fill(
        tmp_path / "feedback.db",
        (ODD, {"toxic": 1.0, "rude": 0.0}, True),
        ("changed", {"toxic": 1.0, "rude": 1.0}, True),
        ("in two steps", {"toxic": 0.49}, True),
        ("never stored", {"toxic": 1.0, "rude": 1.0}, False),
        ("of one label", {"rude": 0.5}, True),
        ("changed", {"toxic": 0.0}, False),
        ("in two steps", {"rude": 0.5}, True),
    )


@pytest.mark.parametrize("name", ["t.csv", "t.tsv.gz", "t.parquet", "t.jsonl.zst", "t.csv.zip"])
def test_the_table_is_one_that_training_reads(
    url: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    assert cli.main(["feedback", "export", "--feedback-url", url, "-o", str(path)]) == 0
    table = load_english_only(path, label_columns=["toxic", "rude"])
    found = {text: (toxic, rude) for text, toxic, rude in table.itertuples(index=False)}
    assert found == {ODD: (1, 0), "changed": (0, 1), "in two steps": (0, 1)}
    said = capsys.readouterr().out
    assert "3 texts with toxic, rude; left out: 1 without their text, 1 about which nothing was said" in said
    assert said.rstrip().endswith(str(path))


def test_labels_are_those_that_were_asked_for(url: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    assert cli.main(["feedback", "export", "--feedback-url", url, "-o", str(path), "--label-columns", "rude"]) == 0
    table = load_english_only(path)
    assert list(table.columns) == ["comment_text", "rude"]
    assert len(table) == 4


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ("", 2, "--output is missing"),
        ("-o t.xlsx", 2, "unknown ending"),
        ("-o t.csv --label-columns funny", 1, "no decision about funny (--label-columns). There are decisions about:"),
        ("-o t.csv --feedback-url sqlite:///gone.db", 1, "sqlite:///gone.db: no such file"),
        ("-o t.csv --feedback-url gone.db", 2, "not the URL of a database"),
        ("-o feedback.db", 2, "unknown ending"),
        ("-o taken.csv", 1, "taken.csv: exists"),
    ],
)
def test_what_cannot_be_is_said(
    url: str,
    words: str,
    code: int,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.csv").write_text("mine", encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    assert cli.main(["feedback", "export", "--feedback-url", url, *words.split()]) == code
    assert complaint in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    assert Path("taken.csv").read_text(encoding="utf-8") == "mine"


def test_where_no_text_has_all_labels_the_counts_say_which_to_choose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = fill(tmp_path / "f.db", ("one", {"toxic": 1.0}, True), ("two", {"rude": 1.0}, True))
    assert cli.main(["feedback", "export", "--feedback-url", url, "-o", str(tmp_path / "t.csv")]) == 1
    said = capsys.readouterr().err
    assert "nothing to export" in said
    assert "toxic         1 texts" in said
    assert not (tmp_path / "t.csv").exists()
