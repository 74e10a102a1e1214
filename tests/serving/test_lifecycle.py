"""Stopping under load, dying workers, several workers."""

import json
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.mmap_dict import MmapedDict

from moderation import cli
from tests.serving.conftest import Server, started, wait_until_ready
from tests.serving.test_app import predict, read_metrics


def workers_of(server: Server) -> list[psutil.Process]:
    """The processes that hold the model, not the one that multiprocessing keeps beside them."""
    workers = []
    for child in psutil.Process(server.process.pid).children():
        with suppress(psutil.NoSuchProcess):  # one that ended, and was not waited for yet
            if "spawn_main" in " ".join(child.cmdline()):
                workers.append(child)
    return workers


def predict_until_all_answered(server: Server, n_workers: int) -> int:
    """Ask, several at a time, until each worker has answered; gives how often."""
    with ThreadPoolExecutor(8) as pool:
        for turn in range(1, 101):
            list(pool.map(lambda number: predict(server, [f"kind river {number} " * 60]), range(20)))
            end = time.monotonic() + 10
            while True:  # an answer is counted when it has been sent
                shares = [count_answers(worker) for worker in workers_of(server)]
                if sum(shares) == 20 * turn:
                    break
                assert time.monotonic() < end, shares
                time.sleep(0.02)
            if len(shares) == n_workers and min(shares) > 0:
                return 20 * turn
    raise AssertionError(f"one had nothing to do: {shares}")


class Load:
    """Clients that ask on, each request on a connection of its own, and count what became of it."""

    def __init__(self, server: Server, n_clients: int) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._url = server.url
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(n_clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        n_asked = 0
        while not self._stop.is_set():
            n_asked += 1
            text = f"kind river {number} {n_asked} " * 60
            try:
                answer = httpx.post(f"{self._url}/v1/predict", json={"texts": [text]}, timeout=30)
                what = str(answer.status_code) if answer.json()["results"] else "empty"
            except httpx.ConnectError:  # nobody listens any more
                what = "refused"
                self._stop.wait(0.02)
            except httpx.HTTPError as error:
                what = f"lost: {type(error).__name__}"
            with self._lock:
                self.counts[what] += 1

    def stop(self) -> Counter[str]:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.counts


def test_every_accepted_request_is_answered_when_the_server_stops(tiny_bundle: Path, tmp_path: Path) -> None:
    with started(tiny_bundle, tmp_path, "--drain-s", "0.7") as server:
        load = Load(server, 8)
        time.sleep(1)
        server.process.send_signal(signal.SIGTERM)
        states = []
        while server.process.poll() is None:
            try:
                states.append(httpx.get(f"{server.url}/readyz", timeout=5).status_code)
            except httpx.HTTPError:
                states.append(0)
            time.sleep(0.05)
        counts = load.stop()
    assert server.process.returncode == 0
    assert 503 in states, "it was never said to be not ready"
    assert counts["200"] > 5
    assert counts["refused"] > 0, "the load ended before the server did"
    lines = [json.loads(line) for line in server.log]
    answered = Counter(line["status"] for line in lines if line.get("route") == "/v1/predict")
    assert answered == {200: counts["200"]}, (answered, counts)
    # What the kernel had connected when the last listener was closed is reset, and the server never saw it: one request
    # of each client at most, and of a kind that clients may send again.
    lost = {what: count for what, count in counts.items() if what not in ("200", "refused")}
    assert set(lost) <= {"lost: ReadError", "lost: RemoteProtocolError"}, counts
    assert sum(lost.values()) <= 8, counts
    assert "Traceback" not in "".join(server.log)


def test_ctrl_c_ends_it_too(tiny_bundle: Path, tmp_path: Path) -> None:
    with started(tiny_bundle, tmp_path) as server:
        assert server.stop(signal.SIGINT) == 0


def test_a_worker_that_dies_is_replaced(tiny_bundle: Path, tmp_path: Path) -> None:
    with started(tiny_bundle, tmp_path) as server:
        (worker,) = workers_of(server)
        answer = predict(server, ["you idiot"])
        worker.kill()
        worker.wait(10)
        wait_until_ready(server)
        assert predict(server, ["you idiot"]) == answer
        assert [child.pid for child in workers_of(server)] != [worker.pid]


def test_a_replacement_that_cannot_start_stops_nobody_else(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    with started(bundle, tmp_path, "--workers", "2", "--backend", "onnx") as server:
        predict_until_all_answered(server, 2)
        time.sleep(2)  # until both are seen ready
        model = bundle / "onnx/model.onnx"
        content = model.read_bytes()
        model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        workers_of(server)[0].kill()
        for _ in range(20):
            predict(server, ["you idiot"])
            time.sleep(0.2)
        assert server.process.poll() is None
        model.write_bytes(content)
        end = time.monotonic() + 30
        while len(workers_of(server)) < 2:
            assert time.monotonic() < end
            time.sleep(0.2)


def test_several_workers_share_address_and_counts(tiny_bundle: Path, tmp_path: Path) -> None:
    with started(tiny_bundle, tmp_path, "--workers", "2") as server:
        n_asked = predict_until_all_answered(server, 2)
        assert read_metrics(server)["moderation_requests_total,POST,/v1/predict,200"] == n_asked


def count_answers(worker: psutil.Process) -> float:
    """How many texts a worker answered, by its own file of counts."""
    counts = Path(worker.environ()["PROMETHEUS_MULTIPROC_DIR"]) / f"counter_{worker.pid}.db"
    if not counts.exists():
        return 0.0
    values = MmapedDict.read_all_values_from_file(str(counts))
    return sum(value for name, value, *_ in values if "moderation_requests_total" in name and "/v1/predict" in name)


def test_a_bundle_that_cannot_be_loaded_ends_the_start(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "--model", str(tmp_path)]) == 1
    assert "not a bundle" in capsys.readouterr().err


def test_it_starts_within_20_s_even_on_a_busy_machine(tiny_bundle: Path, tmp_path: Path) -> None:
    """It takes 3 s on an idle machine, with a bundle of real size too."""
    began = time.monotonic()
    with started(tiny_bundle, tmp_path) as server:
        assert time.monotonic() - began < 20
        host, port = server.url.removeprefix("http://").split(":")
        socket.create_connection((host, int(port)), timeout=5).close()
