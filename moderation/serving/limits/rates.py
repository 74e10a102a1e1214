"""How often a key may ask, as settings say it."""

import re

from limits import RateLimitItem, parse_many

from moderation.errors import ConfigError
from moderation.extras import EXTRAS, require

_MOST_REQUESTS = 999_999_999
_MOST_UNITS = 9_999  # seconds, minutes and so on
_ODD = re.compile(r"\b0+(?![0-9])|per\S", re.IGNORECASE)  # limits reads 5/0 minutes as 5/minute


def read_rate(words: str) -> RateLimitItem:
    """Read a rate such as `600/minute`, or `600 per 5 minutes`.

    Whatever else is said is refused: a limit that is not understood would be none.

    Raises:
        ConfigError: it is none, or there are several.
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


def require_shared_counting() -> None:
    """Refuse to count in a server of Redis or Valkey without the package for it, which most servers do without.

    Raises:
        MissingExtraError: it is not installed.
    """
    require(EXTRAS["serve-redis"], ("serve-redis",), "Counting requests together")
