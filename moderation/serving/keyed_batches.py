"""A batch whose key stands in its parts, as Google's clients send it: nothing more is taken before one is known."""

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from moderation.serving.media import read_coding
from moderation.serving.multipart import MAX_HEAD_BYTES, BrokenPart, Part, read_first_part
from moderation.serving.problems import ApiProblem


class KeyedBatch:
    """The body of a batch that came without a key of its own.

    Args:
        receive: Its pieces.
        headers: Of the batch.
        check: Raises where the first part has no valid key. The part may be cut off behind its first bytes.
    """

    def __init__(self, receive: Receive, headers: Headers, check: Callable[[Part | BrokenPart], None]) -> None:
        self._receive, self._headers, self._check = receive, headers, check
        self._is_checked = False

    async def receive(self) -> Message:
        """The next piece; the first one is as long as it takes to know the key.

        Raises:
            ApiProblem: 401, no valid key; or what the receiving of the pieces raises.
        """
        if self._is_checked:
            return await self._receive()
        if read_coding(self._headers):
            needed = "A batch that is packed needs its API key in a header of its own, not in its parts alone."
            raise ApiProblem(401, "unauthorized", needed)
        held, more = bytearray(), True
        while more and len(held) < MAX_HEAD_BYTES:
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            held += message.get("body", b"")
            more = message.get("more_body", False)
        begun = bytes(held[:MAX_HEAD_BYTES])
        self._check(read_first_part(self._headers.get("content-type", ""), begun))
        self._is_checked = True
        return {"type": "http.request", "body": bytes(held), "more_body": more}
