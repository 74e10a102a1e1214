"""The default backbone's exact architecture, with random weights: it trains, is killed, resumes and evaluates."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from moderation.training.states import sealed_states


@pytest.mark.slow
def test_multilingual_distilbert_trains_resumes_and_evaluates(shared, tmp_path):
    backbone = shared / "backbones" / "distilbert-base-multilingual-cased"
    jigsaw = shared / "data" / "jigsaw" / "train.parquet"
    if not backbone.is_dir() or not jigsaw.is_file():
        pytest.skip("neither architecture nor comments are there")
    comments = pd.read_parquet(jigsaw)
    rare = comments[comments["threat"] == 1].head(30)
    pd.concat([rare, comments.head(170)]).drop_duplicates("id").to_csv(tmp_path / "train.csv", index=False)
    folder = tmp_path / "run"
    words = ["-m", "model_training", "--data-path", str(tmp_path / "train.csv"), "--output-dir", str(folder)]
    words += ["--backbone", str(backbone), "--random-weights", "--epochs", "2", "--max-length", "64"]
    words += ["--save-every", "3", "--bootstrap", "20"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}

    process = subprocess.Popen([sys.executable, *words], env=environment)
    end = time.monotonic() + 280
    while not sealed_states(folder / "resume") and time.monotonic() < end:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run([sys.executable, *words, "--resume"], env=environment, check=True)
    facts = json.loads((folder / "run.json").read_text())
    assert facts["training"]["resumed_from"] > 0
    assert facts["training"]["parameters"] == 135_329_286

    before = (folder / "preds_test.npy").read_bytes()
    words = ["-m", "model_training", "--eval", "--checkpoint", str(folder / "checkpoint_best.pt"), "--bootstrap", "20"]
    subprocess.run([sys.executable, *words], env=environment, check=True)
    assert (folder / "preds_test.npy").read_bytes() == before
