"""How much more memory this process may use, according to the machine, its container and its own limit."""

from pathlib import Path

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def free_bytes(proc: Path = _PROC, cgroup: Path = _CGROUP) -> int | None:
    """Bytes of memory that this process may still use; None: this system does not report it.

    The smallest of: available on the machine, left of the container's limit, left of `ulimit -v`.

    Args:
        proc: Where the kernel reports memory and processes.
        cgroup: Where control groups are mounted.
    """
    found = [_free_on_machine(proc), _free_in_container(cgroup), _free_of_limit(proc)]
    return min((n_bytes for n_bytes in found if n_bytes is not None), default=None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out: Python's own error, or torch's for a device or the machine.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("sizes differ"))
    (True, False)
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # without loading torch
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _free_on_machine(proc: Path) -> int | None:
    for line in _read(proc / "meminfo").splitlines():
        name, _, words = line.partition(":")
        if name == "MemAvailable":
            return int(words.split()[0]) << 10
    return None


def _free_in_container(cgroup: Path) -> int | None:
    """From control groups, version 2 or 1. Cached files do not count as used, since they can be dropped."""
    for limit_name, taken_name, stat_name in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        limit, taken = _read(cgroup / limit_name).strip(), _read(cgroup / taken_name).strip()
        if not (limit.isdecimal() and taken.isdecimal()):  # "max": no limit
            continue
        words = dict(line.split(" ", 1) for line in _read(cgroup / stat_name).splitlines() if " " in line)
        cached = words.get("total_inactive_file", words.get("inactive_file", "0"))
        return max(0, int(limit) - int(taken) + (int(cached) if cached.isdecimal() else 0))
    return None


def _free_of_limit(proc: Path) -> int | None:
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _read(proc / "self" / "statm").split()
    if limit == resource.RLIM_INFINITY or not pages:
        return None
    return max(0, limit - int(pages[0]) * resource.getpagesize()) // 2  # allocators reserve more than they use


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
