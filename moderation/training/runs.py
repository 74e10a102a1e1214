"""The past of a run: its settings, its splits and its tokenizer, rebuilt from the run folder for what comes after."""

import logging
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from moderation.artifacts import RunFolder, sha256
from moderation.backbones.registry import load_tokenizer
from moderation.data.encoding import tokenizer_sha256
from moderation.data.splits import Splits, load_splits
from moderation.errors import ArtifactError, ConfigError, DataError
from moderation.flags import from_plain
from moderation.options import change
from moderation.training.checkpoints import Checkpoint
from moderation.training.model import check_tokenizer
from moderation.training.options import TrainOptions
from moderation.training.run_record import hash_tables, read_record

logger = logging.getLogger(__name__)


def run_settings(run: RunFolder) -> TrainOptions:
    """The settings that a run was trained with.

    Raises:
        ArtifactError: no `run.json`, or one whose settings this version does not know.
    """
    try:
        return from_plain(TrainOptions, read_record(run).settings, str(run.run_json))
    except ConfigError as error:  # they are no settings of this command
        raise ArtifactError(
            f"{run.run_json}: its settings cannot be read (changed, or of another version).\n{error}"
        ) from error


def settings_of_moved_table(run: RunFolder, settings: TrainOptions, data_path: Path) -> TrainOptions | None:
    """The settings with the table's new place; None where it is another table than the run's."""
    recorded = read_record(run).data
    moved = change(settings, data_path=data_path)
    return moved if sha256(data_path) == recorded.get("sha256") else None


def rebuild_splits(run: RunFolder, settings: TrainOptions, cure: str) -> Splits:
    """Cut the run's data into the same splits again.

    The extra table of the train split touches neither val nor test: where it is gone or another one by now, train is
    rebuilt without it, which is said.

    Args:
        run: The folder.
        settings: From `run_settings` or `settings_of_moved_table`.
        cure: What to do about data that changed, for the message.

    Raises:
        ArtifactError: the data changed since the run.
    """
    recorded = read_record(run).data
    extra = settings.data.extra_train_path
    if extra is not None and not (extra.is_file() and sha256(extra) == recorded.get("extra_train_sha256")):
        logger.info("%s: gone or changed since the run; the train split is rebuilt without it.", extra)
        settings = change(settings, extra_train_path=None)
    try:
        now = hash_tables(settings.data)
    except (ArtifactError, DataError) as error:
        raise ArtifactError(f"{error}\nThis table stands in {run.run_json}, seen from {Path.cwd()}. {cure}") from error
    changed = [key for key in now if now[key] != recorded.get(key)]
    if changed:
        raise ArtifactError(
            f"{run.run_json}: the data changed since the run ({', '.join(changed)} differs), so its splits cannot be "
            f"rebuilt. {cure}"
        )
    cut = settings.sealed_splits
    return load_splits(cut.data, seed=cut.seed, fold_disguises=cut.fold_disguises)


def load_own_tokenizer(run: RunFolder, checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """The tokenizer beside a checkpoint.

    Raises:
        ArtifactError: it is missing, or another one than the checkpoint was trained with.
    """
    if not run.tokenizer_dir.is_dir():
        raise ArtifactError(f"{run.tokenizer_dir}: no such folder; the checkpoint's tokenizer stands beside it.")
    tokenizer = load_tokenizer(run.tokenizer_dir)
    if checkpoint.about.tokenizer_sha256 not in (None, tokenizer_sha256(tokenizer)):
        raise ArtifactError(
            f"{run.tokenizer_dir}: not the tokenizer that the checkpoint was trained with. Keep a checkpoint in its "
            "own run folder."
        )
    check_tokenizer(tokenizer, checkpoint.model, run.tokenizer_dir)
    return tokenizer
