"""What docs/scoring.md shows runs, in its own order, on the files that it makes itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from moderation.scoring.records import result_names

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "scoring.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")


def test_every_block_runs(tmp_path):
    pytest.importorskip("onnxruntime")
    said = []
    for language, code in BLOCKS:
        if language == "sql":
            continue
        if language == "sh":
            code = f'set -e; moderation() {{ "{sys.executable}" -m moderation "$@"; }}\n{code}'
            words = ["sh", "-c", code]
        else:
            words = [sys.executable, "-W", "error", "-c", code]
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=env)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        said.append(done.stdout)
    first = said[0].splitlines()
    assert first[0] == first[1], "--text and the pipe print the same line"
    assert any("1 of 2 are toxic" in one for one in said)
    assert "set" in said[-1]


def test_the_queries_run(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    (tmp_path / "comments.csv").write_text("comment_text\nyou are an idiot\nhave a nice day\n", encoding="utf-8")
    words = [sys.executable, "-m", "moderation", "score", tmp_path / "comments.csv", "-o", tmp_path / "scored.parquet"]
    subprocess.run([*map(str, words)], cwd=ROOT, check=True, capture_output=True)
    found = []
    for query in next(code for language, code in BLOCKS if language == "sql").split(";\n"):
        if query.strip():
            found.append(duckdb.sql(query.replace("scored.parquet", str(tmp_path / "scored.parquet"))).fetchall())
    assert found[0] == [(1,)]
    assert found[1][0][0] == "you are an idiot"
    assert ("toxic", 1) in found[2]
    assert '"thresholds_from": "bundle"' in found[3][0][0]


def test_every_column_is_described():
    names = [name.replace("_x", "_<label>") for name in result_names(["x"], flag_columns=True)]
    assert re.findall(r"^\| `([^`]+)`", TEXT, flags=re.MULTILINE) == names
