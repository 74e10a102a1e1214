"""Several HTTP requests in one body, `multipart/mixed`, as Google's clients send them, and their answers."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response

from moderation.serving.problems import ApiProblem

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
        content_id: By which its answer is known, without brackets; empty: it has none.
        method: In capitals.
        path: Decoded, without a query.
        query: As it came.
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
    """A part that is no request; its answer says so."""

    content_id: str


def read_parts(content_type: str, body: bytes, *, most: int) -> list[Part | BrokenPart]:
    """Take a body apart.

    Args:
        content_type: Of the body, with its boundary.
        body: As it came.
        most: Parts at most.

    Raises:
        ApiProblem: 400, no boundary, no end, no part; 413, too many.
    """
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str) or not _BOUNDARY.fullmatch(boundary):
        raise ApiProblem(400, "invalid_request", "The Content-Type has no boundary that can be read.")
    delimiter = b"\n--" + boundary.encode()
    _, *pieces = (b"\n" + body).split(delimiter, most + 2)
    parts: list[Part | BrokenPart] = []
    for piece in pieces:
        if piece.startswith(b"--"):
            if not parts:
                break
            return parts
        if len(parts) == most:
            raise ApiProblem(413, "too_many_texts", f"More than {most:,} parts; send fewer at a time.")
        line, end, content = piece.partition(b"\n")
        if not end or line.strip():
            break
        parts.append(_read_part(content))
    raise ApiProblem(
        400, "invalid_request", "The body is no multipart/mixed: expected parts between its boundary, and its end."
    )


def render_parts(answers: Sequence[tuple[str, Response]]) -> Response:
    """One answer out of many.

    Args:
        answers: Content-ID of the request, and its answer.
    """
    boundary = f"batch_{uuid.uuid4().hex}"
    pieces = [piece for content_id, answer in answers for piece in (f"--{boundary}\r\n", _render(content_id, answer))]
    return Response("".join([*pieces, f"--{boundary}--\r\n"]), media_type=f"multipart/mixed; boundary={boundary}")


def _read_part(content: bytes) -> Part | BrokenPart:
    around, blank, request = _split_head(content)
    found = _CONTENT_ID.fullmatch(around.get("content-id", ""))
    content_id = found[1] if found else ""
    line, _, rest = request.lstrip(b"\r\n").partition(b"\n")
    asked = _REQUEST_LINE.fullmatch(line.rstrip(b"\r"))
    if not blank or not asked or around.get("content-type", _HTTP).split(";")[0].strip().lower() != _HTTP:
        return BrokenPart(content_id)
    try:
        address = urlsplit(asked[2].decode("ascii"))
    except ValueError:
        return BrokenPart(content_id)
    headers, _, body = _split_head(rest)
    return Part(content_id, asked[1].decode(), unquote(address.path), address.query, headers, body)


def _split_head(content: bytes) -> tuple[Headers, bool, bytes]:
    """Headers, whether a blank line ends them, and what comes behind it."""
    if content.startswith((b"\n", b"\r\n")):
        return Headers(), True, content.partition(b"\n")[2]
    head, *rest = _BLANK_LINE.split(content, 1)
    lines = _FOLD.sub(b"", head).splitlines()
    raw = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return Headers(raw=raw), bool(rest), rest[0] if rest else b""


def _render(content_id: str, answer: Response) -> str:
    reason = HTTPStatus(answer.status_code).phrase
    lines = [f"Content-Type: {_HTTP}"]
    lines += [f"Content-ID: <response-{content_id}>"] if content_id else []
    lines += ["", f"HTTP/1.1 {answer.status_code} {reason}"]
    lines += [f"{name.title()}: {value}" for name, value in answer.headers.items()]
    return "\r\n".join([*lines, "", bytes(answer.body).decode(), ""])
