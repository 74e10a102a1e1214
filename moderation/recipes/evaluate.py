"""`moderation evaluate`: measure a checkpoint with its thresholds on examples that it has not seen."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from moderation.artifacts import RunFolder, read_json, sha256, write_json
from moderation.backbones import load_tokenizer
from moderation.config import EvaluateConfig, TrainConfig
from moderation.data.encoding import default_cache_dir, df_to_hfds
from moderation.data.loading import load_english_only
from moderation.data.preparing import load_splits
from moderation.errors import ArtifactError
from moderation.evaluation.metrics import evaluate_predictions, format_table
from moderation.evaluation.probabilities import sigmoid
from moderation.evaluation.reporting import save_logs_and_plots
from moderation.evaluation.thresholds import load_thresholds
from moderation.flags import from_plain
from moderation.recipes.train import split_settings, write_predictions
from moderation.training.batching import PaddingCollator
from moderation.training.checkpoints import Checkpoint, load_checkpoint
from moderation.training.prediction import predict_logits
from moderation.training.reproducibility import make_reproducible

logger = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig) -> int:
    """Predict, compare with the targets at the tuned thresholds, write the numbers and the report.

    Without `data_path`, the run's own test split is rebuilt from run.json, once the data's hash was found unchanged.

    Returns:
        0.

    Raises:
        ModerationError: checkpoint, thresholds, run.json or data that are missing or do not belong together.
    """
    source = RunFolder(config.checkpoint.parent)
    run = RunFolder(config.output_dir or source.path)
    checkpoint = load_checkpoint(config.checkpoint)
    thresholds = load_thresholds(config.thresholds or source.thresholds, checkpoint.labels)
    settings = _run_settings(source)
    make_reproducible(settings.seed, config.threads)
    name, frame = _examples(config, settings, source, checkpoint)

    tokenizer = load_tokenizer(_tokenizer_dir(source, checkpoint))
    dataset = df_to_hfds(
        frame,
        tokenizer,
        checkpoint.labels,
        text_column=settings.text_column,
        max_length=checkpoint.about["max_length"],
        cache_dir=default_cache_dir(),
    )
    logits = predict_logits(
        checkpoint.model.to("cuda" if torch.cuda.is_available() else "cpu"),
        dataset,
        PaddingCollator(tokenizer.pad_token_id, tokenizer.padding_side),
        batch_size=config.batch_size,
        description=f"Predict {name}",
    )
    probabilities = sigmoid(logits)
    targets = frame[list(checkpoint.labels)].to_numpy(dtype=np.float32)
    write_predictions(run, name, probabilities, targets, checkpoint.labels)
    metrics = evaluate_predictions(
        probabilities, targets, checkpoint.labels, thresholds, bootstrap=config.bootstrap, seed=settings.seed
    )
    write_json(run.metrics(name), {"split": name} | metrics)
    print(format_table(metrics))
    written = [run.metrics(name), run.preds(name)]
    if name == "test" and run.path == source.path:
        written += [path for path in save_logs_and_plots(run.path) if path == run.report]
    print("\n" + "\n".join(str(path) for path in written))
    return 0


def _run_settings(source: RunFolder) -> TrainConfig:
    facts = read_json(source.run_json, "run.json beside the checkpoint")
    if not isinstance(facts.get("settings"), dict):
        raise ArtifactError(
            f"{source.run_json}: holds no settings; expected the run.json that `moderation train` wrote."
        )
    return from_plain(TrainConfig, facts["settings"], str(source.run_json))


def _examples(
    config: EvaluateConfig, settings: TrainConfig, source: RunFolder, checkpoint: Checkpoint
) -> tuple[str, pd.DataFrame]:
    """Name and rows of what is to be evaluated: another table as a whole, or a split of the run's data."""
    recorded = read_json(source.run_json, "run.json beside the checkpoint")["data"]
    if config.data_path is not None and sha256(config.data_path) != recorded["sha256"]:
        options: dict[str, Any] = {
            name: getattr(settings, name)
            for name in ("text_column", "label_cut", "delimiter", "language_column", "detect_language")
        }
        frame = load_english_only(
            config.data_path, label_columns=checkpoint.labels, require_both_classes=False, **options
        )
        return _name_of(config.data_path), frame
    settings = dataclasses.replace(settings, data_path=config.data_path or settings.data_path)
    for key, path in (
        ("sha256", settings.data_path),
        ("val_sha256", settings.val_path),
        ("test_sha256", settings.test_path),
    ):
        if path is not None and sha256(path) != recorded[key]:
            raise ArtifactError(
                f"{path}: changed since the run (SHA-256 differs from run.json), so its {config.split} split cannot be "
                "rebuilt. Restore the file, or name a table with --data-path to evaluate on all of it."
            )
    splits = load_splits(**split_settings(settings))
    return config.split, splits.frames[config.split]


def _tokenizer_dir(source: RunFolder, checkpoint: Checkpoint) -> Path:
    if not source.tokenizer_dir.is_dir():
        raise ArtifactError(f"{source.tokenizer_dir}: no such folder; the checkpoint's tokenizer stands beside it.")
    return source.tokenizer_dir


def _name_of(data_path: Path) -> str:
    """A file name's stem as the name of what was evaluated; `val` and `test` stay the run's own."""
    stem = data_path.name.split(".")[0]
    return f"{stem}-file" if stem in ("train", "val", "test") else stem
