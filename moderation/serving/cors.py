"""Which pages of other origins may send requests, and the answers to their browsers' preflights."""

import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from moderation.serving.dialects.perspective.languages import MODEL_LANGUAGE

_LONGEST = 4096  # characters of the list of headers that a page may ask to send
_NAME = r"[\w!#$%&'*+.^`|~-]+"
_NAMES = re.compile(rf"{_NAME}(?:[ \t]*,[ \t]*{_NAME})*", re.ASCII)


class Cors(CORSMiddleware):
    """Allows origins by name. Their pages may send any header: clients add new ones with each version.

    Args:
        app: The wrapped application; pages may read its error answers too.
        origins: Such as `https://forum.example`.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            allow_private_network=True,  # an allowed origin may also reach a server in a private network
            expose_headers=["X-Request-Id", "X-Model-Version", MODEL_LANGUAGE, "Retry-After"],
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a preflight; other origins get no information."""
        asked = request_headers.get("access-control-request-headers", "").strip()
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200 and (not asked or (len(asked) <= _LONGEST and _NAMES.fullmatch(asked))):
            return answer
        refusal = "This origin, method or list of headers is not allowed."
        return PlainTextResponse(refusal, status_code=400, headers={"Vary": answer.headers["Vary"]})
