"""Runs of the real command line in processes of their own: same bytes, kill and resume, two processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

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
    run(command(table_path, tiny_backbone, folder), MODERATION_CACHE=str(folder.parent / "cache"))
    return folder


def test_the_same_seed_gives_the_same_bytes(table_path, tiny_backbone, reference, tmp_path):
    run(command(table_path, tiny_backbone, tmp_path / "again"))
    for name in (
        "preds_val.npy",
        "preds_test.npy",
        "labels_test.npy",
        "calibration.json",
        "thresholds.json",
        "metrics_test.json",
    ):
        assert (tmp_path / "again" / name).read_bytes() == (reference / name).read_bytes(), name


def test_kill_in_mid_epoch_and_resume_changes_nothing(table_path, tiny_backbone, reference, tmp_path):
    """Of the ways to choose what an epoch sees, the plain one; `tests/training/test_fitting.py` interrupts them all."""
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
    for name in ("preds_val.npy", "calibration.json"):
        assert (folder / name).read_bytes() == (reference / name).read_bytes()
    assert (folder / "log.jsonl").read_text().count("eval_loss") == 2
    assert not (folder / "resume").exists()


def kill_after(process: subprocess.Popen[bytes], resume_dir: Path, step: int) -> bool:
    """`kill -9` once a state of that step or a later one is complete; False where the run ended before."""
    end = time.monotonic() + 200
    while time.monotonic() < end:
        if process.poll() is not None:
            return False
        states = [path for path in resume_dir.glob("checkpoint-*") if is_whole(path / "trainer_state.json")]
        steps = [int(path.name.rpartition("-")[2]) for path in states]
        if any(step <= found < 110 for found in steps):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.002)
    raise AssertionError("no state was saved in time")


def is_whole(state_path: Path) -> bool:
    """The state's last file is there to its end; it may be in the midst of being written, or just removed."""
    try:
        json.loads(state_path.read_text())
    except (OSError, ValueError):
        return False
    return True


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
