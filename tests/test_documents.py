"""What the documents and the benchmarks tell people to type exists: verbs, flags, scripts; and it needs no hub."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from moderation import cli

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "examples").glob("*.py")])
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "configs").glob("*.md")), *SCRIPTS]
DOCUMENTS += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")]
COMMAND = re.compile(
    r"(?:moderation [a-z]+|python -m model_training|python (?:benchmarks|examples)/\w+\.py)\b[^`#|;&)>]*"
)


def commands_in(path: Path) -> list[str]:
    """Command lines of a document; of a script those of its docstring."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(text)) or ""
    text = text.replace("\\\n", " ")
    places = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
    places += [line for line in text.splitlines() if re.match(r" {4}\S|python ", line)]
    lines = [line for place in places for line in place.splitlines()]
    found = [match.group().strip() for line in lines for match in COMMAND.finditer(line)]
    return list(dict.fromkeys(command for command in found if "--" in command))


ALL = [(path.relative_to(ROOT).as_posix(), command) for path in DOCUMENTS for command in commands_in(path)]


def flags_of_script(path: Path) -> set[str]:
    """Flags that a script declares, read and not run."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return {
        argument.value
        for call in calls
        if getattr(call.func, "attr", "") == "add_argument"
        for argument in call.args
        if isinstance(argument, ast.Constant) and str(argument.value).startswith("--")
    }


def flags_of_verb(verb: str) -> set[str]:
    parser = cli.build_parser()
    sub = next(action for action in parser._actions if hasattr(action, "choices") and action.choices)
    return {option for action in sub.choices[verb]._actions for option in action.option_strings}


@pytest.mark.parametrize(("document", "command"), ALL)
def test_every_flag_of_a_documented_command_exists(document: str, command: str) -> None:
    words = re.findall(r"(?<![\w-])--[a-z][\w-]*", command)
    if command.startswith("moderation "):
        known = flags_of_verb(command.split()[1])
    elif "model_training" in command:
        known = {"--tune-thresholds", "--eval"}.union(*map(flags_of_verb, ("train", "tune", "evaluate")))
    else:
        known = flags_of_script(ROOT / command.split()[1])
    assert set(words) <= known | {"--help"}, document


def test_the_documents_have_commands_of_all_kinds() -> None:
    starts = {" ".join(command.split()[:2]) for _, command in ALL}
    assert starts >= {"python benchmarks/inference.py", "moderation train", "moderation serve", "moderation evaluate"}
    assert len(ALL) > 40


def run_script(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=240)


# No hub and no package index are in reach.
NO_NETWORK = {"HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}


STAND_INS = """
import sys
from pathlib import Path
sys.path.insert(0, "benchmarks")
import bundles, running
from transformers import AutoConfig, AutoTokenizer
for shape, name in (("distilbert", "distilbert-multilingual"), ("minilm", "minilm")):
    folder = bundles.find_backbone(name, Path(sys.argv[1]))
    config = AutoConfig.from_pretrained(folder)
    inner = getattr(config, "hidden_dim", None) or config.intermediate_size
    assert bundles.SHAPES[shape] == (config.num_hidden_layers, config.hidden_size, inner)
    assert max(AutoTokenizer.from_pretrained(folder)("you fool")["input_ids"]) < config.vocab_size
running.run(lambda: bundles.find_backbone("nobody/has-this", Path(sys.argv[1])))
"""


def test_benchmarks_measure_the_shapes_if_no_hub_can_be_reached(tmp_path: Path) -> None:
    places = {"MODERATION_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hub")}
    done = run_script("-c", STAND_INS, str(tmp_path), **places, **NO_NETWORK)
    assert done.returncode == 1
    for name in ("distilbert-multilingual", "minilm"):
        assert f"NOTE: {name} is not available" in done.stderr
    assert "Backbone nobody/has-this: cannot be fetched here" in done.stderr, "any other one ends it, in one message"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("script", "content", "said"),
    [("company", None, "no such file"), ("scoring", "words,toxic\nkind,0\nbad,1\n", "no column 'comment_text'")],
)
def test_a_table_that_cannot_be_used_gives_one_message(
    script: str, content: str | None, said: str, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    if content is not None:
        table.write_text(content, encoding="utf-8")
    done = run_script(f"benchmarks/{script}.py", "--data-path", str(table))
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_benchmark_runs_on_the_sample_and_the_shipped_model() -> None:
    done = run_script("benchmarks/company.py", "--data-path", "moderation/data/sample/comments.csv", "--texts", "1")
    assert done.returncode == 0, done.stderr
    assert "onnx-int8" in done.stdout
