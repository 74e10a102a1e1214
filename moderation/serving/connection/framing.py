"""Where a request begins and ends, read so strictly that no proxy in front of the server can disagree.

If one program reads bytes as the body of a request and another reads them as the next request, an attacker can send
requests in somebody else's name (request smuggling). So there is only one accepted way to mark the end of a body, and
anything unclear is refused. uvicorn's parser, llhttp, reads every byte as well, and both have to agree.
"""

import re
from dataclasses import dataclass

MAX_HEAD_BYTES = 64_000
"""Maximum size of a request without its body."""

MAX_HEADER_LINES = 100
"""Maximum number of a request's headers, and of its trailers. Each is an object that all later code looks at."""

_MAX_FRAME_BYTES = 4_000  # of the size line of a chunk
_FRAME_SHARE = 8  # a chunk of one byte may have a frame of this many bytes

_BLANK_LINES = re.compile(rb"(?:\r\n)*+")
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"([A-Z][A-Z-]*) ([\x21\x22\x24-\x7e]+) HTTP/1\.([01])")
_FIELD_LINE = re.compile(rb"(%s):([\t\x20-\x7e\x80-\xff]*)" % _TOKEN)
_TARGET = re.compile(rb"(?:https?://(?P<host>[^/?]+))?(?P<path>/[^?]*)?(?P<query>\?.*)?", re.IGNORECASE)
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[\t\x20-\x7e]*)?\r\n")


class BadFraming(Exception):
    """A request that the server does not read.

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
        raw: The bytes for the parser: without `Upgrade`, which this server does not support, so that the body is read
            as usual; and with a path as its target if a whole URL was sent.
        body_bytes: Size of the body; None: it comes in chunks.
    """

    raw: bytes
    body_bytes: int | None


def read_head(raw: bytes) -> Head:
    """Read a head, including its empty line.

    Raises:
        BadFraming: it is not HTTP/1.1 or 1.0, or does not make clear where the request ends or which host it is for.
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
        method: In upper case.
        target: A path with its query, or `*`.
        version: The digit after `HTTP/1.`.
        host: Host of a target that is a whole URL.
    """

    method: bytes
    target: bytes
    version: bytes
    host: bytes | None


def _read_request_line(line: bytes) -> _RequestLine:
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise BadFraming("Expected an HTTP/1.1 request.")
    method, target, version = found.groups()
    if method == b"CONNECT":
        raise BadFraming("CONNECT is for proxies; this server is not one.")
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
            raise BadFraming("Expected one Content-Length that is a number.")
        return int(lengths[0])
    if lengths is not None:
        raise BadFraming("Expected Content-Length or Transfer-Encoding, not both.")
    if [coding.lower() for coding in codings] != [b"chunked"] or version == b"0":
        raise BadFraming("Expected no Transfer-Encoding other than chunked, in HTTP/1.1.")
    return None


class Framing:
    """Cuts the bytes of a connection into pieces that never extend beyond the end of a request.

    Attributes:
        has_head: Whether the head of a request was cut, but not yet its end.
        n_left: Bytes left of its body; where that comes in chunks, of this chunk with the line end after it.
    """

    def __init__(self) -> None:
        self.has_head = False
        self._outside_bytes = 0  # bytes of this request outside its body, minus what chunks may use for their frames
        self._is_line_read = False  # whether the request line of an incomplete head was checked
        self._n_trailers = 0
        self.n_left = 0
        self._is_chunked = self._in_trailers = False

    def cut(self, held: bytearray) -> bytes | None:
        """Take the next piece from the bytes received; None: more bytes are needed.

        Raises:
            BadFraming: a request that the server does not read.
        """
        if not self.has_head:
            piece = self._cut_head(held)
        elif self.n_left:
            piece = _take(held, min(self.n_left, len(held)))
            self.n_left -= len(piece or b"")
        else:
            piece = self._cut_trailer(held) if self._in_trailers else self._cut_chunks(held)
        if self.has_head and not self.n_left and not self._is_chunked:
            self.has_head, self._outside_bytes = False, 0
        return piece

    def _cut_head(self, held: bytearray) -> bytes | None:
        if (found := _BLANK_LINES.match(held)) and (n_blank := found.end()):
            del held[:n_blank]  # some clients send a line end after a body
            self._add_outside(n_blank, "There are too many blank lines before a request.")
        end = held.find(b"\r\n\r\n")
        lines_end = end if end >= 0 else len(held) - 2  # part of the final empty line may have arrived
        if held.count(b"\r\n", 0, lines_end) > MAX_HEADER_LINES:
            raise _too_many("headers")
        if end < 0:
            if len(held) > MAX_HEAD_BYTES:
                raise BadFraming("The headers are too long.")
            line_end = -1 if self._is_line_read else held.find(b"\r\n")
            if line_end >= 0:
                _read_request_line(bytes(held[:line_end]))
                self._is_line_read = True  # once is enough, even if the rest arrives a few bytes at a time
            elif not self._is_line_read and not re.match(rb"[A-Z]|\r?\Z", held):
                raise BadFraming("Expected an HTTP/1.1 request.")
            return None
        self._add_outside(end + 4, "The headers are too long.")
        head = read_head(_take(held, end + 4) or b"")
        self.has_head, self._is_line_read = True, False
        self._in_trailers, self._n_trailers = False, 0
        self._is_chunked, self.n_left = head.body_bytes is None, head.body_bytes or 0
        return head.raw

    def _cut_chunks(self, held: bytearray) -> bytes | None:
        """All chunks that have arrived, the last one possibly in part."""
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
                self.n_left = at - len(held)
                return _take(held, len(held))
        if held.find(b"\r\n", at) >= 0:
            raise BadFraming("The length of a chunk cannot be read.")
        if len(held) - at > _MAX_FRAME_BYTES:
            raise BadFraming("The line before a chunk is too long.")
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
    """Cut off this many bytes; None if there are none."""
    piece = bytes(held[:n_bytes])
    del held[:n_bytes]
    return piece or None
