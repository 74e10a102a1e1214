"""What the server refuses, before a dialect puts it into its own words."""

from typing import ClassVar

from starlette.exceptions import HTTPException


class ApiError(HTTPException):
    """A refused request. Its message names places, numbers and limits, never a text.

    It is an `HTTPException` so that FastAPI lets it through where it takes other errors for those of a body.

    Args:
        status: HTTP status, 400 to 599.
        kind: One of `KINDS`.
        message: What is wrong, what was expected.
        retry_after_s: After how many seconds it may be tried again, for the header `Retry-After`.
        param: Which field of the request it is about, where it is about one.
        allow: Methods that the path takes, where it does not take the one that was used.
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


# HTTP status -> the kind of a problem that a library found.
KIND_OF_STATUS = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "slow_body",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    503: "unavailable",
}
