"""`run.json` and the folder around it: check the folder, say what begins, say what came of it.

Two runs of one command leave the same bytes, whether or not one was stopped and resumed, but for the pictures, the
page, and what `run.json` says of the moment: `started`, `seconds`, `peak_memory_bytes`, of `training` its `seconds` and
`resumed_from`, of `settings` its `resume`.
"""

import dataclasses
import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from moderation.artifacts import RunFolder, read_json, sha256, sidecar, write_json
from moderation.errors import ArtifactError, ConfigError, ModerationError
from moderation.links import refuse_links_out, remove_folder
from moderation.training.environment import PhaseTimer, describe_environment, is_main, n_processes, peak_memory_bytes
from moderation.training.fitting import Fit
from moderation.training.states import sealed_states

RUN_FORMAT = {"format": "content-moderation run", "version": 1}
# What may differ from the interrupted run: where things lie (hashes guard the data), and what changes no result but
# through the order of sums (threads).
_FREE_ON_RESUME = {"resume", "overwrite", "threads", "save_every", "track"}
_FREE_ON_RESUME |= {"output_dir", "data_path", "val_path", "test_path", "extra_train_path"}


def check_run_folder(run: RunFolder, settings: dict[str, Any]) -> None:
    """Refuse a folder that holds a run, unless it shall be resumed with the same settings or overwritten.

    Args:
        run: The folder.
        settings: Of the run that is about to begin or to go on, as plain values.

    Raises:
        ArtifactError: the folder holds a run, or none that can be resumed, or the data changed since; it holds
            files under the names of a run's without being one; a link in it leads out of it.
        ConfigError: a run shall be resumed with other settings.
    """
    if settings["overwrite"] and not settings["resume"]:
        return
    if not run.run_json.exists():
        if settings["resume"]:
            raise ArtifactError(f"{run.path}: holds no interrupted run to resume. Leave --resume out to start one.")
        _refuse_files_of_others(run)
        return
    facts = read_record(run)
    if not settings["resume"]:
        raise ArtifactError(
            f"{run.path}: already holds a run ({facts.get('status', 'unknown')}). Choose another --output-dir, "
            "or pass --overwrite to replace it, or --resume to go on with an interrupted one."
        )
    if facts.get("status") == "done":
        raise ArtifactError(f"{run.path}: this run is complete; there is nothing to resume.")
    before = facts["settings"]
    changed = [name for name in settings if name not in _FREE_ON_RESUME and before.get(name) != settings[name]]
    if changed:
        raise ConfigError(
            "--resume: settings differ from those that the run began with:\n"
            + "\n".join(f"  {name}: was {before.get(name)}, is {settings[name]}" for name in changed)
        )
    if facts["processes"] != n_processes():
        raise ConfigError(
            f"--resume: the run began with {facts['processes']} processes, now there are {n_processes()}; "
            "its states hold the random numbers of each. Start as many as before."
        )
    if {name: value for name, value in facts["data"].items() if name.endswith("sha256")} != hash_tables(settings):
        raise ArtifactError(f"{run.path}: the data changed since this run began; it cannot be resumed.")
    for paths in _files_and_folders(run):  # before hours of training; what begins anew removes links
        for path in paths:
            refuse_links_out(path)


def begin_run(run: RunFolder, settings: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Clear the folder of an earlier run and write `run.json` with all that is known before the first step.

    Args:
        run: The folder.
        settings: Plain values.
        facts: What the command knows: labels, precision, splits, rows left out, backbone.

    Returns:
        The content of `run.json`.
    """
    if not settings["resume"]:
        _clear(run)
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if settings["resume"]:
        started = read_record(run).get("started", started)
    content = RUN_FORMAT | {"status": "running", "started": started, "settings": settings}
    content |= facts | describe_environment()
    content["data"] = facts["data"] | hash_tables(settings)
    write_json(run.run_json, content)
    return content


def save_tokenizer(run: RunFolder, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write the tokenizer's own files into the run folder, without the lengths of whatever it was called with last.

    Raises:
        ArtifactError: the disk is full or the folder cannot be written.
    """
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    remove_folder(run.tokenizer_dir)  # with its links, if any, which transformers would write through
    refuse_links_out(run.tokenizer_dir)
    try:
        tokenizer.save_pretrained(run.tokenizer_dir)
    except Exception as error:
        if not isinstance(error, OSError) and type(error) is not Exception:  # the latter is how its Rust part says so
            raise
        raise ArtifactError(
            f"{run.tokenizer_dir}: could not be written; the disk may be full. Free some space."
        ) from error


def read_record(run: RunFolder) -> dict[str, Any]:
    """Read `run.json`.

    Raises:
        ArtifactError: missing, damaged, or written by another program.
    """
    expected = "the run.json that `moderation train` wrote"
    content = read_json(run.run_json, expected)
    parts = (content.get("settings"), content.get("data"))
    if content.get("format") != RUN_FORMAT["format"] or not all(isinstance(part, dict) for part in parts):
        raise ArtifactError(
            f"{run.run_json}: no record of a run (damaged, or of another program); expected {expected}."
        )
    return content


@contextmanager
def nothing_half_written(run: RunFolder, record: dict[str, Any]) -> Iterator[None]:
    """Where the block ends in an error of ours, remove what it began, unless there is a state to resume from.

    Args:
        run: The folder.
        record: What `begin_run` gave; empty as long as it was not called.
    """
    try:
        yield
    except ModerationError:
        begun = bool(record) and not record["settings"]["resume"]
        if is_main() and begun and not sealed_states(run.resume_dir):
            _clear(run)
        with suppress(OSError):  # not there, or it holds something
            run.resume_dir.rmdir()
        raise


def finish_run(run: RunFolder, content: dict[str, Any], timer: PhaseTimer, fit: Fit) -> None:
    """Add seconds, memory, the course of the training and hashes of what it wrote; drop the states to resume from.

    Thresholds, probabilities and metrics have no hash here, since `tune` and `evaluate` write them anew.
    """
    written = (run.checkpoint_best, run.checkpoint_final, run.calibration)
    content |= {
        "status": "done",
        "files": {path.name: sha256(path) for path in written if path.exists()},
        "seconds": timer.seconds,
        "peak_memory_bytes": peak_memory_bytes(),
        "training": dataclasses.asdict(fit),
    }
    write_json(run.run_json, content)
    remove_folder(run.resume_dir)


def check_unchanged(run: RunFolder, *paths: Path) -> None:
    """Refuse files that are not what the training wrote; those of which `run.json` says nothing may be anything.

    Raises:
        ArtifactError: one was changed or replaced.
    """
    recorded = read_record(run).get("files")
    recorded = recorded if isinstance(recorded, dict) else {}  # as runs of earlier versions have none
    for path in paths:
        if path.name in recorded and path.exists() and sha256(path) != recorded[path.name]:
            raise ArtifactError(
                f"{path}: is not the file that the training wrote (its SHA-256 is not that in {run.run_json.name}); it "
                "was damaged or replaced. Restore it, or train again."
            )


def hash_tables(settings: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of each table that the settings name: `sha256`, and `val_sha256` and so on where there are more."""
    keys = {"data_path": "sha256"} | {f"{name}_path": f"{name}_sha256" for name in ("val", "test", "extra_train")}
    return {key: sha256(Path(settings[name])) for name, key in keys.items() if settings.get(name) is not None}


def _refuse_files_of_others(run: RunFolder) -> None:
    """A folder without a record is no run: what stands there under the names of a run may be anybody's."""
    files, folders = _files_and_folders(run)
    taken = [path.name for path in (*folders, *files) if os.path.lexists(path)]
    if taken:
        raise ArtifactError(
            f"{run.path}: holds {', '.join(taken)}, which a run would replace, and no run.json that says whose they "
            "are. Choose another --output-dir, or pass --overwrite to replace them."
        )


def _clear(run: RunFolder) -> None:
    """Remove what an earlier run left in the folder, and nothing else."""
    files, folders = _files_and_folders(run)
    for folder in folders:
        remove_folder(folder)
    for file in files:
        file.unlink(missing_ok=True)


def _files_and_folders(run: RunFolder) -> tuple[list[Path], list[Path]]:
    files = [run.checkpoint_best, run.checkpoint_final, run.calibration, run.thresholds]
    files += [run.log, run.report, run.run_json]
    tables = {path.stem.removeprefix("preds_") for path in run.path.glob("preds_*.npy")} | {"val", "test"}
    for name in sorted(tables):
        arrays = (run.preds(name), run.labels(name))
        files += [*arrays, *map(sidecar, arrays), run.metrics(name)]
    return files, [run.tokenizer_dir, run.plots_dir, run.resume_dir, run.path / "tensorboard", run.path / "wandb"]
