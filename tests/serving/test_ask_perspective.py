"""The example that keeps Perspective's answers, against this server in its place, and `migrate` on what it kept."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from moderation.data.reading import read_table
from moderation.migration.old_scores import read_old_scores
from tests.serving.conftest import Server

SCRIPT = Path(__file__).parents[2] / "examples/ask_perspective.py"


def test_answers_are_kept_in_order_and_gone_on_with(server: Server, tmp_path: Path) -> None:
    table, answers = tmp_path / "comments.csv", tmp_path / "answers.jsonl"
    long = "x" * 21_000
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
