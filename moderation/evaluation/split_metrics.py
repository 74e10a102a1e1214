"""What was measured on a split, `metrics_<split>.json` of a run. An undefined figure is None."""

from collections.abc import Mapping
from dataclasses import dataclass

from moderation.documents import Document, json_field
from moderation.labels import as_labels

Interval = tuple[float, float]
"""Lower and upper end of a 95 % interval."""


@dataclass(frozen=True)
class Decisions:
    """Precision, recall and F1 of the decisions at one threshold.

    Args:
        precision: Share of the flagged examples that are positive; None if nothing is flagged.
        recall: Share of the positive examples that are flagged; None without positives.
        f1: Harmonic mean of the two; None without positives.
        flagged: Examples flagged.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    flagged: int


@dataclass(frozen=True)
class Intervals:
    """95 % intervals of ROC-AUC, average precision and F1; None if undefined, or without resamples."""

    roc_auc: Interval | None
    average_precision: Interval | None
    f1: Interval | None


@dataclass(frozen=True, kw_only=True)
class LabelMetrics:
    """The figures of one label.

    Args:
        support: Positive examples.
        prevalence: Their share.
        roc_auc: In [0, 1]; like average precision, None unless there are positives and negatives.
        average_precision: In [0, 1].
        brier: Mean squared error of the probabilities.
        log_loss: Mean negative log-likelihood, in nats; None in the files of the earliest runs.
        ece: Expected calibration error.
        threshold: Flagged where `probability >= threshold`.
        at_threshold: Decisions at that threshold.
        at_half: Decisions at 0.5.
        intervals: Of this label's figures.
        n_known: Examples for which the label is known, which all of these count; None: all of the split.
    """

    support: int
    prevalence: float
    roc_auc: float | None
    average_precision: float | None
    brier: float
    log_loss: float | None = json_field(None, optional=True)
    ece: float
    threshold: float
    at_threshold: Decisions
    at_half: Decisions
    intervals: Intervals
    n_known: int | None = json_field(None, optional=True)


@dataclass(frozen=True)
class MacroAverages:
    """Means over the labels that have the figure; `ece_worst` is the largest of all labels."""

    roc_auc: float | None
    average_precision: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    f1_at_half: float | None
    brier: float | None
    ece_worst: float


@dataclass(frozen=True)
class MacroCounts:
    """How many labels each macro average covers."""

    roc_auc: int
    average_precision: int
    precision: int
    recall: int
    f1: int
    f1_at_half: int


@dataclass(frozen=True)
class MicroAverages:
    """The decisions of all labels taken together."""

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class CalibrationErrors:
    """How far probabilities are from the truth; lower is better.

    Args:
        brier: Mean squared error (Brier 1950).
        log_loss: Mean negative log-likelihood, in nats.
        ece: Expected calibration error.
    """

    brier: float
    log_loss: float
    ece: float


@dataclass(frozen=True)
class DiagramPoints:
    """Points of a reliability diagram; lists of the same length.

    Args:
        probability: Mean probability of each bin.
        share: Share of positives in it.
        count: Examples in it.
    """

    probability: list[float]
    share: list[float]
    count: list[int]

    def __post_init__(self) -> None:
        if len({len(self.probability), len(self.share), len(self.count)}) > 1:
            raise ValueError("expected as many probabilities as shares and counts")


@dataclass(frozen=True)
class CalibrationChange:
    """What calibration did to the probabilities of one label.

    Args:
        method: Method of the calibrator.
        before: Errors of the plain probabilities.
        after: Errors of the calibrated ones.
        bins: Reliability diagram before.
    """

    method: str
    before: CalibrationErrors
    after: CalibrationErrors
    bins: DiagramPoints


@dataclass(frozen=True)
class LanguageFigures:
    """The figures of one label in one language, at the threshold of the label.

    Args:
        n_known: Examples of the language for which the label is known.
        support: Positive ones.
        roc_auc: In [0, 1]; None unless there are positives and negatives.
        precision: Share of the flagged examples that are positive; None if nothing is flagged.
        recall: Share of the positive examples that are flagged; None without positives.
        f1: Harmonic mean of the two; None without positives.
        false_alarms: Share of the negative examples that are flagged; None without negatives.
        ece: Expected calibration error.
    """

    n_known: int
    support: int
    roc_auc: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    false_alarms: float | None
    ece: float


@dataclass(frozen=True, kw_only=True)
class SplitMetrics:
    """The figures of one split.

    Args:
        split: `train`, `val` or `test`; empty if not recorded.
        checkpoint: File name of the checkpoint, if `moderation evaluate` measured it.
        step: Optimizer step of that checkpoint.
        n_examples: Examples measured.
        labels: Label -> figures, in label order.
        macro: Macro averages.
        macro_defined: How many labels each macro average covers.
        macro_intervals: Of the macro averages.
        micro: Micro averages.
        subset_accuracy: Share of examples with every label right.
        flagged_any: Examples with a flagged label.
        positive_any: Examples with a positive label.
        calibration: Label -> what calibration changed; None if the run has no calibration.
        languages: Language -> label -> figures; None if the languages of the examples are not known.
        thresholds_by_language: Language -> label -> threshold that decided about texts recognised as written in it.
    """

    split: str = json_field("", optional=True)
    checkpoint: str | None = json_field(None, optional=True)
    step: int | None = json_field(None, optional=True)
    n_examples: int
    labels: Mapping[str, LabelMetrics]
    macro: MacroAverages
    macro_defined: MacroCounts
    macro_intervals: Intervals
    micro: MicroAverages
    subset_accuracy: float
    flagged_any: int
    positive_any: int
    calibration: Mapping[str, CalibrationChange] | None = json_field(None, optional=True)
    languages: Mapping[str, Mapping[str, LanguageFigures]] | None = json_field(None, optional=True)
    thresholds_by_language: Mapping[str, Mapping[str, float]] | None = json_field(None, optional=True)

    def __post_init__(self) -> None:
        as_labels(list(self.labels))
        if self.calibration is not None and self.calibration.keys() != self.labels.keys():
            raise ValueError("calibration and figures have different labels")


METRICS = Document(
    SplitMetrics, "metrics as written by `moderation evaluate`", cure="run `moderation evaluate` again", extra=True
)
