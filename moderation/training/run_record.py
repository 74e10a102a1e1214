"""`run.json` and its folder: check the folder, record what begins, record the result.

Two runs of one command leave the same bytes, whether or not one was stopped and resumed, except for the plots, the
page, and what `run.json` says about the moment: `started`, `seconds`, `peak_memory_bytes`, in `training` `seconds` and
`resumed_from`, in `settings` `resume`.
"""

import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from moderation.arrays import sidecar
from moderation.artifacts import RunFolder, find_target, sha256
from moderation.data.options import SplitOptions
from moderation.errors import ArtifactError, ConfigError, ModerationError
from moderation.flags import to_plain
from moderation.links import refuse_links_out, remove_folder
from moderation.options import build
from moderation.run_records import BackboneFacts, DataFacts, Fit, RunRecord, read_record
from moderation.training.environment import (
    PhaseTimer,
    describe_environment,
    is_main,
    n_processes,
    peak_memory_bytes,
)
from moderation.training.options import TrainOptions
from moderation.training.states import check_states, sealed_states

# What may differ from the interrupted run: locations (hashes protect the data), and settings that change results only
# through the order of sums (threads).
_FREE_ON_RESUME = {"resume", "overwrite", "threads", "save_every", "track"}
_FREE_ON_RESUME |= {"output_dir", "data_path", "val_path", "test_path", "extra_train_path"}
_TRACKERS = ("tensorboard", "wandb")  # which keep a folder of their name in the run's


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What `moderation train` knows about a run when it begins; the fields are those of `RunRecord`."""

    labels: Sequence[str] | None = None
    precision: str | None = None
    data: DataFacts = field(default_factory=DataFacts)
    splits: Mapping[str, int] | None = None
    backbone: BackboneFacts | None = None


def check_run_folder(run: RunFolder, options: TrainOptions) -> None:
    """Refuse a folder that contains a run, unless it is to be overwritten, or resumed with the same settings.

    Args:
        run: The folder.
        options: Settings of the run that is about to begin or to continue.

    Raises:
        ArtifactError: the folder contains a run, or none that can be resumed, or the data changed since; it contains
            files with names of a run's files, but no readable run.json; a link, a file or a folder is in the way of
            what the run will write; a state of the interrupted run was changed.
        ConfigError: a run is to be resumed with other settings.
    """
    resume, overwrite = options.run.resume, options.run.overwrite and not options.run.resume
    if not run.run_json.exists():
        if resume:
            raise ArtifactError(f"{run.path}: has no interrupted run to resume. Leave --resume out to start one.")
        _refuse_files_of_others(run)
        return
    try:
        record = read_record(run.run_json)
    except ArtifactError as error:
        if not overwrite:
            raise
        raise ArtifactError(
            f"{error}\nWithout it, nothing shows which files here belong to a run, so --overwrite removes none. Choose "
            "another --output-dir, or remove the folder yourself."
        ) from error
    if overwrite:
        _check_places(run, links_go=True)
        return
    if not resume:
        raise ArtifactError(
            f"{run.path}: already contains a run ({record.status}). Choose another --output-dir, "
            "or pass --overwrite to replace it, or --resume to continue an interrupted one."
        )
    if record.status == "done":
        raise ArtifactError(f"{run.path}: this run is complete; there is nothing to resume.")
    _check_same_run(run, record, options)
    _check_places(run, links_go=False)
    check_states(run.resume_dir, n_processes())


def _check_same_run(run: RunFolder, record: RunRecord, options: TrainOptions) -> None:
    settings = to_plain(options)
    # A setting that is newer than the run had its default.
    before = to_plain(build(TrainOptions, {"data_path": options.data.data_path})) | dict(record.settings)
    changed = [name for name in settings if name not in _FREE_ON_RESUME and before.get(name) != settings[name]]
    if changed:
        raise ConfigError(
            "--resume: settings differ from those of the interrupted run:\n"
            + "\n".join(f"  {name}: was {before.get(name)}, is {settings[name]}" for name in changed)
        )
    if record.processes != n_processes():
        raise ConfigError(
            f"--resume: the run began with {record.processes} processes, now there are {n_processes()}; "
            f"its saved states contain each process's random numbers. Start {record.processes} processes again."
        )
    if record.data.hashes != hash_tables(options.data):
        raise ArtifactError(f"{run.path}: the data changed since this run began; it cannot be resumed.")


def _check_same_backbone(run: RunFolder, record: RunRecord, facts: RunFacts) -> None:
    """A training that goes on with another tokenizer or architecture would end without an error, and with nonsense."""
    if facts.backbone is None or record.backbone is None:
        return
    now, before = facts.backbone.hashes, record.backbone.hashes  # records of older versions lack some
    if changed := [name for name in now if name in before and now[name] != before[name]]:
        raise ArtifactError(
            f"{run.path}: the backbone changed since this run began ({', '.join(changed)}), so it cannot be resumed. "
            "Restore the backbone's files, name their --revision, or train anew with --overwrite."
        )


def _check_places(run: RunFolder, *, links_go: bool) -> None:
    """Refuse what would stop the training where it writes, perhaps only after hours.

    Args:
        run: The folder.
        links_go: The run begins by removing links, so they are not in the way.
    """
    files, folders = _files_and_folders(run)
    for path in (*files, *folders):
        if links_go and path.is_symlink():
            continue
        refuse_links_out(path)
        if path in files:
            find_target(path)
        elif os.path.lexists(path) and not path.is_dir():
            raise ArtifactError(f"{path}: not a folder, but the run keeps a folder of that name. Remove it.")


def begin_run(run: RunFolder, options: TrainOptions, facts: RunFacts) -> RunRecord:
    """Clear the folder of an earlier run, and write `run.json` with everything known before the first step.

    Args:
        run: The folder.
        options: All settings.
        facts: What the command knows.

    Returns:
        The record so far.
    """
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if options.run.resume:
        before = read_record(run.run_json)
        _check_same_backbone(run, before, facts)
        started = before.started or started
    else:
        _clear(run)
    hashes = hash_tables(options.data)
    record = RunRecord(
        settings=to_plain(options),
        status="running",
        started=started,
        labels=None if facts.labels is None else tuple(facts.labels),
        precision=facts.precision,
        data=replace(
            facts.data,
            sha256=hashes["sha256"],
            val_sha256=hashes.get("val_sha256"),
            test_sha256=hashes.get("test_sha256"),
            extra_train_sha256=hashes.get("extra_train_sha256"),
        ),
        splits=facts.splits,
        backbone=facts.backbone,
        **describe_environment(),
    )
    record.write(run.run_json)
    return record


def save_tokenizer(run: RunFolder, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write the tokenizer's own files into the run folder, without the lengths of its last call.

    Raises:
        ArtifactError: the disk is full or the folder cannot be written.
    """
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    remove_folder(run.tokenizer_dir)  # including links, which transformers would write through
    refuse_links_out(run.tokenizer_dir)
    try:
        tokenizer.save_pretrained(run.tokenizer_dir)
    except Exception as error:
        if not isinstance(error, OSError) and type(error) is not Exception:  # its Rust part raises a plain Exception
            raise
        raise ArtifactError(
            f"{run.tokenizer_dir}: could not be written; the disk may be full. Free some space."
        ) from error


@contextmanager
def nothing_half_written(run: RunFolder, begun: Sequence[RunRecord]) -> Iterator[None]:
    """If the block ends with an error of ours, remove what it began, unless there is a state to resume from.

    Args:
        run: The folder.
        begun: Contains the result of `begin_run`, once it was called.
    """
    try:
        yield
    except ModerationError:
        if is_main() and begun and not begun[0].settings["resume"] and not sealed_states(run.resume_dir):
            _clear(run)
        with suppress(OSError):  # missing, or not empty
            run.resume_dir.rmdir()
        raise


def finish_run(run: RunFolder, record: RunRecord, timer: PhaseTimer, fit: Fit) -> None:
    """Add seconds, memory, the course of the training and hashes of its files; remove the states to resume from.

    Thresholds, probabilities and metrics have no hash here, since `tune` and `evaluate` write them again.
    """
    written = (run.checkpoint_best, run.checkpoint_final, run.calibration)
    done = replace(
        record,
        status="done",
        files={path.name: sha256(path) for path in written if path.exists()},
        seconds=timer.seconds,
        peak_memory_bytes=peak_memory_bytes(),
        training=fit,
    )
    done.write(run.run_json)
    remove_folder(run.resume_dir)


def check_unchanged(run: RunFolder, *paths: Path) -> None:
    """Refuse files that are not what the training wrote; files that `run.json` does not list are accepted.

    Raises:
        ArtifactError: one was changed or replaced.
    """
    recorded = read_record(run.run_json).files or {}  # runs of earlier versions have none
    for path in paths:
        if path.name in recorded and path.exists() and sha256(path) != recorded[path.name]:
            raise ArtifactError(
                f"{path}: is not the file that the training wrote (its SHA-256 is not that in {run.run_json.name}); it "
                "was damaged or replaced. Restore it, or train again."
            )


def hash_tables(options: SplitOptions) -> dict[str, str]:
    """SHA-256 of each table of a run: `sha256`, and `val_sha256` and so on where there are more."""
    paths = {
        "sha256": options.data_path,
        "val_sha256": options.val_path,
        "test_sha256": options.test_path,
        "extra_train_sha256": options.extra_train_path,
    }
    return {key: sha256(path) for key, path in paths.items() if path is not None}


def _refuse_files_of_others(run: RunFolder) -> None:
    """A folder without a record is not a run: files in it with names of a run's files may belong to anybody."""
    files, folders = _files_and_folders(run)
    taken = [path.name for path in (*folders, *files) if os.path.lexists(path)]
    if taken:
        raise ArtifactError(
            f"{run.path}: contains {', '.join(taken)}, which a run would replace, and no run.json that shows who owns "
            "them; --overwrite replaces only a run that has one. Choose another --output-dir, or move them away."
        )


def _clear(run: RunFolder) -> None:
    """Remove what a run wrote, if there is one; its run.json goes last, since it shows that the rest is the run's."""
    if not run.run_json.exists():
        return
    track = read_record(run.run_json).settings.get("track")
    others = [run.path / name for name in _TRACKERS if not (isinstance(track, list) and name in track)]
    files, folders = _files_and_folders(run)
    for folder in folders:
        if folder not in others:
            remove_folder(folder)
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise ArtifactError(f"{file}: could not be removed ({error.strerror}). Remove it yourself.") from error


def _files_and_folders(run: RunFolder) -> tuple[list[Path], list[Path]]:
    """What a run may write, run.json last."""
    files = [run.checkpoint_best, run.checkpoint_final, run.calibration, run.thresholds, run.log, run.report]
    tables = {path.stem.removeprefix("preds_") for path in run.path.glob("preds_*.npy")} | {"val", "test"}
    for name in sorted(tables):
        arrays = (run.preds(name), run.labels(name))
        files += [*arrays, *map(sidecar, arrays), run.metrics(name)]
    folders = [run.tokenizer_dir, run.plots_dir, run.resume_dir, *(run.path / name for name in _TRACKERS)]
    return [*files, run.run_json], folders
