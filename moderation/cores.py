"""How many processor cores this process may use, according to its affinity and its container."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def count_cores() -> int:
    """Processor cores that this process may use: those of its affinity, or fewer if a container's quota is smaller.

    A quota of one and a half cores counts as two.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = read_quota(_CGROUP)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def read_quota(folder: Path) -> float | None:
    """Cores that a control group allows, from version 2 or 1; None: it sets no limit, or cannot be read.

    Args:
        folder: Where control groups are mounted.
    """
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = [word for name in names for word in (folder / name).read_text(encoding="ascii").split()]
            quota, period = float(words[0]), float(words[1])  # "max": no limit
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0 and period > 0:
            return quota / period
    return None
