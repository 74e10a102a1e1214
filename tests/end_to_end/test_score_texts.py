"""`moderation score` beyond files: one text, a text in the place of a file, thresholds that are set, the clock."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from moderation import Classifier
from moderation.scoring import jobs
from moderation.scoring import run as file_scoring
from moderation.scoring.options import ScoreOptions
from moderation.scoring.summary import ScoreSummary
from tests.end_to_end.test_score import ROOT, SECRET, run, start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes of POSIX")


@pytest.mark.parametrize(
    "words",
    [
        [f"{SECRET} person"],
        [f"{SECRET} person", "-o", "{dir}/o.jsonl"],
        [f"{SECRET}. " * 2000],
        [SECRET, "is", "not", "quoted"],
        ["in.csv", SECRET],
        [f"{SECRET}\nof two lines", "-o", "-"],
        ["--text", SECRET, SECRET],
        [f"{SECRET}/with/slashes", "--output", "{dir}/o.csv"],
    ],
    ids=lambda words: str(len(words)) + words[0][-8:].strip(),
)
def test_a_text_given_as_a_file_gets_the_cure_and_is_not_quoted(words, tmp_path):
    code, out, err = run("score", *(word.replace("{dir}", str(tmp_path)) for word in words))  # which looks for SECRET
    assert (code, out) == (2, "")
    assert "--text" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["you are an idiot", "", "--żółć 🙂\rb"])
def test_one_text_gives_the_line_that_the_pipe_gives(text, tmp_path):
    alone, process = start("score", f"--text={text}"), start("score", "-", stdin=subprocess.PIPE)
    piped, _ = process.communicate(text + "\n", timeout=60)
    out, err = alone.communicate(timeout=60)
    assert (alone.returncode, out) == (process.returncode, piped)
    assert alone.returncode == (0 if text else 3)
    assert "thresholds: the bundle's" in err


@pytest.mark.parametrize("content", [b"caf\xe9 \xff", b"\xed\xa0\xbd half a pair"])
def test_one_text_that_is_not_utf8_is_an_error_of_its_row(content):
    given = subprocess.run(
        [sys.executable.encode(), b"-m", b"moderation", b"score", b"--text=" + content],
        capture_output=True, cwd=ROOT, timeout=60, check=False,
    )  # fmt: skip
    assert given.returncode == 3
    assert json.loads(given.stdout)["error"] == "not UTF-8"


def test_one_text_of_several_lines_is_one_row_and_may_go_into_a_file(tmp_path):
    code, out, _ = run("score", "--text", "two\nlines", "--output", tmp_path / "o.parquet", "--flag-columns")
    assert code == 0, out
    (row,) = pq.read_table(tmp_path / "o.parquet").to_pylist()
    assert row["text"] == "two\nlines"
    assert row["flag_toxic"] is False
    about = json.loads(pq.read_metadata(tmp_path / "o.parquet").metadata[b"content-moderation"])
    assert (about["rows"], about["input"]["sha256"], about["settings"]["flag_columns"]) == (1, None, True)


def test_set_thresholds_decide_and_are_reported(tmp_path):
    (tmp_path / "in.csv").write_text("comment_text\nyou are an idiot\n", encoding="utf-8")
    (tmp_path / "t.json").write_text('{"toxic": 0.9999, "insult": 0.9999}', encoding="utf-8")
    words = ["score", tmp_path / "in.csv", "-o", tmp_path / "o.jsonl", "--thresholds", tmp_path / "t.json"]
    code, out, err = run(*words, "--threshold", "obscene=0.99", "insult=0.5")
    assert code == 0, err
    assert "thresholds: set (toxic 0.9999, obscene 0.99, insult 0.5; all others as in the bundle)" in out
    assert json.loads((tmp_path / "o.jsonl").read_text(encoding="utf-8"))["flagged"] == ["insult"]
    about = json.loads((tmp_path / "o.jsonl.meta.json").read_text(encoding="utf-8"))
    assert (about["thresholds_from"], about["thresholds"]["toxic"]) == ("set", 0.9999)
    code, _, err = run(*words[:2], "-o", "-", "--threshold", "toxic=1.5")
    assert (code, "above 0" in err) == (2, True)


def test_without_a_terminal_log_lines_show_the_progress(tmp_path, caplog, monkeypatch):
    (tmp_path / "in.csv").write_text("comment_text\n" + "have a nice day\n" * 400, encoding="utf-8")
    seconds = iter(range(0, 10**9, 20))
    config = ScoreOptions(input_path=tmp_path / "in.csv", output=tmp_path / "o.csv", chunk_rows=50)
    caplog.set_level("INFO")
    with Classifier.load(threads=1) as classifier:
        summary = ScoreSummary(classifier.labels)
        file_scoring.score_file(jobs.Job(config, classifier, None, summary, config.output, lambda: next(seconds)))
    lines = [record.getMessage() for record in caplog.records if "rows/s" in record.getMessage()]
    assert lines
    assert all("of about 400 rows" in line or "left" in line for line in lines)
    assert (summary.n_rows, summary.n_new) == (400, 400)


def test_a_part_ends_when_it_has_taken_long_enough(tmp_path, monkeypatch):
    """By a clock on which every step takes long, each step is a part of its own; the bytes are the same."""
    (tmp_path / "in.csv").write_text("comment_text\n" + "have a nice day\n" * 400, encoding="utf-8")
    written = []
    with Classifier.load(threads=1) as classifier:
        for name, tick in (("slow", 10.0), ("quick", 0.0)):
            now = iter(tick * number for number in range(10**9))
            config = ScoreOptions(input_path=tmp_path / "in.csv", output=tmp_path / f"{name}.parquet")
            summary = ScoreSummary(classifier.labels)
            job = jobs.Job(config, classifier, None, summary, config.output, lambda now=now: next(now))
            sizes = []
            with monkeypatch.context() as watched:
                write = file_scoring.Parts.write

                def watch(self, first, batches, sizes=sizes, write=write):
                    sizes.append((first, sum(batch.num_rows for batch in batches)))
                    return write(self, first, batches)

                watched.setattr(file_scoring.Parts, "write", watch)
                file_scoring.score_file(job)
            written.append((sizes, (tmp_path / f"{name}.parquet").read_bytes()))
    (slow, slow_bytes), (quick, quick_bytes) = written
    assert quick == [(0, 400)]
    assert len(slow) > 4
    assert [first for first, _ in slow] == [sum(n for _, n in slow[:place]) for place in range(len(slow))]
    assert slow_bytes == quick_bytes
