"""Reads the rate limit from the settings, and makes the limiter that counts it."""

import re
from collections.abc import Callable

from limits import RateLimitItem, parse_many

from moderation.errors import ConfigError
from moderation.extras import EXTRAS, require
from moderation.serving.limits.local import Limiter
from moderation.serving.options import AccessOptions

_MOST_REQUESTS = 999_999_999
_MOST_UNITS = 9_999  # seconds, minutes and so on
_ODD = re.compile(r"\b0+(?![0-9])|per\S", re.IGNORECASE)  # limits reads 5/0 minutes as 5/minute


def read_rate(words: str) -> RateLimitItem:
    """Read a rate such as `600/minute`, or `600 per 5 minutes`.

    Anything else is refused: a limit that is not understood would not limit anything.

    Raises:
        ConfigError: it is not a rate, or there are several.
    """
    try:
        (rate,) = parse_many(words)
    except ValueError:
        rate = None
    if rate is None or rate.amount > _MOST_REQUESTS or rate.multiples > _MOST_UNITS or _ODD.search(words):
        raise ConfigError(
            f"--rate-limit is {words[:80]!r}, expected one limit of 1 or more, for example 600/minute, 10/second or "
            "100 per 5 minutes."
        )
    return rate


def make_limiter(options: AccessOptions, on_fallback: Callable[[int], None]) -> Limiter | None:
    """The limiter: it counts in this worker, or on the server of a URL, which needs an optional package.

    Args:
        options: The rate and the URL.
        on_fallback: Called with the number of requests that this worker counted because that server did not.

    Returns:
        None if there is no limit.

    Raises:
        ConfigError: an invalid rate or URL.
        MissingExtraError: the package is not installed.
    """
    if not options.rate_limit:
        return None
    if not options.rate_limit_url:
        return Limiter(read_rate(options.rate_limit))
    _require_shared_counting()
    from moderation.serving.limits.shared import SharedLimiter

    return SharedLimiter(read_rate(options.rate_limit), options.rate_limit_url, on_fallback)


def check_limits(options: AccessOptions) -> None:
    """Check the rate, and the server that counts it.

    Raises:
        ModerationError: one of them is invalid, the package is not installed, or the server cannot count.
    """
    if options.rate_limit:
        read_rate(options.rate_limit)
    if options.rate_limit_url:
        _require_shared_counting()
        from moderation.serving.limits.shared import check_rate_limit_url

        check_rate_limit_url(options.rate_limit_url)


def _require_shared_counting() -> None:
    """Check that the optional package for Redis and Valkey is installed.

    Raises:
        MissingExtraError: it is not.
    """
    require(EXTRAS["serve-redis"], ("serve-redis",), "Counting requests together")
