"""The counts of a shadow: its decisions compared with those of the main bundle, label by label.

Every count names both models. After a reload with another bundle, counting starts from zero in new series, so that no
number mixes models.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from moderation.inference.classifier import Classifier, TextResult

_DIFFERENCES = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
_WORDS = {True: "flagged", False: "clean"}
PREFIX = "moderation_shadow"


class ShadowCounts:
    """The counters of one shadow.

    Args:
        registry: Where they are registered.

    Attributes:
        models: The compared models, as in the metrics' label `models`.
        labels: The compared labels, in the main bundle's order.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", help, (*labels, "models"), registry=registry)

        self._decisions = counter(
            "decisions", "Texts by label and by what both bundles decided.", "label", "main", "shadow"
        )
        self._texts = counter("texts", "Texts compared, by whether the decision on any label differs.", "changed")
        self._dropped = counter("dropped", "Texts not compared because there was no time or room.")
        self._failed = counter("failed", "Texts not compared because the shadow failed.")
        self._differences = Histogram(
            f"{PREFIX}_difference",
            "Absolute difference of the two probabilities, by label.",
            ("label", "models"),
            buckets=_DIFFERENCES,
            registry=registry,
        )
        self._largest = Gauge(
            f"{PREFIX}_largest_difference",
            "Largest absolute difference of the two probabilities, by label.",
            ("label", "models"),
            registry=registry,
            multiprocess_mode="max",
        )
        self._info = Gauge(
            f"{PREFIX}_info",
            "The bundle that is tried out.",
            ("name", "version", "backend"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.models = ""
        self.labels: tuple[str, ...] = ()

    def started(self, main: Classifier, shadow: Classifier, labels: Sequence[str]) -> None:
        """From now on these two are compared, on these labels; all counts exist from the start, as zeros."""
        self.models = f"{main.model_version} {shadow.model_version}"
        self.labels = tuple(labels)
        self._info.labels(shadow.bundle.name, shadow.bundle.version, shadow.backend_name).set(1)
        for changed in ("yes", "no"):
            self._texts.labels(changed, self.models)
        self._dropped.labels(self.models)
        self._failed.labels(self.models)
        for label in self.labels:
            for by_main in _WORDS.values():
                for by_shadow in _WORDS.values():
                    self._decisions.labels(label, by_main, by_shadow, self.models)
            self._differences.labels(label, self.models)
            self._largest.labels(label, self.models)
        (largest,) = self._largest.collect()  # a worker that had this place before may have counted already
        self._highest = {
            sample.labels["label"]: sample.value for sample in largest.samples if sample.labels["models"] == self.models
        }

    def compared(self, main: TextResult, shadow: TextResult) -> None:
        """Count the results of both for a text. Only one thread may call this."""
        changed = False
        for label in self.labels:
            by_main, by_shadow = label in main.flagged, label in shadow.flagged
            changed |= by_main != by_shadow
            self._decisions.labels(label, _WORDS[by_main], _WORDS[by_shadow], self.models).inc()
            difference = abs(main.probabilities[label] - shadow.probabilities[label])
            self._differences.labels(label, self.models).observe(difference)
            if difference > self._highest[label]:
                self._highest[label] = difference
                self._largest.labels(label, self.models).set(difference)
        self._texts.labels("yes" if changed else "no", self.models).inc()

    def dropped(self, n_texts: int = 1) -> None:
        """Texts were not compared: too many waited, one was too long, or the server stops."""
        self._dropped.labels(self.models).inc(n_texts)

    def failed(self) -> None:
        """A text was not compared: the shadow had no answer."""
        self._failed.labels(self.models).inc()
