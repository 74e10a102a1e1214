"""What a worker process takes, for Prometheus: memory, processor, open files; read when somebody asks."""

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector


class WorkerCollector(Collector):
    """The usual `process_*` metrics of every worker, with its process id; nothing where there is no `/proc`.

    A sum would fall when a worker is replaced, and look like a counter that began anew: the one who asks can sum.
    """

    def collect(self) -> Iterator[Metric]:
        """The metrics of the workers that are there now."""
        found: dict[str, Metric] = {}
        for pid in _worker_ids():
            for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                together = found.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    together.add_sample(sample.name, {**sample.labels, "pid": str(pid)}, sample.value)
        yield from found.values()


def _worker_ids() -> list[int]:
    """Those that keep counts in the common folder; without one, this process."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return [os.getpid()]
    ids = {path.stem.rpartition("_")[2] for path in Path(folder).glob("gauge_live*_*.db")}
    return sorted(int(pid) for pid in ids if pid.isdecimal() and Path(f"/proc/{pid}").exists())
