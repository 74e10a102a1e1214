"""What a run folder holds for its report: read whatever is there, refuse what is broken."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moderation.artifacts import RunFolder, read_array, read_json, sidecar
from moderation.errors import ArtifactError, DataError
from moderation.evaluation.probabilities import FloatArray, check_pair
from moderation.evaluation.thresholds import ThresholdResult, read_thresholds, threshold_array
from moderation.labels import as_labels, check_same_labels

Thresholds = tuple[tuple[str, ...], dict[str, ThresholdResult], dict[str, Any]]  # as `read_thresholds` returns them

_RANKING = ("roc_auc", "average_precision")
_DECISIONS = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Evidence:
    """All inputs of a report; what the run folder lacks is None or empty.

    Args:
        name: Name of the run folder.
        split: Split that `metrics`, `probabilities` and `targets` belong to: test where there is one, else val.
        labels: Ordered labels; empty if no file names any.
        probabilities: float32 `(n_examples, n_labels)`, in [0, 1].
        targets: float32 of the same shape, 0 or 1.
        cuts: Threshold of each label, float32 `(n_labels,)`: those that `metrics` was measured at, else the tuned ones.
        thresholds: thresholds.json, label to result.
        metrics: metrics_<split>.json.
        facts: run.json.
        log: Records of log.jsonl, in order.
    """

    name: str
    split: str
    labels: tuple[str, ...]
    probabilities: FloatArray | None
    targets: FloatArray | None
    cuts: FloatArray | None
    thresholds: Mapping[str, ThresholdResult] | None
    metrics: dict[str, Any] | None
    facts: dict[str, Any]
    log: list[dict[str, Any]]


def read_evidence(run: RunFolder) -> Evidence:
    """Read what there is.

    Raises:
        ArtifactError: no such folder, a file that is broken, or files that belong to different runs.
    """
    if not run.path.is_dir():
        raise ArtifactError(f"{run.path}: no such folder; expected the run folder of a training.")
    facts = read_json(run.run_json, "run.json as `moderation train` writes it") if run.run_json.exists() else {}
    split = next((name for name in ("test", "val") if run.metrics(name).exists() or run.preds(name).exists()), "val")
    thresholds = read_thresholds(run.thresholds) if run.thresholds.exists() else None
    metrics = _read_metrics(run.metrics(split)) if run.metrics(split).exists() else None
    labels = _agree_on_labels(run, split, metrics, thresholds, facts)
    arrays = _read_arrays(run, split, labels)
    if arrays and metrics and metrics["n_examples"] != len(arrays[0]):
        raise ArtifactError(
            f"{run.metrics(split)}: measured on {metrics['n_examples']} examples, but {run.preds(split)} holds "
            f"{len(arrays[0])}. Use files that belong to the same run."
        )
    return Evidence(
        name=run.path.resolve().name,
        split=split,
        labels=labels or (tuple(f"label {i + 1}" for i in range(arrays[0].shape[1])) if arrays else ()),
        probabilities=arrays[0] if arrays else None,
        targets=arrays[1] if arrays else None,
        cuts=_cuts(metrics, thresholds, run.metrics(split)),
        thresholds=thresholds[1] if thresholds else None,
        metrics=metrics,
        facts=facts,
        log=_read_log(run.log) if run.log.exists() else [],
    )


@contextmanager
def expecting(path: Path | str, what: str) -> Iterator[None]:
    """Turn a missing key or a value of another type into an error that names the file.

    Raises:
        ArtifactError: the block met one.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        if isinstance(error, ArtifactError):
            raise
        missing = f"no {error}" if isinstance(error, KeyError) else "an unexpected value"
        raise ArtifactError(f"{path}: {missing}; expected {what}. Was it changed by hand?") from None


def _agree_on_labels(
    run: RunFolder,
    split: str,
    metrics: Mapping[str, Any] | None,
    thresholds: Thresholds | None,
    facts: Mapping[str, Any],
) -> tuple[str, ...]:
    """Labels of every file that names them; empty where none does."""
    named: list[tuple[Path, tuple[str, ...]]] = []
    if metrics is not None:
        named.append((run.metrics(split), tuple(metrics["labels"])))
    if thresholds is not None:
        named.append((run.thresholds, thresholds[0]))
    about = [sidecar(path) for path in (run.preds(split), run.labels(split))]
    contents = [(path, read_json(path, "the sidecar of an array")) for path in about if path.exists()]
    for path, content in [*contents, *([(run.run_json, facts)] if facts else [])]:
        with expecting(path, "a list of names under labels"):
            named.append((path, as_labels([str(name) for name in content["labels"]])))
    for path, found in named[1:]:
        check_same_labels(found, named[0][1], str(path))
    return named[0][1] if named else ()


def _read_arrays(run: RunFolder, split: str, labels: Sequence[str]) -> tuple[FloatArray, FloatArray] | None:
    """Probabilities and targets; None unless both are there."""
    paths = run.preds(split), run.labels(split)
    if not all(path.exists() for path in paths):
        return None
    probabilities, targets = (read_array(path) for path in paths)
    n_labels = len(labels) or (probabilities.shape[1] if probabilities.ndim == 2 else 1)
    try:
        return check_pair(probabilities, targets, n_labels, (str(paths[0]), str(paths[1])))
    except DataError as error:
        raise ArtifactError(str(error)) from None


def _read_metrics(path: Path) -> dict[str, Any]:
    metrics = read_json(path, "metrics as `moderation evaluate` writes them")
    with expecting(path, "metrics as `moderation evaluate` writes them"):
        as_labels(list(metrics["labels"]))
        _check_numbers(metrics, "n_examples", "subset_accuracy", "flagged_any", "positive_any")
        for values in metrics["labels"].values():
            _check_numbers(values, *_RANKING, "support", "prevalence", "brier", "ece", "threshold")
            _check_numbers(values["at_threshold"], *_DECISIONS, "flagged")
            _check_numbers(values["at_half"], *_DECISIONS)
            _check_intervals(values["intervals"])
        _check_numbers(metrics["macro"], *_RANKING, *_DECISIONS, "f1_at_half", "brier", "ece_worst")
        _check_numbers(metrics["macro_defined"], *_RANKING, "f1")
        _check_numbers(metrics["micro"], *_DECISIONS)
        _check_intervals(metrics["macro_intervals"])
        if "calibration" in metrics:  # not of runs from before there was one
            for label in metrics["labels"]:
                _check_calibration(metrics["calibration"][label])
    return metrics


def _check_numbers(values: Mapping[str, Any], *names: str) -> None:
    """Raise KeyError or TypeError unless each name stands for a number, or null where it may be undefined."""
    for name in names:
        if not isinstance(values[name], int | float | None):
            raise TypeError


def _check_intervals(intervals: Mapping[str, Any]) -> None:
    for name in (*_RANKING, "f1"):
        if intervals[name] is not None:
            low, high = intervals[name]
            _check_numbers({"low": low, "high": high}, "low", "high")


def _check_calibration(compared: Mapping[str, Any]) -> None:
    str(compared["method"])
    for stage in ("before", "after"):
        _check_numbers(compared[stage], "brier", "log_loss", "ece")
    for claimed, true in zip(compared["bins"]["probability"], compared["bins"]["share"], strict=True):
        _check_numbers({"claimed": claimed, "true": true}, "claimed", "true")


def _cuts(metrics: Mapping[str, Any] | None, thresholds: Thresholds | None, path: Path) -> FloatArray | None:
    if metrics is not None:
        with expecting(path, "a threshold per label"):
            return np.array([float(values["threshold"]) for values in metrics["labels"].values()], dtype=np.float32)
    return threshold_array(thresholds[1], thresholds[0]) if thresholds else None


def _read_log(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ArtifactError(f"{path}: cannot be read; expected one JSON object a line.") from None
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not all(
            isinstance(record.get(name, 0), int | float) for name in ("step", "loss", "eval_loss")
        ):
            raise ArtifactError(f"{path}, line {number}: expected a JSON object as a training logs it.")
        records.append(record)
    return records
