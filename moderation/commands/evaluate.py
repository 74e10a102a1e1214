"""`moderation evaluate`: measure a checkpoint with its thresholds on examples that it has not seen."""

import dataclasses
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from moderation.arrays import sidecar, write_predictions
from moderation.artifacts import RunFolder, default_cache_dir, find_target
from moderation.config import EvaluateConfig
from moderation.data.cleaning import load_labelled
from moderation.data.encoding import df_to_hfds
from moderation.data.languages import recognise
from moderation.data.splits import check_known, languages_of
from moderation.data.training_texts import count_seen, sketch_texts
from moderation.errors import ArtifactError, ConfigError, ModerationError
from moderation.evaluation.by_language import TextLanguages, format_languages, measure_tuned
from moderation.evaluation.language_calibration import load_tunings
from moderation.evaluation.metrics import format_table
from moderation.evaluation.probabilities import calibrate_texts
from moderation.evaluation.split_metrics import METRICS, SplitMetrics
from moderation.links import refuse_links_out
from moderation.locks import claimed
from moderation.options import change, no_effect, raise_problems
from moderation.report.render import save_logs_and_plots
from moderation.training.batching import PaddingCollator
from moderation.training.checkpoints import Checkpoint, load_checkpoint
from moderation.training.environment import make_reproducible
from moderation.training.options import TrainOptions
from moderation.training.prediction import predict_logits, to_fastest_device
from moderation.training.run_record import check_unchanged
from moderation.training.runs import (
    load_own_tokenizer,
    rebuild_splits,
    run_settings,
    settings_of_moved_table,
)
from moderation.tunings import Tunings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """A checkpoint that was measured.

    Args:
        name: What it was measured on: `test`, `val`, or the name of the table.
        metrics: Figures, with `calibration` if the run has calibrators.
        files: Written files: the metrics, the probabilities, and the report if it was drawn again.
    """

    name: str
    metrics: SplitMetrics
    files: tuple[Path, ...]


def evaluate(config: EvaluateConfig) -> int:
    """Predict, compare with the targets at the tuned thresholds, write and print the figures, draw the report.

    Without `data_path`, the run's own test split is rebuilt from run.json, if the data's hash is unchanged.

    Returns:
        0.

    Raises:
        ModerationError: checkpoint, thresholds, run.json or data are missing or do not belong together.
    """
    done = evaluate_checkpoint(config)
    print(format_table(done.metrics))
    if done.metrics.languages:
        print(f"\n{format_languages(done.metrics.languages)}")
    print("\n" + "\n".join(map(str, done.files)))
    return 0


def evaluate_checkpoint(config: EvaluateConfig) -> Evaluation:
    """Like `evaluate`, but print nothing.

    Raises:
        ModerationError: as there.
    """
    source = RunFolder(config.of_checkpoint.checkpoint.parent)
    run = RunFolder(config.output_dir or source.path)
    with claimed(run.path, "evaluate", inside=True, source=config.of_checkpoint.checkpoint):
        return _evaluate_into(run, source, config)


def _evaluate_into(run: RunFolder, source: RunFolder, config: EvaluateConfig) -> Evaluation:
    if config.of_checkpoint.checkpoint.is_file():  # the loader reports a missing one
        check_unchanged(source, config.of_checkpoint.checkpoint, source.calibration)
    checkpoint = load_checkpoint(config.of_checkpoint.checkpoint)
    calibrated = source.calibration.is_file()
    tunings = load_tunings(source.calibration, config.thresholds or source.thresholds, checkpoint.labels)
    settings = run_settings(source)
    make_reproducible(settings.run.seed, config.threads)
    moved = _settings_of_own_table(config, settings, source)
    name = _choose_name(config, source, is_own=moved is not None)
    draws = name == "test" and run.path == source.path
    _check_places(run, name, with_report=draws)
    split, frame = _examples(config, settings, moved, source, checkpoint)
    tokenizer = load_own_tokenizer(source, checkpoint)
    dataset = df_to_hfds(
        frame,
        tokenizer,
        checkpoint.labels,
        text_column=config.table.text_column or settings.text_column,
        max_length=checkpoint.about.max_length or settings.model.max_length,
        cache_dir=default_cache_dir(),
    )
    logits = predict_logits(
        to_fastest_device(checkpoint.model),
        dataset,
        PaddingCollator(tokenizer.pad_token_id, tokenizer.padding_side),
        batch_size=config.of_checkpoint.batch_size,
        description=f"Predict {name}",
    )
    labels, languages = checkpoint.labels, _languages(frame, config.table.text_column or settings.text_column, tunings)
    probabilities = calibrate_texts(logits, tunings, languages.recognised)
    targets = frame[list(labels)].to_numpy(dtype=np.float32)
    write_predictions(
        run, name, probabilities, targets, labels, split=split, calibrated=calibrated, languages=languages.recognised
    )
    metrics = measure_tuned(
        probabilities,
        targets,
        labels,
        tunings,
        languages=languages,
        logits=logits if calibrated else None,
        bootstrap=config.bootstrap,
        seed=settings.run.seed,
    )
    metrics = dataclasses.replace(
        metrics, split=split, checkpoint=config.of_checkpoint.checkpoint.name, step=checkpoint.about.step
    )
    METRICS.write(run.metrics(name), metrics)
    written = [run.metrics(name), run.preds(name)]
    if draws:
        written += [path for path in save_logs_and_plots(run.path) if path == run.report]
    return Evaluation(name, metrics, tuple(written))


def _languages(frame: pd.DataFrame, text_column: str, tunings: Tunings) -> TextLanguages:
    """The languages of a table's rows; they are recognised if the table names several, or thresholds depend on them."""
    named = languages_of(frame)
    if not tunings.by_language and len(set(named or ())) < 2:
        return TextLanguages(named)
    texts = frame[text_column].astype(str).tolist()
    return TextLanguages(named, recognise(texts, "Evaluating a model with thresholds by language"))


def _check_places(run: RunFolder, name: str, *, with_report: bool) -> None:
    """Refuse, before the work and not after it, links out of the folder, and folders with names of files."""
    arrays = (run.preds(name), run.labels(name))
    plots = [*run.plots_dir.glob("*.png")] if with_report else []
    for path in (*arrays, *map(sidecar, arrays), run.metrics(name), *([run.report] if with_report else []), *plots):
        find_target(path)
        refuse_links_out(path, run.path)
    if with_report:
        refuse_links_out(run.plots_dir)
        if os.path.lexists(run.plots_dir) and not run.plots_dir.is_dir():
            raise ArtifactError(f"{run.plots_dir}: not a folder, but the plots go into one of that name. Remove it.")


def _settings_of_own_table(config: EvaluateConfig, settings: TrainOptions, source: RunFolder) -> TrainOptions | None:
    """The settings with the current location of the run's own table; None if another table is to be measured."""
    if config.of_checkpoint.data_path is None:
        return settings
    moved = settings_of_moved_table(source, settings, config.of_checkpoint.data_path)
    if moved is None:
        raise_problems(no_effect(config, ["split"], "no effect, since all of --data-path is measured"))
        return None
    asked = config.table.given
    unused = [name for name in asked if asked[name] != getattr(moved.data.table, name)]
    raise_problems(
        no_effect(config, unused, "no effect, since --data-path is the run's own table, which is read as in training")
    )
    return moved


def _choose_name(config: EvaluateConfig, source: RunFolder, *, is_own: bool) -> str:
    """What the results are called: a split of the run's data, or the name of another table."""
    asked = config.of_checkpoint
    if asked.data_path is not None and not is_own:
        return _name_of(asked.data_path)
    if asked.checkpoint.name == source.checkpoint_best.name:
        return asked.split
    return f"{asked.split}-{asked.checkpoint.stem}"  # so that the run's own record is kept


def _examples(
    config: EvaluateConfig,
    settings: TrainOptions,
    moved: TrainOptions | None,
    source: RunFolder,
    checkpoint: Checkpoint,
) -> tuple[str, pd.DataFrame]:
    """Split and rows to evaluate on: another table as a whole, or a split of the run's data.

    Another table counts as test: its predictions must not be used for tuning, like those of the run's own test split.
    """
    if moved is None and config.of_checkpoint.data_path is not None:
        frame = _other_table(config.of_checkpoint.data_path, config, settings, checkpoint)
        _warn_of_seen(frame[config.table.text_column or settings.text_column], settings, source)
        return "test", frame
    cure = "Restore the file, or name a table with --data-path to evaluate on all of it."
    splits = rebuild_splits(source, moved or settings, cure)
    return config.of_checkpoint.split, splits.frames[config.of_checkpoint.split]


def _other_table(
    data_path: Path, config: EvaluateConfig, settings: TrainOptions, checkpoint: Checkpoint
) -> pd.DataFrame:
    """A table as a whole, read as the flags say, otherwise like the training table."""
    labels = config.table.label_columns or checkpoint.labels
    if len(labels) != len(checkpoint.labels):
        raise ConfigError(
            f"--label-columns names {len(labels)} columns; expected {len(checkpoint.labels)}, one per label of "
            f"the checkpoint, in their order: {', '.join(checkpoint.labels)}."
        )
    table = change(settings.data.table, **config.table.given | {"label_columns": tuple(labels)})
    frame = load_labelled(data_path, table, require_both_classes=False)
    check_known(frame, labels, str(data_path))
    return frame.rename(columns=dict(zip(labels, checkpoint.labels, strict=True)))


def _warn_of_seen(texts: pd.Series, settings: TrainOptions, source: RunFolder) -> None:
    """Report how many of these texts the model was trained or tuned on, if the run's own table is still there."""
    try:
        splits = rebuild_splits(source, change(settings, disguised=0.0), "")
    except ModerationError:
        logger.info("The run's own table is missing or changed, so it is unknown how many of these texts were in it.")
        return
    known = (text for split in ("train", "val") for text in splits.frames[split][settings.text_column])
    if note := str(count_seen(texts, sketch_texts(known, most=None), most=None)):
        logger.warning("%s", note)


def _name_of(data_path: Path) -> str:
    """A name for the table from its file name; `val` and `test` are reserved for the run's own splits."""
    stem = data_path.name.split(".")[0]
    return f"{stem}-file" if stem in ("train", "val", "test") else stem
