"""What the README shows runs: its Python blocks, its command lines, its make targets, the files that it links."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from moderation import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.split("  #")[0].strip()
    for language, block in BLOCKS
    if language == "sh"
    for line in block.splitlines()
    if line
]
INLINE = re.findall(r"`((?:moderation|python -m model_training|torchrun) [^`]*)`", README)


@pytest.mark.parametrize("code", [block for language, block in BLOCKS if language == "python"])
def test_python_block_runs(code):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [line for line in COMMANDS if "model_training" in line])
def test_command_line_parses(command, monkeypatch):
    parsed = []
    monkeypatch.setattr(cli, "main", lambda words: parsed.append(cli.build_parser().parse_args(words)) or 0)
    assert cli.main_by_form(shlex.split(command)[3:]) == 0
    assert parsed


@pytest.mark.parametrize("command", [line for line in INLINE if line.startswith("moderation ") and "..." not in line])
def test_inline_command_parses(command):
    words = shlex.split(command)[1:]
    if len(words) > 1:
        cli.build_parser().parse_args(words)
    else:
        assert words[0] in cli.VERBS


def test_flags_in_the_table_exist():
    known = {flag for verb in cli.VERBS for flag in flags_of(verb)}
    shown = set(re.findall(r"`(?:[^`]*\s)?(--[a-z-]+)", README)) - {"--tune-thresholds", "--eval", "--help"}
    shown -= {"--index-url", "--nproc-per-node"}
    assert shown
    assert shown <= known


def flags_of(verb: str) -> set[str]:
    parser = cli.build_parser()
    sub = next(action for action in parser._actions if hasattr(action, "choices") and action.choices)
    return {option for action in sub.choices[verb]._actions for option in action.option_strings}


@pytest.mark.parametrize("target", [line.split()[1] for line in COMMANDS if line.startswith("make ")])
def test_make_target_exists(target):
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https:)([^)#]+)", README))
def test_linked_file_exists(target):
    assert (ROOT / target).exists()
