"""Does a reload lose requests, and does a stop?

A server with the included model runs on the loopback address. Clients send requests, half of them on connections that
they keep, half on a new connection each, while the server gets SIGHUP a dozen times. Then they send requests again,
until SIGTERM has stopped the server. A request is lost if it was sent and got no answer. After SIGTERM the server no
longer listens; a connection that it refuses then does not count as a request.

    python benchmarks/reload.py --requests 10000 --reloads 12 --workers 2
"""

import argparse
import http.client
import json
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
from load import Server, free_port, serving
from tables import print_table, write_json

PATH = "/v1/predict"
READY_WITHIN_S = 120


class Clients:
    """Threads that send requests until they are stopped, and count the outcomes.

    Args:
        port: Port of the server.
        n_clients: Number of clients; every second one keeps its connection.

    Attributes:
        is_over: Whether no more requests are sent, because `stop` was called or nobody listens.
    """

    def __init__(self, port: int, n_clients: int) -> None:
        self.counts: Counter[str] = Counter()
        self._port, self._n_taken, self.is_over = port, 0, False
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(n_clients)]
        for thread in self._threads:
            thread.start()

    @property
    def n_sent(self) -> int:
        """Number of requests with an outcome."""
        return sum(self.counts.values())

    def wait_for(self, n_requests: int) -> None:
        """Wait until so many requests have an outcome, or nobody listens any more."""
        while self.n_sent < n_requests and not self.is_over:
            time.sleep(0.01)

    def stop(self) -> Counter[str]:
        """Send no more requests, and wait for the last answer."""
        self.is_over = True
        for thread in self._threads:
            thread.join()
        return self.counts

    def _send(self, number: int) -> None:
        line: http.client.HTTPConnection | None = None
        while (place := self._take()) is not None:
            kept = number % 2 == 0
            if line is None or not kept:
                line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            outcome, goes_on = self._ask(line, place, kept)
            with self._lock:
                self.counts[outcome] += 1
                self.is_over = self.is_over or outcome == "refused"  # nobody listens any more
            if not goes_on:
                line.close()
                line = None
        if line is not None:
            line.close()

    def _take(self) -> int | None:
        with self._lock:
            self._n_taken += 1
            return None if self.is_over else self._n_taken

    def _ask(self, line: http.client.HTTPConnection, place: int, kept: bool) -> tuple[str, bool]:
        """Send a request; return its outcome, and whether the connection can be used again."""
        body = json.dumps({"texts": [f"You are kind, number {place}."]})
        try:
            if line.sock is None:
                line.connect()
        except OSError:
            return "refused", False
        try:
            headers = {"Content-Type": "application/json"} | ({} if kept else {"Connection": "close"})
            line.request("POST", PATH, body, headers)
            answer = line.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            return f"lost: {type(error).__name__}", False
        return str(answer.status), kept and not answer.will_close


def main() -> None:
    """Run both parts and print the table."""
    options = parse()
    port = free_port()
    words = [sys.executable, "-m", "moderation", "serve", "--port", str(port), "--workers", str(options.workers)]
    words += ["--threads", str(options.threads), "--max-wait-s", "60", "--feedback-url", ""]
    with tempfile.TemporaryDirectory() as folder, serving(words, PATH, port, Path(folder)) as server:
        began = time.perf_counter()
        clients = Clients(port, options.clients)
        reload_while(clients, server, options)
        clients.wait_for(options.requests)
        reloaded, seconds = clients.stop(), time.perf_counter() - began
        clients = Clients(port, options.clients)
        clients.wait_for(options.requests // 10)
        server.process.send_signal(signal.SIGTERM)
        while not clients.is_over:
            time.sleep(0.01)
        stopped = clients.stop()
        code = server.process.wait(timeout=READY_WITHIN_S)
    rows = [describe(f"SIGHUP x {options.reloads}", reloaded), describe("SIGTERM", stopped)]
    print_table(rows)
    print(f"\n{options.clients} clients, {options.workers} workers, {seconds:.0f} s with reloads; exit code {code}")
    if options.json:
        write_json(options.json, rows, {})
    sys.exit(any(what.startswith("lost") for what in reloaded + stopped))


def reload_while(clients: Clients, server: Server, options: argparse.Namespace) -> None:
    """Send SIGHUP evenly over the requests, each time once the workers of the previous reload have started."""
    for number in range(options.reloads):
        clients.wait_for(options.requests * number // (options.reloads + 1))
        before = workers_of(server)
        server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + READY_WITHIN_S
        while len(workers_of(server) - before) < options.workers:
            if time.monotonic() > end:
                sys.exit("a reload did not finish in time")
            time.sleep(0.05)


def workers_of(server: Server) -> set[int]:
    """Return the process ids of the workers."""
    found = set()
    for child in server.process.children():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def describe(name: str, counts: Counter[str]) -> dict[str, object]:
    """Make a row of the table."""
    sent = sum(n for what, n in counts.items() if what != "refused")
    lost = sum(n for what, n in counts.items() if what.startswith("lost"))
    outcomes = ", ".join(f"{what} {n:,}" for what, n in sorted(counts.items()))
    return {"signal": name, "requests": sent, "answered": sent - lost, "lost": lost, "outcomes": outcomes}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000, help="minimum of requests during the reloads")
    parser.add_argument("--clients", type=int, default=8, help="clients; every second one keeps its connection")
    parser.add_argument("--reloads", type=int, default=12, help="how often SIGHUP is sent")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the server")
    parser.add_argument("--threads", type=int, default=1, help="processor threads of each worker")
    parser.add_argument("--json", type=Path, help="file for the counts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
