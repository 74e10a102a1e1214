"""`moderation train`: labelled comments in, a tuned and evaluated run folder out. Read this file first."""

import datetime
import logging
import re
import shutil
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from moderation.arrays import write_predictions
from moderation.artifacts import RunFolder, default_cache_dir, sha256
from moderation.backbones.hub import CONFIG
from moderation.backbones.registry import ResolvedBackbone, load_tokenizer, resolve_backbone
from moderation.config import TrainConfig
from moderation.data.encoding import df_to_hfds, tokenizer_sha256
from moderation.data.folding import fold_disguises
from moderation.data.languages import recognise
from moderation.data.splits import SPLITS, Splits, load_splits, take_handful
from moderation.errors import ArtifactError, ConfigError
from moderation.evaluation.by_language import TextLanguages, format_languages, measure_tuned
from moderation.evaluation.calibration import fit_calibrators, save_calibration
from moderation.evaluation.language_calibration import fit_by_language, load_tunings
from moderation.evaluation.language_thresholds import tune_by_language
from moderation.evaluation.metrics import format_table
from moderation.evaluation.objectives import parse_objective
from moderation.evaluation.probabilities import calibrate_texts
from moderation.evaluation.split_metrics import METRICS, SplitMetrics
from moderation.evaluation.thresholds import save_thresholds, tune_thresholds
from moderation.locks import claimed
from moderation.options import change
from moderation.report.render import save_logs_and_plots
from moderation.run_records import BackboneFacts, DataFacts, RunRecord
from moderation.training.batching import PaddingCollator
from moderation.training.checkpoints import CheckpointFacts, load_checkpoint
from moderation.training.environment import PhaseTimer, is_main, make_reproducible, n_processes
from moderation.training.fitting import Examples, fit
from moderation.training.model import check_tokenizer, start_model
from moderation.training.precision import resolve_precision
from moderation.training.prediction import predict_logits, to_fastest_device
from moderation.training.run_record import (
    RunFacts,
    begin_run,
    check_run_folder,
    finish_run,
    nothing_half_written,
    save_tokenizer,
)
from moderation.training.tracking import check_trackers

FloatArray = npt.NDArray[np.float32]

logger = logging.getLogger(__name__)


def train(config: TrainConfig) -> int:
    """Fine-tune, tune thresholds on val, evaluate on test, write the run folder; print the test figures.

    Returns:
        0.

    Raises:
        ModerationError: settings, data or artifacts cannot be used.
    """
    trained = train_run(config)
    if trained.metrics is not None:  # only one of several processes reports
        print(f"Test split\n\n{format_table(trained.metrics)}")
        if trained.metrics.languages:
            print(f"\n{format_languages(trained.metrics.languages)}")
        if config.run.dry_run:
            print("\nDry run: every phase works. Nothing was kept, and the figures above are meaningless.")
        else:
            print(_next_steps(trained.run))
    return 0


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Args:
        run: Its folder; a dry run does not keep it.
        metrics: Figures of the test split; None in all processes except the first.
    """

    run: RunFolder
    metrics: SplitMetrics | None


def train_run(config: TrainConfig) -> Trained:
    """Like `train`, but print nothing.

    Raises:
        ModerationError: settings, data or artifacts cannot be used.
    """
    check_trackers(config.run.track)  # before the training, not after it
    parse_objective(config.objective)
    if config.run.dry_run:
        return _dry_run(config)
    config = change(config, output_dir=config.run.output_dir or _default_output_dir(config.model.backbone))
    run = RunFolder(Path(str(config.run.output_dir)))
    try:
        with claimed(run.path, "train", inside=True, source=config.data.data_path) if is_main() else nullcontext():
            return Trained(run, _train_into(run, config))
    except KeyboardInterrupt:
        if run.run_json.exists():
            words = f"--output-dir {run.path} --resume"
            logger.warning("Interrupted. To continue from the last saved state, run the same command with %s.", words)
        raise


def _train_into(run: RunFolder, config: TrainConfig) -> SplitMetrics | None:
    timer = PhaseTimer()
    for idle in config.idle_settings if is_main() else ():
        logger.warning("%s.", idle)
    make_reproducible(config.run.seed, config.threads)
    if is_main():
        check_run_folder(run, config)
    else:
        logging.getLogger("moderation").setLevel(logging.WARNING)

    with timer.phase("read"):
        cut = config.sealed_splits
        splits = load_splits(cut.data, seed=cut.seed, fold_disguises=cut.fold_disguises)
        if config.run.dry_run:
            splits = take_handful(splits, 4, config.run.seed)
    with timer.phase("backbone"):
        model, need_weights = config.model, not config.model.random_weights
        backbone = resolve_backbone(model.backbone, revision=model.revision, need_weights=need_weights)
        tokenizer = load_tokenizer(backbone.path)
        if model.fold_disguises:
            tokenizer = fold_disguises(tokenizer)
    with timer.phase("tokenize"):
        datasets = _encode(splits, tokenizer, config)
    begun: list[RunRecord] = []

    def begin() -> None:
        if is_main():
            begun.append(begin_run(run, config, _facts(config, splits, backbone, tokenizer)))
            save_tokenizer(run, tokenizer)

    with nothing_half_written(run, begun):
        with timer.phase("train"):
            about = CheckpointFacts(
                backbone=model.backbone,
                max_length=min(model.max_length, tokenizer.model_max_length),
                tokenizer_sha256=tokenizer_sha256(tokenizer),
            )
            examples = _examples(splits, datasets, tokenizer)
            classifier = start_model(backbone.path, splits.labels, model)
            check_tokenizer(tokenizer, classifier, backbone.path)
            done = fit(run, classifier, examples, config.fit, around=config.run, about=about, begin=begin)
        with timer.phase("predict"):
            logits = _predict(run, datasets, tokenizer)
        if not is_main():
            return None
        with timer.phase("tune and evaluate"):
            languages = _languages(splits, config)
            _calibrate(run, logits["val"], splits, languages["val"], config)
            _write_probabilities(run, logits, splits, languages, config)
            metrics = _tune_and_evaluate(run, logits, splits, languages, config)
        finish_run(run, begun[0], timer, done)
    write_report(run)
    return metrics


def write_report(run: RunFolder) -> None:
    """Write the plots and the page of a finished run.

    Raises:
        ArtifactError: the disk is full; the message says that the training itself is complete.
    """
    try:
        save_logs_and_plots(run.path)
    except ArtifactError as error:
        raise ArtifactError(
            f"{error}\nThe training itself is complete: only plots or {run.report.name} are missing. To write them: "
            f"moderation evaluate --checkpoint {run.checkpoint_best}"
        ) from error


def _encode(splits: Splits, tokenizer: PreTrainedTokenizerBase, config: TrainConfig) -> dict[str, Dataset]:
    return {
        split: df_to_hfds(
            splits.frames[split],
            tokenizer,
            splits.labels,
            text_column=config.text_column,
            max_length=config.model.max_length,
            cache_dir=None if config.run.dry_run else default_cache_dir(),
        )
        for split in SPLITS
    }


def _examples(splits: Splits, datasets: dict[str, Dataset], tokenizer: PreTrainedTokenizerBase) -> Examples:
    return Examples(
        train=datasets["train"],
        val=datasets["val"],
        tokenizer=tokenizer,
        labels=splits.labels,
        targets=splits.targets("train"),
        optional=splits.optional_rows(),
    )


def _facts(
    config: TrainConfig, splits: Splits, backbone: ResolvedBackbone, tokenizer: PreTrainedTokenizerBase
) -> RunFacts:
    return RunFacts(
        labels=splits.labels,
        precision=resolve_precision(config.fit.precision),
        data=DataFacts(left_out=splits.left_out, added=splits.added),
        splits={split: len(frame) for split, frame in splits.frames.items()},
        backbone=BackboneFacts(
            name=backbone.name,
            hub_id=backbone.hub_id,
            revision=backbone.revision,
            weights_sha256=backbone.sha256,
            config_sha256=sha256(backbone.path / CONFIG),
            tokenizer_sha256=tokenizer_sha256(tokenizer),
        ),
    )


def _predict(run: RunFolder, datasets: dict[str, Dataset], tokenizer: PreTrainedTokenizerBase) -> dict[str, FloatArray]:
    """Logits of val and test, from the best checkpoint, in float32; shared by all processes."""
    model = to_fastest_device(load_checkpoint(run.checkpoint_best).model)
    collator = PaddingCollator(tokenizer.pad_token_id, tokenizer.padding_side)
    return {
        split: predict_logits(model, datasets[split], collator, description=f"Predict {split}")
        for split in ("val", "test")
    }


def _languages(splits: Splits, config: TrainConfig) -> dict[str, TextLanguages]:
    """The languages of val and test; they are recognised only if the table names several."""
    named = {split: splits.languages(split) for split in ("val", "test")}
    if max(len(set(codes or ())) for codes in named.values()) < 2:
        return {split: TextLanguages(codes) for split, codes in named.items()}
    found = {}
    for split, codes in named.items():
        texts = splits.frames[split][config.text_column].astype(str).tolist()
        found[split] = TextLanguages(codes, recognise(texts, "Tuning by language"))
    return found


def _calibrate(
    run: RunFolder, logits: FloatArray, splits: Splits, languages: TextLanguages, config: TrainConfig
) -> None:
    """Fit calibrators to logits of val, in general and by language, and save them, unless `--calibration none`."""
    if config.calibration == "none":
        return
    labels, targets = splits.labels, splits.targets("val")
    results = fit_calibrators(logits, targets, labels, seed=config.run.seed)
    by_language = fit_by_language(logits, targets, languages.recognised or (), labels, seed=config.run.seed)
    about = {"split": "val", "n_examples": len(logits), "seed": config.run.seed}
    save_calibration(run.calibration, results, labels, about, by_language)
    logger.info("Calibration: %s", ", ".join(f"{name} {result.calibrator.method}" for name, result in results.items()))
    if by_language:
        logger.info("Also calibrated by language: %s", ", ".join(by_language))


def _write_probabilities(
    run: RunFolder,
    logits: dict[str, FloatArray],
    splits: Splits,
    languages: dict[str, TextLanguages],
    config: TrainConfig,
) -> None:
    tunings = load_tunings(run.calibration, None, splits.labels)
    for split, values in logits.items():
        recognised = languages[split].recognised
        write_predictions(
            run,
            split,
            calibrate_texts(values, tunings, recognised),
            splits.targets(split),
            splits.labels,
            split=split,
            calibrated=config.calibration != "none",
            languages=recognised,
        )


def _tune_and_evaluate(
    run: RunFolder,
    logits: dict[str, FloatArray],
    splits: Splits,
    languages: dict[str, TextLanguages],
    config: TrainConfig,
) -> SplitMetrics:
    """Tune on calibrated probabilities of val, measure val and test.

    It does not bias the thresholds that the calibrators were fitted to val, too: a calibrator keeps the order of the
    examples, so the best cut flags the same ones as without it, and its value is the same.
    """
    labels, calibrated, goal = splits.labels, config.calibration != "none", config.objective
    bootstrap, seed = config.run.bootstrap, config.run.seed
    val, codes = (np.load(run.preds("val")), np.load(run.labels("val"))), languages["val"].recognised or ()
    thresholds = tune_thresholds(*val, labels, objective=goal, bootstrap=bootstrap, seed=seed)
    own = tune_by_language(*val, codes, labels, objective=goal, bootstrap=bootstrap, seed=seed)
    about = {"split": "val", "preds_sha256": sha256(run.preds("val")), "calibrated": calibrated}
    save_thresholds(run.thresholds, thresholds, labels, about, own)
    tunings = load_tunings(run.calibration, run.thresholds, labels)
    for split in ("val", "test"):
        metrics = measure_tuned(
            np.load(run.preds(split)),
            np.load(run.labels(split)),
            labels,
            tunings,
            languages=languages[split],
            logits=logits[split] if calibrated else None,
            bootstrap=bootstrap,
            seed=seed,
        )
        metrics = replace(metrics, split=split)
        METRICS.write(run.metrics(split), metrics)
    return metrics


def _dry_run(config: TrainConfig) -> Trained:
    """Run every phase on a few examples, in a folder that is deleted afterwards."""
    if n_processes() > 1:
        raise ConfigError("--dry-run is for one process; leave torchrun out.")
    with tempfile.TemporaryDirectory(prefix="moderation-dry-run-") as folder:
        run = RunFolder(Path(folder) / "run")
        small = change(
            config,
            output_dir=run.path,
            max_length=min(config.model.max_length, 32),
            epochs=1.0,
            bootstrap=min(config.run.bootstrap, 10),
            resume=False,
            overwrite=False,
            track=(),
        )
        return Trained(run, _train_into(run, small))


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
        raise ConfigError("--output-dir is missing: with several processes it is required, the same one for all.")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(backbone).name)
    return Path("runs") / f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H%M%S}-{name}"
