"""`moderation export`: a run's best checkpoint becomes a bundle, each form of it compared with torch."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from moderation.artifacts import RunFolder
from moderation.categories import read_mapping
from moderation.config import ExportConfig
from moderation.documents import to_plain as to_json
from moderation.errors import ArtifactError, ConfigError
from moderation.evaluation.language_calibration import load_tunings
from moderation.evaluation.split_metrics import METRICS
from moderation.export.bundling import Source, read_about, write_bundle
from moderation.export.card import read_curves
from moderation.export.parity import ParityRow, format_parity
from moderation.export.staging import check_target, recover_target
from moderation.flags import to_plain
from moderation.forms import FORMS
from moderation.locks import claimed, refuse_claimed
from moderation.manifests import BUNDLE_NAME, Manifest
from moderation.run_records import read_record
from moderation.training.checkpoints import Checkpoint, load_checkpoint
from moderation.training.options import TrainOptions
from moderation.training.run_record import check_unchanged
from moderation.training.runs import (
    languages_of_run,
    load_own_tokenizer,
    rebuild_splits,
    run_settings,
    settings_of_moved_table,
)
from moderation.tunings import Tunings

logger = logging.getLogger(__name__)

_RECORDED = ("started", "backbone", "data", "splits", "git", "libraries", "training")


@dataclass(frozen=True)
class Exported:
    """A bundle that was written.

    Args:
        path: Its folder.
        parity: How each form compares with torch.
        failed: Forms that were outside their limits, and so were left out.
    """

    path: Path
    parity: tuple[ParityRow, ...]
    failed: tuple[str, ...]


def export(config: ExportConfig) -> int:
    """Write the requested forms, compare each with torch on real and odd texts, and keep those within their limits.

    Returns:
        0; 1 if a form failed the comparison and was not written.

    Raises:
        ModerationError: a run, data or a folder cannot be used, a package is missing, or no form is left to replace the
            existing bundle.
    """
    done = export_run(config)
    print(format_parity(done.parity))
    for name in done.failed:
        print(f"\n{name}: outside its limits, not written. To keep it anyway: --allow {name}")
    print(f"\n{config.to}\nTo check it at any time: moderation verify {config.to}")
    return 1 if done.failed else 0


def export_run(config: ExportConfig) -> Exported:
    """Like `export`, but print nothing.

    Raises:
        ModerationError: as there.
    """
    _check_first(config)
    refuse_claimed(config.run)
    with claimed(config.to, "export", source=config.run):
        recover_target(config.to)
        check_target(config.to, overwrite=config.export.overwrite)
        return _export(config)


def _export(config: ExportConfig) -> Exported:
    run = RunFolder(config.run)
    check_unchanged(run, run.checkpoint_best, run.calibration)
    checkpoint = load_checkpoint(run.checkpoint_best)
    settings = _settings(run, config)
    source = Source(
        model=checkpoint.model,
        tokenizer=load_own_tokenizer(run, checkpoint),
        splits=rebuild_splits(run, settings, "Restore the file, or give its new location with --data-path."),
        text_column=settings.text_column,
    )
    written = write_bundle(config.to, _describe(run, config, checkpoint, settings), source, config.export)
    return Exported(config.to, written.rows, written.failed)


def _check_first(config: ExportConfig) -> None:
    """Check at the start what would otherwise fail only after minutes.

    Raises:
        ConfigError: the text about the model cannot be read, none of the requested forms can be run by the classifier,
            or the run folder's name is not a valid name.
        MissingExtraError: a package that a form needs is not installed.
    """
    read_about(config.export)
    running = [name for name, form in FORMS.items() if form.backend]
    if not set(config.export.formats) & set(running):
        raise ConfigError(
            f"--formats is {', '.join(config.export.formats)}, which cannot be loaded without another form; add one of "
            f"{', '.join(running)}."
        )
    if not BUNDLE_NAME.fullmatch(_name(config)):
        raise ConfigError(
            f"{config.run}: the folder's name cannot be used as the bundle's name, which may contain only letters, "
            "digits, '.', '_' and '-'. Choose a name with --name NAME"
        )
    for form in (FORMS[name] for name in config.export.formats):
        if any(find_spec(package) is None for package in form.write_needs):
            raise form.cannot_be_written()


def _name(config: ExportConfig) -> str:
    return config.name or config.run.resolve().name


def _settings(run: RunFolder, config: ExportConfig) -> TrainOptions:
    settings = run_settings(run)
    if config.data_path is None:
        return settings
    moved = settings_of_moved_table(run, settings, config.data_path)
    if moved is None:
        raise ArtifactError(f"{config.data_path}: not the table that {run.path} was trained on (its SHA-256 differs).")
    return moved


def _describe(run: RunFolder, config: ExportConfig, checkpoint: Checkpoint, settings: TrainOptions) -> Manifest:
    """The manifest, without its forms and parity rows, which are added later."""
    labels = checkpoint.labels
    tunings = load_tunings(run.calibration, run.thresholds, labels)
    thresholds = tunings.general.thresholds
    length = checkpoint.about.max_length or settings.model.max_length
    record = read_record(run.run_json)
    provenance = {name: to_json(getattr(record, name)) for name in _RECORDED}
    provenance |= {"step": checkpoint.about.step, "seed": settings.run.seed}
    return Manifest(
        name=_name(config),
        labels=labels,
        thresholds=thresholds,
        calibrators=tunings.general.calibrators,
        by_language=tunings.by_language,
        window_length=length,
        window_overlap=length // 4 if config.overlap is None else config.overlap,
        languages=languages_of_run(run, settings),
        records={
            "metrics": read_metrics(run, labels, tunings),
            "curves": read_curves(run, labels, thresholds),
            "provenance": provenance | {"split_settings": _split_settings(settings)},
            "parity": [],
        },
        mapping=read_mapping(config.map, labels),
    )


def read_metrics(run: RunFolder, labels: Sequence[str], tunings: Tunings) -> dict[str, object]:
    """Figures of the run by split, if they were measured at the thresholds that the bundle gets.

    They were not if `tune` ran after the last `evaluate`, or if that used other thresholds; this is logged.

    Args:
        run: The folder.
        labels: Ordered labels.
        tunings: With the thresholds of the bundle.

    Raises:
        ArtifactError: a file of metrics is damaged.
    """
    found: dict[str, object] = {}
    for split in ("val", "test"):
        path = run.metrics(split)
        if not path.is_file():
            continue
        metrics = METRICS.read(path)
        measured_at = {label: np.float32(values.threshold) for label, values in metrics.labels.items()}
        wanted = dict(zip(labels, map(np.float32, tunings.general.thresholds), strict=True))
        own = tunings.thresholds_by_language(labels)
        if measured_at == wanted and (metrics.thresholds_by_language or {}) == own:
            found[split] = METRICS.to_plain(metrics)
        else:
            logger.warning(
                "%s: measured at other thresholds than those in %s, so left out of the bundle. Measure again: "
                "moderation evaluate --checkpoint %s --split %s",
                *(path, run.thresholds.name, run.checkpoint_best, split),
            )
    return found


def _split_settings(settings: TrainOptions) -> dict[str, object]:
    """The settings needed to split the training table again; for other tables only whether there were any."""
    plain = {name: value for name, value in to_plain(settings.sealed_splits).items() if not name.endswith("_path")}
    own = {"val": settings.data.val_path, "test": settings.data.test_path}
    return plain | {"own_tables": [split for split, path in own.items() if path is not None]}
