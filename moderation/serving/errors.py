"""Refusals of the server, before a dialect formats them for its API."""

import traceback
from typing import Any, ClassVar

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from moderation.errors import ModerationError

_KIND_OF_STATUS = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "slow_body",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    503: "unavailable",
}
"""HTTP status -> kind of a problem that a library found."""

_MESSAGES = {
    400: "The body cannot be read: expected JSON in UTF-8.",
    404: "There is nothing at this path.",
    405: "This path does not accept that method.",
    413: "The body is too large.",
}


class ApiError(HTTPException):
    """A refused request. Its message names places, numbers and limits, never a text.

    It is an `HTTPException` so that FastAPI lets it through where it would report other errors as body errors.

    Args:
        status: HTTP status, 400 to 599.
        kind: One of `KINDS`.
        message: What is wrong, what was expected.
        retry_after_s: Seconds after which the client may retry, for the header `Retry-After`.
        param: The field of the request that it is about, if any.
        allow: Methods that the path accepts, if it does not accept the one used.
    """

    KINDS: ClassVar = (
        "invalid_json",
        "invalid_request",
        "too_large",
        "too_many_texts",
        "no_categories",
        "slow_body",
        "unauthorized",
        "invalid_key",
        "rate_limited",
        "queue_full",
        "timeout",
        "not_found",
        "method_not_allowed",
        "unsupported_media_type",
        "shutting_down",
        "unavailable",
        "internal",
    )

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        retry_after_s: int | None = None,
        param: str | None = None,
        allow: str | None = None,
    ) -> None:
        assert kind in self.KINDS, kind
        super().__init__(status, message)
        self.status = status
        self.kind = kind
        self.message = message
        self.retry_after_s = retry_after_s
        self.param = param
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        self.headers |= {} if allow is None else {"Allow": allow}
        self.headers |= {"WWW-Authenticate": "Bearer"} if status == 401 else {}


def as_problem(error: Exception) -> ApiError:
    """Turn a library's error into one of ours, without anything from the request."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestValidationError):
        parts = error.errors()
        if any(part["type"] == "json_invalid" for part in parts):
            return ApiError(400, "invalid_json", "The body is not valid JSON.")
        found = dict.fromkeys(map(_describe, parts[:5]))
        return ApiError(422, "invalid_request", "; ".join(found), param=_find_field(parts[0]))
    status = getattr(error, "status_code", 500)
    kind = _KIND_OF_STATUS.get(status, "invalid_request" if status < 500 else "internal")
    allow = (getattr(error, "headers", None) or {}).get("Allow")
    return ApiError(status, kind, _MESSAGES.get(status, "The request cannot be answered."), allow=allow)


def describe_fault(error: Exception) -> dict[str, object]:
    """Log fields for a bug: its kind and place in the code, never its message, which may hold a text."""
    if isinstance(error, ModerationError):  # for example about the bundle: its message has the fix, and no text
        return {"error": str(error)}
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    return {"error": type(error).__name__, "trace": places}


def _describe(part: Any) -> str:
    """One problem of a body: where it is and what was expected, without names that the client made up."""
    where = ".".join(str(step) for step in part["loc"] if isinstance(step, int) or str(step).isidentifier())
    if part["type"] == "extra_forbidden":
        return f"{'.'.join(map(str, part['loc'][:-1])) or 'body'}: unknown field"
    return f"{where}: {part['msg']}"


def _find_field(part: Any) -> str | None:
    """The field of a body that a problem is about, if it is a known one."""
    known = len(part["loc"]) > 1 and part["type"] != "extra_forbidden"
    return str(part["loc"][1]) if known else None
