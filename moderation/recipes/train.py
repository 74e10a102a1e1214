"""`moderation train`: labelled comments in, a tuned and evaluated run folder out."""

import dataclasses
import datetime
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from moderation.artifacts import RunFolder, read_json, sha256, write_array, write_json
from moderation.backbones import ResolvedBackbone, load_tokenizer, resolve_backbone
from moderation.config import TableConfig, TrainConfig
from moderation.data.encoding import default_cache_dir, df_to_hfds
from moderation.data.preparing import SPLITS, Splits, load_splits, take_handful
from moderation.errors import ArtifactError, ConfigError
from moderation.evaluation.metrics import evaluate_predictions, format_table
from moderation.evaluation.probabilities import sigmoid
from moderation.evaluation.reporting import save_logs_and_plots
from moderation.evaluation.thresholds import load_thresholds, save_thresholds, tune_thresholds
from moderation.flags import to_plain
from moderation.training.batching import PaddingCollator
from moderation.training.checkpoints import load_checkpoint
from moderation.training.fitting import Fit, fit
from moderation.training.precision import resolve_precision
from moderation.training.prediction import predict_logits
from moderation.training.reproducibility import (
    PhaseTimer,
    describe_environment,
    make_reproducible,
    peak_memory_bytes,
)

logger = logging.getLogger(__name__)

_FIT_SETTINGS = (
    *("random_weights", "attention_dropout", "freeze_embeddings", "freeze_layers", "track", "resume", "save_every"),
    *("epochs", "batch_size", "lr", "head_lr", "weight_decay", "warmup", "grad_accumulation", "max_grad_norm", "seed"),
    *("pos_weight", "pos_weight_cap", "balanced_sampler", "best_metric", "patience"),
)
RUN_FORMAT = {"format": "content-moderation run", "version": 1}


def train(config: TrainConfig) -> int:
    """Fine-tune, tune thresholds on val, evaluate on test, write the run folder.

    Returns:
        0.

    Raises:
        ModerationError: settings, data or artifacts that cannot be used.
    """
    if config.dry_run:
        return _dry_run(config)
    config = dataclasses.replace(config, output_dir=config.output_dir or _default_output_dir(config.backbone))
    run = RunFolder(Path(str(config.output_dir)))
    _train_into(run, config)
    return 0


def _train_into(run: RunFolder, config: TrainConfig) -> None:
    timer = PhaseTimer()
    is_main = int(os.environ.get("RANK", "0")) == 0
    if not is_main:
        logging.getLogger("moderation").setLevel(logging.WARNING)
    make_reproducible(config.seed, config.threads)
    if is_main:
        _check_folder(run, config)

    with timer.phase("read"):
        splits = load_splits(**split_settings(config))
        if config.dry_run:
            splits = take_handful(splits, 4, config.seed)
    with timer.phase("backbone"):
        backbone = resolve_backbone(config.backbone, revision=config.revision, need_weights=not config.random_weights)
        tokenizer = load_tokenizer(backbone.path)
    with timer.phase("tokenize"):
        datasets = _encode(splits, tokenizer, config)
    if is_main:
        facts = _begin(run, config, splits, backbone, tokenizer)

    try:
        with timer.phase("train"):
            done = fit(
                run,
                datasets["train"],
                datasets["val"],
                tokenizer,
                splits.labels,
                splits.targets("train"),
                backbone_dir=backbone.path,
                about={"backbone": config.backbone, "max_length": config.max_length},
                **_fit_settings(config),
            )
    except KeyboardInterrupt:
        logger.warning("Interrupted. The same command with --resume goes on from the last saved state.")
        raise
    if not is_main:
        return
    with timer.phase("predict"):
        predict_splits(run, {split: datasets[split] for split in ("val", "test")}, tokenizer)
    with timer.phase("tune and evaluate"):
        _tune_and_evaluate(run, splits.labels, config)
    _finish(run, facts, timer, done)


def split_settings(config: TrainConfig) -> dict[str, Any]:
    """The arguments of `load_splits` that a run's settings give."""
    names = {field.name for field in dataclasses.fields(TableConfig)}
    names |= {"val_path", "test_path", "val_size", "test_size", "max_train_examples", "seed"}
    return {name: getattr(config, name) for name in sorted(names)}


def predict_splits(run: RunFolder, datasets: dict[str, Dataset], tokenizer: PreTrainedTokenizerBase) -> None:
    """Write probabilities and targets of each split, from the best checkpoint in float32."""
    checkpoint = load_checkpoint(run.checkpoint_best)
    model = checkpoint.model.to("cuda" if torch.cuda.is_available() else "cpu")
    collator = PaddingCollator(tokenizer.pad_token_id, tokenizer.padding_side)
    for split, dataset in datasets.items():
        logits = predict_logits(model, dataset, collator, description=f"Predict {split}")
        targets = np.asarray(dataset.with_format("numpy")["labels"][:], dtype=np.float32)
        write_predictions(run, split, sigmoid(logits), targets, checkpoint.labels)


def write_predictions(
    run: RunFolder,
    split: str,
    probabilities: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    labels: tuple[str, ...],
) -> None:
    """Write the two arrays of a split, each with a sidecar that names labels, split and kind."""
    about = {"labels": list(labels), "split": split}
    write_array(run.preds(split), probabilities, about | {"kind": "probabilities"})
    write_array(run.labels(split), targets, about | {"kind": "targets"})


def _encode(splits: Splits, tokenizer: PreTrainedTokenizerBase, config: TrainConfig) -> dict[str, Dataset]:
    return {
        split: df_to_hfds(
            splits.frames[split],
            tokenizer,
            splits.labels,
            text_column=config.text_column,
            max_length=config.max_length,
            cache_dir=None if config.dry_run else default_cache_dir(),
        )
        for split in SPLITS
    }


def _fit_settings(config: TrainConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in _FIT_SETTINGS} | {"precision": resolve_precision(config.precision)}


def _tune_and_evaluate(run: RunFolder, labels: tuple[str, ...], config: TrainConfig) -> None:
    probabilities, targets = np.load(run.preds("val")), np.load(run.labels("val"))
    results = tune_thresholds(
        probabilities, targets, labels, objective=config.objective, bootstrap=config.bootstrap, seed=config.seed
    )
    save_thresholds(run.thresholds, results, labels, {"split": "val", "preds_sha256": sha256(run.preds("val"))})
    thresholds = load_thresholds(run.thresholds, labels)
    for split in ("val", "test"):
        metrics = evaluate_predictions(
            np.load(run.preds(split)),
            np.load(run.labels(split)),
            labels,
            thresholds,
            bootstrap=config.bootstrap,
            seed=config.seed,
        )
        write_json(run.metrics(split), {"split": split} | metrics)
    print(format_table(metrics))


def _check_folder(run: RunFolder, config: TrainConfig) -> None:
    """Refuse a folder that holds a run, unless it shall be resumed with the same settings or overwritten."""
    if not run.run_json.exists():
        if config.resume:
            raise ArtifactError(f"{run.path}: holds no interrupted run to resume. Leave --resume out to start one.")
        return
    facts = read_json(run.run_json, "run.json of an interrupted run")
    if config.overwrite:
        return
    if not config.resume:
        raise ArtifactError(
            f"{run.path}: already holds a run ({facts.get('status', 'unknown')}). Choose another --output-dir, "
            "or pass --overwrite to replace it, or --resume to go on with an interrupted one."
        )
    if facts.get("status") == "done":
        raise ArtifactError(f"{run.path}: this run is complete; there is nothing to resume.")
    before, now = facts["settings"], to_plain(config)
    free = {"resume", "overwrite", "threads", "save_every", "track"}
    changed = [name for name in now if name not in free and before.get(name) != now[name]]
    if changed:
        raise ConfigError(
            "--resume: settings differ from those that the run began with:\n"
            + "\n".join(f"  {name}: was {before.get(name)}, is {now[name]}" for name in changed)
        )
    if facts["data"]["sha256"] != sha256(config.data_path):
        raise ArtifactError(f"{config.data_path}: the data changed since the run began; it cannot be resumed.")


def _begin(
    run: RunFolder,
    config: TrainConfig,
    splits: Splits,
    backbone: ResolvedBackbone,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    """Write run.json with all that is known before the first step, and the tokenizer."""
    if not config.resume:
        _clear(run)
    facts = RUN_FORMAT | {
        "status": "running",
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "settings": to_plain(config),
        "labels": list(splits.labels),
        "precision": resolve_precision(config.precision),
        "data": {
            "sha256": sha256(config.data_path),
            "left_out": splits.left_out,
            **{
                f"{name}_sha256": sha256(path)
                for name, path in (("val", config.val_path), ("test", config.test_path))
                if path is not None
            },
        },
        "splits": {split: len(frame) for split, frame in splits.frames.items()},
        "backbone": {"name": backbone.name, "hub_id": backbone.hub_id, "revision": backbone.revision}
        | {"weights_sha256": backbone.sha256},
        **describe_environment(),
    }
    write_json(run.run_json, facts)
    tokenizer.save_pretrained(run.tokenizer_dir)
    return facts


def _finish(run: RunFolder, facts: dict[str, Any], timer: PhaseTimer, done: Fit) -> None:
    with timer.phase("report"):
        save_logs_and_plots(run.path)
    facts |= {
        "status": "done",
        "seconds": timer.seconds,
        "peak_memory_bytes": peak_memory_bytes(),
        "training": dataclasses.asdict(done),
    }
    write_json(run.run_json, facts)
    save_logs_and_plots(run.path)  # once more, now that the page can show the seconds and the memory
    shutil.rmtree(run.resume_dir, ignore_errors=True)
    print(_next_steps(run, facts["settings"]["data_path"]))


def _next_steps(run: RunFolder, data_path: str) -> str:
    return f"""
Run folder   {run.path}
Report       {run.report}
Weights      {run.checkpoint_best}
Thresholds   {run.thresholds}

Next:
  moderation tune --preds {run.preds("val")} --labels {run.labels("val")} --objective 'precision>=0.9'
  moderation evaluate --checkpoint {run.checkpoint_best} --thresholds {run.thresholds}"""


def _clear(run: RunFolder) -> None:
    """Remove what an earlier run left in the folder, and nothing else."""
    folders = (run.tokenizer_dir, run.plots_dir, run.resume_dir)
    files = [run.checkpoint_best, run.checkpoint_final, run.thresholds, run.log, run.report, run.run_json]
    for split in SPLITS:
        files += [run.preds(split), run.labels(split), run.metrics(split)]
        files += [run.preds(split).with_suffix(".json"), run.labels(split).with_suffix(".json")]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    for file in files:
        file.unlink(missing_ok=True)


def _dry_run(config: TrainConfig) -> int:
    """Every phase on a handful of examples, in a folder that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="moderation-dry-run-") as folder:
        small = dataclasses.replace(
            config,
            output_dir=Path(folder) / "run",
            max_length=min(config.max_length, 32),
            epochs=1.0,
            bootstrap=min(config.bootstrap, 10),
            resume=False,
            track=(),
        )
        _train_into(RunFolder(Path(folder) / "run"), small)
    print("\nDry run: every phase works. Nothing was kept, and the figures above mean nothing.")
    return 0


def _default_output_dir(backbone: str) -> Path:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(backbone).name)
    return Path("runs") / f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H%M%S}-{name}"
