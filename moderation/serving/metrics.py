"""The server's metrics, for Prometheus. No label or value contains anything from a text.

Workers keep their counts in files of one folder (`count_files`), and any worker reports those of all.
"""

import collections
import platform
from collections.abc import Iterable, Iterator
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from moderation.categories import PERSPECTIVE_NAMES, TWIN
from moderation.extras import toolkit_version
from moderation.inference.classifier import TextResult
from moderation.serving.processes.count_files import find_counts, worker_ids

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SCORES = tuple(step / 10 for step in range(1, 11))
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class WorkerCollector(Collector):
    """The usual `process_*` metrics of every worker, with its process id; none without `/proc`.

    A sum would fall when a worker is replaced, like a counter that was reset, so summing is left to the reader.
    """

    def collect(self) -> Iterator[Metric]:
        """The metrics of the workers that exist now."""
        found: dict[str, Metric] = {}
        for pid in worker_ids():
            for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                together = found.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    together.add_sample(sample.name, {**sample.labels, "pid": str(pid)}, sample.value)
        yield from found.values()


class Metrics:
    """The counters of one server.

    Attributes:
        registry: Of this process; other modules register their counters there.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, histogram, gauge = self._counter, self._histogram, self._gauge
        self._requests = counter("requests", "Requests by route and status.", "route", "method", "status")
        self._request_s = histogram("request_seconds", "Seconds from request to answer.", _SECONDS, "route")
        self._queue_s = histogram("queue_seconds", "Seconds that a request waited for a free thread.", _SECONDS)
        self._tokenise_s = histogram("tokenise_seconds", "Seconds to cut a request into windows.", _SECONDS)
        self._inference_s = histogram("inference_seconds", "Seconds for one batch in the engine.", _SECONDS)
        self._batch_windows = histogram("batch_windows", "Windows in one batch.", _COUNTS)
        self._text_windows = histogram("text_windows", "Windows of one text.", _COUNTS)
        self._batch_tokens = counter("tokens", "Tokens computed, padding included.")
        self._texts = counter("texts", "Texts answered.")
        self._flagged = counter("flagged", "Texts flagged, by label.", "label")
        self._languages = counter("languages", "Texts sent to analyze, by language and outcome.", "language", "outcome")
        self._scores = histogram("score", "Probabilities, by label: watch them for drift.", _SCORES, "label")
        self._hits = counter("cache_hits", "Texts answered from the cache.")
        self._misses = counter("cache_misses", "Texts that had to be computed.")
        self._fallbacks = counter(
            "rate_limit_fallbacks", "Requests that a worker counted by itself: --rate-limit-url did not answer."
        )
        self._unsupported = counter(
            "unsupported_attributes", "Attributes requested from analyze that the model lacks.", "attribute"
        )
        self._decisions = counter(
            "decisions", "Moderators' decisions received, by whether they were stored.", "outcome"
        )
        self._waiting = gauge("waiting_tokens", "Tokens waiting in the queue.")
        self._model = self._info("model_info", "The model that answers.", "name", "version", "backend")
        self._build = self._info("build_info", "Versions of the program and of Python.", "version", "python")

    def started(self, name: str, version: str, backend: str) -> None:
        """This process answers from now on, with this model."""
        self._model.labels(name, version, backend).set(1)
        self._build.labels(toolkit_version(), platform.python_version()).set(1)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """An answer was sent."""
        self._requests.labels(route, method, str(status)).inc()
        self._request_s.labels(route).observe(seconds)

    def batch(self, n_windows: int, n_tokens: int, seconds: float) -> None:
        """A batch was computed."""
        self._batch_windows.observe(n_windows)
        self._batch_tokens.inc(n_tokens)
        self._inference_s.observe(seconds)

    def waited(self, seconds: float) -> None:
        """Record how long a request waited until its first window was taken."""
        self._queue_s.observe(seconds)

    def tokenised(self, seconds: float) -> None:
        """Record how long it took to cut a request's texts into windows."""
        self._tokenise_s.observe(seconds)

    def waiting(self, n_tokens: int) -> None:
        """Record how many tokens wait now."""
        self._waiting.set(n_tokens)

    def rate_limit_fallback(self, n: int) -> None:
        """Requests were counted only by this worker instead of together with those of the others."""
        self._fallbacks.inc(n)

    def unsupported_attributes(self, names: Iterable[str]) -> None:
        """Attributes were requested that the model lacks; unknown ones are counted as `other`."""
        for name, n_times in collections.Counter(
            name if name.removesuffix(TWIN) in PERSPECTIVE_NAMES else "other" for name in names
        ).items():
            self._unsupported.labels(name).inc(n_times)

    def decision(self, outcome: Literal["kept", "failed"]) -> None:
        """A moderator's decision was received, and stored or not; `failed` also if that is not known."""
        self._decisions.labels(outcome).inc()

    def texts(self, results: Iterable[TextResult], n_hits: int) -> None:
        """Texts were answered, `n_hits` of them from the cache."""
        n_texts = 0
        for result in results:
            n_texts += 1
            self._text_windows.observe(result.n_windows)
            for label, probability in result.probabilities.items():
                self._scores.labels(label).observe(probability)
            for label in result.flagged:
                self._flagged.labels(label).inc()
        self._texts.inc(n_texts)
        self._hits.inc(n_hits)
        self._misses.inc(n_texts - n_hits)

    def language(self, language: str, outcome: str) -> None:
        """A text in this language (one of a bounded number) was `scored`, scored `as_model`, or `refused`."""
        self._languages.labels(language, outcome).inc()

    def render(self) -> bytes:
        """All counts, in Prometheus's text format."""
        processes = CollectorRegistry()
        processes.register(WorkerCollector())
        return generate_latest(self.add_up()) + generate_latest(processes)

    def add_up(self) -> CollectorRegistry:
        """The counts of all workers together, or of this process if there is no common folder."""
        if not find_counts():
            return self.registry
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return together

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(f"moderation_{name}", help, labels, registry=self.registry)

    def _gauge(self, name: str, help: str) -> Gauge:
        return Gauge(f"moderation_{name}", help, registry=self.registry, multiprocess_mode="livesum")

    def _info(self, name: str, help: str, *labels: str) -> Gauge:
        """A gauge that is always 1, for live processes: the information is in its labels."""
        return Gauge(f"moderation_{name}", help, labels, registry=self.registry, multiprocess_mode="livemax")

    def _histogram(self, name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"moderation_{name}", help, labels, buckets=buckets, registry=self.registry)
