"""Writes decisions to the database in their own threads: if it is slow or silent, no other request waits for it."""

import asyncio
import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

from moderation.errors import ArtifactError
from moderation.serving.feedback.decisions import WAIT_S, Decision, OutcomeUnknownError
from moderation.serving.feedback.store import FeedbackStore
from moderation.serving.turns import Turns

GIVE_UP_S = 2.0 * WAIT_S
"""Seconds that a request waits for the database; by then the database itself has usually reported what is wrong."""

_COMMIT_WITHIN_S = 1.0 * WAIT_S  # on top, once a decision is being committed and cannot be withdrawn
_THREADS = 4  # SQLite has one writer at a time; PostgreSQL works on several
_MOST_WAITING = 256

_Task = tuple["Future[None]", Decision]


class DecisionWriter:
    """Writes the decisions of all requests to a store, a few at a time.

    Its threads end with the process, even if the database never answers.

    Args:
        store: Where decisions are kept.
    """

    def __init__(self, store: FeedbackStore) -> None:
        self.store = store
        self._waiting: Turns[_Task] = Turns(_MOST_WAITING)
        for _ in range(_THREADS):
            threading.Thread(target=self._write_all, name="feedback writer", daemon=True).start()

    async def write(self, decision: Decision, caller: str | None = None) -> None:
        """Store a decision; it is on disk when this returns.

        Args:
            decision: The decision.
            caller: Name of the request's key, which limits its share of the queue; None: no key.

        Raises:
            ArtifactError: it is not stored, and will not be: too many decisions wait, or the database cannot be
                reached, is locked, full or silent.
            OutcomeUnknownError: it may be stored: the database has not confirmed the commit.
        """
        written: Future[None] = Future()
        if not self._waiting.put((written, decision), caller or ""):
            raise ArtifactError(f"{self.store.name}: too many decisions wait to be written.")
        answer = asyncio.wrap_future(written)
        answer.add_done_callback(lambda it: it.cancelled() or it.exception())  # or asyncio may log the error
        try:
            await asyncio.wait([answer], timeout=GIVE_UP_S)
            if written.cancel():
                self.store.distrust()
                raise ArtifactError(f"{self.store.name}: no answer in time")
            await asyncio.wait([answer], timeout=_COMMIT_WITHIN_S)
        finally:
            written.cancel()  # the request may be gone
        if not written.done():
            self.store.distrust()
            raise OutcomeUnknownError(f"{self.store.name}: no answer in time to the commit of a decision")
        written.result()

    def close(self) -> None:
        """Drop the waiting decisions, and end the threads."""
        for written, _ in self._waiting.close():
            written.cancel()

    def _write_all(self) -> None:
        """In a thread: write decisions until the queue is closed."""
        while (task := self._waiting.get()) is not None:
            written, decision = task
            if written.cancelled():
                continue
            with suppress(InvalidStateError):  # cancelled meanwhile, and so not committed
                try:
                    self.store.add(decision, is_wanted=written.set_running_or_notify_cancel)
                except Exception as error:
                    written.set_exception(error)
                else:
                    written.set_result(None)
