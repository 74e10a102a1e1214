"""Stopping under load, dying workers, several workers."""

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest
from fastapi import FastAPI
from prometheus_client.mmap_dict import MmapedDict
from uvicorn import Config
from uvicorn.lifespan.on import LifespanOn

from moderation import cli
from moderation.errors import ConfigError
from moderation.serving.app import create_app
from moderation.serving.processes import count_files
from moderation.serving.processes.listening import bind
from moderation.serving.processes.worker import _TellingWhy
from tests.attack_table import Attack
from tests.serving.conftest import Server, started, wait_until, wait_until_ready
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
            wait_until(lambda turn=turn: sum(count_answers(server)) == 20 * turn)  # counted when it has been sent
            shares = count_answers(server)
            if len(shares) == n_workers and min(shares) > 0:
                return 20 * turn
    raise AssertionError(f"one had nothing to do: {shares}")


class Load:
    """Clients that ask on, half of them on connections that they keep, and count what became of each request."""

    def __init__(self, server: Server, n_clients: int) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._url = server.url
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(n_clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        kept = httpx.Limits(max_keepalive_connections=number % 2)
        n_asked = 0
        with httpx.Client(timeout=120, limits=kept) as client:
            while not self._stop.is_set():
                n_asked += 1
                try:
                    answer = client.post(f"{self._url}/v1/predict", json={"texts": [f"kind river {number} {n_asked}"]})
                    what = str(answer.status_code)
                except httpx.ConnectError:  # nobody listens any more: this is no request
                    what = "refused"
                    self._stop.set()
                except httpx.HTTPError as error:
                    what = f"lost: {type(error).__name__}"
                with self._lock:
                    self.counts[what] += 1

    def wait_for(self, n_more: int) -> None:
        """Until so many more have their answer."""
        until = self.counts["200"] + n_more
        while self.counts["200"] < until and not self._stop.is_set():
            time.sleep(0.01)

    def join(self) -> Counter[str]:
        """Until all have met a server that is gone."""
        for thread in self._threads:
            thread.join()
        return self.counts

    def stop(self) -> Counter[str]:
        self._stop.set()
        return self.join()


HOLD = """
import os, pathlib, time
from moderation.inference.classifier import Classifier
cut = Classifier.windows
def windows(self, text, watch=None):
    if "hold" in text:
        pathlib.Path(f"held-{text.split()[-1]}").touch()
        while not os.path.exists("go"):
            time.sleep(0.01)
    return cut(self, text, watch)
Classifier.windows = windows
"""


def test_every_accepted_request_is_answered_when_the_server_stops(tiny_bundle: Path, tmp_path: Path) -> None:
    """Whatever the machine's pace: requests are held until the server has begun to stop."""
    (tmp_path / "sitecustomize.py").write_text(HOLD)
    words = ("--drain-s", "0", "--timeout-s", "300")
    with started(tiny_bundle, tmp_path, *words, PYTHONPATH=str(tmp_path)) as server, ThreadPoolExecutor(8) as pool:

        def ask(number: int) -> int:
            body = {"texts": [f"hold {number}"]}
            return httpx.post(f"{server.url}/v1/predict", json=body, timeout=300).status_code

        host, port = server.url.removeprefix("http://").split(":")
        asked = [pool.submit(ask, number) for number in range(8)]
        wait_until(lambda: list(tmp_path.glob("held-*")))  # the first is being cut, and the others wait behind it
        wait_until(lambda: count_connections(server) >= 8)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_listening(host, int(port)))
        (tmp_path / "go").touch()
        assert [answer.result() for answer in asked] == [200] * 8
        assert server.process.wait(timeout=120) == 0
    assert "Traceback" not in "".join(server.log)


def count_connections(server: Server) -> int:
    """Connections that the workers have accepted."""
    return sum(
        connection.status == psutil.CONN_ESTABLISHED
        for worker in workers_of(server)
        for connection in worker.net_connections("tcp")
    )


def is_listening(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=60).close()
    except OSError:
        return False
    return True


@pytest.mark.hostile("SIGHUP, SIGTERM under load: requests that were sent")
def test_reloads_and_a_stop_under_load_lose_no_request(tiny_bundle: Path, tmp_path: Path, attack: Attack) -> None:
    """In the long form more than 10,000 requests, 40 SIGHUP and 10 SIGTERM."""
    for turn in range(attack.cases(1, 10)):
        n_workers = 2 - turn % 2
        n_reloads = attack.cases(1, 11 if turn == 0 else 1)
        with started(tiny_bundle, tmp_path, "--max-wait-s", "60", "--workers", str(n_workers)) as server:
            load = Load(server, 6)
            for _ in range(n_reloads):
                before = {worker.pid for worker in workers_of(server)}
                load.wait_for(attack.cases(60, 350))
                server.process.send_signal(signal.SIGHUP)
                wait_until(lambda before=before: {worker.pid for worker in workers_of(server)} - before)
                wait_until(lambda before=before: not {worker.pid for worker in workers_of(server)} & before)
            places = {path.stem for path in counts_of(server).glob("counter_*.db")}
            assert places <= {f"counter_{place}" for place in range(2 * n_workers)}, "files of dead workers pile up"
            before = {worker.pid for worker in workers_of(server)}
            load.wait_for(attack.cases(60, 350))
            server.process.send_signal(signal.SIGHUP)
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda before=before: {worker.pid for worker in workers_of(server)} - before)
            server.process.send_signal(signal.SIGTERM)  # while the new worker starts
            counts = load.join()
            assert server.process.wait(timeout=120) == 0
        assert set(counts) == {"200", "refused"}, counts
        assert "Traceback" not in "".join(server.log)
        attack.tried(counts["200"])


@pytest.mark.hostile("SIGTERM while it starts")
def test_a_server_that_starts_can_be_stopped(tiny_bundle: Path, tmp_path: Path, attack: Attack) -> None:
    command = [
        sys.executable,
        "-m",
        "moderation",
        "serve",
        "--model",
        str(tiny_bundle),
        "--port",
        "0",
        "--workers",
        "2",
    ]
    for turn in range(attack.cases(1, 20)):
        process = subprocess.Popen(
            [*command, "--drain-s", "0"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and " at http" in process.stdout.readline()
        wait_until(lambda process=process: psutil.Process(process.pid).children())
        workers = psutil.Process(process.pid).children(recursive=True)
        time.sleep(turn / 5)
        process.terminate()
        _, log = process.communicate(timeout=120)
        assert process.returncode == 0, log
        assert "Traceback" not in log
        assert not psutil.wait_procs(workers, timeout=60)[1]
        attack.tried()


def test_a_reload_never_reports_not_ready(tiny_bundle: Path, tmp_path: Path) -> None:
    """The old worker goes on answering while it goes; it is not for it to say that the server stops. Ctrl-C does so."""
    with started(tiny_bundle, tmp_path) as server:
        (old,) = workers_of(server)
        statuses: set[int] = set()
        server.process.send_signal(signal.SIGHUP)

        def is_replaced() -> bool:
            statuses.add(httpx.get(f"{server.url}/readyz", timeout=60).status_code)
            return not old.is_running() or old.status() == psutil.STATUS_ZOMBIE

        wait_until(is_replaced)
        assert statuses == {200}
        host, port = server.url.removeprefix("http://").split(":")
        socket.create_connection((host, int(port)), timeout=60).close()  # a client that leaves is no reason to stay
        assert server.stop(signal.SIGINT) == 0


@pytest.mark.hostile("supervisor killed")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT], ids=["SIGKILL", "SIGABRT"])
def test_a_worker_ends_with_its_supervisor(
    number: signal.Signals, tiny_bundle: Path, tmp_path: Path, attack: Attack
) -> None:
    """Even one that is stopped; and the port and the temporary folder with it."""
    if number != signal.SIGKILL and not attack.cases(0, 1):
        pytest.skip("in the long form")
    with started(tiny_bundle, tmp_path, "--drain-s", "600") as server:
        workers, counts = workers_of(server), counts_of(server)
        server.process.send_signal(signal.SIGSTOP)
        assert predict(server, ["you idiot"])
        server.process.send_signal(number)
        server.process.send_signal(signal.SIGCONT)
        _, alive = psutil.wait_procs(workers, timeout=120)
        assert not alive
        host, port = server.url.removeprefix("http://").split(":")
        with bind(host, int(port)) as bound:
            bound.listen()
        assert not counts.exists()


@pytest.mark.hostile("supervisor killed")
def test_the_folders_of_killed_servers_are_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Attack
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "moderation-counts-dead").mkdir()
    (tmp_path / "moderation-counts-dead" / "counter_0.db").write_bytes(b"x")
    (tmp_path / "else").mkdir()
    (tmp_path / "moderation-counts-link").symlink_to(tmp_path / "else")
    (tmp_path / "moderation-counts-file").touch()
    with count_files.counts_folder():
        living = count_files.find_counts()
        with count_files.counts_folder():
            assert living is not None and living.is_dir()
            assert count_files.find_counts() != living
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(living))
    assert {path.name for path in tmp_path.iterdir()} == {"else", "moderation-counts-link", "moderation-counts-file"}
    attack.tried(4)


@pytest.mark.hostile("two servers at once")
def test_two_servers_that_start_at_once_do_not_share_an_address(
    tiny_bundle: Path, tmp_path: Path, attack: Attack
) -> None:
    """The first has not begun to listen when the second comes; both do so only when their model is loaded."""
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match="Address already in use"), bind("127.0.0.1", port):
            pass
    with bind("127.0.0.1", port):
        pass
    command = [
        sys.executable,
        "-m",
        "moderation",
        "serve",
        "--model",
        str(tiny_bundle),
        "--port",
        str(port),
        "--no-auth",
    ]
    hosts = ("127.0.0.1", "0.0.0.0")
    for turn in range(attack.cases(0, 6)):
        both = [
            subprocess.Popen([*command, "--host", host], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
            for host in (hosts[0], hosts[turn % 2])
        ]
        wait_until(lambda both=both: any(process.poll() is not None for process in both))
        loser = next(process for process in both if process.poll() is not None)
        winner = next(process for process in both if process is not loser)
        said = loser.communicate()[1]
        assert "Traceback" not in said and said.count("Address already in use") == 1, said
        assert loser.returncode == (1 if turn % 2 else 2)
        assert turn % 2 or said.count("\n") == 1
        winner.terminate()
        assert "Traceback" not in winner.communicate(timeout=120)[1]
        assert winner.returncode == 0
        attack.tried()


@pytest.mark.hostile("settings: host")
@pytest.mark.parametrize(
    "host",
    [
        "a" * 300,
        "a" * 64 + ".de",
        "a..b",
        ".",
        "xn--",
        "xn--a\u00fc",
        "999.1.1.1",
        "\0",
        "\udcff",
        "[::1]",
        "a\nb",
        "192.0.2.1",
    ],
)
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="--host"), bind(host, 0):
        pass


@pytest.mark.hostile("folder of counts removed")
def test_a_worker_that_dies_is_replaced(tiny_bundle: Path, tmp_path: Path) -> None:
    """Also where something has removed its folder from the temporary ones, as cleaners do."""
    with started(tiny_bundle, tmp_path) as server:
        (worker,) = workers_of(server)
        answer = predict(server, ["you idiot"])
        shutil.rmtree(counts_of(server))
        assert read_metrics(server)["moderation_requests_total,POST,/v1/predict,200"] == 1
        worker.kill()
        worker.wait(60)
        wait_until_ready(server)
        assert predict(server, ["you idiot"]) == answer
        assert [child.pid for child in workers_of(server)] != [worker.pid]
        assert read_metrics(server)["moderation_requests_total,POST,/v1/predict,200"] == 1


HOLD_START = """
import os, time
from moderation.inference.classifier import Classifier
load = Classifier.load
def held(*words, **names):
    while os.path.exists("hold"):
        time.sleep(0.01)
    return load(*words, **names)
Classifier.load = held
"""


def test_a_worker_that_dies_during_a_reload_is_replaced_at_once(tiny_bundle: Path, tmp_path: Path) -> None:
    """Not only when the new one is ready, which here never happens before."""
    (tmp_path / "sitecustomize.py").write_text(HOLD_START)
    with started(tiny_bundle, tmp_path, PYTHONPATH=str(tmp_path)) as server:
        (old,) = workers_of(server)
        (tmp_path / "hold").touch()
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: {worker.pid for worker in workers_of(server)} - {old.pid})
        old.kill()
        wait_until(lambda: len({worker.pid for worker in workers_of(server)} - {old.pid}) == 2)
        (tmp_path / "hold").unlink()
        wait_until_ready(server)
        wait_until(lambda: len(workers_of(server)) == 1)
        places = {path.stem for path in counts_of(server).glob("counter_*.db")}
        assert len(places) <= 3, "files of dead workers pile up"
        assert predict(server, ["you idiot"])
        assert server.stop() == 0
    assert "Traceback" not in "".join(server.log)


def test_a_replacement_that_cannot_start_stops_nobody_else(tiny_bundle: Path, tmp_path: Path) -> None:
    """Of two workers that share an address and counts."""
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    with started(bundle, tmp_path, "--workers", "2", "--backend", "onnx") as server:
        n_asked = predict_until_all_answered(server, 2)
        assert read_metrics(server)["moderation_requests_total,POST,/v1/predict,200"] == n_asked
        assert server.process.stdout is not None and server.process.stdout.readline() == "ready\n"
        model = bundle / "onnx/model.onnx"
        content = model.read_bytes()
        model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        workers_of(server)[0].kill()
        wait_until(lambda: predict(server, ["you idiot"]) and "".join(server.log).count("a worker died") >= 2)
        assert server.process.poll() is None
        model.write_bytes(content)
        wait_until(lambda: len(workers_of(server)) == 2)
    said = [json.loads(line) for line in server.log]
    reasons = [line["error"] for line in said if line["event"] == "this worker cannot start"]
    assert reasons and all("model.onnx" in reason for reason in reasons)
    pauses = [line["replaced_in_s"] for line in said if line["event"] == "a worker died"]
    assert pauses[:2] == [0.0, 0.5] and sorted(set(pauses)) == pauses, "who answers says nothing of the other"
    assert "Traceback" not in "".join(server.log)


def test_a_worker_reports_in_one_line_why_it_cannot_start(
    tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """For a reason that is no bug; a bug keeps its traceback."""
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    app = create_app(bundle, backend="onnx")
    (bundle / "onnx/model.onnx").write_bytes(b"none")

    @asynccontextmanager
    async def break_down(app: FastAPI) -> AsyncIterator[None]:
        raise ZeroDivisionError
        yield

    for broken, is_bug in ((app, False), (FastAPI(lifespan=break_down), True)):
        caplog.clear()
        lifespan = LifespanOn(Config(_TellingWhy(broken), log_config=None))
        asyncio.run(lifespan.startup())
        assert lifespan.startup_failed and lifespan.should_exit
        assert ("Traceback" in caplog.text) == is_bug
        reasons = [record.__dict__["error"] for record in caplog.records if record.msg == "this worker cannot start"]
        assert len(reasons) == 1 - is_bug and all("model.onnx" in reason for reason in reasons)


def count_answers(server: Server) -> list[float]:
    """How many texts each worker answered, by its own file of counts."""
    found = []
    for path in counts_of(server).glob("counter_*.db"):
        values = MmapedDict.read_all_values_from_file(str(path))
        found.append(
            sum(value for name, value, *_ in values if "moderation_requests_total" in name and "/v1/predict" in name)
        )
    return found


def counts_of(server: Server) -> Path:
    """The folder of the workers' counts."""
    return Path(workers_of(server)[0].environ()["PROMETHEUS_MULTIPROC_DIR"])


def test_a_bundle_that_cannot_be_loaded_ends_the_start(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "--model", str(tmp_path)]) == 1
    assert "not a bundle" in capsys.readouterr().err
