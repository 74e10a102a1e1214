"""The unit of systemd: what it starts and sets exists, and it waits as long as a stop may take."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from moderation.commands.serve import STOP_S
from moderation.config import ServeConfig
from moderation.flags import merge
from moderation.serving.options import LoadOptions
from moderation.serving.processes.supervisor import longest_stop_s

UNIT = Path(__file__).parents[2] / "deploy/systemd/moderation.service"
DOCUMENT = Path(__file__).parents[2] / "docs/operations.md"


def read_unit() -> dict[str, list[str]]:
    lines = [line for line in UNIT.read_text(encoding="utf-8").splitlines() if line and line[0] not in "#["]
    found: dict[str, list[str]] = {}
    for name, _, value in (line.partition("=") for line in lines):
        found.setdefault(name, []).append(value)
    return found


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if not program:
        pytest.skip("systemd-analyze is not installed")
    text = UNIT.read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=(\S+)", text, flags=re.MULTILINE)
    for name, lines in (("fine", text), ("wrong", text.replace("ProtectHome", "ProtectHouse"))):
        path = tmp_path / f"{name}.service"
        path.write_text(lines.replace(command, sys.executable), encoding="utf-8")
        done = subprocess.run([program, "verify", path], capture_output=True, text=True, check=False)
        said = [line for line in done.stderr.splitlines() if path.name in line]
        assert bool(said) == (name == "wrong"), done.stderr


def test_the_unit_sets_known_settings_and_starts_what_the_document_installs() -> None:
    unit = read_unit()
    variables = dict(word.split("=", 1) for line in unit["Environment"] for word in line.split())
    settings = {name: value for name, value in variables.items() if name.startswith("MODERATION_")}
    config = merge(ServeConfig, {}, settings)
    (state,) = unit["WorkingDirectory"]
    assert state == f"/var/lib/{unit['StateDirectory'][0]}"
    assert config.keys is not None and str(config.keys.parent) == state
    assert unit["ExecStart"] == ["/opt/moderation/bin/moderation serve"]
    document = DOCUMENT.read_text(encoding="utf-8")
    (optional,) = unit["EnvironmentFile"]
    for said in (*unit["ExecStart"][0].split()[:1], str(config.keys), optional.removeprefix("-"), unit["User"][0]):
        assert said in document


def test_requests_in_flight_are_answered_before_the_server_is_killed() -> None:
    unit = read_unit()
    assert float(unit["TimeoutStopSec"][0]) > longest_stop_s(
        LoadOptions().timeout_s + STOP_S, LoadOptions().drain_s or 0.0
    )
    assert unit["KillMode"] == ["mixed"], "a worker that gets SIGTERM alone would be replaced"
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
