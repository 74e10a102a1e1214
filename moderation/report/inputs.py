"""Read a run folder for its report: use the files that exist, refuse broken ones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moderation.arrays import read_array, sidecar
from moderation.artifacts import RunFolder, read_bytes, read_json
from moderation.errors import ArtifactError, ConfigError, DataError
from moderation.evaluation.probabilities import FloatArray, check_pair, thresholds_of_texts
from moderation.evaluation.split_metrics import METRICS, SplitMetrics
from moderation.evaluation.thresholds import ThresholdResult, TunedThresholds, read_thresholds, threshold_array
from moderation.labels import as_labels, check_same_labels
from moderation.report.origin import read_origin
from moderation.run_records import RunRecord
from moderation.tunings import LanguageTuning, Tunings

_LONGEST_LOG = 64 << 20  # bytes; 400,000 lines


@dataclass(frozen=True)
class Losses:
    """The losses in one line of the training's log; None for a loss that it does not contain."""

    step: float
    training: float | None
    validation: float | None


@dataclass(frozen=True)
class ReportInputs:
    """All inputs of a report; what the run folder lacks is None or empty.

    Args:
        name: Name of the run folder.
        split: Split of `metrics`, `probabilities` and `targets`: test if there is one, otherwise val.
        labels: Ordered labels; empty if no file names any.
        probabilities: float32 `(n_examples, n_labels)`, in [0, 1].
        targets: float32 of the same shape, 0 or 1, NaN where unknown.
        cuts: Threshold of each label, float32 `(n_labels,)`: those that `metrics` was measured at, otherwise the tuned
            ones.
        thresholds: thresholds.json, label to result.
        metrics: metrics_<split>.json.
        facts: run.json.
        losses: The losses in log.jsonl, in order.
        cuts_by_text: Thresholds of each example, of the shape of `probabilities`; None: those of all.
    """

    name: str
    split: str
    labels: tuple[str, ...]
    probabilities: FloatArray | None
    targets: FloatArray | None
    cuts: FloatArray | None
    thresholds: Mapping[str, ThresholdResult]
    metrics: SplitMetrics | None
    facts: RunRecord | None
    losses: Sequence[Losses]
    cuts_by_text: FloatArray | None = None

    @property
    def decides(self) -> FloatArray | None:
        """The thresholds of each example, or of all."""
        return self.cuts if self.cuts_by_text is None else self.cuts_by_text


def read_inputs(run: RunFolder) -> ReportInputs:
    """Read the files that exist.

    Raises:
        ArtifactError: there is no such folder, a file is broken, or files belong to different runs.
    """
    if not run.path.is_dir():
        raise ArtifactError(f"{run.path}: no such folder; expected the run folder of a training.")
    facts = read_origin(run.run_json) if run.run_json.exists() else None
    split = next((name for name in ("test", "val") if run.metrics(name).exists() or run.preds(name).exists()), "val")
    thresholds = read_thresholds(run.thresholds) if run.thresholds.exists() else None
    metrics = METRICS.read(run.metrics(split)) if run.metrics(split).exists() else None
    labels = _agree_on_labels(run, split, metrics, thresholds, facts)
    arrays = _read_arrays(run, split, labels)
    if arrays and metrics and metrics.n_examples != len(arrays[0]):
        raise ArtifactError(
            f"{run.metrics(split)}: measured on {metrics.n_examples} examples, but {run.preds(split)} holds "
            f"{len(arrays[0])}. Use files that belong to the same run."
        )
    return ReportInputs(
        name=run.path.resolve().name,
        split=split,
        labels=labels or (tuple(f"label {i + 1}" for i in range(arrays[0].shape[1])) if arrays else ()),
        probabilities=arrays[0] if arrays else None,
        targets=arrays[1] if arrays else None,
        cuts=_cuts(metrics, thresholds),
        cuts_by_text=_cuts_by_text(metrics, run.labels(split)),
        thresholds=thresholds.thresholds if thresholds else {},
        metrics=metrics,
        facts=facts,
        losses=_read_losses(run.log) if run.log.exists() else (),
    )


def _agree_on_labels(
    run: RunFolder,
    split: str,
    metrics: SplitMetrics | None,
    thresholds: TunedThresholds | None,
    facts: RunRecord | None,
) -> tuple[str, ...]:
    """Labels from every file that names them; empty if none does."""
    named: list[tuple[Path, tuple[str, ...]]] = []
    if metrics is not None:
        named.append((run.metrics(split), tuple(metrics.labels)))
    if thresholds is not None:
        named.append((run.thresholds, thresholds.labels))
    named += [
        (path, _read_labels(path)) for path in map(sidecar, (run.preds(split), run.labels(split))) if path.exists()
    ]
    if facts is not None and facts.labels is not None:
        named.append((run.run_json, facts.labels))
    for path, found in named[1:]:
        check_same_labels(found, named[0][1], str(path))
    return named[0][1] if named else ()


def _read_labels(path: Path) -> tuple[str, ...]:
    """The labels that an array's sidecar names."""
    found = read_json(path, "the sidecar of an array").get("labels")
    try:
        return as_labels([str(name) for name in found] if isinstance(found, list) else ())
    except ConfigError:
        raise ArtifactError(f"{path}: expected a list of names under `labels`. Was it edited manually?") from None


def _read_arrays(run: RunFolder, split: str, labels: Sequence[str]) -> tuple[FloatArray, FloatArray] | None:
    """Probabilities and targets; None unless both exist."""
    paths = run.preds(split), run.labels(split)
    if not all(path.exists() for path in paths):
        return None
    probabilities, targets = (read_array(path) for path in paths)
    n_labels = len(labels) or (probabilities.shape[1] if probabilities.ndim == 2 else 1)
    try:
        return check_pair(probabilities, targets, n_labels, (str(paths[0]), str(paths[1])))
    except DataError as error:
        raise ArtifactError(str(error)) from None


def _cuts(metrics: SplitMetrics | None, thresholds: TunedThresholds | None) -> FloatArray | None:
    if metrics is not None:
        return np.array([values.threshold for values in metrics.labels.values()], dtype=np.float32)
    return threshold_array(thresholds.thresholds, thresholds.labels) if thresholds else None


def _cuts_by_text(metrics: SplitMetrics | None, targets: Path) -> FloatArray | None:
    """The thresholds that decided about each example; None: those of all examples."""
    if metrics is None or not metrics.thresholds_by_language or not sidecar(targets).is_file():
        return None
    general = LanguageTuning((), tuple(values.threshold for values in metrics.labels.values()))
    own = {
        code: LanguageTuning((), tuple(values[label] for label in metrics.labels))
        for code, values in metrics.thresholds_by_language.items()
        if values.keys() >= metrics.labels.keys()
    }
    languages = read_json(sidecar(targets), "the sidecar of an array").get("languages")
    if not isinstance(languages, list) or len(languages) != metrics.n_examples:
        return None
    cuts = thresholds_of_texts(Tunings(general, own), [str(code) for code in languages])
    return cuts if cuts.ndim == 2 else None


def _read_losses(path: Path) -> list[Losses]:
    try:
        lines = read_bytes(path, _LONGEST_LOG).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = f" ({error.strerror})" if isinstance(error, OSError) else ""
        raise ArtifactError(f"{path}: cannot be read{reason}; expected one JSON object per line.") from None
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        losses = _losses(record) if isinstance(record, dict) else None
        if losses is None:
            raise ArtifactError(f"{path}, line {number}: expected a JSON object written by a training.")
        found += losses
    return found


def _losses(record: Mapping[str, object]) -> list[Losses] | None:
    """The losses of one record of the log, in a list with one item or none; None for a loss that is not a number."""
    values: list[float | None] = []
    for name in ("step", "loss", "eval_loss"):
        value = record.get(name)
        if not isinstance(value, int | float | None):
            return None
        values.append(value)
    step, training, validation = values
    return [] if step is None or training is validation is None else [Losses(step, training, validation)]
