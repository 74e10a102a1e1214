"""States of an unfinished training: folders that a resume continues from, each sealed by a list of its files.

The list is written last, when every file is on the disk. So a folder without one was left unfinished by a kill, and a
folder whose files differ from their list was changed or damaged: the first is skipped, the second is refused.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from transformers import TrainerState

from moderation.artifacts import read_json, sha256, sync, write_json
from moderation.errors import ArtifactError
from moderation.links import remove_folder
from moderation.memory import is_out_of_memory

logger = logging.getLogger(__name__)

LogRecord = dict[str, float]
"""What the trainer logs at a step: name -> value."""

MANIFEST = "state.json"
_FORMAT = {"format": "content-moderation state", "version": 1}
_TRAINER_STATE = "trainer_state.json"
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
            raise _refusal(path, "cannot be read as a list of this state's files") from error
        files = listed.get("files")
        if {**listed, "files": None} != _FORMAT | {"files": None} or not isinstance(files, dict):
            raise _refusal(path, "not a list of a state's files")
        return cls(files)

    def write(self, folder: Path) -> None:
        """Write the list.

        Raises:
            ArtifactError: the disk is full.
        """
        write_json(folder / MANIFEST, _FORMAT | {"files": self.files})


def seal_state(folder: Path) -> None:
    """Write the list of a state's files, with the SHA-256 of each, once they are on the disk.

    Raises:
        ArtifactError: the disk is full or a file cannot be read.
    """
    try:
        for path in _files(folder):
            sync(path)
    except OSError as error:
        raise ArtifactError(f"{path}: could not be written ({error.strerror}); the disk may be full.") from error
    SealedState.of(folder).write(folder)


def sealed_states(resume_dir: Path) -> list[Path]:
    """The states that were completely written, newest first; this does not check whether they are unchanged."""
    return [folder for folder in _folders(resume_dir) if (folder / MANIFEST).is_file()]


def choose_state(resume_dir: Path, n_processes: int = 1) -> Path | None:
    """The newest state, after checking that it is unchanged; None if there is none.

    Raises:
        ArtifactError: it was changed or damaged; names the file. No older state is used instead, since nobody
            would notice.
    """
    sealed = sealed_states(resume_dir)
    for path in sorted(resume_dir.glob("*")):
        if path not in sealed:
            logger.info("Resume: %s has no complete state; it is skipped.", path)
    if not sealed:
        return None
    _check(sealed[0], n_processes)
    return sealed[0]


def remove_other_states(resume_dir: Path, kept: Path | None) -> None:
    """Remove every state but one, unfinished ones too, and nothing else."""
    for folder in _folders(resume_dir):
        if folder != kept:
            if not folder.is_symlink():
                with suppress(OSError):
                    # First, because otherwise half a state would look like a damaged one.
                    (folder / MANIFEST).unlink(missing_ok=True)
            remove_folder(folder)


def read_log_history(folder: Path) -> list[LogRecord]:
    """The trainer's log when it saved a state.

    Raises:
        ArtifactError: the trainer's state is unreadable, or from another step.
    """
    path = folder / _TRAINER_STATE
    try:
        state = TrainerState.load_from_json(str(path))
        history: list[LogRecord] = state.log_history
        if state.global_step != _step(folder) or not all(isinstance(record, dict) for record in history):
            raise ValueError("not of this step")
    except Exception as error:  # a changed file can cause any error
        if is_out_of_memory(error):
            raise
        raise _refusal(path, "not the trainer's state at that step") from error
    return history


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
            raise _refusal(folder / name, "not among the files that were saved" if name in found else "was not saved")
        if name not in found:
            raise _refusal(folder / name, "is missing")
        if files[name] != found[name]:
            raise _refusal(folder / name, "not the file that was saved (its SHA-256 differs)")
    read_log_history(folder)


def _needed(n_processes: int) -> list[str]:
    random_states = ["rng_state.pth"] if n_processes == 1 else [f"rng_state_{rank}.pth" for rank in range(n_processes)]
    return ["model.safetensors", "optimizer.pt", "scheduler.pt", _TRAINER_STATE, *random_states]


def _refusal(path: Path, what: str) -> ArtifactError:
    folder = path if _NAME.fullmatch(path.name) else path.parent
    return ArtifactError(
        f"{path}: {what}. The state was changed or damaged since, and a training that went on from it would come to "
        f"other weights. Restore the file, or delete {folder}: --resume then goes on from an older state, where there "
        "is one, or from the beginning."
    )
