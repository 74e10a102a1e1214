"""Worker processes that share one socket; one that dies is replaced.

This process loads no model. Its workers are uvicorn servers that build the application themselves.
"""

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any

from prometheus_client.multiprocess import mark_process_dead
from uvicorn import Config
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import SIGNALS, Process

from moderation.errors import ConfigError
from moderation.escapes import escape_output
from moderation.logs import LogLevel, json_logs
from moderation.serving.keys import read_keys
from moderation.serving.protocol import BoundedProtocol
from moderation.serving.stopping import RETIRE

_ANSWER_WITHIN_S = 30  # a worker; it may load a model, or have little of a processor
_START_WITHIN_S = 120  # a worker that replaces another one, which answers meanwhile
_ENDS = ("INT", "TERM", "BREAK")  # signals
_LONGEST_PAUSE_S = 30.0  # between two tries to start one

logger = logging.getLogger(__name__)


def serve_forever(
    settings: dict[str, Any],
    *,
    host: str,
    port: int,
    workers: int,
    stop_within_s: float,
    socket_to_use: socket.socket,
    log_level: LogLevel = "info",
) -> int:
    """Run the workers until SIGTERM or Ctrl-C.

    Args:
        settings: Arguments of `create_app`, which can be pickled; `keys` is the path of their file.
        host: For the log.
        port: For the log.
        workers: How many processes.
        stop_within_s: Requests in flight are answered for so long after a stop was asked for.
        socket_to_use: Bound, from `bind`.
        log_level: Of the workers' log too.

    Returns:
        0; 1 where the workers could not start.
    """
    config = Config(
        partial(build_app, settings),
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http=BoundedProtocol,
        log_config=json_logs(log_level),
        access_log=False,  # it would write down addresses, and the keys in them
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(stop_within_s),
        timeout_worker_healthcheck=_ANSWER_WITHIN_S,
        ws="none",  # where a package for it is installed, uvicorn would log the address of an upgrade
        loop="asyncio",  # uvloop takes one new connection a turn: under overload some waited for a minute
        backlog=1024,
    )
    with tempfile.TemporaryDirectory(prefix="moderation-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # the workers' counts; read where prometheus_client is imported
        supervisor = _Supervisor(config, [socket_to_use])
        supervisor.run()
        return 1 if supervisor.failed else 0


class _Supervisor(Multiprocess):
    """uvicorn's, but for four things.

    It lets go of the socket as soon as it is to stop: nobody shall connect to what no worker listens to any more. It
    stops where the first workers cannot start, but not where a later one cannot: the others go on, and it tries again.
    It waits for an answer of a busy worker without waiting for that of a dead one. And a worker that was replaced ends
    while everything goes on: nothing waits for it, neither a stop nor the next reload.
    """

    was_ready = False
    failed = False
    _pause_s = 0.0

    def __init__(self, config: Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._retired: list[tuple[Process, float]] = []  # with the time until which they may still answer

    def terminate_all(self) -> None:
        for bound in self.sockets:
            bound.close()
        super().terminate_all()

    def join_all(self) -> None:
        super().join_all()
        while self._retired:
            self._bury_retired()
            time.sleep(0.1)

    def handle_signals(self) -> None:
        """Do what was asked for, each thing once and an end first."""
        asked, self.signal_queue = self.signal_queue, []
        for name in sorted({SIGNALS[number] for number in asked}, key=lambda name: name not in _ENDS):
            if self.should_exit.is_set():
                return
            getattr(self, f"handle_{name.lower()}", lambda: None)()

    def restart_all(self) -> None:
        """Start each worker anew; the old one goes when the new one answers, and stays where it does not."""
        for place, old in enumerate(self.processes):
            new = Process(self.config, self.sockets)
            new.start()
            if not self._becomes_ready(new):
                self._bury(new)
                if not self._is_told_to_stop():
                    logger.error("a new worker could not start; the old one goes on", extra={"kept": old.pid})
                return
            self.processes[place] = new
            self._retire(old)

    def keep_subprocess_alive(self) -> None:
        self._bury_retired()
        for place, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if self._lives(process):
                continue
            self._bury(process)
            if not self.was_ready and (process.exitcode or 0) > 0:  # it ended by itself, and would again
                self.failed = True
                logger.error("a worker could not start", extra={"exit_code": process.exitcode})
                self.should_exit.set()
                return
            logger.error("a worker died", extra={"exit_code": process.exitcode, "replaced_in_s": self._pause_s})
            if self.should_exit.wait(self._pause_s):
                return
            self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s + 0.5)
            self.processes[place] = Process(self.config, self.sockets)
            self.processes[place].start()

    def _becomes_ready(self, process: Process) -> bool:
        end = time.monotonic() + _START_WITHIN_S
        while time.monotonic() < end and process.process.is_alive() and not self._is_told_to_stop():
            if process.is_ready(timeout=1):
                return True
            time.sleep(0.1)
        return False

    def _is_told_to_stop(self) -> bool:
        """Whether a signal waits that ends everything."""
        return any(SIGNALS[number] in _ENDS for number in self.signal_queue)

    def _retire(self, process: Process) -> None:
        if RETIRE is None or process.pid is None:
            process.terminate()
        else:
            with suppress(ProcessLookupError):  # it ended by itself
                os.kill(process.pid, RETIRE)
            process.parent_conn.close()
            process.child_conn.close()
        within_s = (self.config.timeout_graceful_shutdown or 0) + _ANSWER_WITHIN_S
        self._retired.append((process, time.monotonic() + within_s))

    def _bury_retired(self) -> None:
        for process, end in list(self._retired):
            if not process.process.is_alive() or time.monotonic() > end:
                self._bury(process)
                self._retired.remove((process, end))

    def _bury(self, process: Process) -> None:
        process.kill()
        process.join()
        mark_process_dead(process.pid)  # type: ignore[no-untyped-call]

    def _lives(self, process: Process) -> bool:
        """Whether a worker runs and answers; a busy one has its time."""
        for _ in range(_ANSWER_WITHIN_S):
            if not process.process.is_alive():
                return False
            if process.is_ready(timeout=1):
                self.was_ready, self._pause_s = True, 0.0
                return True
            if not self.was_ready or process.ping(timeout=0.1):
                return process.process.is_alive()
        return False


def build_app(settings: dict[str, Any]) -> Any:
    """In a worker: the application. Its keys are read here, so that a worker started anew knows the newest."""
    from moderation.serving.app import create_app

    escape_output()
    threading.Thread(target=_end_with_supervisor, name="orphan", daemon=True).start()
    path = settings["keys"]
    return create_app(**settings | {"keys": None if path is None else read_keys(path)})


def _end_with_supervisor() -> None:
    """Stop as on SIGTERM when the supervisor is gone: nobody could stop this worker, and it would keep the port."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)


def bind(host: str, port: int) -> socket.socket:
    """A socket for the workers to listen on; port 0: any that is free.

    Raises:
        ConfigError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"--host {host} --port {port}: cannot listen there ({error.strerror}). Is another server running? "
            "Choose another --port, or an address of this machine."
        ) from error
    bound.set_inheritable(True)
    return bound
