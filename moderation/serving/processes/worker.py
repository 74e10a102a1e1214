"""A worker: a process that builds the application and answers for it."""

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moderation.errors import ModerationError
from moderation.escapes import escape_output
from moderation.evaluation.chosen_thresholds import ChosenThresholds
from moderation.serving.keys import read_keys
from moderation.serving.options import ServerOptions
from moderation.serving.processes.count_files import remove_counts, take_place
from moderation.serving.processes.listening import cannot_listen, is_taken
from moderation.serving.uvicorn_hooks import STARTUP_FAILURE, Config, Process

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AppPlan:
    """Everything from which a worker builds its application; it can be pickled.

    Args:
        model: Folder of the bundle.
        options: Settings of the application.
        keys: File of keys; None: anybody may send requests.
        thresholds: Thresholds set for the bundle.
        shadow_thresholds: Thresholds set for the shadow.
        shadow_backend: Engine of the shadow.
    """

    model: Path
    options: ServerOptions
    keys: Path | None = None
    thresholds: ChosenThresholds | None = None
    shadow_thresholds: ChosenThresholds | None = None
    shadow_backend: str = "auto"

    def build(self, *, shadow_may_fail: bool = False) -> ASGIApp:
        """In a worker: build the application. The keys are read here, so that a restarted worker has the newest."""
        from moderation.serving.app import create_app

        escape_output()
        threading.Thread(target=_end_with_supervisor, name="orphan", daemon=True).start()
        app = create_app(
            self.model,
            self.options,
            keys=None if self.keys is None else read_keys(self.keys),
            thresholds=self.thresholds,
            shadow_thresholds=self.shadow_thresholds,
            shadow_backend=self.shadow_backend,
            shadow_may_fail=shadow_may_fail,
        )
        return _TellingWhy(app)


class Worker(Process):
    """uvicorn's process, with a place among the workers; if it cannot start, it logs the reason in one line.

    Args:
        config: uvicorn's settings; its `app` is an `AppPlan.build`.
        sockets: To listen on.
        place: Number of its files of counts.
        replaces: Whether it replaces a worker that died: then it starts even if its shadow cannot be loaded.

    Attributes:
        is_reaped: Whether it has ended, and nothing of it is left.
        pause_s: Between its end and the start of its successor; grows with each worker in a row that never answered.
        replace_after: When the successor may start, by the monotonic clock.
        started: When it was started, by the same clock.
    """

    is_reaped = False
    pause_s = 0.0
    replace_after = 0.0
    started = 0.0

    def __init__(self, config: Config, sockets: list[socket.socket], place: int, *, replaces: bool) -> None:
        super().__init__(config, sockets)
        self.place, self._replaces = place, replaces

    @property
    def is_running(self) -> bool:
        """Whether the process is alive."""
        return self.process.is_alive()

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """What runs in the process."""
        take_place(self.place)
        if self._replaces:
            build = cast(Callable[..., ASGIApp], self.config.app)
            self.config.app = partial(build, shadow_may_fail=True)
        try:
            super().target(sockets)
        except (ModerationError, OSError) as error:
            known = cannot_listen(self.config.host, self.config.port, error) if is_taken(error) else error
            if not isinstance(known, ModerationError):
                raise
            _log_why(known)
            sys.exit(STARTUP_FAILURE)

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.pid is not None and self.is_running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class _TellingWhy:
    """Wraps an application: if it cannot start for a reason other than a bug, the log gets one line and no traceback.

    Args:
        app: The application; on its own it would send a traceback.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            error = sys.exception()
            if message["type"] == "lifespan.startup.failed" and isinstance(error, ModerationError):
                _log_why(error)
                message = {"type": message["type"]}
            elif isinstance(error, asyncio.CancelledError):  # uvicorn could not listen, and logs that itself
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
