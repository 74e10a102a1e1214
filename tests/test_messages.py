"""A message never names a cure that the command refuses: every flag in it is a flag of every verb that can say it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from moderation import cli
from moderation.config import EvaluateConfig
from moderation.options import settings_of

ROOT = Path(__file__).parents[1] / "moderation"
STREAMS = ("tables/columns", "tables/csv_dialects", "tables/csv_rows", "scoring/readers", "scoring/json_lines")
TABLES = (*STREAMS[:3], "tables/reading", "data/label_forms", "data/cleaning", "data/validation")


def flags_of(verb: str) -> set[str]:
    return {one.flag for one in settings_of(cli.VERBS[verb].config_class).values()}


def flags_for_a_bundle() -> set[str]:
    return {one.flag for one in settings_of(EvaluateConfig).values() if not one.heading.startswith("a checkpoint")}


def named_flags(path: Path) -> set[str]:
    """Flags in the strings of a file that are no docstrings."""
    return {
        flag
        for text in strings(ast.parse(path.read_text(encoding="utf-8")))
        for flag in re.findall(r"--[a-z][a-z-]+", text)
    }


def strings(tree: ast.AST) -> Iterator[str]:
    skipped = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("verb", ["train", "check", "evaluate"])
def test_messages_about_tables_name_flags_of_every_verb_that_reads_one(name: str, verb: str) -> None:
    assert named_flags(ROOT / f"{name}.py") <= flags_of(verb)


@pytest.mark.parametrize("path", [*sorted((ROOT / "suites").glob("*.py")), *(ROOT / f"{n}.py" for n in TABLES)])
def test_messages_about_suites_name_flags_that_go_with_a_bundle(path: Path) -> None:
    mentioned = {"--extra-train-path", "--help"}  # how the bundle was trained, and no cure
    assert named_flags(path) - mentioned <= flags_for_a_bundle()


@pytest.mark.parametrize("name", STREAMS)
def test_messages_about_files_to_score_name_flags_of_score(name: str) -> None:
    assert named_flags(ROOT / f"{name}.py") <= flags_of("score")


def test_the_test_sees_flags() -> None:
    assert {"--delimiter", "--quoting", "--escape"} <= named_flags(ROOT / "tables" / "csv_dialects.py")
    assert "--suite" in named_flags(ROOT / "suites" / "registry.py")


TABLES_OF_OTHERS = {  # what stands in the file, and the flags that the message must name and that then read it
    "semicolons": (
        "comment;isHate\nyou fool;0.7\nnice;0\nidiot;1\nhi;0.2\n",
        ["--delimiter", ";", "--label-cut", "0.5"],
    ),
    "quotes": ('text,toxic\n"you" fool,1\nnice,0\n', ["--quoting", "none"]),
    "backslashes": ('text,toxic\n"you \\"fool\\" you",1\nnice,0\n', ["--escape", "\\"]),
    "two texts": ("text,body,toxic\nyou fool,x,1\nnice,y,0\n", ["--text-column", "body"]),
    "two labels": ("text,mean,rude\nyou fool,1,0\nnice,0,1\n", ["--label-columns", "mean"]),
}


@pytest.mark.parametrize("name", TABLES_OF_OTHERS)
def test_the_cure_of_a_suite_works(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, cure = TABLES_OF_OTHERS[name]
    (tmp_path / "t.csv").write_text(content, encoding="utf-8")
    words = [
        "evaluate",
        str(ROOT / "models" / "compact-en"),
        "--suite",
        f"mine={tmp_path / 't.csv'}",
        "--bootstrap",
        "0",
    ]
    given: list[str] = []
    for flag, value in zip(cure[::2], cure[1::2], strict=True):
        assert cli.main([*words, *given]) == 1
        assert flag in capsys.readouterr().err
        given += [flag, value]
    assert cli.main([*words, *given]) == 0
    assert "mine (binary)" in capsys.readouterr().out
