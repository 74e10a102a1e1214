"""Several HTTP requests in one body, `multipart/mixed`, as Google's clients send them, and their answers."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response

from moderation.serving.bodies.media import read_content_type
from moderation.serving.errors import ApiError

MAX_HEAD_BYTES = 8_192
"""Longest headers of a part; also longest request line and headers of the request inside it."""

_MAX_HEAD_LINES = 50  # each becomes an object
_HTTP = "application/http"
_BOUNDARY = re.compile(r"[ -~]{0,69}[!-~]")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (\S{1,8000})(?: HTTP/\d(?:\.\d)?)?[ \t]*")
_CONTENT_ID = re.compile(r"<([ -;=?-~]{1,300})>")


@dataclass(frozen=True)
class Part:
    """One request of a batch.

    Args:
        content_id: Identifies its answer; without brackets; empty: it has none.
        method: In upper case.
        path: Decoded, without a query.
        query: As sent.
        headers: Of the request itself.
        body: Its bytes.
    """

    content_id: str
    method: str
    path: str
    query: str
    headers: Headers
    body: bytes


@dataclass(frozen=True)
class BrokenPart:
    """A part that is not an HTTP request; its answer says so."""

    content_id: str


def split_parts(content_type: str, body: bytes, *, most: int) -> list[bytes]:
    """Split a body into its parts; `read_part` reads each of them.

    Args:
        content_type: Of the body, with its boundary.
        body: The raw bytes.
        most: Maximum number of parts.

    Raises:
        ApiError: 400, no boundary, no end, no part; 413, too many; 415, an unreadable Content-Type.
    """
    _, *pieces = (b"\n" + body).split(_find_delimiter(content_type), most + 2)
    parts: list[bytes] = []
    for piece in pieces:
        if piece.startswith(b"--"):
            if not parts:
                break
            return parts
        if len(parts) == most:
            raise ApiError(413, "too_many_texts", f"More than {most:,} parts; send fewer at a time.")
        line, end, content = piece.partition(b"\n")
        if not end or line.strip():
            break
        parts.append(content)
    raise ApiError(
        400, "invalid_request", "The body is not multipart/mixed: expected parts between boundaries, and a final one."
    )


def read_first_part(content_type: str, begun: bytes) -> Part | BrokenPart:
    """The first part of a body of which only the beginning has arrived.

    Raises:
        ApiError: 400, no boundary; 415, an unreadable Content-Type.
    """
    delimiter = _find_delimiter(content_type)
    _, _, rest = (b"\n" + begun).partition(delimiter)
    _, _, content = rest.partition(delimiter)[0].partition(b"\n")
    return read_part(content)


def read_part(content: bytes) -> Part | BrokenPart:
    """Read the content between two boundaries."""
    head = _split_head(content)
    if head is None:
        return BrokenPart("")
    around, request = head
    found = _CONTENT_ID.fullmatch(around.get("content-id", ""))
    content_id = found[1] if found else ""
    if around.get("content-type", _HTTP).split(";")[0].strip().lower() != _HTTP:
        return BrokenPart(content_id)
    line, _, rest = (request or b"").lstrip(b"\r\n").partition(b"\n")
    asked = _REQUEST_LINE.fullmatch(line.rstrip(b"\r"))
    head = _split_head(rest)
    if not asked or head is None:
        return BrokenPart(content_id)
    try:
        address = urlsplit(asked[2].decode("ascii"))
    except ValueError:
        return BrokenPart(content_id)
    headers, body = head
    return Part(content_id, asked[1].decode(), unquote(address.path), address.query, headers, body or b"")


def render_parts(answers: Sequence[tuple[str, Response]]) -> Response:
    """Combine the answers of all parts into one.

    Args:
        answers: Content-ID of the request, and its answer.
    """
    boundary = f"batch_{uuid.uuid4().hex}"
    pieces = [piece for content_id, answer in answers for piece in (f"--{boundary}\r\n", _render(content_id, answer))]
    return Response("".join([*pieces, f"--{boundary}--\r\n"]), media_type=f"multipart/mixed; boundary={boundary}")


def _find_delimiter(content_type: str) -> bytes:
    boundary = read_content_type(content_type)[1].get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise ApiError(400, "invalid_request", "The Content-Type has no valid boundary.")
    return b"\n--" + boundary.encode()


def _split_head(content: bytes) -> tuple[Headers, bytes | None] | None:
    """Headers, and what follows the blank line that ends them, if there is one; None: there are too many."""
    if content.startswith((b"\n", b"\r\n")):
        return Headers(), content.partition(b"\n")[2]
    blank = _BLANK_LINE.search(content, 0, MAX_HEAD_BYTES)
    end = blank.start() if blank else len(content)
    if end > MAX_HEAD_BYTES or content.count(b"\n", 0, end) >= _MAX_HEAD_LINES:
        return None
    lines = _FOLD.sub(b"", content[:end]).split(b"\n")
    pairs = (line.partition(b":") for line in lines if line)
    raw = [(name.strip().lower(), value.strip()) for name, _, value in pairs]
    return Headers(raw=raw), content[blank.end() :] if blank else None


def _render(content_id: str, answer: Response) -> str:
    reason = HTTPStatus(answer.status_code).phrase
    lines = [f"Content-Type: {_HTTP}"]
    lines += [f"Content-ID: <response-{content_id}>"] if content_id else []
    lines += ["", f"HTTP/1.1 {answer.status_code} {reason}"]
    lines += [f"{name.title()}: {value}" for name, value in answer.headers.items()]
    return "\r\n".join([*lines, "", bytes(answer.body).decode(), ""])
