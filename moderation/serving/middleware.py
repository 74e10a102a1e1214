"""The gate that every request passes before a route sees it: request ID, key, rate limit, and headers of the answer.

The gate writes one log line per request. It names the route's pattern, never the requested URL, which may hold a key.
For a bug it logs the kind and the place in the code, never the message, which may hold a text.
"""

import logging
import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moderation.serving.admission import CALLER, Admission
from moderation.serving.bodies.media import Media
from moderation.serving.bodies.reading import Body
from moderation.serving.deadline import start_clock
from moderation.serving.dialects.registry import render_problem
from moderation.serving.errors import ApiError, describe_fault
from moderation.serving.heavy_requests import HeavyRequests
from moderation.serving.metrics import Metrics
from moderation.serving.options import ServerOptions
from moderation.serving.paths import asks_model, route_path
from moderation.serving.service import PredictionService

QUIET_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
"""Requested every few seconds by machines: logged at debug level, unless the answer is a refusal."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_GONE = 499  # for the log and the metrics: the client disconnected before its answer
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}

logger = logging.getLogger(__name__)


class Gate:
    """ASGI middleware in front of the routes.

    Args:
        app: The routes.
        options: How long a body may take, how large it may be, and which pages may send requests.
        admission: Checks keys and rates.
        heavy_requests: Runs the routes.
        metrics: Counts the answers.
        service: Returns the service, once the application has started.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        options: ServerOptions,
        admission: Admission,
        heavy_requests: HeavyRequests,
        metrics: Metrics,
        service: Callable[[], PredictionService],
    ) -> None:
        self._app, self._admission, self._heavy_requests = app, admission, heavy_requests
        self._metrics, self._service = metrics, service
        self._load, self._origins = options.load, tuple(options.access.cors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = Headers(scope=scope)
        request_id = _choose_id(headers)
        status = 0
        path = route_path(scope)
        media = Media(headers, path, self._origins)
        load = self._load
        body = Body(receive, headers, media, timeout_s=load.body_timeout_s, max_bytes=load.max_body_bytes)

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = _CLIENT_GONE if body.sender_left else message["status"]
                self._complete(MutableHeaders(scope=message), request_id, status)
            await send(message)

        caller = None
        try:
            caller = scope[CALLER] = await self._admission.admit(scope, path, headers)
            if asks_model(path):
                self._service().check_room()
            start_clock(load.timeout_s)
            media.has_key = caller is not None
            take = await self._admission.guard(scope, headers, body.receive)
            await body.while_sender_waits(self._heavy_requests.run(self._app, scope, take, send_on))
        except ApiError as problem:
            if not status:
                await render_problem(path, problem)(scope, receive, send_on)
        except ClientDisconnect:
            pass
        except Exception as error:
            logger.error("fault", extra={"request_id": request_id, **describe_fault(error)})
            if not status:
                fault = ApiError(500, "internal", f"Internal error; the server's log has it under: {request_id}")
                await render_problem(path, fault)(scope, receive, send_on)
        finally:
            self._record(scope, status or _CLIENT_GONE, time.perf_counter() - began, request_id, caller)

    def _complete(self, headers: MutableHeaders, request_id: str, status: int) -> None:
        service = self._service()
        if status == 408 or service.leaving:
            headers["Connection"] = "close"  # or the body may keep trickling in; or the next request comes too late
        headers["X-Request-Id"] = request_id
        headers["X-Model-Version"] = service.classifier.model_version
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str, caller: str | None) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.request(route, _method(scope), status, seconds)
        quiet = route in QUIET_PATHS and status < 400
        logger.log(
            logging.DEBUG if quiet else logging.INFO,
            "request",
            extra={
                "request_id": request_id,
                "method": _method(scope),
                "route": route,
                "status": status,
                "ms": round(1000 * seconds, 1),
                "key": caller,
            },
        )


def _choose_id(headers: Headers) -> str:
    """The request's ID: the one that it came with, if that is harmless in a log."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _method(scope: Scope) -> str:
    """The method; clients cannot add new ones to the metrics."""
    method = str(scope["method"])
    return method if method in _METHODS else "other"
