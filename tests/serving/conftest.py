"""Real servers: processes of `moderation serve` on free ports, with the tiny bundle."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest


@pytest.fixture(scope="session", autouse=True)
def one_ssl_context() -> Iterator[None]:
    """Read the certificates once, not for each request: `httpx.get` makes a client, which takes 20 ms for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", cache(httpx.create_ssl_context))
        yield


@dataclass
class Server:
    """A server process that is ready."""

    process: "subprocess.Popen[str]"
    url: str
    log: list[str] = field(default_factory=list)

    def lines(self, begin: int = 0) -> list[dict[str, Any]]:
        """What the log says, up to a request that is made here: the line of an answer may come after the answer."""
        until = f"until-{time.monotonic_ns()}"
        httpx.get(f"{self.url}/page/none", headers={"X-Request-Id": until}, timeout=30)  # probes leave no line
        end = time.monotonic() + 30
        while not any(until in line for line in self.log[begin:]):
            assert time.monotonic() < end, "a request is missing in the log"
            time.sleep(0.01)
        return [json.loads(line) for line in self.log[begin:]]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@contextmanager
def started(bundle: Path, folder: Path, *words: str, **environment: str) -> Iterator[Server]:
    """Start a server in a folder of its own, wait until it is ready, and stop it at the end.

    A folder given as `PYTHONPATH` goes before those of this process, so that the server runs this code too.
    """
    paths = [environment.get("PYTHONPATH"), os.environ.get("PYTHONPATH")]
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths))} if any(paths) else {}
    command = [sys.executable, "-m", "moderation", "serve", "--model", str(bundle), "--port", "0", "--threads", "1"]
    command += ["--drain-s", "0.1"]
    process = subprocess.Popen(
        [*command, *words],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    server = Server(process, line.partition(" at ")[2].partition("/ ")[0])
    reader = threading.Thread(target=lambda: server.log.extend(process.stderr or ()), daemon=True)
    reader.start()
    try:
        wait_until_ready(server)
        yield server
    finally:
        if process.poll() is None:
            server.stop()
        reader.join(timeout=10)
        process.stdout.close()
        assert process.stderr is not None
        process.stderr.close()


def wait_until(what: Callable[[], object]) -> None:
    """However slow the machine is."""
    end = time.monotonic() + 120
    while not what():
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.005)


def wait_until_ready(server: Server, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        assert server.process.poll() is None, "".join(server.log)
        try:
            if httpx.get(f"{server.url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("not ready in time:\n" + "".join(server.log))


def exchange(server: Server, *pieces: bytes, pause_s: float = 0.0) -> httpx.Response:
    """Send bytes as they are and read what comes until the server closes; no answer at all is a failure."""
    host, port = server.url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=60) as line:
        try:
            for piece in pieces:
                line.sendall(piece)
                time.sleep(pause_s)
        except OSError:  # it has heard enough
            pass
        try:
            while some := line.recv(65536):
                received += some
        except ConnectionResetError:
            pass
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return httpx.Response(int(first.split()[1]), headers=headers, content=body)


def add_key(folder: Path, name: str) -> str:
    """Make a key in the folder's keys.json."""
    words = [sys.executable, "-m", "moderation", "keys", "add", "--keys", "keys.json", "--name", name]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without keys."""
    with started(tiny_bundle, tmp_path_factory.mktemp("server")) as it:
        yield it


@pytest.fixture(scope="session")
def keyed_server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server with keys, and the key."""
    folder = tmp_path_factory.mktemp("keyed")
    key = add_key(folder, "forum")
    with started(tiny_bundle, folder, "--keys", "keys.json") as it:
        yield it, key
