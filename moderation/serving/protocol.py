"""What stands around a body: uvicorn alone would take headers of any length, and wait for them for ever."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64_000
"""Of a request, beside its body; a little more passes where it comes in one piece."""

HEAD_TIMEOUT_S = 10.0
"""Within which a connection's first request, and the headers of every other one that has begun, must have come."""

FIRST_REQUEST_WHEN_LEAVING_S = 2.0
"""The same for a connection's first request, once the server is to stop."""

_SHARE = 9  # a chunk of one byte takes up to eight more for its frame


class BoundedProtocol(HttpToolsProtocol):
    """HTTP whose headers, trailers and chunk frames are bounded; where they are not, the connection is closed."""

    def __init__(self, *words: Any, **names: Any) -> None:
        super().__init__(*words, **names)
        self._n_outside = 0
        self._has_head = False  # of the message that is coming in
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._await_head()

    def shutdown(self) -> None:
        """End with the request that is in progress; what is idle may have one on its way, and is closed in its time.

        uvicorn would close an idle connection at once, and a client that has just sent a request would never know what
        became of it. So, unless it was Ctrl-C that ended the server, a connection stays for as long as it would have
        stayed anyway, and whatever still comes is answered, with `Connection: close`.
        """
        if not getattr(self.server_state, "lingers", False) or not self._is_answered():
            super().shutdown()
        elif self.cycle is None and self._head_timer is not None:  # nothing was ever sent here
            self._await_head(FIRST_REQUEST_WHEN_LEAVING_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_awaiting_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and give up where too much of it is no body, or the rest of one that was answered."""
        self._n_outside += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._n_outside > MAX_HEAD_BYTES and self._has_head:
            self.transport.close()  # an answer is begun or given, and a second one would be taken for another's
        elif self._n_outside > MAX_HEAD_BYTES:
            self.send_400_response("The headers are too long.")
        elif self._is_answered() and self._head_timer is None:
            self._await_head()  # uvicorn waits no longer, as if this were a request

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._has_head = False
        self._await_head()

    def on_headers_complete(self) -> None:
        """Its headers are there."""
        self._stop_awaiting_head()
        self._has_head = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of its body, with the frame around it, is none of what is bounded here."""
        if not self._is_answered():
            self._n_outside = max(0, self._n_outside - _SHARE * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """It is there as a whole."""
        self._n_outside = 0
        self._has_head = False
        super().on_message_complete()

    def _is_answered(self) -> bool:
        """Whether no request is in progress: none came yet, or the last one has its answer."""
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self, seconds: float | None = None) -> None:
        self._stop_awaiting_head()
        self._head_timer = self.loop.call_later(
            HEAD_TIMEOUT_S if seconds is None else seconds, self.timeout_keep_alive_handler
        )

    def _stop_awaiting_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
