"""docs/serving.md says what is so: its commands run, its names are the server's names."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from moderation import cli
from moderation.categories import ATTRIBUTES, CATEGORIES
from moderation.config import ServeConfig
from moderation.flags import from_plain
from moderation.serving.errors import ApiError
from tests.serving.conftest import Server
from tests.test_readme import flags_of

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = (DOCS / "serving.md").read_text(encoding="utf-8")
OPERATIONS = (DOCS / "operations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)[^\n]*\n(.*?)```", DOCUMENT, flags=re.DOTALL)
CURLS = re.findall(r"^curl (?:.*\\\n)*.*$", DOCUMENT, flags=re.MULTILINE)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("command", CURLS, ids=lambda command: command.split("8000")[1].split()[0])
def test_a_command_is_answered(command: str, server: Server) -> None:
    line = command.replace("http://127.0.0.1:8000", server.url)
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer.keys() & {"results", "attributeScores", "labels"}


def test_settings_exist() -> None:
    verbs = {flag for verb in ("serve", "keys", "feedback", "export") for flag in flags_of(verb)}
    others = {"--help", "--build", "--force-recreate"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", DOCUMENT)) - others <= verbs | {"--no-auth"}
    (toml,) = [block for language, block in BLOCKS if language == "toml"]
    settings = {name.replace("-", "_"): value for name, value in tomllib.loads(toml).items()}
    assert from_plain(ServeConfig, settings, "serving.md").server.access.cors == ("https://forum.example",)
    assert {"serve", "keys", "feedback"} <= cli.VERBS.keys()


def test_errors_categories_and_attributes_are_all_named() -> None:
    prose = re.sub(r"```.*?```", "", DOCUMENT, flags=re.DOTALL)
    named = set(re.findall(r"`([^`]+)`", prose))
    assert set(ApiError.KINDS) <= named
    assert CATEGORIES.keys() | ATTRIBUTES.keys() | set(ATTRIBUTES.values()) <= named
