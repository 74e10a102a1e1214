"""One label against one 0/1 truth: the numbers of suites with only one kind of bad text."""

from collections.abc import Sequence
from dataclasses import dataclass

from moderation.documents import to_plain
from moderation.evaluation.metrics import measure_split
from moderation.evaluation.probabilities import BoolArray
from moderation.evaluation.split_metrics import LabelMetrics
from moderation.suites.options import SuiteOptions
from moderation.suites.scorer import Scorer, main_label
from moderation.text_tables import interval, number

HEADER = ("texts", "positive", "ROC-AUC", "95 % interval", "AP", "precision", "recall", "F1", "95 % interval")


@dataclass(frozen=True)
class SingleLabel:
    """The numbers of one label.

    Args:
        label: Its name.
        n_texts: Texts measured.
        metrics: Its numbers.
    """

    label: str
    n_texts: int
    metrics: LabelMetrics

    def to_plain(self) -> dict[str, object]:
        """All of it in one JSON object."""
        return {"label": self.label, "n_texts": self.n_texts, **to_plain(self.metrics)}


def measure_single(
    texts: Sequence[str], positive: BoolArray, scorer: Scorer, options: SuiteOptions, named: str | None = None
) -> SingleLabel:
    """Measure the label of `scorer.main_label` at its threshold.

    Args:
        texts: To score.
        positive: bool `(n_texts,)`.
        scorer: Provides the labels and thresholds.
        options: Samples and seed.
        named: Column of the truth, which may have a label's name.
    """
    place = main_label(scorer.labels, named)
    label = scorer.labels[place]
    probabilities = scorer.read(texts, label)
    cuts = scorer.thresholds_of(texts)
    measured = measure_split(
        probabilities[:, [place]],
        positive[:, None],
        [label],
        scorer.thresholds[[place]],
        by_text=cuts[:, [place]] if cuts.ndim == 2 else None,
        bootstrap=options.bootstrap,
        seed=options.seed,
    )
    return SingleLabel(label, len(positive), measured.labels[label])


def cells(found: SingleLabel) -> tuple[str, ...]:
    """The figures of `measure_single` as cells under `HEADER`."""
    metrics = found.metrics
    decided = metrics.at_threshold
    return (
        f"{found.n_texts:,}",
        f"{metrics.support:,}",
        number(metrics.roc_auc),
        interval(metrics.intervals.roc_auc),
        number(metrics.average_precision),
        *map(number, (decided.precision, decided.recall, decided.f1)),
        interval(metrics.intervals.f1),
    )
