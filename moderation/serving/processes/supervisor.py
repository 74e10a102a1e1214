"""Worker processes that share one socket; one that dies is replaced.

This process loads no model. Its workers are uvicorn servers that build the application themselves.
"""

import asyncio
import errno
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import SIGNALS, Process

from moderation.errors import ConfigError, ModerationError
from moderation.escapes import escape_output
from moderation.logs import LogLevel, json_logs
from moderation.serving.connection.protocol import BoundedProtocol
from moderation.serving.keys import read_keys
from moderation.serving.processes.count_files import counts_folder, leave_place, remove_counts, renew_folder, take_place
from moderation.serving.processes.stopping import RETIRE, STOP

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
    on_ready: Callable[[], None] = lambda: None,
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
        on_ready: Called once, when the first worker answers.

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
    leave_within_s = longest_stop_s(stop_within_s, settings["drain_s"])
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # or workers would look for modules in the current folder first
    with counts_folder():
        supervisor = _Supervisor(config, [socket_to_use], leave_within_s, on_ready)
        supervisor.run()
        return 1 if supervisor.failed else 0


def longest_stop_s(stop_within_s: float, drain_s: float) -> float:
    """After so many seconds a stop kills the workers that hang; who waits for the server should wait longer."""
    return stop_within_s + drain_s + _ANSWER_WITHIN_S


class _Worker(Process):
    """uvicorn's process, with a place among the workers; where it cannot start, it says why in one line of the log.

    Attributes:
        is_reaped: Whether it has ended, and nothing of it is left.
        pause_s: Between its end and the start of its successor; longer with each one in a row that never answered.
        replace_after: When the successor may start, by the monotonic clock.
    """

    is_reaped = False
    pause_s = 0.0
    replace_after = 0.0

    def __init__(self, config: Config, sockets: list[socket.socket], place: int, *, replaces: bool) -> None:
        super().__init__(config, sockets)
        self.place, self._replaces = place, replaces

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        take_place(self.place)
        if self._replaces:
            build: Any = self.config.app
            self.config.app = partial(build, shadow_may_fail=True)
        try:
            super().target(sockets)
        except (ModerationError, OSError) as error:
            known = _cannot_listen(self.config.host, self.config.port, error) if _is_taken(error) else error
            if not isinstance(known, ModerationError):
                raise
            _log_why(known)
            sys.exit(STARTUP_FAILURE)

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.pid is not None and self.process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class _Supervisor(Multiprocess):
    """uvicorn's, but for four things.

    It lets go of the socket as soon as it is to stop: nobody shall connect to what no worker listens to any more. It
    stops where the first workers cannot start, but not where a later one cannot: the others go on, and it tries again.
    It waits for nothing for long: neither for an answer of a dead worker, nor for the end of one that was replaced, nor
    with a signal that ends everything. And no worker is killed that may have taken a request, unless it hangs.
    """

    was_ready = False
    failed = False

    def __init__(
        self, config: Config, sockets: list[socket.socket], leave_within_s: float, on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config, sockets)
        self.processes: list[_Worker] = []  # type: ignore[assignment]  # uvicorn's own class, which ours extends
        self._leave_within_s, self._on_ready = leave_within_s, on_ready
        self._leaving: list[tuple[_Worker, float]] = []  # with the time until which they may still answer
        self._places: set[int] = set()  # of all workers that were not reaped

    def init_processes(self) -> None:
        for _ in range(self.processes_num):
            self.processes.append(self._start())

    def terminate_all(self) -> None:
        for bound in self.sockets:
            bound.close()
        for process in self.processes:
            self._retire(process, STOP)

    def join_all(self) -> None:
        while self._leaving:
            self._reap_those_who_left()
            time.sleep(0.1)

    def handle_signals(self) -> None:
        """Do what was asked for, each thing once and an end first."""
        asked, self.signal_queue = self.signal_queue, []
        for name in sorted({SIGNALS[number] for number in asked}, key=lambda name: name not in _ENDS):
            if self.should_exit.is_set():
                return
            if name in (*_ENDS, "HUP"):
                getattr(self, f"handle_{name.lower()}")()

    def restart_all(self) -> None:
        """Start each worker anew; the old one goes when the new one answers, and stays where it does not."""
        for number in range(len(self.processes)):
            new = self._start()
            is_ready = self._becomes_ready(new)
            old = self.processes[number]  # or the one that replaced it meanwhile
            if not is_ready:
                self._retire(new, RETIRE)
                if not self._is_told_to_stop():
                    _log_failed_reload(old)
                return
            self.processes[number] = new
            self._retire(old, RETIRE)

    def keep_subprocess_alive(self) -> None:
        self._reap_those_who_left()
        for number, process in enumerate(self.processes):
            if self.should_exit.is_set() or self._lives(process):
                continue
            if not process.is_reaped:
                self._reap(process)
                if not self.was_ready and (process.exitcode or 0) > 0:  # it ended by itself, and would again
                    self.failed = True
                    logger.error("a worker could not start", extra={"exit_code": process.exitcode})
                    self.should_exit.set()
                    return
                logger.error("a worker died", extra={"exit_code": process.exitcode, "replaced_in_s": process.pause_s})
                process.replace_after = time.monotonic() + process.pause_s
            if time.monotonic() >= process.replace_after:
                self.processes[number] = self._start(replaces=self.was_ready)
                self.processes[number].pause_s = min(_LONGEST_PAUSE_S, 2 * process.pause_s + 0.5)

    def _start(self, *, replaces: bool = False) -> _Worker:
        """A new worker, at a place that none of those has who live.

        Args:
            replaces: Whether it takes the place of one that died: then nobody is left whom its failure would warn.
        """
        place = next(place for place in count() if place not in self._places)
        self._places.add(place)
        renew_folder()
        process = _Worker(self.config, self.sockets, place, replaces=replaces)
        process.start()
        return process

    def _becomes_ready(self, process: _Worker) -> bool:
        """Wait for a new worker, and look after the others meanwhile."""
        end = time.monotonic() + _START_WITHIN_S
        while time.monotonic() < end and process.process.is_alive() and not self._is_told_to_stop():
            if process.is_ready(timeout=1):
                return True
            self.keep_subprocess_alive()
            time.sleep(0.1)
        return False

    def _is_told_to_stop(self) -> bool:
        """Whether everything is to end, or a signal waits that says so."""
        return self.should_exit.is_set() or any(SIGNALS[number] in _ENDS for number in self.signal_queue)

    def _retire(self, process: _Worker, number: int | None) -> None:
        """Let a worker answer what it has, and end; None: this system has no such signal."""
        if number is None:
            process.terminate()
        else:
            process.send(number)
        self._leaving.append((process, time.monotonic() + self._leave_within_s))

    def _reap_those_who_left(self) -> None:
        for process, end in list(self._leaving):
            if not process.process.is_alive() or time.monotonic() > end:
                self._reap(process)
                self._leaving.remove((process, end))

    def _reap(self, process: _Worker) -> None:
        if not process.is_reaped:
            process.kill()
            process.join()
            process.is_reaped = True
            leave_place(process.place)
            self._places.discard(process.place)

    def _lives(self, process: _Worker) -> bool:
        """Whether a worker runs and answers; a busy one has its time."""
        for _ in range(_ANSWER_WITHIN_S):
            if not process.process.is_alive():
                return False
            if process.is_ready(timeout=1):
                process.pause_s = 0.0
                if not self.was_ready:
                    self.was_ready = True
                    self._on_ready()
                return True
            if not self.was_ready or self._is_told_to_stop() or process.ping(timeout=0.1):
                return process.process.is_alive()
        return False


def _log_failed_reload(old: _Worker) -> None:
    if old.process.is_alive():
        logger.error("a new worker could not start; the old one goes on", extra={"kept": old.pid})
    else:
        logger.error("a new worker could not start; it is tried again")


def build_app(settings: dict[str, Any], **more: Any) -> Any:
    """In a worker: the application. Its keys are read here, so that a worker started anew knows the newest."""
    from moderation.serving.app import create_app

    escape_output()
    threading.Thread(target=_end_with_supervisor, name="orphan", daemon=True).start()
    path = settings["keys"]
    return _TellingWhy(create_app(**settings | {"keys": None if path is None else read_keys(path)} | more))


class _TellingWhy:
    """An application. Where it cannot start for a reason that is no bug, the log says so in a line, with no traceback.

    Args:
        app: Sends a traceback while it handles the error.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            error = sys.exception()
            if message["type"] == "lifespan.startup.failed" and isinstance(error, ModerationError):
                _log_why(error)
                message = {"type": message["type"]}
            elif isinstance(error, asyncio.CancelledError):  # uvicorn could not listen, and says so by itself
                message = {"type": message["type"]}
            await send(message)

        await self._app(scope, receive, send_on if scope["type"] == "lifespan" else send)


def _log_why(error: ModerationError) -> None:
    logger.error("this worker cannot start", extra={"error": str(error)})


def _end_with_supervisor() -> None:
    """Stop when the supervisor is gone: nobody could stop this worker, and it would keep the port."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        supervisor.join()
        remove_counts()
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def bind(host: str, port: int) -> Iterator[socket.socket]:
    """Give a socket for the workers to listen on; port 0: any that is free.

    Until they listen to it, a second server that starts could have the same address too: this one claims it.

    Raises:
        ConfigError: the address cannot be had.
    """
    with ExitStack() as opened:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            bound = opened.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            if sys.platform == "linux":
                _claim(f"moderation serve {bound.getsockname()[:2]}", opened)
        except (OSError, ValueError) as error:
            raise _cannot_listen(host, port, error) from error
        bound.set_inheritable(True)
        yield bound


def _claim(name: str, opened: ExitStack) -> None:
    """Take a name, which has no file, until this process ends.

    Raises:
        OSError: another process has it.
    """
    try:
        claim = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        claim.bind(f"\0{name}")
    except OSError as error:
        if _is_taken(error):
            raise
        logger.debug("no address can be claimed here", extra={"error": error.strerror})


def _cannot_listen(host: str, port: int, error: Exception) -> ConfigError:
    if isinstance(error, ValueError):  # of the codec for names of hosts, or a character that none may have
        return ConfigError(f"--host {host[:80]!r} is no name of a host; expected an address of this machine.")
    why = getattr(error, "strerror", None) or type(error).__name__
    return ConfigError(
        f"--host {host} --port {port}: cannot listen there ({why}). Is another server running? "
        "Choose another --port, or an address of this machine."
    )


def _is_taken(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EADDRINUSE
