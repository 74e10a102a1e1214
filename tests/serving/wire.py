"""A server's protocol without a network: bytes go in as they are cut, and what the application is given is noted."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import h11

from moderation.serving.connection.protocol import BoundedProtocol
from moderation.serving.uvicorn_hooks import Config, ServerState


@dataclass
class Asked:
    """One request as somebody has read it."""

    method: str
    target: str
    body: bytes = b""
    is_complete: bool = False
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


@dataclass
class Wire:
    """A transport that keeps what is written, and an application that notes what it is given."""

    is_closed: bool = False
    is_ended: bool = False
    written: bytes = b""
    asked: list[Asked] = field(default_factory=list)

    def write(self, data: bytes) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.is_ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        """Read the body, unless the path says not to, and answer with the number of this request."""
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        asked = Asked(scope["method"], target.decode())
        self.asked.append(asked)
        number = len(self.asked)
        while not asked.is_complete and target != b"/refused":
            message = await receive()
            if message["type"] != "http.request":
                return
            asked.body += message["body"]
            asked.is_complete = not message["more_body"]
        asked.headers = list(scope["headers"])
        body = b"%d" % number
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    def statuses(self) -> list[int]:
        """Of the answers that were written; each 200 says whose it is."""
        found, rest = [], self.written
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            found.append(int(head.split(b" ", 2)[1]))
            length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
            n_bytes = int(length.split(b":")[1])
            if found[-1] == 200:
                assert rest[:n_bytes] == b"%d" % found.count(200)
            rest = rest[n_bytes:]
        return [status for status in found if status != 100]


async def tell(
    pieces: Iterable[bytes], wire: Wire | None = None, kind: type[BoundedProtocol] = BoundedProtocol
) -> Wire:
    """Let a server have these pieces, one after the other, and as much time as it needs."""
    wire = wire or Wire()
    config = Config(wire.answer, interface="asgi3", lifespan="off", log_config=None, proxy_headers=False)
    protocol = kind(config=config, server_state=ServerState(), app_state={})
    protocol.connection_made(wire)  # type: ignore[arg-type]
    for piece in pieces:
        if piece and not wire.is_closed:
            protocol.data_received(piece)
            await settle(protocol)
    await settle(protocol)
    protocol.connection_lost(None)
    await settle(protocol)
    return wire


async def settle(protocol: BoundedProtocol) -> None:
    """Until nobody has anything to do, but for a request whose body has not come."""
    for _ in range(1000):
        before = (len(protocol.tasks), protocol.server_state.total_requests, len(protocol._held))
        for _ in range(4):
            await asyncio.sleep(0)
        if before == (len(protocol.tasks), protocol.server_state.total_requests, len(protocol._held)):
            return


def read_by_h11(stream: bytes) -> list[Asked]:
    """The requests of a stream as another parser reads them, up to what it refuses."""
    found: list[Asked] = []
    while True:
        while stream.startswith(b"\r\n"):
            stream = stream[2:]
        if not stream:
            return found
        reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1_000_000)
        reader.receive_data(stream)
        try:
            while (event := reader.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Request):
                    found.append(Asked(event.method.decode(), event.target.decode()))
                elif isinstance(event, h11.Data):
                    found[-1].body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    found[-1].is_complete = True
                    break
        except h11.RemoteProtocolError:
            return found
        if not found or not found[-1].is_complete or reader.their_state is h11.MUST_CLOSE:
            return found
        if event in (h11.NEED_DATA, h11.PAUSED):
            return found
        stream = reader.trailing_data[0]


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    """A stream in pieces that begin at these places."""
    ends = [0, *sorted(places), len(stream)]
    return [stream[begin:end] for begin, end in pairwise(ends)]
