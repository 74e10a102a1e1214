"""A run folder as a training leaves it: made of numbers, written by the real functions, without a model."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from moderation.arrays import write_array
from moderation.artifacts import RunFolder, sha256, write_json
from moderation.evaluation.metrics import eval_with_thresholds
from moderation.evaluation.probabilities import sigmoid
from moderation.evaluation.thresholds import save_thresholds, threshold_array, tune_thresholds
from moderation.labels import JIGSAW_LABELS

PREVALENCE = (0.10, 0.010, 0.053, 0.003, 0.049, 0.009)


def fake_predictions(
    n_examples: int, seed: int, prevalence: tuple[float, ...] = PREVALENCE
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Probabilities and targets of correlated labels; probabilities a little too high, as pos_weight makes them."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n_examples, 1))
    latent = 0.8 * shared + 0.6 * rng.normal(size=(n_examples, len(prevalence)))
    cut = np.quantile(latent, 1 - np.array(prevalence), axis=0).diagonal()
    logits = 4.5 * (latent - cut) + rng.normal(0, 2.0, latent.shape) - 0.3
    return sigmoid(logits), (latent > cut).astype(np.float32)


def fake_facts(labels: tuple[str, ...], sizes: dict[str, int]) -> dict[str, Any]:
    return {
        "format": "content-moderation run",
        "version": 1,
        "status": "done",
        "started": "2026-11-22T21:14:05+00:00",
        "settings": {
            "data_path": "/home/somebody/data/train.parquet",
            "text_column": "comment_text",
            "label_columns": None,
            "output_dir": "runs/exp1",
            "seed": 42,
            "backbone": "minilm",
            "max_length": 192,
            "epochs": 2.0,
            "batch_size": 32,
            "lr": 5e-5,
            "pos_weight": "sqrt",
            "balanced_sampler": False,
            "precision": "auto",
            "objective": "f1",
            "track": [],
        },
        "labels": list(labels),
        "precision": "bf16",
        "data": {"sha256": "9f2c" * 16, "left_out": {"no text": 3, "not English": 0}},
        "splits": sizes,
        "backbone": {
            "name": "minilm",
            "hub_id": "sentence-transformers/all-MiniLM-L6-v2",
            "revision": "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
            "weights_sha256": "53aa" * 16,
        },
        "python": "3.11.2",
        "platform": "Linux x86_64",
        "libraries": {"torch": "2.13.0+cpu", "transformers": "5.23.0", "numpy": "2.4.6"},
        "git": {"commit": "e7b2f92c0ffee000000000000000000000000000", "dirty": True},
        "hardware": {"cpu": "AMD EPYC 7B13", "cores": 2, "threads": 2, "memory_bytes": 16_000_000_000, "gpus": []},
        "processes": 1,
        "seconds": {"read": 1.204, "backbone": 0.8, "tokenize": 12.1, "train": 1412.7, "predict": 71.9},
        "peak_memory_bytes": 2_310_000_000,
        "training": {
            "steps": 1250,
            "examples": 40_000,
            "seconds": 1412.7,
            "parameters": 22_715_526,
            "trainable": 22_715_526,
            "resumed_from": None,
        },
    }


def fake_log() -> list[dict[str, float]]:
    rng = np.random.default_rng(0)
    log: list[dict[str, float]] = []
    for step in range(25, 1251, 25):
        loss = 0.12 + 0.5 * np.exp(-step / 180) + rng.normal(0, 0.008)
        log.append({"loss": round(loss, 4), "grad_norm": 1.1, "learning_rate": 4e-5, "epoch": step / 625, "step": step})
        if step % 625 == 0:
            scores = {"eval_macro_roc_auc": 0.95 + step / 62500, "eval_macro_average_precision": 0.4 + step / 12500}
            log.append({"eval_loss": 0.16 - step / 62500, **scores, "epoch": step / 625, "step": step})
    return [*log, {"train_runtime": 1412.7, "train_loss": 0.17, "epoch": 2.0, "step": 1250}]


def write_run(
    path: Path,
    *,
    n_val: int = 1200,
    n_test: int = 1200,
    labels: tuple[str, ...] = JIGSAW_LABELS,
    prevalence: tuple[float, ...] = PREVALENCE,
    bootstrap: int = 50,
) -> RunFolder:
    run = RunFolder(path)
    arrays = {"val": fake_predictions(n_val, 1, prevalence), "test": fake_predictions(n_test, 2, prevalence)}
    for split, (probabilities, targets) in arrays.items():
        about = {"labels": list(labels), "split": split}
        write_array(run.preds(split), probabilities, about | {"kind": "probabilities"})
        write_array(run.labels(split), targets, about | {"kind": "targets"})
    results = tune_thresholds(*arrays["val"], labels, bootstrap=bootstrap)
    save_thresholds(run.thresholds, results, labels, {"split": "val", "preds_sha256": sha256(run.preds("val"))})
    for split, (probabilities, targets) in arrays.items():
        cuts = threshold_array(results, labels)
        metrics = eval_with_thresholds(probabilities, targets, labels, cuts, bootstrap=bootstrap)
        write_json(run.metrics(split), {"split": split} | metrics)
    write_json(run.run_json, fake_facts(labels, {"train": 20_000, "val": n_val, "test": n_test}))
    run.log.write_text("".join(json.dumps(record) + "\n" for record in fake_log()), encoding="utf-8")
    return run


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a run folder, once for the same keywords. Copy it."""

    @cache
    def write(**options: Any) -> Path:
        return write_run(tmp_path_factory.mktemp("runs") / "exp1", **options).path

    return write


@pytest.fixture
def make_run(written: Callable[..., Path], tmp_path: Path) -> Callable[..., RunFolder]:
    """A run folder of the test's own; keywords as in `write_run`."""

    def make(**options: Any) -> RunFolder:
        return RunFolder(shutil.copytree(written(**options), tmp_path / "exp1", dirs_exist_ok=True))

    return make
