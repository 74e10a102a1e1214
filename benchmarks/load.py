"""Start a server in its own processes, put load on it, and measure its use of resources, for the benchmarks of serving.

The load comes from autocannon (npm). It is the light one among the generators in package registries that reports the
latency of every answer with its status, so refusals can be counted separately.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

AUTOCANNON = "autocannon@9.0.0"
START_S = 120
SAMPLE_S = 0.25


@dataclass
class Server:
    """A server that answers.

    Args:
        process: The process that was started; it may have children.
        url: Where it takes the comments.
        ready_s: Seconds from its start to its first answer.
    """

    process: psutil.Process
    url: str
    ready_s: float

    def tree(self) -> list[psutil.Process]:
        """Return all its processes."""
        return [self.process, *self.process.children(recursive=True)]

    def memory_mib(self) -> float:
        """Return the memory of its processes; memory that they share counts once (PSS)."""
        return sum(_ask(process, "memory_full_info", "pss") for process in self.tree()) / (1 << 20)

    def cpu_s(self) -> float:
        """Return the processor seconds that it has used so far."""
        return sum(_ask(process, "cpu_times", name) for process in self.tree() for name in ("user", "system"))

    def wait_until_idle(self) -> None:
        """Wait until it has finished what clients no longer wait for: it uses less than a tenth of a core."""
        for _ in range(300):
            before = self.cpu_s()
            time.sleep(0.5)
            if self.cpu_s() - before < 0.05:
                return
        sys.exit(f"{self.url}: still busy long after the load has ended")


@dataclass
class Part:
    """What came back in a part of the time.

    Args:
        seconds: Length of the part.
        sent: Requests sent.
        statuses: HTTP status -> answers.
        errors: Requests without an answer: the connection broke, or none came within 60 s.
        latencies_ms: Latencies of the answers with 2xx.
        memory_mib: Samples of the memory of all the server's processes together.
    """

    seconds: float
    sent: int
    statuses: dict[int, int]
    errors: int
    latencies_ms: list[float]
    memory_mib: list[float] = field(default_factory=list)

    def rate(self, lowest: int, highest: int) -> float:
        """Return the answers a second with a status in this range."""
        return sum(n for status, n in self.statuses.items() if lowest <= status <= highest) / self.seconds

    @property
    def failed(self) -> int:
        """Requests that were neither answered with 2xx nor refused with 429."""
        return self.errors + sum(n for status, n in self.statuses.items() if status != 429 and not 200 <= status <= 299)


@contextmanager
def serving(words: Sequence[str], path: str, port: int, folder: Path) -> Iterator[Server]:
    """Start a server and wait for its first answer; end it afterwards.

    Args:
        words: The command.
        path: Path that takes the comments.
        port: Port that it listens on.
        folder: Folder to run in; its output goes to a file there.
    """
    url = f"http://127.0.0.1:{port}{path}"
    log = folder / "server.log"
    began = time.perf_counter()
    with log.open("wb") as output, subprocess.Popen(words, cwd=folder, stdout=output, stderr=output) as started:
        process = psutil.Process(started.pid)
        try:
            while not _answers(url):
                if started.poll() is not None or time.perf_counter() - began > START_S:
                    sys.exit(f"{' '.join(words)}: does not answer\n{log.read_text(errors='replace')[-3000:]}")
                time.sleep(0.05)
            yield Server(process, url, time.perf_counter() - began)
        finally:
            _end(process)


def put_load(
    server: Server,
    texts: Path,
    modules: Path,
    *,
    connections: int,
    seconds: float,
    rate: int | None = None,
    n_parts: int = 1,
) -> tuple[list[Part], float]:
    """Send comments from a number of connections, each of which waits for its answer and then sends the next one.

    Args:
        server: The server.
        texts: JSON file of the comments.
        modules: `node_modules` with autocannon.
        connections: How many.
        seconds: How long; answers that come later are not counted.
        rate: Maximum of requests a second of each connection.
        n_parts: Number of equal parts of the time into which the results are split.

    Returns:
        The parts, and the processor seconds that the generator itself took.
    """
    settings = {"url": server.url, "texts": str(texts), "connections": connections, "seconds": seconds}
    words = ["node", str(Path(__file__).with_name("load.cjs")), json.dumps(settings | {"rate": rate, "parts": n_parts})]
    samples: list[tuple[float, float]] = []
    over = threading.Event()
    began = time.perf_counter()

    def watch() -> None:
        while not over.wait(SAMPLE_S):
            samples.append((time.perf_counter() - began, server.memory_mib()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        environment = os.environ | {"NODE_PATH": str(modules.absolute())}
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=seconds + 120)
    finally:
        over.set()
        watcher.join()
    if done.returncode:
        sys.exit(f"the load generator failed:\n{done.stderr[-3000:]}")
    return _read(json.loads(done.stdout), samples, seconds)


def check_generator(modules: Path) -> None:
    """Exit with the cure if autocannon is not installed."""
    if not (modules / "autocannon").is_dir():
        sys.exit(f"{modules}: no autocannon there. Install it: npm install --prefix {modules.parent} {AUTOCANNON}")


def free_port() -> int:
    """Find a port of the loopback address that nobody listens on."""
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])


def _read(found: dict[str, Any], samples: list[tuple[float, float]], seconds: float) -> tuple[list[Part], float]:
    each_s = seconds / len(found["parts"])
    parts = [
        Part(
            seconds=each_s,
            sent=part["sent"],
            statuses={int(status): n for status, n in part["statuses"].items()},
            errors=part["errors"],
            latencies_ms=part["latencies"],
            memory_mib=[mib for at, mib in samples if place * each_s <= at < (place + 1) * each_s],
        )
        for place, part in enumerate(found["parts"])
    ]
    return parts, found["cpu_s"]


def _answers(url: str) -> bool:
    body = json.dumps({"texts": ["Is anybody there?"]}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30):  # nosec B310 # our own server
            return True
    except OSError:
        return False


def _ask(process: psutil.Process, method: str, name: str) -> float:
    """Read a number about a process; 0 if the process has just ended."""
    try:
        return float(getattr(getattr(process, method)(), name))
    except psutil.NoSuchProcess:
        return 0.0


def _end(process: psutil.Process) -> None:
    tree = [process, *process.children(recursive=True)] if process.is_running() else []
    if tree:
        process.terminate()
    _, alive = psutil.wait_procs(tree, timeout=15)
    for one in alive:
        one.kill()
