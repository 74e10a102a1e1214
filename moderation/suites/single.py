"""One label against one 0/1 truth: the numbers of suites that know one kind of bad alone."""

from collections.abc import Sequence
from typing import Any

from moderation.evaluation.metrics import eval_with_thresholds
from moderation.evaluation.probabilities import BoolArray, FloatArray
from moderation.suites.intervals import as_interval
from moderation.suites.results import Interval, Options
from moderation.suites.rules import main_label
from moderation.suites.scorer import Scorer
from moderation.text_tables import interval, number

HEADER = ("texts", "positive", "ROC-AUC", "95 % interval", "AP", "precision", "recall", "F1", "95 % interval")


def measure_single(
    probabilities: FloatArray, positive: BoolArray, scorer: Scorer, options: Options, named: str | None = None
) -> dict[str, Any]:
    """Measure the label of `rules.main_label` at its threshold.

    Args:
        probabilities: float32 `(n_texts, n_labels)`.
        positive: bool `(n_texts,)`.
        scorer: Whose labels and thresholds count.
        options: Samples and seed.
        named: Column of the truth, which may have the name of a label.

    Returns:
        What `evaluation.metrics.eval_with_thresholds` says of a label, with `label` and `n_texts`.
    """
    place = main_label(scorer.labels, named)
    label = scorer.labels[place]
    measured = eval_with_thresholds(
        probabilities[:, [place]],
        positive[:, None],
        [label],
        scorer.thresholds[[place]],
        bootstrap=options.bootstrap,
        seed=options.seed,
    )
    numbers: dict[str, Any] = measured["labels"][label]
    return {"label": label, "n_texts": len(positive)} | numbers


def cells(numbers: dict[str, Any]) -> tuple[str, ...]:
    """The figures of `measure_single` as cells under `HEADER`."""
    decisions = numbers["at_threshold"]
    return (
        f"{numbers['n_texts']:,}",
        f"{numbers['support']:,}",
        number(numbers["roc_auc"]),
        interval(numbers["intervals"]["roc_auc"]),
        number(numbers["average_precision"]),
        *(number(decisions[name]) for name in ("precision", "recall", "f1")),
        interval(numbers["intervals"]["f1"]),
    )


def interval_of(numbers: dict[str, Any], name: str) -> Interval | None:
    """An interval of `measure_single`: of `roc_auc`, `average_precision` or `f1`."""
    bounds: Sequence[float] | None = numbers["intervals"][name]
    return as_interval(bounds)
