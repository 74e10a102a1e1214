"""The command line as a real process: exit codes, which stream says what, and examples that hold."""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pytest

from moderation import cli
from moderation.commands import check
from moderation.errors import ConfigError
from moderation.flags import merge

ROOT = Path(__file__).parents[1]


def run(*words: str | Path, module: str = "moderation") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, words)], capture_output=True, text=True, cwd=ROOT, timeout=120
    )


@pytest.fixture
def arrays(tmp_path: Path) -> list[str]:
    """The words that name probabilities and targets of 80 examples and two labels."""
    rng = np.random.default_rng(0)
    truth = (rng.random((80, 2)) < 0.4).astype(np.float32)
    np.save(tmp_path / "p.npy", np.clip(truth * 0.4 + rng.random((80, 2)) * 0.6, 0, 1).astype(np.float32))
    np.save(tmp_path / "l.npy", truth)
    return f"--preds {tmp_path / 'p.npy'} --labels {tmp_path / 'l.npy'} --label-columns a b --bootstrap 5".split()


def is_calm(done: subprocess.CompletedProcess[str]) -> bool:
    """An error as it should be: on stderr alone, on one screen, no traceback."""
    return not done.stdout and "Traceback" not in done.stderr and 0 < len(done.stderr.splitlines()) <= 25


def test_success_exits_with_0_and_the_result_on_stdout_and_the_log_on_stderr(arrays: list[str], tmp_path: Path) -> None:
    done = run("tune", *arrays)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(str(tmp_path / "thresholds.json"))
    assert "Tuning 2 labels on 80 examples" in done.stderr
    assert "Tuning" not in done.stdout


def test_a_problem_with_an_artifact_exits_with_1(arrays: list[str], tmp_path: Path) -> None:
    (tmp_path / "p.npy").write_bytes(b"not an array")
    done = run("tune", *arrays)
    assert done.returncode == 1
    assert is_calm(done), done.stderr
    assert done.stderr.startswith(f"moderation tune: {tmp_path / 'p.npy'}: ")
    assert not (tmp_path / "thresholds.json").exists()


def test_a_wrong_setting_exits_with_2(arrays: list[str]) -> None:
    done = run("tune", *arrays, "--objective", "accuracy")
    assert done.returncode == 2
    assert is_calm(done), done.stderr


@pytest.mark.parametrize(
    ("words", "program", "complaint"),
    [
        ("", "moderation", "required: VERB"),
        ("fly", "moderation", "invalid choice: 'fly'"),
        ("--verbose", "moderation", "required: VERB"),
        ("tune --pred x", "moderation tune", "unrecognized arguments: --pred x"),
        ("train --seed x", "moderation train", "--seed: expected a whole number, not 'x'"),
        ("check", "moderation check", "required: DATA"),
        ("check a.csv b.csv", "moderation check", "unrecognized arguments: b.csv"),
    ],
)
def test_wrong_usage_exits_with_2_and_two_lines(
    words: str, program: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words.split())
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert not said.out
    first, second = said.err.splitlines()
    assert first.startswith(f"{program}: ")
    assert complaint in first
    assert second.endswith(f"{program} --help")


def test_wrong_usage_exits_with_2_in_the_shell_too() -> None:
    done = run("train", "--seed", "x")
    assert done.returncode == 2
    assert is_calm(done), done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes and signals of POSIX")
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupt_is_reported_and_leaves_nothing(
    number: int, code: int, word: str, arrays: list[str], tmp_path: Path
) -> None:
    import os

    (tmp_path / "p.npy").unlink()
    os.mkfifo(tmp_path / "p.npy")
    process = subprocess.Popen(
        [sys.executable, "-m", "moderation", "tune", *arrays],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with (tmp_path / "p.npy").open("wb"):  # opens once the process reads
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert (out, err) == ("", f"moderation tune: {word}.\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.npy", "p.npy"]


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_help_of_a_verb_ends_with_an_example_that_its_own_parser_accepts(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([verb, "--help"])
    assert caught.value.code == 0
    example = capsys.readouterr().out.rstrip().splitlines()[-1].strip()
    program, *words = shlex.split(example)
    assert program == "moderation"
    flags = vars(cli.build_parser().parse_args(words))
    assert flags.pop("verb") == verb
    merge(cli.VERBS[verb].config_class, flags)


def test_the_help_names_every_verb_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    for verb in ("train", "tune", "evaluate", "check"):
        assert f"\n  {verb} " in text
    assert all(f" {code} " in text for code in cli.EXIT_CODES)
    assert text.rstrip().splitlines()[-1].strip().startswith("moderation score ")
    places = [text.index(f"\n  {verb} ") for verb in ("score", "serve", "train", "keys")]
    assert places == sorted(places), "what most people come for stands first"


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_help_of_a_verb_names_its_exit_codes_and_the_values_of_its_flags(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: moderation {verb} ")
    (codes,) = [line for line in text.splitlines() if line.startswith("exit codes: ")]
    assert ("3 finished" in codes) == (verb == "score")
    assert ("130 interrupted" in codes) == (verb != "serve")
    taken = set(re.findall(r"^  (?:-\w \S+, )?--[\w-]+ ([A-Z]+)\b", text, flags=re.MULTILINE))
    assert not taken & {"VALUE", "PATH"}, "says nothing about what is meant"
    assert verb == "keys" or "NAME" not in taken - ({"NAME"} if verb == "export" else set())
    assert "--log-level {debug,info,warning,error}" in text


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_a_recipe_of_its_name(verb: str) -> None:
    source = (ROOT / "moderation" / "commands" / f"{verb}.py").read_text(encoding="utf-8")
    assert f"\ndef {verb}(config: {cli.VERBS[verb].config_class.__name__}) -> int:" in source


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what a user can cause and cure becomes a message; everything else shall be seen whole."""

    class Broken:
        def __init__(self, **settings: object) -> None:
            raise RuntimeError("a bug")

    monkeypatch.setitem(cli.VERBS, "tune", cli.Verb(cli.config.TuneConfig, "x", "x"))
    monkeypatch.setattr(cli, "merge", lambda *_: Broken())
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["tune"])


def test_an_error_exits_with_the_code_of_its_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate"]) == ConfigError.exit_code
    assert capsys.readouterr().err == (
        "moderation evaluate: problems with the settings:\n"
        "  --checkpoint is missing; to measure a bundle instead, name suites with --suite\n"
    )


def test_a_mistyped_flag_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "--data-path", "x.csv", "--epoch", "1", "--label-column", "rude"])
    assert caught.value.code == 2
    assert "Did you mean --epochs, --label-columns?" in capsys.readouterr().err


WITHOUT_TRAINING = """
import sys
class Refuse:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("torch", "datasets", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from moderation import cli
sys.exit(cli.main())
"""


@pytest.mark.parametrize("verb", ["train", "export"])
def test_a_verb_of_training_without_its_packages_names_the_cure(verb, tmp_path):
    words = {"train": ["--data-path", "x.csv"], "export": ["runs/x", "--to", str(tmp_path / "b")]}[verb]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRAINING, verb, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "pip install '.[train]'" in done.stderr


def test_the_version_is_shown(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("content-moderation 0.")


@pytest.mark.hostile("bombs: little memory")
def test_too_little_memory_gives_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of_torch = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes")
    for error in (MemoryError(), pa.ArrowMemoryError("malloc of size 64 failed"), of_torch):
        monkeypatch.setattr(check, "_read_all", Mock(side_effect=error))
        assert cli.main(["check", str(tmp_path / "t.csv")]) == 1
        assert capsys.readouterr().err.startswith("moderation check: not enough memory.")


def test_a_system_error_without_a_file_gives_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, cure in ((OSError(2, "No usable temporary directory found"), "TMPDIR"), (OSError(28, "Full"), "space")):
        monkeypatch.setattr(check, "_read_all", Mock(side_effect=error))
        assert cli.main(["check", str(tmp_path / "t.csv")]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"moderation check: a file: {error.strerror}. ") and cure in said
    monkeypatch.setattr(check, "_read_all", Mock(side_effect=OSError("what a library says")))
    with pytest.raises(OSError, match="what a library says"):
        cli.main(["check", str(tmp_path / "t.csv")])
