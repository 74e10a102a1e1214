"""Limits as settings say them: one limit, or an error; never none at all."""

import pytest

from moderation.errors import ConfigError
from moderation.serving.limits.rates import read_rate


@pytest.mark.parametrize(
    ("words", "amount", "seconds"),
    [
        ("600/minute", 600, 60),
        ("10 per second", 10, 1),
        ("100 per 5 minutes", 100, 300),
        ("5/2hours", 5, 7200),
        (" 1 / DAY ", 1, 86400),
    ],
)
def test_a_limit_is_read(words: str, amount: int, seconds: int) -> None:
    rate = read_rate(words)
    assert (rate.amount, rate.get_expiry()) == (amount, seconds)


@pytest.mark.hostile("rate limit: settings")
@pytest.mark.parametrize(
    "words",
    [
        "5/0 minutes",
        "0/minute",
        "-1/minute",
        "5/-1 minutes",
        "3/minute;1/day",
        "3/minute,1/day",
        "3/minute|1/day",
        "3/minute 1/day",
        "5/minute 3",
        "5/minute;",
        "5/minutely",
        "5.5/minute",
        "1e3/minute",
        "5/1.5 minutes",
        "5 perminute",
        "5per0 minutes",
        "5 per 00 hours",
        "5/minute;3/minute",
        "\u0665/minute",
        "5/minute\n1/day",
        "9999999999/minute",
        "1/99999 years",
        "minute",
        "5/",
        "5/fortnight",
        "none",
        " ",
    ],
)
def test_an_invalid_limit_is_refused(words: str) -> None:
    with pytest.raises(ConfigError, match=r"--rate-limit is .*, expected one limit"):
        read_rate(words)
