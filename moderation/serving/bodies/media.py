"""What the headers say about a body: its type and encoding, and whether the server accepts them."""

import re
import zlib
from collections.abc import Collection
from typing import Any

from starlette.datastructures import Headers

from moderation.serving.errors import ApiError
from moderation.serving.paths import BATCH_PATHS, find_dialect

_SIMPLE = frozenset({"text/plain", "application/x-www-form-urlencoded"})
"""Types that a page of any origin may send from a visitor's browser without a preflight."""

MAX_TYPE_BYTES = 256
"""Longest Content-Type; the longest boundary has 70."""

_PARAMETER = re.compile(r';\s*+([^\s=;"]*+)\s*+(?:=\s*+(?:"((?:[^"\\]|\\.)*+)"\s*+|([^;"]*+)))?')
_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_GZIP_WITH_HEADER = 16 + zlib.MAX_WBITS
_MOST_MEMBERS = 256  # of one gzip body; programs that compress in blocks begin one every 32 KB or more


class Media:
    """Type and encoding of one request's body.

    A body without a type is read as JSON, and so is plain text or a form from a client of OpenAI's or Perspective's
    API. But a page of any origin may send these from a browser without a preflight, and so use a server that its
    visitor can reach. So plain text and forms need a valid key, which such a page does not have; and a body without a
    type needs one if its `Origin` is that of a foreign page.

    Args:
        headers: Of the request.
        path: As the routes see it.
        origins: Origins whose pages may send requests.

    Attributes:
        has_key: Whether a valid key came with the request.
    """

    def __init__(self, headers: Headers, path: str, origins: Collection[str]) -> None:
        self._headers, self._path, self._origins = headers, path, origins
        self._coding = read_coding(headers)
        self._inflater: Any = None
        self._n_members = 0
        self.has_key = False

    def check(self) -> None:
        """Refuse a body because of its headers, before any of it is read.

        Raises:
            ApiError: 415.
        """
        if len({kind.strip() for kind in self._headers.getlist("content-type")}) > 1:
            raise _unsupported("Expected one Content-Type.")
        kind, parameters = read_content_type(self._headers.get("content-type", ""))
        self._check_kind(kind)
        if parameters.get("charset", "utf-8").lower() not in _UTF_8 or "charset*" in parameters:
            raise _unsupported("Expected a body in UTF-8; its Content-Type names another charset.")
        if self._coding not in ("", "gzip", "x-gzip"):
            raise _unsupported("Expected a body without Content-Encoding, or with gzip.")

    def decode(self, piece: bytes, *, room: int, last: bool) -> bytes:
        """Decompress a piece of the body.

        Args:
            piece: The raw bytes.
            room: Maximum size of the result. If there is more, only one byte more is decompressed.
            last: Whether it is the last piece.

        Raises:
            ApiError: 400, not gzip.
        """
        if not self._coding:
            return piece
        unpacked = b""
        try:
            while piece and len(unpacked) <= room:
                if self._inflater is None or self._inflater.eof:  # several members may follow each other
                    self._inflater = self._begin_member()
                unpacked += self._inflater.decompress(piece, room + 1 - len(unpacked))
                piece = self._inflater.unused_data or self._inflater.unconsumed_tail
        except zlib.error:
            raise _not_gzip() from None
        if last and len(unpacked) <= room and (self._inflater is None or not self._inflater.eof):
            raise _not_gzip()
        return unpacked

    def _begin_member(self) -> Any:
        self._n_members += 1
        if self._n_members > _MOST_MEMBERS:
            raise ApiError(400, "invalid_request", f"The body has more than {_MOST_MEMBERS} gzip members.")
        return zlib.decompressobj(_GZIP_WITH_HEADER)

    def _check_kind(self, kind: str) -> None:
        if self._path in BATCH_PATHS:
            if kind != "multipart/mixed":
                raise _unsupported("Expected a body of Content-Type: multipart/mixed; boundary=...")
        elif not kind:
            if not self.has_key and self._is_of_a_foreign_page():
                raise _unsupported(_explain("without a Content-Type from a page of another origin"))
        elif kind in _SIMPLE and find_dialect(self._path) != "native":
            if not self.has_key:
                raise _unsupported(_explain(f"of Content-Type: {kind}"))
        elif not (kind in ("application/json", "text/json") or re.fullmatch(r"[\w.-]+/[\w.-]+\+json", kind)):
            raise _unsupported("Expected a body of Content-Type: application/json.")

    def _is_of_a_foreign_page(self) -> bool:
        origin = self._headers.get("origin")
        if origin is None or origin in self._origins:
            return False
        return origin.partition("://")[2] != self._headers.get("host", "")


def read_coding(headers: Headers) -> str:
    """How a body is compressed, in lower case; "" if it is not.

    >>> read_coding(Headers({"Content-Encoding": "GZip"})), read_coding(Headers({"Content-Encoding": "identity"}))
    ('gzip', '')
    """
    coding = ", ".join(headers.getlist("content-encoding")).strip().lower()
    return "" if coding == "identity" else coding


def read_content_type(value: str) -> tuple[str, dict[str, str]]:
    """Type and parameters of a Content-Type, the names in lower case; of two parameters with one name, the first.

    It takes time proportional to the length, and the length is bounded: clients without a key get here too.

    Raises:
        ApiError: 415, too long, or not a valid list of parameters.

    >>> read_content_type('Text/Plain; Charset="utf-8";')
    ('text/plain', {'charset': 'utf-8'})
    """
    if len(value) > MAX_TYPE_BYTES:
        raise _unsupported(f"The Content-Type is too long; expected {MAX_TYPE_BYTES} bytes at most.")
    kind, at = value.partition(";")[0], value.find(";")
    parameters: dict[str, str] = {}
    while 0 <= at < len(value):
        found = _PARAMETER.match(value, at)
        if found is None or (found.end() < len(value) and value[found.end()] != ";"):
            raise _unsupported("The Content-Type cannot be read; expected TYPE; NAME=VALUE.")
        name, quoted, plain = found.groups()
        given = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else (plain or "").strip()
        if name:
            parameters.setdefault(name.lower(), given.strip())
        at = found.end()
    return kind.strip().lower(), parameters


def _unsupported(message: str) -> ApiError:
    return ApiError(415, "unsupported_media_type", message)


def _explain(what: str) -> str:
    return (
        f"A body {what} is accepted only with a valid API key: any web page could send it from a visitor's browser "
        "without asking. Send Content-Type: application/json, or a key if the server uses keys."
    )


def _not_gzip() -> ApiError:
    return ApiError(400, "invalid_request", "The body is not gzip, although its Content-Encoding says so.")
