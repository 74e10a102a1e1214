"""How often a key may ask, as settings say it."""

import re

from limits import RateLimitItem, parse

from moderation.errors import ConfigError

_RATE = re.compile(
    r"\s*0*[1-9][0-9]{0,8}\s*(?:/|per\b)\s*(?:0*[1-9][0-9]{0,3}\s*)?(?:second|minute|hour|day|month|year)s?\s*",
    re.ASCII | re.IGNORECASE,
)


def read_rate(words: str) -> RateLimitItem:
    """Read a rate such as `600/minute`, or `600 per 5 minutes`.

    Whatever else is said is refused: a limit that is not understood would be none.

    Raises:
        ConfigError: it is none, or there are several.
    """
    if not _RATE.fullmatch(words):
        raise ConfigError(
            f"--rate-limit is {words[:80]!r}, expected one limit of 1 or more, for example 600/minute, 10/second or "
            "100 per 5 minutes."
        )
    return parse(words)
