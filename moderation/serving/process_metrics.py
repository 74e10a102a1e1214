"""What a worker process takes, for Prometheus: memory, processor, open files; read when somebody asks."""

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from moderation.serving.count_files import worker_ids


class WorkerCollector(Collector):
    """The usual `process_*` metrics of every worker, with its process id; nothing where there is no `/proc`.

    A sum would fall when a worker is replaced, and look like a counter that began anew: the one who asks can sum.
    """

    def collect(self) -> Iterator[Metric]:
        """The metrics of the workers that are there now."""
        found: dict[str, Metric] = {}
        for pid in worker_ids():
            for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                together = found.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    together.add_sample(sample.name, {**sample.labels, "pid": str(pid)}, sample.value)
        yield from found.values()
