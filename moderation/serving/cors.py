"""Which pages of other origins may ask, and what their browsers are told before."""

import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from moderation.serving.dialects.perspective.languages import MODEL_LANGUAGE

_LONGEST = 4096  # characters of the headers that a page may ask for
_NAME = r"[\w!#$%&'*+.^`|~-]+"
_NAMES = re.compile(rf"{_NAME}(?:[ \t]*,[ \t]*{_NAME})*", re.ASCII)


class Cors(CORSMiddleware):
    """Origins by name. A page of one of them may send any header: clients add new ones with each version.

    Args:
        app: What stands behind, whose refusals a page may read too.
        origins: Such as `https://forum.example`.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            allow_private_network=True,  # an origin that is named may reach a server inside, too
            expose_headers=["X-Request-Id", "X-Model-Version", MODEL_LANGUAGE, "Retry-After"],
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """What a browser is told that asks first; another origin is told nothing."""
        asked = request_headers.get("access-control-request-headers", "").strip()
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200 and (not asked or (len(asked) <= _LONGEST and _NAMES.fullmatch(asked))):
            return answer
        refusal = "This origin, method or list of headers is not allowed."
        return PlainTextResponse(refusal, status_code=400, headers={"Vary": answer.headers["Vary"]})
