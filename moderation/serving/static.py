"""The page at `/`: a fixed set of files, which the browser caches and revalidates, under a strict policy."""

import hashlib
from pathlib import Path

from fastapi import APIRouter, Request, Response

from moderation.serving.errors import ApiError

_FOLDER = Path(__file__).parent / "page"
_INDEX = "index.html"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def make_router() -> APIRouter:
    """Routes `/` and `/page/{file}`; the files are read once, here.

    The page needs no key: it contains nothing of the model, and asks for a key if the server requires one.
    """
    router = APIRouter(include_in_schema=False)
    answers = {path.name: _Answer(path) for path in _FOLDER.iterdir() if path.suffix in _TYPES}

    @router.api_route("/", methods=["GET", "HEAD"])
    async def index(request: Request) -> Response:
        return answers[_INDEX].to(request)

    @router.api_route("/page/{file}", methods=["GET", "HEAD"])
    async def file_of_page(file: str, request: Request) -> Response:
        if file == _INDEX or file not in answers:
            raise ApiError(404, "not_found", "The page has no such file.")
        return answers[file].to(request)

    return router


class _Answer:
    """One file, ready to be sent."""

    def __init__(self, path: Path) -> None:
        self._content = path.read_bytes()
        self._etag = f'"{hashlib.sha256(self._content).hexdigest()[:32]}"'
        self._headers = {
            "Content-Type": f"{_TYPES[path.suffix]}; charset=utf-8",
            "Cache-Control": "no-cache",  # cache it, but revalidate: an update changes it
            "ETag": self._etag,
            "Content-Security-Policy": _POLICY,
        }

    def to(self, request: Request) -> Response:
        """The file, or 304 if the browser has this version."""
        if self._etag in request.headers.get("if-none-match", ""):  # may be in a list, or weak; the quotes are in it
            return Response(status_code=304, headers={k: v for k, v in self._headers.items() if k != "Content-Type"})
        return Response(self._content, headers=self._headers)
