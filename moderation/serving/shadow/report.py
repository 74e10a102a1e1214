"""`/v1/shadow`: where the shadow would decide differently, over all workers."""

from typing import Annotated

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, Field

from moderation.evaluation.reliability import wilson_interval
from moderation.inference.classifier import Classifier
from moderation.serving.dialects.native import ProblemAnswer
from moderation.serving.errors import ApiError
from moderation.serving.metrics import Metrics
from moderation.serving.shadow.counts import PREFIX
from moderation.serving.shadow.scoring import Shadow
from moderation.serving.state import state_for

_Counts = dict[tuple[str, ...], float]
_NONE = "There is no shadow: the server was started without --shadow, or could not load the shadow (see its log)."


class Side(BaseModel):
    """One of the two bundles."""

    model_version: Annotated[str, Field(description="name@first digits of the version/engine")]
    version: Annotated[str, Field(description="SHA-256 of the bundle, 64 hex digits")]
    thresholds: dict[str, float]
    own_labels: Annotated[list[str], Field(description="labels that the other bundle lacks; they are not compared")]


class Changed(BaseModel):
    """Texts for which the shadow would decide differently."""

    texts: int
    share: Annotated[float | None, Field(description="of the texts compared; null if there are none")]
    low: Annotated[float | None, Field(description="lower end of the share's 95 % interval (Wilson)")]
    high: Annotated[float | None, Field(description="upper end of the share's 95 % interval (Wilson)")]


class ComparedLabel(BaseModel):
    """Decisions and probabilities of both bundles on one label."""

    texts: int
    both_flagged: int
    only_main: Annotated[int, Field(description="flagged by the main bundle, not by the shadow")]
    only_shadow: Annotated[int, Field(description="flagged by the shadow, not by the main bundle")]
    neither: int
    changed: Changed
    mean_difference: Annotated[float | None, Field(description="mean of |difference of the two probabilities|")]
    largest_difference: Annotated[float | None, Field(description="the largest of them")]


class ShadowAnswer(BaseModel):
    """What was compared since these two models began to run side by side."""

    main: Side
    shadow: Side
    share: Annotated[float, Field(description="share of the texts that the shadow scores")]
    texts: Annotated[int, Field(description="texts compared")]
    changed: Annotated[Changed, Field(description="texts with a different decision on any label that both have")]
    dropped: Annotated[int, Field(description="texts of the share that were not scored for lack of time or room")]
    failed: Annotated[int, Field(description="texts of the share on which the shadow failed")]
    labels: dict[str, ComparedLabel]


def make_router(metrics: Metrics) -> APIRouter:
    """The route.

    Args:
        metrics: Where the shadow's counts are.
    """
    router = APIRouter(prefix="/v1", tags=["native"], responses={"4XX": {"model": ProblemAnswer}})

    @router.get("/shadow", response_model=ShadowAnswer)
    def shadow(request: Request) -> ShadowAnswer:  # in a thread: the counts of all workers are in files
        """Where the bundle given with `--shadow` would decide differently; 404 if there is none."""
        state = state_for(request)
        found = state.shadow
        if found is None:
            raise ApiError(404, "not_found", _NONE)
        return report(state.service.classifier, found, metrics.add_up())

    return router


def report(main: Classifier, shadow: Shadow, registry: CollectorRegistry) -> ShadowAnswer:
    """Assemble the counts of one pair of models."""
    counts = _read_counts(registry, shadow.counts.models)
    n_changed, n_same = (int(counts.get(("texts_total", changed), 0)) for changed in ("yes", "no"))
    return ShadowAnswer(
        main=_describe(main, shadow.counts.labels),
        shadow=_describe(shadow.classifier, shadow.counts.labels),
        share=shadow.share,
        texts=n_changed + n_same,
        changed=_measure_change(n_changed, n_changed + n_same),
        dropped=int(counts.get(("dropped_total",), 0)),
        failed=int(counts.get(("failed_total",), 0)),
        labels={label: _compare(label, counts) for label in shadow.counts.labels},
    )


def _read_counts(registry: CollectorRegistry, models: str) -> _Counts:
    """Name without its prefix, and values of all labels except `models` -> value; buckets are left out."""
    found: _Counts = {}
    for metric in registry.collect():
        for sample in metric.samples:
            name = sample.name.removeprefix(f"{PREFIX}_")
            if name != sample.name and sample.labels.get("models") == models and "le" not in sample.labels:
                values = (
                    sample.labels[label] for label in ("label", "main", "shadow", "changed") if label in sample.labels
                )
                found[(name, *values)] = sample.value
    return found


def _describe(classifier: Classifier, compared: tuple[str, ...]) -> Side:
    return Side(
        model_version=classifier.model_version,
        version=classifier.bundle.version,
        thresholds=classifier.thresholds_by_label,
        own_labels=[label for label in classifier.labels if label not in compared],
    )


def _compare(label: str, counts: _Counts) -> ComparedLabel:
    both, only_main, only_shadow, neither = (
        int(counts.get(("decisions_total", label, main, shadow), 0))
        for main in ("flagged", "clean")
        for shadow in ("flagged", "clean")
    )
    n_texts = both + only_main + only_shadow + neither
    n_differences = counts.get(("difference_count", label), 0)
    return ComparedLabel(
        texts=n_texts,
        both_flagged=both,
        only_main=only_main,
        only_shadow=only_shadow,
        neither=neither,
        changed=_measure_change(only_main + only_shadow, n_texts),
        mean_difference=counts[("difference_sum", label)] / n_differences if n_differences else None,
        largest_difference=counts.get(("largest_difference", label)) if n_differences else None,
    )


def _measure_change(n_changed: int, n_texts: int) -> Changed:
    if not n_texts:
        return Changed(texts=0, share=None, low=None, high=None)
    low, high = wilson_interval(n_changed, n_texts)
    return Changed(texts=n_changed, share=n_changed / n_texts, low=float(low), high=float(high))
