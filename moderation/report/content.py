"""From the inputs to the sentences and rows of a report, ready for the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from moderation.evaluation.objectives import parse_objective
from moderation.evaluation.probabilities import predict
from moderation.evaluation.reliability import wilson_interval
from moderation.evaluation.split_metrics import CalibrationChange, LabelMetrics, SplitMetrics
from moderation.evaluation.thresholds import DEFAULT_THRESHOLD, ThresholdResult, explain_value
from moderation.report.inputs import ReportInputs
from moderation.report.origin import Story, list_facts, list_settings, tell_story

FEW = 30  # with fewer examples or flags, a share is a rough guess


@dataclass(frozen=True)
class Share:
    """A share with its counts and its 95 % interval.

    Args:
        part: Examples counted.
        whole: Examples that these are out of, 1 or more.
    """

    part: int
    whole: int

    @property
    def value(self) -> float:
        """In [0, 1]."""
        return self.part / self.whole

    @property
    def few(self) -> bool:
        """Whether it is a rough guess."""
        return self.whole < FEW

    @property
    def plain(self) -> bool:
        """Whether it can be given as a count out of 100.

        A handful, and all or none of many, are given as counted, since 1 of 1 is not 100 of 100.
        """
        return not self.few and 0 < self.part < self.whole

    @property
    def words(self) -> str:
        """As a count out of 100."""
        return of_hundred(self.value)

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return float(wilson_interval(self.part, self.whole)[0])

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return float(wilson_interval(self.part, self.whole)[1])

    @property
    def span(self) -> str:
        """The interval, in counts out of 100."""
        return f"{self.low * 100:.0f} to {self.high * 100:.0f}"


@dataclass(frozen=True)
class Overall:
    """Comments with any flag against comments with any label.

    Args:
        n: Comments.
        flagged: Flagged, per 1,000.
        positive: With a label, per 1,000.
        right: Of the flagged, those with a label; like the next one, None without the arrays or if there are none.
        found: Of those with a label, the flagged.
    """

    n: int
    flagged: str
    positive: str
    right: Share | None = None
    found: Share | None = None


@dataclass(frozen=True)
class LabelRow:
    """One label at its threshold.

    Args:
        label: Its name.
        metrics: Its figures.
        right: Of its flags, the right ones; None if nothing was flagged.
        found: Of its comments, the flagged ones; None if there are none.
        per_thousand: Flagged per 1,000 comments.
        truly_per_thousand: With the label, per 1,000 comments.
    """

    label: str
    metrics: LabelMetrics
    right: Share | None
    found: Share | None
    per_thousand: str
    truly_per_thousand: str


@dataclass(frozen=True)
class ConfidenceRow:
    """How sure the model is of comments that it flags as a label, and how often it is right; None without flags."""

    label: str
    claimed: float | None
    true: Share | None
    verdict: str


@dataclass(frozen=True)
class ThresholdRow:
    """The threshold of a label, and its F1 on the test split; None if that was not measured."""

    label: str
    result: ThresholdResult
    test_f1: float | None


@dataclass(frozen=True)
class ThresholdNote:
    """What `value` means in the table of thresholds, and which quantity an objective requires; empty without one."""

    value: str
    held_out: str


@dataclass(frozen=True)
class Content:
    """Everything that the page shows; a section is None or empty if the inputs lack what it needs.

    Args:
        name: Name of the run folder.
        split: Split that was measured.
        overall: All labels together.
        labels: Label by label.
        metrics: The figures themselves.
        partial: Macro averages that do not cover all labels, in words.
        thresholds: How they were chosen.
        thresholds_note: What the columns of that table mean.
        confidence: Whether probabilities can be trusted.
        calibrated: Label -> what calibration changed.
        warnings: What a reader must know first.
        run: The run in numbers.
        settings: Rows of name and value.
        facts: Rows of name and value.
    """

    name: str
    split: str
    overall: Overall | None
    labels: Sequence[LabelRow]
    metrics: SplitMetrics | None
    partial: Sequence[str]
    thresholds: Sequence[ThresholdRow]
    thresholds_note: ThresholdNote
    confidence: Sequence[ConfidenceRow]
    calibrated: Mapping[str, CalibrationChange]
    warnings: Sequence[str]
    run: Story | None
    settings: Sequence[tuple[str, str]]
    facts: Sequence[tuple[str, str]]


def compose(inputs: ReportInputs) -> Content:
    """Work out everything that the page shows."""
    labels, overall, metrics = _label_rows(inputs.metrics), _overall(inputs), inputs.metrics
    return Content(
        name=inputs.name,
        split=inputs.split,
        overall=overall,
        labels=labels,
        metrics=metrics,
        partial=_partial(metrics) if metrics else (),
        thresholds=_threshold_rows(inputs),
        thresholds_note=_threshold_note(inputs.thresholds),
        confidence=_confidence_rows(inputs),
        calibrated=(metrics.calibration if metrics else None) or {},
        warnings=_warnings(inputs, labels, overall),
        run=tell_story(inputs.facts) if inputs.facts else None,
        settings=list_settings(inputs.facts) if inputs.facts else (),
        facts=list_facts(inputs.facts) if inputs.facts else (),
    )


def of_hundred(share: float) -> str:
    """Describe a share as a count out of 100, without claiming all or none.

    >>> of_hundred(0.712), of_hundred(0.9999), of_hundred(0.001)
    ('about 71', 'more than 99', 'fewer than 1')
    """
    if share > 0.995:
        return "more than 99"
    return f"about {share * 100:.0f}" if share >= 0.005 else "fewer than 1"


def per_thousand(count: int, n: int) -> str:
    """Describe a count as a rate per 1,000, with one more digit if it is small.

    >>> per_thousand(98, 1000), per_thousand(3, 2000), per_thousand(0, 10), per_thousand(1, 100_000)
    ('98', '1.5', '0', 'under 0.1')
    """
    rate = 1000 * count / n
    if 0 < rate < 0.1:
        return "under 0.1"
    return f"{rate:.1f}" if 0 < rate < 10 else f"{rate:,.0f}"


def _share(part: int, whole: int) -> Share | None:
    return Share(part, whole) if whole else None


def _label_rows(metrics: SplitMetrics | None) -> list[LabelRow]:
    if metrics is None:
        return []
    rows = []
    for label, one in metrics.labels.items():
        flagged = one.at_threshold.flagged
        right = round((one.at_threshold.precision or 0.0) * flagged)
        rows.append(
            LabelRow(
                label=label,
                metrics=one,
                right=_share(right, flagged),
                found=_share(right, one.support),
                per_thousand=per_thousand(flagged, one.n_known or metrics.n_examples),
                truly_per_thousand=per_thousand(one.support, one.n_known or metrics.n_examples),
            )
        )
    return rows


def _overall(inputs: ReportInputs) -> Overall | None:
    metrics = inputs.metrics
    if metrics is None:
        return None
    n = metrics.n_examples
    flagged, positive = per_thousand(metrics.flagged_any, n), per_thousand(metrics.positive_any, n)
    if inputs.probabilities is None or inputs.targets is None or inputs.decides is None:
        return Overall(n, flagged, positive)
    flags = (predict(inputs.probabilities, inputs.decides) & ~np.isnan(inputs.targets)).any(axis=1)
    truth = (inputs.targets == 1).any(axis=1)
    both = int((flags & truth).sum())
    return Overall(n, flagged, positive, _share(both, int(flags.sum())), _share(both, int(truth.sum())))


def _confidence_rows(inputs: ReportInputs) -> list[ConfidenceRow]:
    if inputs.probabilities is None or inputs.targets is None or inputs.decides is None:
        return []
    flags = predict(inputs.probabilities, inputs.decides)
    rows = []
    for i, label in enumerate(inputs.labels):
        chosen = flags[:, i] & ~np.isnan(inputs.targets[:, i])
        true = _share(int((inputs.targets[chosen, i] == 1).sum()), int(chosen.sum()))
        claimed = float(inputs.probabilities[chosen, i].mean()) if true else None
        rows.append(ConfidenceRow(label, claimed, true, _verdict(claimed, true)))
    return rows


def _verdict(claimed: float | None, true: Share | None) -> str:
    if claimed is None or true is None or true.few:
        return "too few flags to tell"
    if claimed > true.high:
        return "overconfident"
    return "too cautious" if claimed < true.low else "in line"


def _threshold_rows(inputs: ReportInputs) -> list[ThresholdRow]:
    tested = inputs.metrics.labels if inputs.metrics and inputs.split == "test" else {}
    return [
        ThresholdRow(label, result, tested[label].at_threshold.f1 if label in tested else None)
        for label, result in inputs.thresholds.items()
    ]


def _threshold_note(results: Mapping[str, ThresholdResult]) -> ThresholdNote:
    goals = [parse_objective(result.objective) for result in results.values()]
    kinds = sorted({goal.kind for goal in goals if goal.constrained})
    return ThresholdNote(explain_value(results) if results else "", " or ".join(kinds))


def _warnings(inputs: ReportInputs, rows: Sequence[LabelRow], overall: Overall | None) -> list[str]:
    """List what a reader must know before relying on the figures, the most serious first."""
    warnings = []
    if inputs.facts and inputs.facts.status != "done":
        warnings.append("The training has not finished; this page shows the results so far.")
    if rows and inputs.split == "val":
        warnings.append(
            "No test split was measured. These figures come from the same comments that the thresholds were chosen on, "
            "so they are too good."
        )
    results = inputs.thresholds
    untuned = [f"{label} ({result.n_positives})" for label, result in results.items() if not result.tuned]
    if untuned:
        warnings.append(
            f"Too few examples to choose a threshold, so {DEFAULT_THRESHOLD} was kept: {', '.join(untuned)} "
            "(in brackets: examples on the validation split). Add labelled comments before these decide anything."
        )
    missed = [label for label, result in results.items() if result.tuned and not result.constraint_met]
    if missed:
        warnings.append(f"No threshold reaches the objective; the closest one was used: {', '.join(missed)}.")
    if overall and any(share and share.few for share in (overall.right, overall.found)):
        warnings.append(
            f"Fewer than {FEW} comments were flagged, or have a label: what is said of all labels together is a rough "
            "guess."
        )
    if weakest := _weakest(rows):
        warnings.append(weakest)
    small = [f"{row.label} ({row.metrics.support})" for row in rows if row.metrics.support < FEW]
    if small:
        warnings.append(
            f"Fewer than {FEW} examples to measure on; treat the figures as rough guesses: {', '.join(small)}."
        )
    changed = [
        row.label
        for row in rows
        if row.label in results and abs(row.metrics.threshold - results[row.label].threshold) > 1e-6
    ]
    if changed:
        warnings.append(
            "The thresholds were chosen again after this measurement; run `moderation evaluate` to measure them. "
            f"Changed: {', '.join(changed)}."
        )
    return warnings


def _weakest(rows: Sequence[LabelRow]) -> str | None:
    """Name the label with the lowest F1 and what it gets wrong; None unless there are two to compare."""
    measured = [(f1, row.metrics.support, row) for row in rows if (f1 := row.metrics.at_threshold.f1) is not None]
    if len(measured) < 2:
        return None
    f1, support, row = min(measured, key=lambda one: one[:2])
    lost = [row.label for f1, _, row in measured if not f1]
    if len(lost) > 1:
        return f"The weakest labels are {', '.join(lost)}: none of the comments that have them is found."
    flags = f"{row.right.part:,} of its {row.right.whole:,} flags are right" if row.right else "it was never flagged"
    n_found = row.found.part if row.found else 0
    found = f"{n_found:,} of the {support:,} comments that have it are found"
    return f"The weakest label is {row.label}: {flags}, and {found} (F1 {f1:.2f})."


def _partial(metrics: SplitMetrics) -> list[str]:
    counts = metrics.macro_defined
    named = {"ROC-AUC": counts.roc_auc, "average precision": counts.average_precision, "F1": counts.f1}
    return [f"{name} over {count}" for name, count in named.items() if count < len(metrics.labels)]
