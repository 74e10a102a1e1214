"""When a request has to be answered: `--timeout-s` counts from its admission, wherever the request then waits."""

import math
import time
from contextvars import ContextVar

_END: ContextVar[float] = ContextVar("end", default=math.inf)  # of the current request's time


def start_clock(timeout_s: float) -> None:
    """Give the current request this much time from now on."""
    _END.set(time.monotonic() + timeout_s)


def seconds_left() -> float:
    """Time left for the current request; infinite outside of one."""
    return max(0.0, _END.get() - time.monotonic())
