"""Rebuild the settings, the splits and the tokenizer of a run from its folder, for what follows the training."""

import logging
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from moderation.artifacts import RunFolder, sha256
from moderation.backbones.registry import load_tokenizer
from moderation.data.encoding import tokenizer_sha256
from moderation.data.splits import Splits, load_splits
from moderation.errors import ArtifactError, ConfigError, DataError
from moderation.evaluation.split_metrics import METRICS
from moderation.flags import from_plain
from moderation.language_codes import UNDETERMINED, base_language, name_languages
from moderation.options import change
from moderation.run_records import read_record
from moderation.training.checkpoints import Checkpoint
from moderation.training.model import check_tokenizer
from moderation.training.options import TrainOptions
from moderation.training.run_record import hash_tables

logger = logging.getLogger(__name__)


def run_settings(run: RunFolder) -> TrainOptions:
    """The settings that a run was trained with.

    Raises:
        ArtifactError: there is no `run.json`, or this version does not know its settings.
    """
    try:
        return from_plain(TrainOptions, dict(read_record(run.run_json).settings), str(run.run_json))
    except ConfigError as error:  # they are not settings of this command
        raise ArtifactError(
            f"{run.run_json}: its settings cannot be read (changed, or of another version).\n{error}"
        ) from error


def languages_of_run(run: RunFolder, settings: TrainOptions) -> tuple[str, ...]:
    """The languages that a run's model can be said to read: those of its rows; if it kept any, those it was judged by.

    Returns:
        Their codes; none if they are not known.
    """
    kept = name_languages(settings.data.table.languages)
    if kept or not run.metrics("val").is_file():
        return kept
    measured = METRICS.read(run.metrics("val")).languages or {}
    codes = dict.fromkeys(base_language(code) for code in measured if code != UNDETERMINED)
    return tuple(code for code in codes if name_languages([code]))


def settings_of_moved_table(run: RunFolder, settings: TrainOptions, data_path: Path) -> TrainOptions | None:
    """The settings with the table's new location; None if it is not the run's table."""
    recorded = read_record(run.run_json).data
    moved = change(settings, data_path=data_path)
    return moved if sha256(data_path) == recorded.sha256 else None


def rebuild_splits(run: RunFolder, settings: TrainOptions, cure: str) -> Splits:
    """Split the run's data into the same splits again.

    The extra table of the train split does not affect val or test: if it is missing or has changed, train is
    rebuilt without it, and this is logged.

    Args:
        run: The folder.
        settings: From `run_settings` or `settings_of_moved_table`.
        cure: What to do if the data changed, for the message.

    Raises:
        ArtifactError: the data changed since the run.
    """
    recorded = read_record(run.run_json).data.hashes
    extra = settings.data.extra_train_path
    if extra is not None and not (extra.is_file() and sha256(extra) == recorded.get("extra_train_sha256")):
        logger.info("%s: missing or changed since the run; the train split is rebuilt without it.", extra)
        settings = change(settings, extra_train_path=None)
    try:
        now = hash_tables(settings.data)
    except (ArtifactError, DataError) as error:
        raise ArtifactError(
            f"{error}\nThe path of this table is from {run.run_json}, relative to {Path.cwd()}. {cure}"
        ) from error
    changed = [key for key in now if now[key] != recorded.get(key)]
    if changed:
        raise ArtifactError(
            f"{run.run_json}: the data changed since the run ({', '.join(changed)} differs), so its splits cannot be "
            f"rebuilt. {cure}"
        )
    cut = settings.sealed_splits
    return load_splits(cut.data, seed=cut.seed, fold_disguises=cut.fold_disguises)


def load_own_tokenizer(run: RunFolder, checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """The tokenizer next to a checkpoint.

    Raises:
        ArtifactError: it is missing, or not the one that the checkpoint was trained with.
    """
    if not run.tokenizer_dir.is_dir():
        raise ArtifactError(f"{run.tokenizer_dir}: no such folder; the checkpoint's tokenizer belongs next to it.")
    tokenizer = load_tokenizer(run.tokenizer_dir)
    if checkpoint.about.tokenizer_sha256 not in (None, tokenizer_sha256(tokenizer)):
        raise ArtifactError(
            f"{run.tokenizer_dir}: not the tokenizer that the checkpoint was trained with. Keep a checkpoint in its "
            "own run folder."
        )
    check_tokenizer(tokenizer, checkpoint.model, run.tokenizer_dir)
    return tokenizer
