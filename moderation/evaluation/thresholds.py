"""One threshold per label: choose it on validation data, estimate how far to trust it, save it, load it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from moderation.documents import Document, json_field
from moderation.errors import ArtifactError, ConfigError
from moderation.escapes import escape_name
from moderation.evaluation.chosen_thresholds import FORMAT, VERSION
from moderation.evaluation.cuts import find_cuts, sort_by_probability, threshold_between
from moderation.evaluation.objectives import Counts, Objective, fbeta, parse_objective, ratio
from moderation.evaluation.probabilities import BoolArray, FloatArray, check_pair, predict
from moderation.evaluation.resampling import deal_folds, percentile_interval
from moderation.evaluation.split_metrics import Interval
from moderation.labels import as_labels, check_same_labels
from moderation.text_tables import align, interval, number

DEFAULT_THRESHOLD = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ThresholdResult:
    """The threshold of one label and its results. An undefined figure is None.

    Args:
        threshold: Positive where `probability >= threshold`; exactly a float32 number.
        objective: What it optimises, as requested.
        value: What the objective maximises, on the examples that it was chosen on; so it is optimistic.
        interval: 95 % bootstrap interval of `value` at exactly this threshold; None without bootstrap or if not tuned.
        cross_fitted: The same value if each example is decided by a threshold chosen without it: what to expect on
            new data. None without folds, with fewer positives than folds, or if not tuned.
        cross_fitted_constraint: Of those same decisions, what the objective limits: precision, recall or false alarms.
        precision: Share of the flagged examples that are positive.
        recall: Share of the positive examples that are flagged.
        f1: Harmonic mean of the two.
        n_positives: Positive examples that it was chosen on.
        n_examples: All examples that it was chosen on.
        tuned: False if there were too few positives and the default of 0.5 was kept.
        constraint_met: False if no cut keeps to the requested limit; True without a constraint.
    """

    threshold: float
    objective: str
    value: float | None
    interval: Interval | None
    cross_fitted: float | None
    cross_fitted_constraint: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    n_positives: int
    n_examples: int
    tuned: bool
    constraint_met: bool

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError("threshold is outside [0, 1]")


def tune_thresholds(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    labels: Sequence[str],
    *,
    objective: str = "f1",
    bootstrap: int = 1000,
    folds: int = 5,
    seed: int = 42,
    min_positives: int = 10,
) -> dict[str, ThresholdResult]:
    """Choose one threshold per label, exactly: every distinct cut is considered, in O(n log n).

    The threshold lies midway between two neighbouring scores. `Objective.choose` documents how ties are decided,
    and a limit out of reach (the closest cut is used, `constraint_met` is False, a warning is logged).
    The order of the examples does not matter.

    The interval is a percentile bootstrap (Efron & Tibshirani 1993, ch. 13) of the value at the chosen, fixed
    threshold. Resampling n examples with replacement and counting true and false positives and negatives is one
    multinomial draw over these four counts, so that is what is drawn. The cross-fitted value pools the decisions on
    `folds` held-out parts, stratified by target (Forman & Scholz 2010: pool, do not average).

    Args:
        probabilities: `(n_examples, n_labels)`, in [0, 1], columns in `labels` order.
        targets: Of the same shape, 0 or 1, NaN where unknown.
        labels: Ordered labels.
        objective: `f1`, `fbeta:B`, `precision>=P` (best recall), `recall>=R` (best precision), or `false-alarms<=X`
            (best F1).
        bootstrap: Samples of the interval; 0: no interval.
        folds: Parts of the cross-fitting; 0: none.
        seed: Of bootstrap and folds.
        min_positives: With fewer positives (and with none) a label keeps 0.5.

    Returns:
        Label -> result, in `labels` order.

    Raises:
        DataError: the arrays are not probabilities or targets, or their shapes do not fit.
        ConfigError: the objective is unknown, labels are empty or named twice, or a number is out of range.

    >>> scores = np.float32([[0.1], [0.2], [0.4], [0.8]])
    >>> result = tune_thresholds(scores, [[0], [0], [1], [1]], ["toxic"], min_positives=2, bootstrap=0)["toxic"]
    >>> round(result.threshold, 3), result.value
    (0.3, 1.0)
    """
    labels = as_labels(labels)
    goal = parse_objective(objective)
    if bootstrap < 0 or seed < 0 or folds < 0 or folds == 1:
        raise ConfigError("Tuning: expected bootstrap and seed of 0 or more, and folds of 0 (none), or 2 or more.")
    scores, truth = check_pair(probabilities, targets, len(labels))

    results = {}
    for column, label in enumerate(labels):
        known = ~np.isnan(truth[:, column])
        ordered = sort_by_probability(scores[known, column], truth[known, column])
        rng = np.random.default_rng([seed, column])
        results[label] = _tune_label(*ordered, goal, rng, objective, bootstrap, folds, max(min_positives, 1))
    _warn(results, min_positives)
    return results


def _tune_label(
    scores: FloatArray,
    positive: BoolArray,
    goal: Objective,
    rng: np.random.Generator,
    objective: str,
    bootstrap: int,
    folds: int,
    min_positives: int,
) -> ThresholdResult:
    """Tune on sorted scores."""
    n_positives = int(positive.sum())
    tuned = n_positives >= min_positives
    threshold = choose_threshold(scores, positive, goal) if tuned else DEFAULT_THRESHOLD
    counts = count_decisions(scores, positive, threshold)
    constraint = _or_none(goal.constraint(counts)) if goal.constrained else None
    held_out = cross_fit(scores, positive, goal, folds, rng) if tuned and 2 <= folds <= n_positives else None
    return ThresholdResult(
        threshold=threshold,
        objective=objective,
        value=_or_none(goal.value(counts)),
        interval=bootstrap_interval(counts, goal, bootstrap, rng) if tuned and bootstrap else None,
        cross_fitted=_or_none(goal.value(held_out)) if held_out else None,
        cross_fitted_constraint=_or_none(goal.constraint(held_out)) if held_out and goal.constrained else None,
        precision=_or_none(ratio(counts[0], counts[1])),
        recall=_or_none(ratio(counts[0], counts[2])),
        f1=_or_none(fbeta(*counts[:3])) if n_positives else None,
        n_positives=n_positives,
        n_examples=len(scores),
        tuned=tuned,
        constraint_met=not goal.constrained or (constraint is not None and _is_met(goal, constraint, counts)),
    )


def _is_met(goal: Objective, constraint: float, counts: Counts) -> bool:
    """Whether decisions keep to the limit, and not by flagging nothing."""
    return bool(goal.is_met(constraint)) and int(np.asarray(counts.n_flagged)) > 0


def _or_none(value: npt.NDArray[np.float64]) -> float | None:
    return None if np.isnan(value) else float(value)


def _warn(results: Mapping[str, ThresholdResult], min_positives: int) -> None:
    untuned = [f"{label} ({result.n_positives})" for label, result in results.items() if not result.tuned]
    if untuned:
        logger.warning(
            "Fewer than %d positives, so the threshold stays at %s: %s",
            max(min_positives, 1),
            DEFAULT_THRESHOLD,
            ", ".join(untuned),
        )
    missed = [label for label, result in results.items() if result.tuned and not result.constraint_met]
    if missed:
        logger.warning("No threshold reaches the objective; the closest one was used: %s", ", ".join(missed))


def choose_threshold(scores: FloatArray, positive: BoolArray, goal: Objective) -> float:
    """Return the best threshold for examples in the order of `sort_by_probability`; O(n).

    Args:
        scores: float32 `(n_examples,)`, ascending.
        positive: bool `(n_examples,)`, at least one True.
        goal: The objective.
    """
    cuts = find_cuts(scores, positive)
    if goal.kind == "false-alarms" and not goal.reaches(cuts):  # flagging nothing always keeps to it
        return float(np.minimum(np.nextafter(scores[-1], np.float32(2)), np.float32(1)))
    best = goal.choose(cuts)
    return threshold_between(float(cuts.lower[best]), float(cuts.upper[best]))


def count_decisions(scores: FloatArray, positive: BoolArray, threshold: float) -> Counts:
    """Decide every example by `threshold` and count."""
    flagged = predict(scores, threshold)
    return Counts(int((flagged & positive).sum()), int(flagged.sum()), int(positive.sum()), len(scores))


def cross_fit(scores: FloatArray, positive: BoolArray, goal: Objective, folds: int, rng: np.random.Generator) -> Counts:
    """Decide each fold by a threshold chosen on the others, and count all decisions together.

    Pooled, not averaged: the mean of F1 over folds with few positives is biased (Forman & Scholz 2010). Folds are
    stratified by target and assigned over the sorted examples, so that the order of the rows does not matter.

    Args:
        scores: float32 `(n_examples,)`, ascending.
        positive: bool `(n_examples,)`, True at least `folds` times.
        goal: What each threshold is chosen for.
        folds: Parts, 2 or more.
        rng: Assigns the folds.
    """
    fold = deal_folds(positive, folds, rng)
    parts = []
    for k in range(folds):
        held_out = fold == k
        threshold = choose_threshold(scores[~held_out], positive[~held_out], goal)  # a part stays sorted
        parts.append(count_decisions(scores[held_out], positive[held_out], threshold))
    return Counts(*map(sum, zip(*parts, strict=True)))


def bootstrap_interval(counts: Counts, goal: Objective, samples: int, rng: np.random.Generator) -> Interval | None:
    """Return the 95 % percentile interval of the value at a fixed threshold (Efron & Tibshirani 1993, ch. 13).

    Drawing n examples with replacement and counting true and false positives and negatives is one multinomial draw
    over these four counts: the same distribution without touching an example. Samples without a value (nothing
    flagged, if the value is precision) are left out; None if all are.
    """
    hits, n_flagged, n_positives, n_examples = counts
    misses = n_positives - hits
    cells = np.array([hits, misses, n_flagged - hits, n_examples - n_flagged - misses])
    drawn = rng.multinomial(n_examples, cells / n_examples, size=samples)  # (samples, 4)
    hits = drawn[:, 0]
    values = goal.value(Counts(hits, hits + drawn[:, 2], hits + drawn[:, 1], n_examples))
    return percentile_interval(values)


def threshold_array(results: Mapping[str, ThresholdResult], labels: Sequence[str]) -> FloatArray:
    """Return the thresholds as float32 `(n_labels,)` in `labels` order, for `predict`."""
    return np.array([results[label].threshold for label in labels], dtype=np.float32)


def format_thresholds(results: Mapping[str, ThresholdResult]) -> str:
    """Return a table for the terminal, one line per label."""
    constrained = sorted({goal.kind for goal in _goals(results) if goal.constrained})
    held_out = [f"held-out {' or '.join(constrained)}"] if constrained else []
    header = ["label", "threshold", "value", "95 % interval", "cross-fitted", *held_out]
    header += ["precision", "recall", "F1", "positives"]
    rows = [
        [
            label if result.tuned and result.constraint_met else f"{label} {'!' if result.tuned else '*'}",
            number(result.threshold, 4),
            number(result.value),
            interval(result.interval),
            number(result.cross_fitted),
            *([number(result.cross_fitted_constraint)] if held_out else []),
            number(result.precision),
            number(result.recall),
            number(result.f1),
            f"{result.n_positives:,}",
        ]
        for label, result in results.items()
    ]
    table = align([header, *rows])
    table += f"\nvalue: {explain_value(results)}"
    table += "\ncross-fitted: the same on held-out comments, what to expect on new ones"
    if held_out:
        table += f"\n{held_out[0]}: what the objective asks for, on those held-out comments"
    if any(not result.tuned for result in results.values()):
        table += "\n* too few positives: not tuned"
    if any(result.tuned and not result.constraint_met for result in results.values()):
        table += "\n! out of reach: the closest threshold was used"
    return table


def explain_value(results: Mapping[str, ThresholdResult]) -> str:
    """Describe `value` for the given objectives.

    >>> scores, truth = [[0.1], [0.8]], [[0], [1]]
    >>> explain_value(tune_thresholds(scores, truth, ["toxic"], min_positives=1, bootstrap=0))
    'the F1 reached on the comments that the threshold was chosen on, so it is too good'
    """
    names = list(dict.fromkeys(goal.maximises for goal in _goals(results)))
    return f"the {' or '.join(names)} reached on the comments that the threshold was chosen on, so it is too good"


def _goals(results: Mapping[str, ThresholdResult]) -> list[Objective]:
    return [parse_objective(objective) for objective in dict.fromkeys(result.objective for result in results.values())]


@dataclass(frozen=True)
class TunedThresholds:
    """The content of `thresholds.json`.

    Args:
        labels: Ordered labels.
        thresholds: Label -> result, for each of them.
        about: Where the thresholds come from: split, file, seed.
        by_language: Language code -> label -> result, where a language has enough examples for its own.
    """

    labels: tuple[str, ...]
    thresholds: Mapping[str, ThresholdResult]
    about: Mapping[str, object]
    by_language: Mapping[str, Mapping[str, ThresholdResult]] | None = json_field(None, optional=True)

    def __post_init__(self) -> None:
        as_labels(self.labels)
        if self.thresholds.keys() != set(self.labels):
            raise ValueError("expected one threshold for each label")
        for code, own in (self.by_language or {}).items():
            if not own.keys() <= set(self.labels):
                raise ValueError(f"by_language.{escape_name(code)} has a threshold for another label")


THRESHOLDS = Document(
    TunedThresholds, "thresholds.json, as written by `moderation tune`", FORMAT, VERSION, cure="tune again"
)


def save_thresholds(
    path: Path,
    results: Mapping[str, ThresholdResult],
    labels: Sequence[str],
    about: Mapping[str, object],
    by_language: Mapping[str, Mapping[str, ThresholdResult]] | None = None,
) -> None:
    """Write `thresholds.json`.

    Args:
        path: The file.
        results: Label -> result, for each of `labels`.
        labels: Ordered labels.
        about: Where the thresholds come from: split, file, seed; anything that JSON can store.
        by_language: Language code -> label -> result, where a language has its own.

    Raises:
        ArtifactError: the file cannot be written, or the results are for other labels.
    """
    labels = as_labels(labels)
    check_same_labels(list(results), labels, "Thresholds to save")
    THRESHOLDS.write(
        Path(path), TunedThresholds(labels, {label: results[label] for label in labels}, about, by_language or None)
    )


def load_thresholds(path: Path, labels: Sequence[str] | None = None, *, calibrated: bool | None = None) -> FloatArray:
    """Read only the thresholds for texts in general, float32 `(n_labels,)` in label order.

    Args:
        path: A file that `save_thresholds` wrote.
        labels: Labels of the model that they are used with; None: those of the file.
        calibrated: Whether the probabilities that they are used with are calibrated; None: not known.

    Raises:
        ArtifactError: as for `read_thresholds`, or the file was made for other labels, or for probabilities that are
            calibrated when these are not, or vice versa.
    """
    tuned = read_thresholds(path)
    if labels is not None:
        check_same_labels(tuned.labels, labels, str(path))
    tuned_on = tuned.about.get("calibrated")
    if None not in (calibrated, tuned_on) and tuned_on != calibrated:
        words = {True: "calibrated", False: "uncalibrated"}
        raise ArtifactError(
            f"{path}: tuned on {words[bool(tuned_on)]} probabilities, but these are {words[bool(calibrated)]} ones. "
            "Use thresholds and calibration.json of the same run, or tune again."
        )
    return threshold_array(tuned.thresholds, tuned.labels)


def read_thresholds(path: Path) -> TunedThresholds:
    """Read `thresholds.json` completely.

    Raises:
        ArtifactError: missing, broken, not a file of thresholds, from a newer version, or a number out of range.
    """
    return THRESHOLDS.read(Path(path))
