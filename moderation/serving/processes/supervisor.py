"""Worker processes that share one socket; one that dies is replaced.

This process loads no model. Its workers are uvicorn servers that build the application themselves.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from itertools import count

from moderation.logs import LogLevel, json_logs
from moderation.serving.connection.protocol import BoundedProtocol
from moderation.serving.processes.count_files import counts_folder, leave_place, renew_folder
from moderation.serving.processes.stopping import RETIRE, STOP
from moderation.serving.processes.worker import AppPlan, Worker
from moderation.serving.uvicorn_hooks import Config

_ANSWER_WITHIN_S = 30  # for a worker, which may be loading a model or have little processor time
_START_WITHIN_S = 120  # for a worker that replaces another one, which answers meanwhile
_FIRST_START_WITHIN_S = 300  # for the first ones; pings to one that never answers would block after 400 s
_LONGEST_PAUSE_S = 30.0  # between two attempts to start one
_LOOK_S = 0.5  # between two checks of the workers

_ENDS = ("INT", "TERM", "BREAK")
_RELOAD = "HUP"
_IGNORED = ("QUIT", "TTIN", "TTOU", "USR1", "USR2", "WINCH")
_SIGNALS = {
    getattr(signal, f"SIG{name}"): name for name in (*_ENDS, _RELOAD, *_IGNORED) if hasattr(signal, f"SIG{name}")
}

logger = logging.getLogger(__name__)


def serve_forever(
    plan: AppPlan,
    *,
    host: str,
    bound: socket.socket,
    workers: int,
    stop_within_s: float,
    log_level: LogLevel = "info",
    on_ready: Callable[[], None] = lambda: None,
) -> int:
    """Run the workers until SIGTERM or Ctrl-C.

    Args:
        plan: What they serve.
        host: As given by the user, for the log.
        bound: From `bind`.
        workers: How many processes.
        stop_within_s: Requests in flight are answered for this long after a stop was requested.
        log_level: For the workers' log too.
        on_ready: Called once, when the first worker answers.

    Returns:
        0; 1 if the workers could not start.
    """
    config = Config(
        plan.build,
        factory=True,
        host=host,
        port=bound.getsockname()[1],
        workers=workers,
        http=BoundedProtocol,
        log_config=json_logs(log_level),
        access_log=False,  # it would log URLs, and the keys in them
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(stop_within_s),
        timeout_worker_healthcheck=_ANSWER_WITHIN_S,
        ws="none",  # if a WebSocket package is installed, uvicorn would log the URL of an upgrade
        loop="asyncio",  # uvloop accepts one new connection per iteration: under overload some waited for a minute
        backlog=1024,
    )
    leave_within_s = longest_stop_s(stop_within_s, plan.options.load.drain_s or 0.0)
    if not os.environ.get("PYTHONSAFEPATH"):  # an empty one counts as unset
        os.environ["PYTHONSAFEPATH"] = "1"  # or workers would search the current folder for modules first
    with counts_folder():
        supervisor = _Supervisor(config, bound, leave_within_s, on_ready)
        supervisor.run()
        return 1 if supervisor.failed else 0


def longest_stop_s(stop_within_s: float, drain_s: float) -> float:
    """Seconds after which a stop kills workers that hang; whoever waits for the server should wait longer."""
    return stop_within_s + drain_s + _ANSWER_WITHIN_S


class _Supervisor:
    """Starts the workers, replaces those that die, and ends them all on a signal.

    It closes the socket as soon as it stops, so that nobody connects to a socket on which no worker listens. If the
    first workers cannot start, it stops; if a later one cannot, the others continue and it tries again. It never waits
    long: not for a dead worker to answer, not for a replaced one to end, and not before it obeys a stop signal. It
    never kills a worker that may have taken a request, unless the worker hangs.

    Args:
        config: Of the workers.
        bound: The socket on which they listen.
        leave_within_s: Time limit for a worker to end once it was told to.
        on_ready: Called once, when the first worker answers.

    Attributes:
        failed: Whether the first workers could not start.
    """

    failed = False

    def __init__(
        self, config: Config, bound: socket.socket, leave_within_s: float, on_ready: Callable[[], None]
    ) -> None:
        self._config, self._bound = config, bound
        self._leave_within_s, self._on_ready = leave_within_s, on_ready
        self._was_ready = False
        self._is_over = threading.Event()
        self._asked: list[str] = []  # names of signals received
        self._workers: list[Worker] = []
        self._leaving: list[tuple[Worker, float]] = []  # with the time until which they may still answer
        self._places: set[int] = set()  # of all workers that are not reaped yet

    def run(self) -> None:
        """Run the workers until a signal ends it, or until they cannot start."""
        for number in _SIGNALS:
            signal.signal(number, lambda number, _: self._asked.append(_SIGNALS[number]))
        logger.info("the supervisor starts", extra={"pid": os.getpid()})
        self._workers = [self._start() for _ in range(self._config.workers)]
        while not self._is_over.wait(_LOOK_S):
            self._obey_signals()
            self._replace_dead()
        self._end_all()
        logger.info("the supervisor ends", extra={"pid": os.getpid()})

    def _obey_signals(self) -> None:
        """Act on the signals received: each kind once, and a stop first."""
        asked, self._asked = self._asked, []  # in this order: a signal may arrive in between
        if any(name in _ENDS for name in asked):
            self._is_over.set()
        elif _RELOAD in asked:
            self._restart_all()

    def _end_all(self) -> None:
        self._bound.close()
        for worker in self._workers:
            self._retire(worker, STOP)
        while self._leaving:
            self._reap_those_who_left()
            time.sleep(0.1)

    def _restart_all(self) -> None:
        """Replace each worker by a new one; the old one ends when the new one answers, and stays if it does not."""
        for number in range(len(self._workers)):
            new = self._start()
            is_ready = self._becomes_ready(new)
            old = self._workers[number]  # or the one that replaced it meanwhile
            if not is_ready:
                self._retire(new, RETIRE)
                if not self._is_told_to_stop():
                    _log_failed_reload(old)
                return
            self._workers[number] = new
            self._retire(old, RETIRE)

    def _replace_dead(self) -> None:
        self._reap_those_who_left()
        for number, worker in enumerate(self._workers):
            if self._is_over.is_set() or self._lives(worker):
                continue
            if not worker.is_reaped:
                self._reap(worker)
                if not self._was_ready and (worker.exitcode or 0) > 0:  # it ended by itself, and would do so again
                    self.failed = True
                    logger.error("a worker could not start", extra={"exit_code": worker.exitcode})
                    self._is_over.set()
                    return
                logger.error("a worker died", extra={"exit_code": worker.exitcode, "replaced_in_s": worker.pause_s})
                worker.replace_after = time.monotonic() + worker.pause_s
            if time.monotonic() >= worker.replace_after:
                self._workers[number] = self._start(replaces=self._was_ready)
                self._workers[number].pause_s = min(_LONGEST_PAUSE_S, 2 * worker.pause_s + 0.5)

    def _start(self, *, replaces: bool = False) -> Worker:
        """Start a new worker, at a place that no living worker has.

        Args:
            replaces: Whether it replaces a worker that died: then it starts even if its shadow cannot be loaded.
        """
        place = next(place for place in count() if place not in self._places)
        self._places.add(place)
        renew_folder()
        worker = Worker(self._config, [self._bound], place, replaces=replaces)
        worker.started = time.monotonic()
        worker.start()
        return worker

    def _becomes_ready(self, worker: Worker) -> bool:
        """Wait for a new worker, and meanwhile replace others that die."""
        end = time.monotonic() + _START_WITHIN_S
        while time.monotonic() < end and worker.is_running and not self._is_told_to_stop():
            if worker.is_ready(timeout=1):
                return True
            self._replace_dead()
            time.sleep(0.1)
        return False

    def _is_told_to_stop(self) -> bool:
        """Whether the server is stopping, or a signal to stop is waiting."""
        return self._is_over.is_set() or any(name in _ENDS for name in self._asked)

    def _retire(self, worker: Worker, number: int | None) -> None:
        """Let a worker answer its requests, and end; None: this system does not have the signal."""
        if number is None:
            worker.terminate()
        else:
            worker.send(number)
        self._leaving.append((worker, time.monotonic() + self._leave_within_s))

    def _reap_those_who_left(self) -> None:
        for worker, end in list(self._leaving):
            if not worker.is_running or time.monotonic() > end:
                self._reap(worker)
                self._leaving.remove((worker, end))

    def _reap(self, worker: Worker) -> None:
        if not worker.is_reaped:
            worker.kill()
            worker.join()
            worker.is_reaped = True
            leave_place(worker.place)
            self._places.discard(worker.place)

    def _lives(self, worker: Worker) -> bool:
        """Whether a worker runs and answers; a busy one gets some time."""
        for _ in range(_ANSWER_WITHIN_S):
            if not worker.is_running:
                return False
            if not self._was_ready and time.monotonic() > worker.started + _FIRST_START_WITHIN_S:
                logger.error("a worker does not start", extra={"after_s": _FIRST_START_WITHIN_S})
                return False
            if worker.is_ready(timeout=1):
                worker.pause_s = 0.0
                if not self._was_ready:
                    self._was_ready = True
                    self._on_ready()
                return True
            if not self._was_ready or self._is_told_to_stop() or worker.ping(timeout=0.1):
                return worker.is_running
        return False


def _log_failed_reload(old: Worker) -> None:
    if old.is_running:
        logger.error("a new worker could not start; the old one keeps running", extra={"kept": old.pid})
    else:
        logger.error("a new worker could not start; trying again")
