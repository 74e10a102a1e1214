"""How often a key may ask, as settings say it."""

from limits import RateLimitItem, parse

from moderation.errors import ConfigError


def read_rate(words: str) -> RateLimitItem:
    """Read a rate such as `600/minute`.

    Raises:
        ConfigError: it is none.
    """
    try:
        return parse(words)
    except ValueError:
        raise ConfigError(f"--rate-limit is {words}, expected, for example, 600/minute or 10/second.") from None
