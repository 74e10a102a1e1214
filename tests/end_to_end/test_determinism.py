"""Runs of the real command line in processes of their own: same bytes, kill and resume, two processes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import model_training
from tests.attack_table import Attack

SETTINGS = ["--max-length", "32", "--epochs", "2", "--batch-size", "8", "--lr", "1e-3", "--bootstrap", "20"]
SETTINGS += ["--threads", "1", "--save-every", "5"]


def command(table_path: Path, backbone: Path, output_dir: Path, *more: str) -> list[str]:
    words = ["-m", "model_training", "--data-path", str(table_path), "--backbone", str(backbone)]
    return [*words, "--output-dir", str(output_dir), *SETTINGS, *more]


def run(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=os.environ | environment, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done


@pytest.fixture(scope="module")
def reference(table_path: Path, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "reference"
    assert model_training.main(command(table_path, tiny_backbone, folder)[2:]) == 0
    return folder


# What of run.json differs between two runs of one command: when, how fast and where, and what is edited meanwhile.
OF_THE_MOMENT = {"started", "seconds", "peak_memory_bytes", "git"}
OF_THE_MOMENT_IN = {"training": {"seconds", "resumed_from"}, "settings": {"output_dir", "resume"}}


def record_of(folder: Path) -> dict[str, Any]:
    """run.json without what differs by nature."""
    facts: dict[str, Any] = json.loads((folder / "run.json").read_text())
    for part, names in (OF_THE_MOMENT_IN | {"": OF_THE_MOMENT}).items():
        for name in names:
            del (facts[part] if part else facts)[name]
    return facts


def assert_same_bytes(folder: Path, other: Path) -> None:
    """All that a run leaves behind, but for pictures and the page, which show when it was."""
    compared, also = (
        {
            name
            for name in (path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
            if not name.startswith(("plots/", "report.html", "run.json", "."))
        }
        for place in (other, folder)
    )
    assert compared == also
    assert compared >= {"checkpoint_best.pt", "checkpoint_final.pt", "log.jsonl", "preds_test.npy", "metrics_test.json"}
    for name in sorted(compared):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    assert record_of(folder) == record_of(other)


@pytest.mark.hostile("train: kill -9 twice, resume")
def test_kill_in_mid_epoch_and_resume_changes_nothing(table_path, tiny_backbone, reference, tmp_path, attack):
    """So the same seed gives the same bytes, too: the reference is another run.

    Of the ways to choose what an epoch sees, the plain one; `tests/training/test_fitting.py` interrupts them all.
    """
    folder = tmp_path / "killed"
    words = command(table_path, tiny_backbone, folder)
    for _ in range(3):  # on a busy machine the run may end before its state is seen
        shutil.rmtree(folder, ignore_errors=True)
        process = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        if kill_after(process, folder / "resume", step=70):  # an epoch has 60 steps
            break
    assert not (folder / "preds_val.npy").exists()

    run([*words, "--resume"])
    facts = json.loads((folder / "run.json").read_text())
    assert facts["training"]["resumed_from"] >= 70
    assert facts["training"]["resumed_from"] % 60, "the kill was not in mid-epoch"
    assert facts["training"]["steps"] == 120
    assert (folder / "log.jsonl").read_text().count("eval_loss") == 2
    assert not (folder / "resume").exists()
    assert_same_bytes(folder, reference)
    attack.tried()
    kill_at_random(words, folder, reference, attack)


def kill_at_random(words: list[str], folder: Path, reference: Path, attack: Attack) -> None:
    """`kill -9` twice at any moment of a run, from its first import to its report, and the same bytes after it."""
    seed, whole_s = 11, 0.0
    rng = random.Random(seed)
    for case in range(attack.cases(0, 8)):
        shutil.rmtree(folder, ignore_errors=True)
        if not whole_s:
            start = time.monotonic()
            run(words)  # how long it takes here
            whole_s = time.monotonic() - start
            shutil.rmtree(folder)
        for _ in range(2):
            if is_done(folder):
                break
            process = subprocess.Popen([sys.executable, *words, *resume_of(folder)], stderr=subprocess.PIPE, text=True)
            with suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.2, 0.9) * whole_s)
            process.kill()
            said = process.communicate()[1]
            assert process.returncode in (0, -signal.SIGKILL), (seed, case, said[-2000:])
        if not is_done(folder):
            run([*words, *resume_of(folder)])
        assert_same_bytes(folder, reference)
        attack.tried()


def is_done(folder: Path) -> bool:
    """Nothing is left to resume; of what comes after, the pictures and the page, a kill may have left a part."""
    return bool(resume_of(folder)) and json.loads((folder / "run.json").read_text())["status"] == "done"


def resume_of(folder: Path) -> list[str]:
    return ["--resume"] if (folder / "run.json").exists() else []


def kill_after(process: subprocess.Popen[bytes], resume_dir: Path, step: int) -> bool:
    """`kill -9` once a state of that step or a later one is sealed; False where the run ended before."""
    end = time.monotonic() + 200
    while time.monotonic() < end:
        if process.poll() is not None:
            return False
        states = [path for path in resume_dir.glob("checkpoint-*") if (path / "state.json").is_file()]
        steps = [int(path.name.rpartition("-")[2]) for path in states]
        if any(step <= found < 110 for found in steps):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.002)
    raise AssertionError("no state was saved in time")


def test_two_processes_learn_the_same(table_path, tiny_backbone, reference, tmp_path):
    folder = tmp_path / "two"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run([*torchrun, *command(table_path, tiny_backbone, folder)], OMP_NUM_THREADS="1")
    facts = json.loads((folder / "run.json").read_text())
    assert facts["processes"] == 2
    assert facts["training"]["steps"] == 120  # as many as with one process: the batch is shared, not doubled
    one, two = (json.loads((path / "metrics_val.json").read_text())["macro"] for path in (reference, folder))
    assert two["roc_auc"] == pytest.approx(one["roc_auc"], abs=0.15)  # sums in another order, for 120 steps
    assert np.load(folder / "preds_val.npy").shape == np.load(reference / "preds_val.npy").shape
