"""The entry point: ten public names, each from its own module, and three command forms."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import model_training

ROOT = Path(__file__).parents[1]
TEN = {
    "main",
    "load_english_only",
    "df_to_hfds",
    "build_balanced_sampler_and_pos_weight",
    "PosWeightTrainer",
    "freeze_for_speed",
    "compute_metrics",
    "tune_thresholds",
    "eval_with_thresholds",
    "save_logs_and_plots",
}


def test_the_ten_names_are_all_that_the_door_shows() -> None:
    assert set(model_training.__all__) == set(dir(model_training)) == TEN
    assert model_training.__all__ == sorted(model_training.__all__)


@pytest.mark.parametrize("name", sorted(TEN))
def test_each_name_is_there_with_a_docstring_and_an_example(name: str) -> None:
    thing = getattr(model_training, name)
    assert thing.__name__ == name
    doc = inspect.getdoc(thing)
    assert doc is not None
    assert ">>> " in doc, "no example"
    assert "Raises:" in doc or name in ("main", "PosWeightTrainer"), "no errors"


@pytest.mark.parametrize("name", sorted(TEN - {"main"}))
def test_each_name_lives_where_the_table_states(name: str) -> None:
    home = importlib.import_module(model_training._HOMES[name])
    assert getattr(model_training, name) is getattr(home, name)
    assert getattr(home, name).__module__ == home.__name__


def test_the_table_and_the_imports_for_type_checkers_agree() -> None:
    import ast

    tree = ast.parse((ROOT / "model_training.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    typed = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == model_training._HOMES


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'model_training' has no attribute 'train'"):
        _ = model_training.train
    with pytest.raises(ImportError):
        from model_training import nothing  # noqa: F401


def test_a_star_import_imports_the_ten(tmp_path: Path) -> None:
    space: dict[str, object] = {}
    exec("from model_training import *", space)
    assert set(space) - {"__builtins__"} == TEN


@pytest.mark.parametrize(
    ("words", "program"),
    [
        (["--epoch", "3"], "moderation train"),
        (["--tune-thresholds", "--pred", "x"], "moderation tune"),
        (["--pred", "x", "--tune-thresholds"], "moderation tune"),
        (["--eval", "--check", "x"], "moderation evaluate"),
    ],
)
def test_each_form_goes_to_its_verb(words: list[str], program: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        model_training.main(words)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"{program}: unrecognized arguments: ")


def test_the_training_form_needs_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert model_training.main([]) == 2
    assert "--data-path is missing" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--eval", "--tune-thresholds"], ["--tune-thresholds", "--preds", "x", "--eval"]])
def test_two_forms_at_once_are_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert model_training.main(words) == 2
    said = capsys.readouterr()
    assert not said.out
    assert "--eval and --tune-thresholds name two different forms" in said.err


def test_the_tuning_form_runs_as_a_process(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((50, 1)) < 0.5).astype(np.float32)
    np.save(tmp_path / "preds_val.npy", (truth * 0.6 + rng.random((50, 1)) * 0.4).astype(np.float32))
    np.save(tmp_path / "labels_val.npy", truth)
    words = ["--tune-thresholds", "--preds", tmp_path / "preds_val.npy", "--labels", tmp_path / "labels_val.npy"]
    words += ["--label-columns", "toxic", "--bootstrap", "5"]
    done = subprocess.run(
        [sys.executable, "-m", "model_training", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(str(tmp_path / "thresholds.json"))
