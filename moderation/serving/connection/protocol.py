"""HTTP connections with limits: uvicorn by itself would accept headers of any length and wait for them forever.

Requests of a connection are read one at a time; the next one waits until the last one is answered.
"""

import asyncio
from typing import Any

import httptools

from moderation.serving.connection.connections import FREE_BYTES, connections_of
from moderation.serving.connection.framing import BadFraming, Framing
from moderation.serving.uvicorn_hooks import (
    HIGH_WATER_LIMIT,
    STATUS_LINE,
    HttpToolsProtocol,
    keeps_idle_connections,
)

HEAD_TIMEOUT_S = 10.0
"""Time limit for a connection's first request, and for the headers of each later request that has begun."""

FIRST_REQUEST_WHEN_LEAVING_S = 2.0
"""The same for a connection's first request when the server is stopping."""

READ_TIMEOUT_S = 30.0
"""Time limit for a client to read its answer."""

READ_TIMEOUT_WHEN_LEAVING_S = 5.0
"""The same when the server is stopping."""

LINGER_S = 2.0
"""After the last answer, discard incoming bytes for this long: an immediate reset could overtake the answer."""

LINGER_BYTES = 16_000_000
"""And discard at most this much."""

MAX_UNWANTED_BYTES = 64_000
"""If a request is answered before its body has arrived, wait for at most this much of the rest."""

_READ_BYTES = 65_536  # at once: each read is processed in one go, and others wait meanwhile


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1, read strictly and within limits; a client that exceeds them gets one error and is disconnected."""

    def __init__(self, *words: Any, **names: Any) -> None:
        super().__init__(*words, **names)
        self._all = connections_of(self.server_state, self.loop)
        self._n_counted = 0  # this connection's part of what they all hold
        self._framing = Framing()
        self._held = bytearray()  # received but not yet read
        self._n_begun = 0  # bytes of the request that is not answered yet
        self._unwanted_bytes = 0  # of the last request, after its answer
        self._thrown_away_bytes = 0  # since it became deaf
        self._in_body = False  # the parser is after the head of a request and before its end
        self._keeps_alive = False  # whether the client wants the connection to stay open after this request
        self._is_deaf = False  # all further input is discarded
        self._is_leaving = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin to wait for a request."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that `pause_writing` is called for every unread byte
        if hasattr(transport, "max_size"):
            transport.max_size = _READ_BYTES
        self._await_head()
        if len(self.connections) > self._all.most:
            self._refuse(503, "The server has too many connections.")
            transport.close()  # its place is needed

    def shutdown(self) -> None:
        """End after the request in progress; keep an idle connection open for a while: a request may be on its way.

        uvicorn would close an idle connection at once, and a client that has just sent a request would never learn
        whether it was processed. So, unless Ctrl-C ended the server, a connection stays open as long as it would have
        anyway, and further requests are answered, with `Connection: close`.
        """
        self._is_leaving = True
        if self._reader_timer is not None:
            self._await_reader()
        may_stay = keeps_idle_connections(self.server_state)
        if self._is_deaf:
            if not may_stay:  # else it is closed within LINGER_S
                self.transport.close()
        elif not may_stay or not self._is_answered():
            super().shutdown()
        elif self.cycle is None and self._head_timer is not None:  # no request ever came
            self._await_head(FIRST_REQUEST_WHEN_LEAVING_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers and release all bytes."""
        self._is_deaf = True
        self._held.clear()
        self._stop_awaiting_head()
        self._stop_awaiting_reader()
        self._all.n_bytes -= self._n_counted
        self._n_counted = 0
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Store the bytes, and read those whose turn it is."""
        if not self._is_deaf:
            self._held += data
            self._read_on()
            return
        self._thrown_away_bytes += len(data)
        if self._thrown_away_bytes > LINGER_BYTES:
            self.transport.close()

    def pause_writing(self) -> None:
        """Wait for the client to read its answer, but not forever."""
        super().pause_writing()
        self._await_reader()
        self._count()

    def resume_writing(self) -> None:
        """Everything written was sent."""
        super().resume_writing()
        self._stop_awaiting_reader()
        self._count()
        if self._held:
            self.loop.call_soon(self._read_on)

    def on_response_complete(self) -> None:
        """Continue with the next request."""
        super().on_response_complete()
        self._count()
        if self._held:
            self.loop.call_soon(self._read_on)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._n_begun = self._unwanted_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, without surrounding blanks; trailers are ignored."""
        if not self._in_body:
            super().on_header(name, value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        """All headers have arrived."""
        self._stop_awaiting_head()
        super().on_headers_complete()
        self._in_body = True  # not reached if uvicorn could not read the URL: that gets an answer, too
        self.cycle.transport = _AnswerTransport(self)  # type: ignore[assignment]  # has what an answer uses
        self._keeps_alive = self.cycle.keep_alive

    def on_message_complete(self) -> None:
        """The whole request has arrived."""
        self._in_body = False
        super().on_message_complete()

    def _read_on(self) -> None:
        """Read the received bytes, up to the end of the first request that is not answered yet."""
        self._unset_keepalive_if_required()
        try:
            while self._is_next() and (piece := self._framing.cut(self._held)) is not None:
                self._parse(piece)
        except BadFraming as error:
            self._refuse(error.status, str(error))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(400, "Invalid HTTP request received.")
        self._count()
        if self._is_over():
            return
        if self._all.is_full() and self._n_counted > FREE_BYTES and (self._framing.has_head or self._is_answered()):
            self._refuse(503, "The server holds too many large requests.")
        elif len(self._held) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        elif self._is_answered() and not self.flow.write_paused:
            self.flow.resume_reading()
            if self._head_timer is None:
                self._await_head()

    def _parse(self, piece: bytes) -> None:
        """Have llhttp read a piece, too.

        Raises:
            BadFraming: it finds a different end of the request; or too much arrived for a request already answered.
        """
        self._n_begun += len(piece)
        if self._in_body and self._is_answered():
            self._unwanted_bytes += len(piece)
            if self._unwanted_bytes > MAX_UNWANTED_BYTES:
                raise BadFraming("The rest of a body that was already answered is too long.")
        self.parser.feed_data(piece)
        if self._in_body != self._framing.has_head:
            raise BadFraming("It is unclear where the request ends.")
        self._choose_keep_alive()

    def _choose_keep_alive(self) -> None:
        """Have an answer that would begin now say `Connection: close` if the connection cannot be used again.

        Too much of the body would follow it; or the client waits for `100 Continue`, and after another answer it may
        skip the body and send the next request.
        """
        if self._is_leaving or self._is_answered() or self.cycle.response_started:
            return
        rest_is_too_long = self._framing.n_left > MAX_UNWANTED_BYTES
        self.cycle.keep_alive = self._keeps_alive and not (
            self._in_body and (self.expect_100_continue or rest_is_too_long)
        )

    def _is_next(self) -> bool:
        """Whether to read on: the rest of a request, or the next one if the last one is answered."""
        is_next = self._framing.has_head or (self._is_answered() and not self.flow.write_paused)
        return is_next and not self._is_over()

    def _is_over(self) -> bool:
        return self._is_deaf or self.transport.is_closing()

    def _is_answered(self) -> bool:
        """Whether no request is in progress: none came yet, or the last one is answered."""
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self, status: int, message: str) -> None:
        """Send a last answer, unless one was begun or sent: a second one would look like the next request's."""
        is_given = self._is_answered() and self._in_body
        is_begun = not self._is_answered() and self.cycle.response_started
        facts = {"reason": message} if is_given or is_begun else {"status": status, "reason": message}
        self._all.log("a connection was refused", **facts)
        if not self._is_answered():
            self.cycle.disconnected = True
            self.cycle.body = bytearray()
            self.cycle.message_event.set()
        if is_begun:
            self._hear_no_more()
            self.transport.close()
            return
        if not is_given:
            lines = [b"content-type: text/plain; charset=utf-8", b"content-length: %d" % len(message)]
            lines += [b"connection: close"] + [b"retry-after: 1"] * (status == 503)
            self.transport.write(STATUS_LINE[status] + b"\r\n".join([*lines, b"", message.encode("ascii")]))
        self._linger()

    def end_answer(self) -> None:
        """Close the connection after its last answer, complete or not."""
        if not (self._in_body and self.cycle.response_complete):
            self.transport.close()
        elif not self._is_over():
            self._linger()

    def _hear_no_more(self) -> None:
        """Discard what was received, and all further input."""
        self._is_deaf = True
        self._held.clear()
        self._stop_awaiting_head()
        self._unset_keepalive_if_required()
        self._count()

    def _linger(self) -> None:
        """Close when the client has closed, or after a while."""
        self._hear_no_more()
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()
            self._await_head(LINGER_S)
        else:
            self.transport.close()

    def _count(self) -> None:
        """Update this connection's part of the bytes that all connections hold."""
        n_bytes = len(self._held) + (0 if self._is_deaf or self._is_answered() else self._n_begun)
        n_bytes += self.transport.get_write_buffer_size() if self.flow.write_paused else 0
        self._all.n_bytes += n_bytes - self._n_counted
        self._n_counted = n_bytes

    def _await_head(self, seconds: float | None = None) -> None:
        self._stop_awaiting_head()
        self._head_timer = self.loop.call_later(
            HEAD_TIMEOUT_S if seconds is None else seconds, self.timeout_keep_alive_handler
        )

    def _stop_awaiting_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _await_reader(self) -> None:
        self._stop_awaiting_reader()
        seconds = READ_TIMEOUT_WHEN_LEAVING_S if self._is_leaving else READ_TIMEOUT_S
        self._reader_timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_awaiting_reader(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None


class _AnswerTransport:
    """The transport that an answer uses: if the request has not fully arrived, it closes slowly."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        self._protocol.end_answer()
