"""`moderation export`: a run's best checkpoint becomes a bundle, each form of it compared with torch."""

import logging
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from moderation.artifacts import RunFolder, read_bytes, read_json, write_atomically
from moderation.bundles import (
    CARD,
    MANIFEST,
    TOKENIZER,
    TRAINING_TEXTS,
    describe_calibrators,
    write_manifest,
)
from moderation.categories import read_mapping
from moderation.config import BUNDLE_NAME, ExportConfig, TrainConfig
from moderation.data.splits import Splits
from moderation.data.training_texts import sketch_texts
from moderation.errors import ArtifactError, ConfigError
from moderation.evaluation.calibration import load_calibrators
from moderation.evaluation.thresholds import load_thresholds
from moderation.export.card import read_curves, write_card
from moderation.export.forms import SERVER_WRITERS, WRITERS, Trained, write_form
from moderation.export.huggingface import write_huggingface
from moderation.export.mixed_precision import layer_groups, leave_until_passed, rank_groups
from moderation.export.onnx_graph import write_onnx
from moderation.export.parity import format_parity, write_odd_answers
from moderation.export.referee import Referee, gather_texts
from moderation.export.staging import check_target, recover_target, staged_folder
from moderation.flags import to_plain
from moderation.forms import FORMS
from moderation.inference.windows import Windows
from moderation.locks import claimed
from moderation.report.inputs import expecting
from moderation.training.checkpoints import Checkpoint, load_checkpoint
from moderation.training.run_record import check_unchanged, read_record
from moderation.training.runs import (
    load_own_tokenizer,
    rebuild_splits,
    run_settings,
    settings_of_moved_table,
)

logger = logging.getLogger(__name__)

_MOST_ABOUT = 1 << 20  # bytes of the text that goes into the card
_N_CALIBRATION = 100  # windows on which scales are fixed and layers are ranked


def export(config: ExportConfig) -> int:
    """Write the forms asked for, compare each with torch on real and odd texts, keep those within their limits.

    Returns:
        0; 1 where a form failed the comparison and was not written.

    Raises:
        ModerationError: a run, data or a folder that cannot be used, a package that is missing, or nothing left that
            may take the place of what stands there.
    """
    _check_first(config)
    with claimed(config.to, "export", source=config.run):
        recover_target(config.to)
        check_target(config.to, overwrite=config.overwrite)
        return _export(config)


def _export(config: ExportConfig) -> int:
    run = RunFolder(config.run)
    check_unchanged(run, run.checkpoint_best, run.calibration)
    checkpoint = load_checkpoint(run.checkpoint_best)
    tokenizer = load_own_tokenizer(run, checkpoint)
    settings = _settings(run, config)
    content = _describe(run, config, checkpoint, settings)
    splits = rebuild_splits(run, settings, "Restore the file, or name its new place with --data-path.")
    window = content["window"]
    rows: list[dict[str, Any]] = content["parity"]
    with staged_folder(config.to, overwrite=config.overwrite) as folder, tempfile.TemporaryDirectory() as scratch:
        weights = write_huggingface(folder, checkpoint.model, tokenizer, checkpoint.labels, max_length=window["length"])
        content["forms"]["hf"] = {"files": weights}
        _write_sketch(folder, splits, settings)
        cutter = Windows(folder / TOKENIZER, length=window["length"], overlap=window["overlap"])
        texts = gather_texts(splits, settings.text_column, settings.language_column, config.parity_texts)
        logger.info("Read %s texts with torch, to compare the forms with ...", f"{len(texts.all):,}")
        referee = Referee(folder, content, texts, checkpoint.model, config.threads)
        rows.append(referee.judge_huggingface())
        trained = _prepare(Path(scratch), config, checkpoint, splits, settings, cutter)
        ranked: list[str] = []
        for form in config.formats:
            if form not in WRITERS:
                continue
            logger.info("Write %s ...", form)
            facts: dict[str, Any] = {"files": write_form(folder, form, trained)}
            content["forms"][form] = facts
            if FORMS[form].kind == "weights":
                continue
            logger.info("Compare %s with torch on %s texts ...", form, f"{len(texts.all):,}")
            row = referee.judge(form)
            if FORMS[form].kind == "int8" and not row["passed"]:
                groups = layer_groups(trained.graph)
                ranked = ranked or rank_groups(trained.graph, groups, trained.windows)
                groups = WRITERS[form].can_keep(trained.graph, groups)

                def attempt(nodes: list[str], form: str = form) -> dict[str, Any]:
                    write_form(folder, form, trained, nodes)
                    return referee.judge(form)

                facts["left_in_float"], row = leave_until_passed(
                    groups, [name for name in ranked if name in groups], attempt
                )
            rows.append(row)
        failed = _drop_failed(folder, content, config)
        _refuse_worse(config, content, failed)
        answers = {form: array for form, array in referee.odd_answers.items() if form in {"hf", *content["forms"]}}
        write_odd_answers(folder, checkpoint.labels, answers)
        _finish(folder, content, config)
    print(format_parity(rows))
    for name in failed:
        print(f"\n{name}: outside its limits, not written. To keep it all the same: --allow {name}")
    print(f"\n{config.to}\nExamine it at any time: moderation verify {config.to}")
    return 1 if failed else 0


def _check_first(config: ExportConfig) -> None:
    """Check before anything is loaded what would come to light only after minutes.

    Raises:
        ConfigError: a text about the model that cannot be read; no form among those asked for that the classifier runs,
            or a run folder's name that is none.
        MissingExtraError: a package that a form takes is not installed.
    """
    _read_about(config)
    running = [name for name, form in FORMS.items() if form.backend]
    if not set(config.formats) & set(running):
        raise ConfigError(
            f"--formats is {', '.join(config.formats)}, which nothing can load alone; expected one of "
            f"{', '.join(running)} beside it."
        )
    if not BUNDLE_NAME.fullmatch(_name(config)):
        raise ConfigError(
            f"{config.run}: the folder's name cannot be the bundle's, which takes letters, digits, '.', '_' and '-' "
            "alone. Cure: --name NAME"
        )
    for form in (FORMS[name] for name in config.formats):
        if any(find_spec(package) is None for package in form.write_needs):
            raise form.cannot_be_written()


def _read_about(config: ExportConfig) -> str:
    if config.about is None:
        return ""
    try:
        return read_bytes(config.about, _MOST_ABOUT).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        kind = type(error).__name__
        raise ConfigError(f"--about {config.about}: cannot be read ({kind}); expected Markdown.") from None


def _name(config: ExportConfig) -> str:
    return config.name or config.run.resolve().name


def _settings(run: RunFolder, config: ExportConfig) -> TrainConfig:
    settings = run_settings(run)
    if config.data_path is None:
        return settings
    moved = settings_of_moved_table(run, settings, config.data_path)
    if moved is None:
        raise ArtifactError(f"{config.data_path}: not the table that {run.path} was trained on (its SHA-256 differs).")
    return moved


def _describe(run: RunFolder, config: ExportConfig, checkpoint: Checkpoint, settings: TrainConfig) -> dict[str, Any]:
    """What the manifest says, its forms and parity rows still to come."""
    calibrators = load_calibrators(run.calibration, checkpoint.labels)
    thresholds = load_thresholds(run.thresholds, checkpoint.labels, calibrated=run.calibration.is_file())
    length = int(checkpoint.about.get("max_length", settings.max_length))
    record = read_record(run)
    mapping = read_mapping(config.map, checkpoint.labels)
    return {
        "name": _name(config),
        "labels": list(checkpoint.labels),
        "thresholds": {label: float(value) for label, value in zip(checkpoint.labels, thresholds, strict=True)},
        "calibration": describe_calibrators(checkpoint.labels, calibrators),
        "window": {
            "length": length,
            "overlap": length // 4 if config.overlap is None else config.overlap,
            "pooling": "max",
        },
        "languages": ["en"],
        "metrics": read_metrics(run, dict(zip(checkpoint.labels, thresholds, strict=True))),
        "curves": read_curves(run, checkpoint.labels, thresholds),
        "provenance": {
            name: record.get(name) for name in ("started", "backbone", "data", "splits", "git", "libraries", "training")
        }
        | {"step": checkpoint.about.get("step"), "seed": settings.seed, "split_settings": _split_settings(settings)},
        "parity": [],
        "forms": {},
    } | ({"mapping": {label: list(names) for label, names in mapping.items()}} if mapping else {})


def read_metrics(run: RunFolder, thresholds: Mapping[str, float]) -> dict[str, Any]:
    """Numbers of the run by split, as far as they were measured at the thresholds that the bundle gets.

    They were not where `tune` ran behind the last `evaluate`, or where that had other thresholds; the log says so.

    Args:
        run: The folder.
        thresholds: Label -> threshold.

    Raises:
        ArtifactError: a file of metrics is damaged.
    """
    found = {}
    for split in ("val", "test"):
        path = run.metrics(split)
        if not path.is_file():
            continue
        metrics = read_json(path, "metrics of the run")
        with expecting(path, "a threshold per label"):
            measured_at = {label: np.float32(values["threshold"]) for label, values in metrics["labels"].items()}
        if measured_at == {label: np.float32(value) for label, value in thresholds.items()}:
            found[split] = metrics
        else:
            logger.warning(
                "%s: measured at other thresholds than those of %s, and left out of the bundle. Measure again: "
                "moderation evaluate --checkpoint %s --split %s",
                *(path, run.thresholds.name, run.checkpoint_best, split),
            )
    return found


def _split_settings(settings: TrainConfig) -> dict[str, Any]:
    """What it takes to cut the training table into its splits again; of further tables only whether there were any."""
    names = settings.split_settings
    plain = {name: value for name, value in to_plain(settings).items() if name in names and not name.endswith("_path")}
    return plain | {"own_tables": [split for split in ("val", "test") if names[f"{split}_path"] is not None]}


def _write_sketch(folder: Path, splits: Splits, settings: TrainConfig) -> None:
    """Keep which texts were trained and tuned on, so that an evaluation on them can say so."""
    n_plain = len(splits.frames["train"]) - splits.added.get("disguised", 0)
    frames = splits.frames["train"].iloc[:n_plain], splits.frames["val"]
    sketch = sketch_texts(text for frame in frames for text in frame[settings.text_column])
    with write_atomically(folder / TRAINING_TEXTS) as temporary, temporary.open("wb") as file:
        np.save(file, sketch, allow_pickle=False)


def _prepare(
    scratch: Path,
    config: ExportConfig,
    checkpoint: Checkpoint,
    splits: Splits,
    settings: TrainConfig,
    cutter: Windows,
) -> Trained:
    """The ONNX graph that other forms start from, and windows of train texts to fix scales on."""
    graph = scratch / "model.onnx"
    if any(FORMS[form].from_graph for form in config.formats):
        logger.info("Trace the model ...")
        write_onnx(graph, checkpoint.model)
    texts = splits.frames["train"][settings.text_column]
    places = np.linspace(0, len(texts) - 1, min(_N_CALIBRATION, len(texts))).astype(int)
    windows = [np.array(cutter.cut(text)[0].ids, dtype=np.int64) for text in texts.iloc[places]]
    return Trained(checkpoint.model, graph, windows)


def _drop_failed(folder: Path, content: dict[str, Any], config: ExportConfig) -> list[str]:
    """Remove the forms that failed and are not allowed, and the plain folder's weights where nobody asked for them."""
    failed = []
    for row in content["parity"]:
        if row["passed"]:
            continue
        if row["form"] in config.allow:
            row["allowed"] = True
        else:
            failed.append(row["form"])
    unwanted = {*failed, *({"hf"} - set(config.formats))}
    for form in unwanted & content["forms"].keys():
        for name in content["forms"].pop(form)["files"]:
            (folder / name).unlink()
    for path in folder.iterdir():
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    return failed


def _refuse_worse(config: ExportConfig, content: dict[str, Any], failed: list[str]) -> None:
    """Keep a bundle that nothing can load from being written, and one that lost a form from replacing another.

    Raises:
        ArtifactError: with the parity table, since no bundle keeps it.
    """
    replaces = config.overwrite and (config.to / MANIFEST).is_file()
    if any(FORMS[form].backend for form in content["forms"]) and not (failed and replaces):
        return
    raise ArtifactError(
        f"{config.to}: not written, and what stood there before is unchanged.\n\n{format_parity(content['parity'])}\n\n"
        f"Outside their limits: {', '.join(failed)}. To keep them all the same: --allow {','.join(failed)}"
    )


def _finish(folder: Path, content: dict[str, Any], config: ExportConfig) -> None:
    """Write the card and the manifest; then what servers need, which is made from a complete bundle."""
    bundle = write_manifest(folder, content)
    with write_atomically(folder / CARD) as temporary:
        card = write_card(bundle, about=_read_about(config), licence=config.licence)
        temporary.write_text(card, encoding="utf-8", errors="backslashreplace")  # a table's name may be no UTF-8
    write_manifest(folder, content)
    for form in (form for form in SERVER_WRITERS if form in config.formats):
        write = SERVER_WRITERS[form]
        content["forms"][form] = {"files": write(folder, content["name"])}
    write_manifest(folder, content)
