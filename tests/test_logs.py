"""Logs: the level that was asked for, of this toolkit's lines alone where it is debug."""

import json
import logging
import logging.config
import subprocess
import sys
from pathlib import Path

import pytest

from moderation.logs import json_logs
from tests.attack_table import Attack
from tests.hostile_names import OBEYED, SHOWN, TOO_MUCH, obeyed_in

ROOT = Path(__file__).parents[1]
CODE = """
import logging
from moderation.logs import configure_logs
configure_logs({level!r}, as_json={as_json})
configure_logs({level!r})
for name in ("moderation.inference", "urllib3"):
    for level in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger(name), level)("%s %s", name, level)
"""


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("level", "n_ours", "n_others"), [("debug", 4, 3), ("info", 3, 3), ("warning", 2, 2), ("error", 1, 1)]
)
def test_the_level_decides_what_is_logged(level: str, n_ours: int, n_others: int, as_json: bool) -> None:
    code = CODE.format(level=level, as_json=as_json)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    events = [json.loads(line)["event"] for line in lines] if as_json else lines
    assert [event for event in events if event.startswith("moderation")] == events[:n_ours]
    assert len(events) == n_ours + n_others


@pytest.mark.parametrize(("level", "said"), [("info", True), ("error", False), ("debug", True)])
def test_a_verb_logs_as_much_as_requested(level: str, said: bool, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("comment_text,toxic\na,0\nb,1\n", encoding="utf-8")
    command = [sys.executable, "-m", "moderation", "check", str(tmp_path / "t.csv"), "--log-level", level]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0
    assert bool(done.stderr) == said


@pytest.mark.hostile("terminal: log of the server")
def test_no_line_of_the_json_log_controls_the_terminal(attack: Attack) -> None:
    """Also in a worker, whose standard error is that of the system when its log is set up."""
    pytest.importorskip("pythonjsonlogger")
    formatter = logging.config.DictConfigurator(json_logs("info")).configure_formatter(
        dict(json_logs("info")["formatters"]["json"])
    )
    for name in (*OBEYED, *SHOWN, *TOO_MUCH):
        record = logging.makeLogRecord({"msg": name, "levelname": "INFO", "name": name, "key": name, name or "x": name})
        line = formatter.format(record)
        assert not obeyed_in(line) and "\n" not in line, ascii(name)
        assert json.loads(line)["event"] == json.loads(line)["key"] == name
    attack.tried(len(OBEYED) + len(SHOWN) + len(TOO_MUCH))
