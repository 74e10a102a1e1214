"""Where a request begins and ends, read so strictly that no proxy in front of the server can read it otherwise.

What one reader takes for the body of a request, and another one for the next request, lets a stranger send requests in
somebody else's name. So there is one way to say where a body ends, and whatever is unclear is refused. The parser of
uvicorn, llhttp, reads every byte as well, and both have to agree.
"""

import re
from dataclasses import dataclass

MAX_HEAD_BYTES = 64_000
"""Of a request, beside its body."""

MAX_HEADER_LINES = 100
"""Headers of a request; and as many trailers. Each one is an object, and is looked at by everything behind."""

_MAX_FRAME_BYTES = 4_000  # what stands before a chunk
_FRAME_SHARE = 8  # a chunk of one byte takes up to so many more for its frame

_BLANK_LINES = re.compile(rb"(?:\r\n)*+")
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"([A-Z][A-Z-]*) ([\x21\x22\x24-\x7e]+) HTTP/1\.([01])")
_FIELD_LINE = re.compile(rb"(%s):([\t\x20-\x7e\x80-\xff]*)" % _TOKEN)
_TARGET = re.compile(rb"(?:https?://(?P<host>[^/?]+))?(?P<path>/[^?]*)?(?P<query>\?.*)?", re.IGNORECASE)
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[\t\x20-\x7e]*)?\r\n")


class BadFraming(Exception):
    """A request that is not read.

    Args:
        message: For its sender.
        status: Of the answer.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Head:
    """Request line and headers.

    Args:
        raw: What the parser gets: without `Upgrade`, which nobody here follows, so that the body is read as ever; and
            with a path for its target where a whole address came.
        body_bytes: Of the body; None: it comes in chunks.
    """

    raw: bytes
    body_bytes: int | None


def read_head(raw: bytes) -> Head:
    """Read a head, up to and with its empty line.

    Raises:
        BadFraming: it is not HTTP/1.1 or 1.0, or leaves open where the request ends or whom it is for.
    """
    first, *lines = raw[:-4].split(b"\r\n")
    line = _read_request_line(first)
    fields: dict[bytes, list[bytes]] = {}
    kept = [b"%s %s HTTP/1.%s" % (line.method, line.target, line.version)]
    for field in lines:
        found = _FIELD_LINE.fullmatch(field)
        if found is None:
            raise BadFraming("A header cannot be read: expected NAME: VALUE on one line.")
        name = found[1].lower()
        fields.setdefault(name, []).append(found[2].strip(b" \t"))
        if name != b"upgrade":
            kept.append(field)
    _check_host(fields.get(b"host", []), line)
    return Head(b"\r\n".join([*kept, b"", b""]), _find_length(fields, line.version))


@dataclass(frozen=True)
class _RequestLine:
    """The first line.

    Args:
        method: In capitals.
        target: A path with its query, or a star.
        version: What stands behind `HTTP/1.`.
        host: Of a target that is a whole address.
    """

    method: bytes
    target: bytes
    version: bytes
    host: bytes | None


def _read_request_line(line: bytes) -> _RequestLine:
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise BadFraming("Expected a request of HTTP/1.1.")
    method, target, version = found.groups()
    if method == b"CONNECT":
        raise BadFraming("CONNECT is for proxies, and this is none.")
    if target == b"*" and method == b"OPTIONS":
        return _RequestLine(method, target, version, None)
    parts = _TARGET.fullmatch(target)
    if not parts or not (parts["host"] or parts["path"]):
        raise BadFraming("Expected a path that begins with a slash.")
    if parts["host"] and not _HOST.fullmatch(parts["host"]):
        raise BadFraming("The address cannot be read.")
    return _RequestLine(method, (parts["path"] or b"/") + (parts["query"] or b""), version, parts["host"])


def _check_host(hosts: list[bytes], line: _RequestLine) -> None:
    if len(hosts) > 1 or (not hosts and line.version == b"1"):
        raise BadFraming("Expected one Host header.")
    if not all(map(_HOST.fullmatch, hosts)):
        raise BadFraming("The Host header cannot be read.")
    if line.host is not None and hosts and line.host.lower() != hosts[0].lower():
        raise BadFraming("Host and address name different servers.")


def _find_length(fields: dict[bytes, list[bytes]], version: bytes) -> int | None:
    codings, lengths = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if codings is None:
        if lengths is None:
            return 0
        if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
            raise BadFraming("Expected one Content-Length, a number.")
        return int(lengths[0])
    if lengths is not None:
        raise BadFraming("Expected Content-Length or Transfer-Encoding, not both.")
    if [coding.lower() for coding in codings] != [b"chunked"] or version == b"0":
        raise BadFraming("Expected no Transfer-Encoding but chunked, in HTTP/1.1.")
    return None


class Framing:
    """Cuts what comes in on a connection into pieces, none of which reaches beyond the end of a request.

    Attributes:
        has_head: Whether the head of a request has been cut, and its end has not.
    """

    def __init__(self) -> None:
        self.has_head = False
        self._outside_bytes = 0  # of this request: what is no body, less what chunks may take for their frames
        self._is_line_read = False  # of a head that has not come as a whole
        self._n_trailers = 0
        self._n_left = 0  # of the body, or of a chunk with the line end behind it
        self._is_chunked = self._in_trailers = False

    def cut(self, held: bytearray) -> bytes | None:
        """Take the next piece from what has come; None: more has to come.

        Raises:
            BadFraming: a request that is not read.
        """
        if not self.has_head:
            piece = self._cut_head(held)
        elif self._n_left:
            piece = _take(held, min(self._n_left, len(held)))
            self._n_left -= len(piece or b"")
        else:
            piece = self._cut_trailer(held) if self._in_trailers else self._cut_chunks(held)
        if self.has_head and not self._n_left and not self._is_chunked:
            self.has_head, self._outside_bytes = False, 0
        return piece

    def _cut_head(self, held: bytearray) -> bytes | None:
        if (found := _BLANK_LINES.match(held)) and (n_blank := found.end()):
            del held[:n_blank]  # some clients send a line end behind a body
            self._add_outside(n_blank, "There are too many blank lines before a request.")
        end = held.find(b"\r\n\r\n")
        lines_end = end if end >= 0 else len(held) - 2  # the empty line at the end may have come in part
        if held.count(b"\r\n", 0, lines_end) > MAX_HEADER_LINES:
            raise _too_many("headers")
        if end < 0:
            if len(held) > MAX_HEAD_BYTES:
                raise BadFraming("The headers are too long.")
            line_end = -1 if self._is_line_read else held.find(b"\r\n")
            if line_end >= 0:
                _read_request_line(bytes(held[:line_end]))
                self._is_line_read = True  # once is enough, however often a few more bytes come
            elif not self._is_line_read and not re.match(rb"[A-Z]|\r?\Z", held):
                raise BadFraming("Expected a request of HTTP/1.1.")
            return None
        self._add_outside(end + 4, "The headers are too long.")
        head = read_head(_take(held, end + 4) or b"")
        self.has_head, self._is_line_read = True, False
        self._in_trailers, self._n_trailers = False, 0
        self._is_chunked, self._n_left = head.body_bytes is None, head.body_bytes or 0
        return head.raw

    def _cut_chunks(self, held: bytearray) -> bytes | None:
        """As many chunks as are there, and of the last one what is there."""
        at = 0
        while found := _CHUNK_LINE.match(held, at):
            n_bytes = int(found[1], 16)
            self._add_outside(found.end() - at + 2 - _FRAME_SHARE * n_bytes, "The chunks of the body are too small.")
            at = found.end()
            if not n_bytes:
                self._in_trailers = True
                return _take(held, at)
            at += n_bytes + 2
            if at > len(held):
                self._n_left = at - len(held)
                return _take(held, len(held))
        if held.find(b"\r\n", at) >= 0:
            raise BadFraming("The length of a chunk cannot be read.")
        if len(held) - at > _MAX_FRAME_BYTES:
            raise BadFraming("What stands before a chunk is too long.")
        return _take(held, at)

    def _cut_trailer(self, held: bytearray) -> bytes | None:
        end = held.find(b"\r\n")
        if end < 0 and len(held) > MAX_HEAD_BYTES:
            raise BadFraming("The trailers are too long.")
        if end < 0:
            return None
        self._add_outside(end + 2, "The trailers are too long.")
        self._n_trailers += 1
        if end and self._n_trailers > MAX_HEADER_LINES:
            raise _too_many("trailers")
        self._is_chunked = end > 0  # an empty line is the end
        return _take(held, end + 2)

    def _add_outside(self, n_bytes: int, complaint: str) -> None:
        self._outside_bytes = max(0, self._outside_bytes + n_bytes)
        if self._outside_bytes > MAX_HEAD_BYTES:
            raise BadFraming(complaint)


def _too_many(what: str) -> BadFraming:
    return BadFraming(f"There are too many {what}; expected {MAX_HEADER_LINES} at most.", 431)


def _take(held: bytearray, n_bytes: int) -> bytes | None:
    """Cut off so many bytes; None where there are none."""
    piece = bytes(held[:n_bytes])
    del held[:n_bytes]
    return piece or None
