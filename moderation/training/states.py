"""States of an unfinished training: folders that a resume continues from, each sealed by a list of its files.

The list is written last, when every file is on the disk. So a folder without one was left unfinished by a kill, and a
folder whose files differ from their list was changed or damaged: the first is skipped, the second is refused.
"""

import json
import logging
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from transformers import TrainerState

from moderation.artifacts import link_or_copy, read_bytes, read_json, sha256, sync, write_json
from moderation.errors import ArtifactError
from moderation.escapes import escape_name
from moderation.links import remove_folder
from moderation.manifest_values import is_whole
from moderation.memory import is_out_of_memory

logger = logging.getLogger(__name__)

LogRecord = dict[str, float]
"""What the trainer logs at a step: name -> value."""

MANIFEST = "state.json"
_VERSION = 1
_FORMAT = {"format": "content-moderation state", "version": _VERSION}
_TRAINER_STATE = "trainer_state.json"
_BEST = "checkpoint_best.pt"
_MOST_BYTES = 64 << 20  # of a trainer's state
_RECORDS_PER_STEP = 3  # at most, in the trainer's log: the losses, and an evaluation where an epoch ends
_MAY_OVERFLOW = ("loss", "grad_norm")  # infinite or NaN where a half-precision step overflowed
_NAME = re.compile(r"checkpoint-(\d+)", re.ASCII)  # as the trainer names them, after the step


@dataclass(frozen=True)
class SealedState:
    """The list of a state's files in `state.json`.

    Args:
        files: Path within the folder, with slashes -> facts about the file: its `sha256`.
    """

    files: dict[str, dict[str, str]]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The current files of the folder."""
        names = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
        return cls({name: {"sha256": sha256(path)} for name, path in names.items()})

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the list of a complete state.

        Raises:
            ArtifactError: there is no such list, or it is from another program.
        """
        path = folder / MANIFEST
        try:
            listed = read_json(path, "the list of this state's files")
        except ArtifactError as error:
            raise _refusal(folder, MANIFEST, "cannot be read as a list of this state's files") from error
        files, version = listed.get("files"), listed.get("version")
        if listed.get("format") == _FORMAT["format"] and is_whole(version) and version > _VERSION:
            raise ArtifactError(
                f"{path}: written by a newer version of this toolkit; resume with that version, or begin the run anew "
                "with --overwrite in place of --resume."
            )
        if {**listed, "files": None} != _FORMAT | {"files": None} or not isinstance(files, dict):
            raise _refusal(folder, MANIFEST, "not a list of a state's files")
        return cls(files)

    def write(self, folder: Path) -> None:
        """Write the list.

        Raises:
            ArtifactError: the disk is full.
        """
        write_json(folder / MANIFEST, _FORMAT | {"files": self.files})


def seal_state(folder: Path, best: Path | None = None) -> None:
    """Write the list of a state's files, with the SHA-256 of each, once they are on the disk.

    Args:
        folder: The state.
        best: The best checkpoint so far, which becomes one of its files if it exists.

    Raises:
        ArtifactError: the disk is full or a file cannot be read.
    """
    if best is not None and best.is_file():
        link_or_copy(best.resolve(), folder / _BEST)
    try:
        for path in _files(folder):
            sync(path)
    except OSError as error:
        raise ArtifactError(f"{path}: could not be written ({error.strerror}); the disk may be full.") from error
    SealedState.of(folder).write(folder)


def sealed_states(resume_dir: Path) -> list[Path]:
    """The states that were completely written, newest first; this does not check whether they are unchanged."""
    return [folder for folder in _folders(resume_dir) if (folder / MANIFEST).is_file()]


def check_states(resume_dir: Path, n_processes: int = 1) -> list[Path]:
    """The states that were completely written, newest first, after checking that the newest is unchanged.

    Raises:
        ArtifactError: it was changed or damaged; names the file. No older state is used instead, since nobody
            would notice. Or something other than a folder has the name of a state, which the training would find only
            when it saves that one.
    """
    for path in sorted(resume_dir.glob("checkpoint-*")):
        if _NAME.fullmatch(path.name) and not path.is_dir():
            what = "a link to nothing" if path.is_symlink() else "not a folder"
            raise ArtifactError(f"{path}: {what}, but the training would save a state there. Remove it.")
    sealed = sealed_states(resume_dir)
    if sealed:
        _check(sealed[0], n_processes)
    return sealed


def choose_state(resume_dir: Path, n_processes: int = 1) -> Path | None:
    """The newest state; None if there is none.

    Raises:
        ArtifactError: as for `check_states`.
    """
    sealed = check_states(resume_dir, n_processes)
    for path in sorted(resume_dir.glob("*")):
        if path not in sealed:
            logger.info("Resume: %s has no complete state; it is skipped.", path)
    return sealed[0] if sealed else None


def remove_other_states(resume_dir: Path, kept: Path | None) -> None:
    """Remove every state but one, unfinished ones too, and nothing else."""
    for folder in _folders(resume_dir):
        if folder != kept:
            if not folder.is_symlink():
                with suppress(OSError):
                    # First, because otherwise half a state would look like a damaged one.
                    (folder / MANIFEST).unlink(missing_ok=True)
            remove_folder(folder)


def restore_best(state: Path | None, best: Path) -> None:
    """Put the best checkpoint of a state back: the one in the run folder may be a later one, missing or damaged.

    Args:
        state: From `choose_state`; those of earlier versions have no such file.
        best: Where it belongs.

    Raises:
        ArtifactError: the disk is full.
    """
    if state is not None and (state / _BEST).is_file():
        link_or_copy(state / _BEST, best)


def read_log_history(folder: Path) -> list[LogRecord]:
    """The trainer's log when it saved a state.

    Raises:
        ArtifactError: the trainer's state is unreadable, from another step, or has values that no training writes.
    """
    try:
        state = TrainerState(**json.loads(read_bytes(folder / _TRAINER_STATE, _MOST_BYTES)))
        _check_trainer_state(state, _step(folder))
    except Exception as error:  # a changed file can cause any error
        if is_out_of_memory(error):
            raise
        raise _refusal(folder, _TRAINER_STATE, "not the trainer's state at that step") from error
    history: list[LogRecord] = state.log_history
    return history


def _check_trainer_state(state: TrainerState, step: int) -> None:
    """Refuse values with which the trainer would fail, or go on to something else; it checks none of them itself.

    Raises:
        ValueError, OverflowError: there is one.
    """
    sizes: tuple[Any, ...] = (state.epoch, state.max_steps, state.logging_steps, state.eval_steps, state.save_steps)
    sizes += (state.train_batch_size, state.num_train_epochs, state.num_input_tokens_seen, state.total_flos)
    if not is_whole(state.global_step) or state.global_step != step:
        raise ValueError("not of this step")
    if not all(_is_finite(size) and size >= 0 for size in sizes):
        raise ValueError("not a number")
    if not all(value is None or _is_finite(value) for value in (state.best_metric, state.best_global_step)):
        raise ValueError("not a number")
    if not all(isinstance(value, str | None) for value in (state.best_model_checkpoint, state.trial_name)):
        raise ValueError("not a name")
    if not isinstance(state.trial_params, dict | None) or not isinstance(state.stateful_callbacks, dict):
        raise ValueError("not an object")
    if not isinstance(state.log_history, list) or len(state.log_history) > _RECORDS_PER_STEP * (step + 1):
        raise ValueError("not a log of so many steps")
    for record in state.log_history:
        if not isinstance(record, dict) or not all(
            _is_finite(value) or (name in _MAY_OVERFLOW and isinstance(value, float)) for name, value in record.items()
        ):
            raise ValueError("not a record of a step")


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@contextmanager
def reading_state(folder: Path | str, what: str) -> Iterator[None]:
    """Turn any error of the trainer while it reads a part of a state into one message.

    The files were checked to be those that were saved, so the problem is most likely where they are read.

    Raises:
        ArtifactError: instead of any other error, except running out of memory.
    """
    try:
        yield
    except Exception as error:  # each library that reads a part has its own errors
        if is_out_of_memory(error):
            raise
        raise ArtifactError(
            f"{folder}: its {what} cannot be read ({type(error).__name__}), though its files are those that were "
            "saved. Resume with the versions of torch and transformers that the run began with (run.json names them), "
            "or start again with --overwrite instead of --resume."
        ) from error


def _folders(resume_dir: Path) -> list[Path]:
    named = [path for path in resume_dir.glob("checkpoint-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(named, key=_step, reverse=True)


def _step(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir() and path != folder / MANIFEST)


def _check(folder: Path, n_processes: int) -> None:
    """Refuse a state that differs from what was sealed, or that lacks something a resume reads."""
    files, found = SealedState.read(folder).files, SealedState.of(folder).files
    for name in sorted({*files, *found, *_needed(n_processes)}):
        if name not in files:
            raise _refusal(folder, name, "not among the files that were saved" if name in found else "was not saved")
        if name not in found:
            raise _refusal(folder, name, "is missing")
        if files[name] != found[name]:
            raise _refusal(folder, name, "not the file that was saved (its SHA-256 differs)")
    read_log_history(folder)


def _needed(n_processes: int) -> list[str]:
    random_states = ["rng_state.pth"] if n_processes == 1 else [f"rng_state_{rank}.pth" for rank in range(n_processes)]
    return ["model.safetensors", "optimizer.pt", "scheduler.pt", _TRAINER_STATE, *random_states]


def _refusal(folder: Path, name: str, what: str) -> ArtifactError:
    return ArtifactError(
        f"{folder}{os.sep}{escape_name(name)}: {what}. The state was changed or damaged since, and a training that "
        f"went on from it would come to other weights. Restore the file, or delete {folder}: --resume then goes on "
        "from an older state, where there is one, or from the beginning."
    )
