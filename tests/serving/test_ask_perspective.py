"""The example that keeps Perspective's answers, against this server in its place, and `migrate` on what it kept."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from moderation.migration.old_scores import read_old_scores
from moderation.tables.columns import TEXT_NAMES
from moderation.tables.reading import read_table
from tests.serving.conftest import Server

SCRIPT = Path(__file__).parents[2] / "examples/ask_perspective.py"


def test_answers_are_kept_in_order_and_continued(server: Server, tmp_path: Path) -> None:
    table, answers = tmp_path / "comments.csv", tmp_path / "answers.jsonl"
    long = "x" * 200_000
    table.write_text(f'comment_text,id\n"you stupid\nidiot",1\n,2\n{long},3\n"bello mondo",4\nkind bread,5\n')
    words = [sys.executable, SCRIPT, table, answers, "--host", server.url, "--per-second", "1000"]
    for cut in (None, 2):
        if cut is not None:
            lines = answers.read_text().splitlines(keepends=True)
            answers.write_text("".join(lines[:cut]) + lines[3][:7])  # as an interruption leaves it
        done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"PERSPECTIVE_KEY": "K"})
        assert done.returncode == 0, done.stderr
        found = [json.loads(line) if line else None for line in answers.read_text().split("\n")[:-1]]
        assert [bool(one and "attributeScores" in one) for one in found] == [True, False, False, True, True]
    old = read_old_scores(read_table(table), table, "comment_text", answers)
    assert len(old.texts) == 4
    assert np.isnan(old.scores["TOXICITY"]).tolist() == [False, True, False, False]


def test_a_wrong_key_or_no_network_does_not_count_as_an_answer(
    keyed_server: tuple[Server, str], tmp_path: Path
) -> None:
    """Every row would count as asked, and nobody could ask again."""
    server, key = keyed_server
    table, answers = tmp_path / "comments.csv", tmp_path / "answers.jsonl"
    table.write_text("id,Body\n1\n2,kind bread\n")
    for host, sent in ((server.url, "wrong"), ("http://127.0.0.1:9", key)):
        words = [sys.executable, SCRIPT, table, answers, "--host", host, "--per-second", "10000"]
        done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"PERSPECTIVE_KEY": sent})
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert answers.read_text() == "\n", "the first row has no text; of the second nothing is known"
    words[words.index("http://127.0.0.1:9")] = server.url
    subprocess.run(words, check=True, env=os.environ | {"PERSPECTIVE_KEY": key})
    assert "attributeScores" in answers.read_text().splitlines()[1]


@pytest.mark.parametrize(
    ("columns", "asked", "found"),
    [
        (["id", "comment_text", "body"], None, "comment_text"),
        (["id", "Comment Body"], None, "Comment Body"),
        (["id", "words"], "words", "words"),
        (["id", "body"], "words", None),
        (["id", "body", "text"], None, None),
        (["id"], None, None),
        ([], None, None),
    ],
)
def test_the_column_is_the_one_that_migrate_reads_or_its_cure_is_named(
    columns: list[str], asked: str | None, found: str | None
) -> None:
    example = runpy.run_path(str(SCRIPT))
    assert example["TEXT_NAMES"] == TEXT_NAMES
    find = example["find_text_column"]
    if found is not None:
        assert find(Path("t.csv"), columns, asked) == found
    else:
        with pytest.raises(SystemExit, match=re.escape("--text-column NAME")):
            find(Path("t.csv"), columns, asked)
