"""How long does everybody else wait while somebody sends requests that are meant to stall the server?

A server with the included model runs on the loopback address, and one client requests `/livez` again and again on a
connection of its own. Meanwhile two others send the requests of `tests/serving/test_hostile.py` and some similar ones,
in three APIs, with sentences and spans requested. Load and server share the machine, so two rows show how it is while
nothing else is sent, and while ordinary texts keep the processor busy.

    python benchmarks/hostile.py
"""

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from load import free_port, serving
from tables import print_table, write_json

from tests.serving.test_hostile import NATIVE, OPENAI, PERSPECTIVE, REFUSED, TEXTS

PAUSE_S = 0.01  # between two probes
LIMIT_S = 0.2
_MORE = {
    "sentences": "A. " * 600_000,
    "abbreviations": "e.g. " * 380_000,
    "initials": "i.d.i.o.t. " * 170_000,
    "ellipses": "\u2026 a" * 300_000,
    "letters that become 18": "\ufdfa" * 600_000,
    "Hangul": "\uac00" * 600_000,
    "spaced letters": "i d i o t " * 190_000,
    "stacked marks": ("a" + "\u0301" * 20) * 45_000,
    "quotes": '."' * 900_000,
}
_Case = tuple[str, bytes]  # path and body
KINDS = (NATIVE, OPENAI, PERSPECTIVE)


class Probe:
    """Requests `/livez` until it is stopped.

    Attributes:
        seconds: How long each answer took.
    """

    def __init__(self, port: int) -> None:
        self.seconds: list[float] = []
        self._port, self._over = port, threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def stop(self) -> None:
        """Send no more requests."""
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        while not self._over.wait(PAUSE_S):
            began = time.perf_counter()
            line.request("GET", "/livez")
            if line.getresponse().read() != b'{"status":"alive"}':
                sys.exit("/livez: unexpected answer")
            self.seconds.append(time.perf_counter() - began)
        line.close()


def main() -> None:
    """Run every group of requests and print the table."""
    options = parse()
    port = free_port()
    words = [sys.executable, "-m", "moderation", "serve", "--port", str(port), "--feedback-url", ""]
    groups: dict[str, Iterable[_Case]] = {
        "texts, 3 languages": around(TEXTS),
        "more texts": around(_MORE),
        "what is no text": [(kind.path, kind.literally(wrong)) for kind in KINDS for wrong in REFUSED.values()],
        "fields and lists": wrong_forms(),
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder, serving(words, NATIVE.path, port, Path(folder)):
        rows.append(measure("nothing else", [], port, options.idle_s))
        ordinary = [(NATIVE.path, json.dumps({"texts": [f"You are kind, {i}. " * 20]}).encode()) for i in range(300)]
        rows.append(measure("ordinary texts", ordinary, port, 0.0))
        for name, cases in groups.items():
            print(f"{name} ...", file=sys.stderr, flush=True)
            rows.append(measure(name, cases, port, 0.0))
    print_table(rows)
    if options.json:
        write_json(options.json, rows, {})


def around(texts: dict[str, str]) -> Iterator[_Case]:
    """Yield each text as a body of each API, with sentences and spans requested."""
    for text in texts.values():
        for kind in KINDS:
            body: dict[str, Any] = kind.around(
                text if kind is not PERSPECTIVE else text.encode()[:20_000].decode("utf-8", "ignore")
            )
            body |= {"sentences": True} if kind is NATIVE else {"spanAnnotations": True} if kind is PERSPECTIVE else {}
            yield kind.path, json.dumps(body, ensure_ascii=False).encode()


def wrong_forms() -> Iterator[_Case]:
    """Yield JSON bodies in which very many things are wrong."""
    for kind in KINDS:
        plain = kind.around("kind")
        wrong: tuple[dict[str, Any], ...] = (
            {f"field {i}": 0 for i in range(100_000)},
            {kind.field: [1] * 600_000},
            {kind.field: [""] * 600_000},
            {kind.field: [{}] * 400_000},
            {kind.field: [{"type": "text", "text": ""}] * 60_000},
            {"languages": [1] * 600_000},
            {"requestedAttributes": {f"A{i}": {"scoreThreshold": "x"} for i in range(50_000)}},
        )
        yield from ((kind.path, json.dumps(plain | more).encode()) for more in wrong)


def measure(name: str, cases: Iterable[_Case], port: int, seconds: float) -> dict[str, object]:
    """Send requests, two at a time, and report how long `/livez` took meanwhile."""
    # The bodies are written first, because writing JSON would hold up the probe, too.
    left, lock = iter(list(cases)), threading.Lock()
    statuses: list[int] = []

    def send() -> None:
        while True:
            with lock:
                case = next(left, None)
            if case is None:
                return
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            try:
                line.request("POST", case[0], case[1], {"Content-Type": "application/json"})
                statuses.append(line.getresponse().status)
            except OSError:  # refused before the whole body was sent
                statuses.append(0)
            line.close()

    probe = Probe(port)
    senders = [threading.Thread(target=send) for _ in range(2)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    time.sleep(seconds)
    probe.stop()
    took = np.array(probe.seconds)
    return {
        "meanwhile": name,
        "requests": len(statuses),
        "answered": statuses.count(200),
        "probes": len(took),
        "median s": float(np.median(took)),
        "p99 s": float(np.quantile(took, 0.99)),
        "longest s": float(took.max()),
        f"over {LIMIT_S} s": int((took > LIMIT_S).sum()),
    }


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle-s", type=float, default=5.0, help="seconds of the measurement without other requests")
    parser.add_argument("--json", type=Path, help="file for the rows")
    return parser.parse_args()


if __name__ == "__main__":
    main()
