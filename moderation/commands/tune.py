"""`moderation tune`: probabilities and targets of the validation split in, one threshold per label out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moderation.arrays import read_array, sidecar
from moderation.artifacts import RunFolder, find_target, read_json, resolve_target, sha256
from moderation.config import TuneConfig
from moderation.errors import ArtifactError, ConfigError
from moderation.evaluation.language_thresholds import tune_by_language
from moderation.evaluation.probabilities import check_pair
from moderation.evaluation.thresholds import ThresholdResult, format_thresholds, save_thresholds, tune_thresholds
from moderation.labels import as_labels, check_same_labels
from moderation.language_codes import name_languages
from moderation.links import refuse_links_out
from moderation.locks import claimed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """What the file next to an array records about it; None if it does not."""

    path: Path
    labels: tuple[str, ...] | None
    split: str | None
    kind: str | None
    calibrated: bool | None = None
    languages: list[str] | None = None


@dataclass(frozen=True)
class Tuning:
    """Thresholds that were chosen, and where they were written.

    Args:
        path: The file, such as `thresholds.json`.
        labels: Label order.
        results: Label -> its threshold and the result at it.
        by_language: Language code -> label -> the same, for languages with enough examples for their own.
    """

    path: Path
    labels: tuple[str, ...]
    results: dict[str, ThresholdResult]
    by_language: dict[str, dict[str, ThresholdResult]] = field(default_factory=dict)

    @property
    def thresholds(self) -> dict[str, float]:
        """Label -> threshold in [0, 1], in label order."""
        return {label: self.results[label].threshold for label in self.labels}


def tune(config: TuneConfig) -> int:
    """Tune one threshold per label and write `thresholds.json`; the table and the path go to standard output.

    Args:
        config: Settings; `config.preds` are probabilities, `config.labels` targets of the same shape.

    Returns:
        Exit code, 0.

    Raises:
        ModerationError: as for `tune_files`.
    """
    tuning = tune_files(config)
    print(format_thresholds(tuning.results))
    for code, results in tuning.by_language.items():
        print(f"\n{code}\n{format_thresholds(results)}")
    print(f"\n{tuning.path}")
    return 0


def tune_files(config: TuneConfig) -> Tuning:
    """Like `tune`, but print nothing.

    Raises:
        ConfigError: the label names are neither given nor recorded, or the objective is unknown.
        ArtifactError: a file is missing or broken, comes from the test split, contains something else, or the two
            files do not belong together.
        DataError: logits, NaN, targets other than 0 and 1, or shapes that differ.
    """
    path = RunFolder(config.preds.parent).thresholds if config.out is None else resolve_target(config.out)
    of_run = RunFolder(path.parent).run_json.exists()
    with claimed(path.parent if of_run else path, "tune", inside=of_run, source=config.preds):
        return _tune_into(path, config)


def _tune_into(path: Path, config: TuneConfig) -> Tuning:
    find_target(path)  # before the work, not after it
    refuse_links_out(path)
    for array in (config.preds, config.labels):
        if not array.exists():  # anything that is not a file is reported where it is read
            raise ArtifactError(f"{array}: no such file; expected an array saved by numpy (.npy).")
    preds = _read_origin(config.preds, expected_kind="probabilities")
    truth = _read_origin(config.labels, expected_kind="targets")
    labels = _agree_on_labels(preds, truth, config.label_columns)
    split = _agree_on_split(preds, truth)
    probabilities, targets = check_pair(
        read_array(config.preds), read_array(config.labels), len(labels), (str(config.preds), str(config.labels))
    )
    logger.info("Tuning %d labels on %s examples for %s", len(labels), f"{len(targets):,}", config.objective)
    goal, bootstrap, seed = config.objective, config.bootstrap, config.seed
    results = tune_thresholds(probabilities, targets, labels, objective=goal, bootstrap=bootstrap, seed=seed)
    if truth.languages is not None and len(truth.languages) != len(targets):
        raise ArtifactError(
            f"{sidecar(config.labels)}: names {len(truth.languages)} languages for {len(targets)} examples. Write the "
            "arrays again."
        )
    languages = truth.languages or ()
    own = tune_by_language(probabilities, targets, languages, labels, objective=goal, bootstrap=bootstrap, seed=seed)
    about = {
        "split": split,
        "n_examples": len(targets),
        "objective": config.objective,
        "bootstrap": config.bootstrap,
        "seed": config.seed,
        "preds": config.preds.name,
        "preds_sha256": sha256(config.preds),
        "calibrated": preds.calibrated,
    }
    save_thresholds(path, results, labels, about, own)
    return Tuning(path, labels, results, own)


def _read_origin(path: Path, expected_kind: str) -> Origin:
    """Read the sidecar of an array, and refuse an array that must not be used for tuning."""
    beside = sidecar(path)
    if not beside.is_file():
        return Origin(path, None, None, None)
    content = read_json(beside, "labels, split and kind of the array next to it")
    labels, split, kind = content.get("labels"), content.get("split"), content.get("kind")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ArtifactError(
            f"{beside}: does not name the labels of the columns in {path.name}. Expected labels, split and kind; "
            "if it belongs to something else, move it away and name the labels with --label-columns."
        )
    if split not in ("train", "val", None):
        raise ArtifactError(
            f"{path}: comes from the {split} split (according to {beside.name}). Thresholds tuned on it would make "
            "every figure measured on it too good. Use the files of the val split."
        )
    if kind != expected_kind:
        cure = " Apply moderation.evaluation.probabilities.sigmoid to logits." if kind == "logits" else ""
        raise ArtifactError(f"{path}: contains {kind} (according to {beside.name}), expected {expected_kind}.{cure}")
    languages = content.get("languages")
    is_list = isinstance(languages, list) and all(isinstance(one, str) for one in languages)
    if languages is not None and not (is_list and all(name_languages([one]) for one in set(languages))):
        raise ArtifactError(f"{beside}: languages is not a list of codes. Write the arrays again.")
    return Origin(path, as_labels(labels), split, kind, content.get("calibrated"), languages)


def _agree_on_labels(preds: Origin, truth: Origin, named: Sequence[str] | None) -> tuple[str, ...]:
    recorded = [origin for origin in (preds, truth) if origin.labels is not None]
    if named is None and not recorded:
        raise ConfigError(
            f"{preds.path}: there is no {sidecar(preds.path).name} next to it that names its labels. "
            "Name them, in column order: --label-columns toxic threat …"
        )
    labels = as_labels(named if named is not None else recorded[0].labels or ())
    for origin in recorded:
        check_same_labels(origin.labels or (), labels, str(origin.path))
    return labels


def _agree_on_split(preds: Origin, truth: Origin) -> str | None:
    if preds.split and truth.split and preds.split != truth.split:
        raise ArtifactError(
            f"{preds.path} comes from {preds.split}, {truth.path} from {truth.split}. Use files of the same split."
        )
    return preds.split or truth.split
