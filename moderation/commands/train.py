"""`moderation train`: labelled comments in, a tuned and evaluated run folder out. Read this file first."""

import dataclasses
import datetime
import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from moderation.artifacts import RunFolder, default_cache_dir, sha256, write_predictions
from moderation.backbones.registry import ResolvedBackbone, load_tokenizer, resolve_backbone
from moderation.calibrators import Calibrator
from moderation.config import TrainConfig
from moderation.data.encoding import df_to_hfds, tokenizer_sha256
from moderation.data.folding import fold_disguises
from moderation.data.splits import SPLITS, Splits, load_splits, take_handful
from moderation.errors import ConfigError
from moderation.evaluation.calibration import calibrators_of, fit_calibrators, save_calibration
from moderation.evaluation.metrics import format_table, measure_split
from moderation.evaluation.objectives import parse_objective
from moderation.evaluation.probabilities import calibrate, sigmoid
from moderation.evaluation.reliability import compare_calibration
from moderation.evaluation.split_metrics import METRICS
from moderation.evaluation.thresholds import save_thresholds, tune_thresholds
from moderation.flags import to_plain
from moderation.locks import claimed
from moderation.report.render import save_logs_and_plots
from moderation.training.batching import PaddingCollator
from moderation.training.checkpoints import load_checkpoint
from moderation.training.environment import PhaseTimer, is_main, make_reproducible, n_processes
from moderation.training.fitting import fit
from moderation.training.precision import resolve_precision
from moderation.training.prediction import predict_logits, to_fastest_device
from moderation.training.run_record import begin_run, check_run_folder, finish_run, nothing_half_written, save_tokenizer
from moderation.training.tracking import check_trackers

FloatArray = npt.NDArray[np.float32]

logger = logging.getLogger(__name__)


def train(config: TrainConfig) -> int:
    """Fine-tune, tune thresholds on val, evaluate on test, write the run folder.

    Returns:
        0.

    Raises:
        ModerationError: settings, data or artifacts that cannot be used.
    """
    check_trackers(config.track)  # before the training, not after it
    parse_objective(config.objective)
    if config.dry_run:
        _dry_run(config)
        return 0
    config = dataclasses.replace(config, output_dir=config.output_dir or _default_output_dir(config.backbone))
    run = RunFolder(Path(str(config.output_dir)))
    try:
        with claimed(run.path, "train", inside=True, source=config.data_path) if is_main() else nullcontext():
            _train_into(run, config)
    except KeyboardInterrupt:
        if run.run_json.exists():
            words = f"--output-dir {run.path} --resume"
            logger.warning("Interrupted. The same command with %s goes on from the last saved state.", words)
        raise
    if is_main():
        print(_next_steps(run))
    return 0


def _train_into(run: RunFolder, config: TrainConfig) -> None:
    timer = PhaseTimer()
    for idle in config.idle_settings if is_main() else ():
        logger.warning("%s.", idle)
    make_reproducible(config.seed, config.threads)
    if is_main():
        check_run_folder(run, to_plain(config))
    else:
        logging.getLogger("moderation").setLevel(logging.WARNING)

    with timer.phase("read"):
        splits = load_splits(**config.split_settings)
        if config.dry_run:
            splits = take_handful(splits, 4, config.seed)
    with timer.phase("backbone"):
        backbone = resolve_backbone(config.backbone, revision=config.revision, need_weights=not config.random_weights)
        tokenizer = load_tokenizer(backbone.path)
        if config.fold_disguises:
            tokenizer = fold_disguises(tokenizer)
    with timer.phase("tokenize"):
        datasets = _encode(splits, tokenizer, config)
    record: dict[str, Any] = {}

    def begin() -> None:
        if is_main():
            record.update(begin_run(run, to_plain(config), _facts(config, splits, backbone)))
            save_tokenizer(run, tokenizer)

    with nothing_half_written(run, record):
        with timer.phase("train"):
            done = fit(
                run,
                datasets["train"],
                datasets["val"],
                tokenizer,
                splits.labels,
                splits.targets("train"),
                optional=splits.optional_rows(),
                backbone_dir=backbone.path,
                about={
                    "backbone": config.backbone,
                    "max_length": min(config.max_length, tokenizer.model_max_length),
                    "tokenizer_sha256": tokenizer_sha256(tokenizer),
                },
                begin=begin,
                **config.fit_settings | {"precision": resolve_precision(config.precision)},
            )
        with timer.phase("predict"):
            logits = _predict(run, datasets, tokenizer)
        if not is_main():
            return
        with timer.phase("tune and evaluate"):
            calibrators = _calibrate(run, logits["val"], splits, config)
            _write_probabilities(run, logits, calibrators, splits, config)
            _tune_and_evaluate(run, logits, calibrators, splits.labels, config)
        finish_run(run, record, timer, done)
    save_logs_and_plots(run.path)


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


def _facts(config: TrainConfig, splits: Splits, backbone: ResolvedBackbone) -> dict[str, Any]:
    return {
        "labels": list(splits.labels),
        "precision": resolve_precision(config.precision),
        "data": {"left_out": splits.left_out, "added": splits.added},
        "splits": {split: len(frame) for split, frame in splits.frames.items()},
        "backbone": {
            "name": backbone.name,
            "hub_id": backbone.hub_id,
            "revision": backbone.revision,
            "weights_sha256": backbone.sha256,
        },
    }


def _predict(run: RunFolder, datasets: dict[str, Dataset], tokenizer: PreTrainedTokenizerBase) -> dict[str, FloatArray]:
    """Logits of val and test, from the best checkpoint, in float32; shared by all processes."""
    model = to_fastest_device(load_checkpoint(run.checkpoint_best).model)
    collator = PaddingCollator(tokenizer.pad_token_id, tokenizer.padding_side)
    return {
        split: predict_logits(model, datasets[split], collator, description=f"Predict {split}")
        for split in ("val", "test")
    }


def _calibrate(run: RunFolder, logits: FloatArray, splits: Splits, config: TrainConfig) -> tuple[Calibrator, ...]:
    """Fit calibrators to logits of val and keep them; those that change nothing where none are wanted."""
    if config.calibration == "none":
        return (Calibrator(),) * len(splits.labels)
    results = fit_calibrators(logits, splits.targets("val"), splits.labels, seed=config.seed)
    about = {"split": "val", "n_examples": len(logits), "seed": config.seed}
    save_calibration(run.calibration, results, splits.labels, about)
    logger.info("Calibration: %s", ", ".join(f"{name} {result.calibrator.method}" for name, result in results.items()))
    return calibrators_of(results, splits.labels)


def _write_probabilities(
    run: RunFolder,
    logits: dict[str, FloatArray],
    calibrators: Sequence[Calibrator],
    splits: Splits,
    config: TrainConfig,
) -> None:
    calibrated = config.calibration != "none"
    for split, values in logits.items():
        probabilities, targets = calibrate(values, calibrators), splits.targets(split)
        write_predictions(run, split, probabilities, targets, splits.labels, split=split, calibrated=calibrated)


def _tune_and_evaluate(
    run: RunFolder,
    logits: dict[str, FloatArray],
    calibrators: Sequence[Calibrator],
    labels: tuple[str, ...],
    config: TrainConfig,
) -> None:
    """Tune on calibrated probabilities of val, measure val and test.

    That the calibrators were fitted to val too makes the thresholds no less honest: a calibrator keeps the order of the
    examples, so that at its best cut the same ones are flagged as without it, and the value of that cut is the same.
    """
    arrays = {split: (np.load(run.preds(split)), np.load(run.labels(split))) for split in ("val", "test")}
    options = {"bootstrap": config.bootstrap, "seed": config.seed}
    thresholds = tune_thresholds(*arrays["val"], labels, objective=config.objective, **options)
    about = {"split": "val", "preds_sha256": sha256(run.preds("val")), "calibrated": config.calibration != "none"}
    save_thresholds(run.thresholds, thresholds, labels, about)
    for split, (probabilities, targets) in arrays.items():
        metrics = dataclasses.replace(measure_split(probabilities, targets, labels, thresholds, **options), split=split)
        if config.calibration != "none":
            changed = compare_calibration(sigmoid(logits[split]), probabilities, targets, labels, calibrators)
            metrics = dataclasses.replace(metrics, calibration=changed)
        METRICS.write(run.metrics(split), metrics)
    print(f"Test split\n\n{format_table(metrics)}")


def _dry_run(config: TrainConfig) -> None:
    """Every phase on a handful of examples, in a folder that is thrown away."""
    if n_processes() > 1:
        raise ConfigError("--dry-run is for one process; leave torchrun out.")
    with tempfile.TemporaryDirectory(prefix="moderation-dry-run-") as folder:
        run = RunFolder(Path(folder) / "run")
        small = dataclasses.replace(
            config,
            output_dir=run.path,
            max_length=min(config.max_length, 32),
            epochs=1.0,
            bootstrap=min(config.bootstrap, 10),
            resume=False,
            overwrite=False,
            track=(),
        )
        _train_into(run, small)
    print("\nDry run: every phase works. Nothing was kept, and the figures above mean nothing.")


def _next_steps(run: RunFolder) -> str:
    python, here = Path(sys.executable), Path.cwd()
    python = python.relative_to(here) if python.is_relative_to(here) else python
    moderation = "moderation" if shutil.which("moderation") else f"{python} -m moderation"
    return f"""
Run folder   {run.path}
Report       {run.report}
Weights      {run.checkpoint_best}
Thresholds   {run.thresholds}

Next:
  {moderation} tune --preds {run.preds("val")} --labels {run.labels("val")} --objective "precision>=0.9"
  {moderation} evaluate --checkpoint {run.checkpoint_best} --thresholds {run.thresholds}
  {moderation} export {run.path} --to model-export"""


def _default_output_dir(backbone: str) -> Path:
    if n_processes() > 1:
        raise ConfigError("--output-dir is missing: with several processes it must be named, the same for all.")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(backbone).name)
    return Path("runs") / f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H%M%S}-{name}"
