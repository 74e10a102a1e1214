"""moderation feedback export: the newest decision about each text, as a table in any format, and what is left out."""

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from moderation import cli
from moderation.data.cleaning import load_english_only
from moderation.serving.feedback.decisions import Decision
from moderation.serving.feedback.store import FeedbackStore
from tests.attack_table import Attack

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
    assert "3 texts with toxic, rude; left out: 1 whose text was not stored, 1 without a decision" in said
    assert said.rstrip().endswith(str(path))


def test_only_the_requested_labels_are_written(url: str, tmp_path: Path) -> None:
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
        ("-o taken.csv", 1, "taken.csv: already exists"),
    ],
)
def test_impossible_requests_are_reported(
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


def test_if_no_text_has_all_labels_the_counts_show_which_to_choose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = fill(tmp_path / "f.db", ("one", {"toxic": 1.0}, True), ("two", {"rude": 1.0}, True))
    assert cli.main(["feedback", "export", "--feedback-url", url, "-o", str(tmp_path / "t.csv")]) == 1
    said = capsys.readouterr().err
    assert "nothing to export" in said
    assert "toxic         1 texts" in said
    assert not (tmp_path / "t.csv").exists()


def store(path: Path, *decisions: tuple[str, dict[str, float], str | None, str | None]) -> str:
    """Text, scores, community, token."""
    url = f"sqlite:///{path}"
    with closing(FeedbackStore(url)) as it:
        for text, scores, community, token in decisions:
            named = {"community_id": community, "client_token": token}
            it.add(Decision(text, True, scores, scores, ("en",), "m", **named))
    return url


def export(url: str, path: Path) -> dict[str, tuple[int, ...]]:
    assert cli.main(["feedback", "export", "--feedback-url", url, "-o", str(path)]) == 0
    with path.open(newline="", encoding="utf-8") as file:
        return {text: tuple(map(int, values)) for text, *values in list(csv.reader(file))[1:]}


def test_a_decision_that_is_sent_again_replaces_the_earlier_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = store(
        tmp_path / "f.db",
        ("again", {"toxic": 1.0}, "forum", "t-1"),
        ("other", {"toxic": 1.0}, "forum", "t-1"),  # a token that is used for all is no decision sent again
        ("again", {"toxic": 0.0}, "forum", "t-1"),
    )
    assert export(url, tmp_path / "t.csv") == {"again": (0,), "other": (1,)}
    assert "conflicts" not in capsys.readouterr().out
    with closing(FeedbackStore(url)) as it:
        assert len(list(it.decisions())) == 3, "both are kept"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("forum", "t-1"), ("forum", "t-2")),
        (("forum", "t-1"), ("game", "t-1")),
        (("forum", None), ("forum", None)),
        ((None, "t-1"), (None, None)),
    ],
)
def test_disagreements_are_counted_and_reported(
    first: tuple[str | None, str | None],
    second: tuple[str | None, str | None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = store(
        tmp_path / "f.db",
        ("disputed", {"toxic": 1.0, "rude": 1.0}, *first),
        ("agreed", {"toxic": 1.0, "rude": 0.0}, *first),
        ("disputed", {"toxic": 0.4}, *second),
        ("agreed", {"toxic": 0.6}, *second),
    )
    assert export(url, tmp_path / "t.csv") == {"disputed": (0, 1), "agreed": (1, 0)}
    assert "conflicts: 1 texts" in capsys.readouterr().out


def test_a_withdrawn_decision_is_not_a_conflict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = store(
        tmp_path / "f.db",
        ("text", {"toxic": 1.0}, "forum", "ann"),
        ("text", {"toxic": 0.0}, "forum", "bob"),
        ("text", {"toxic": 0.0}, "forum", "ann"),
    )
    assert export(url, tmp_path / "t.csv") == {"text": (0,)}
    assert "conflicts" not in capsys.readouterr().out


ROWS: dict[str, tuple[str, object]] = {
    "no JSON": ("label_scores", "{"),
    "a list": ("label_scores", "[1]"),
    "a number": ("label_scores", "7"),
    "null": ("label_scores", "null"),
    "a number of SQLite": ("label_scores", 7),
    "bytes": ("label_scores", b"\xff\xfe{"),
    "deep": ("label_scores", "[" * 100_000),
    "a word as score": ("label_scores", '{"toxic": "1"}'),
    "true": ("label_scores", '{"toxic": true}'),
    "NaN": ("label_scores", '{"toxic": NaN}'),
    "too large": ("label_scores", '{"toxic": 1e999}'),
    "digits": ("label_scores", '{"toxic": ' + "9" * 5000 + "}"),
    "negative": ("label_scores", '{"toxic": -0.1}'),
    "a label of no text": ("label_scores", '{"": 1}'),
    "an escape code": ("label_scores", '{"\\u001b[2J": 1}'),
    "half a pair": ("label_scores", '{"\\ud800": 1}'),
    "no bytes of UTF-8": ("label_scores", "CAST(x'7b22fffe223a317d' AS TEXT)"),
    "text is no JSON": ("text", "one"),
    "text is another": ("text", '"another"'),
    "text is a list": ("text", '["one"]'),
    "text is half a pair": ("text", '"\\ud800"'),
    "hash is a number": ("text_sha256", 7),
    "hash is none": ("text_sha256", ""),
    "community is bytes": ("community_id", b"\xff"),
    "token is bytes": ("client_token", b"\xff"),
}


@pytest.mark.hostile("feedback: a database of somebody else's")
def test_a_column_that_computes_endless_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The database makes it when it is read: 100 bytes of a file become gigabytes."""
    columns = "id integer primary key, received_at, community_id, client_token, text_sha256, label_scores"
    with closing(sqlite3.connect(tmp_path / "f.db")) as database, database:
        database.execute(f"CREATE TABLE feedback ({columns}, text AS (hex(zeroblob(400000000))) VIRTUAL)")
        database.execute("INSERT INTO feedback (id, text_sha256, label_scores) VALUES (1, 'x', '{}')")
    url = f"sqlite:///{tmp_path / 'f.db'}"
    assert cli.main(["feedback", "export", "--feedback-url", url, "-o", str(tmp_path / "t.csv")]) == 1
    assert "SQLITE_TOOBIG" in capsys.readouterr().err


@pytest.mark.hostile("feedback: a database of somebody else's")
def test_more_labels_than_a_model_may_have_are_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = fill(tmp_path / "f.db", ("text", {f"label {n}": 1.0 for n in range(20_000)}, True))
    words = ["feedback", "export", "--feedback-url", url, "-o", str(tmp_path / "t.csv")]
    assert cli.main(words) == 1
    said = capsys.readouterr().err
    assert "20,000 different labels; expected 1,000 at most" in said and len(said) < 500
    assert cli.main([*words, "--label-columns", "label 7"]) == 0


@pytest.mark.hostile("feedback: odd rows")
def test_rows_that_the_server_did_not_write_are_left_out_and_counted(
    tmp_path: Path, attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    url = fill(tmp_path / "f.db", ("good", {"toxic": 1.0}, True), *[("one", {"toxic": 0.0}, True)] * len(ROWS))
    with closing(sqlite3.connect(tmp_path / "f.db")) as database:
        for id, (column, value) in enumerate(ROWS.values(), start=2):
            raw = isinstance(value, str) and value.startswith("CAST(")
            words = f"UPDATE feedback SET {column} = {value if raw else '?'} WHERE id = {id}"
            database.execute(words, () if raw else (value,))
        database.commit()
    assert export(url, tmp_path / "t.csv") == {"good": (1,)}
    assert (
        f"left out: {len(ROWS)} rows that the server did not write in this form (id 2, 3, 4," in capsys.readouterr().out
    )
    attack.tried(len(ROWS))


def test_a_label_named_as_the_text_column_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = fill(tmp_path / "f.db", ("one", {"comment_text": 1.0, "toxic": 1.0}, True))
    words = ["feedback", "export", "--feedback-url", url, "-o", str(tmp_path / "t.csv")]
    assert cli.main(words) == 1
    assert "a label has the name of the text column, comment_text" in capsys.readouterr().err
    assert cli.main([*words, "--label-columns", "toxic"]) == 0
