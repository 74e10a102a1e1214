"""What records how a run was made: seeds, versions, machine, seconds, memory."""

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import psutil
import torch
from transformers import set_seed

from moderation.run_records import GitState, Hardware

_LIBRARIES = (
    "torch",
    "transformers",
    "datasets",
    "tokenizers",
    "accelerate",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
)


def rank() -> int:
    """Rank of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def n_processes() -> int:
    """Processes that train together, 1 or more."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the only process, or the first of several: the one that writes."""
    return rank() == 0


def make_reproducible(seed: int, threads: int | None) -> None:
    """Seed every source of randomness, and set the number of threads, which affects sums of floats.

    Args:
        seed: 0 or more.
        threads: Threads within an operation; None: unchanged.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    set_seed(seed)
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


class Environment(TypedDict):
    """Versions and machine, as in `run.json`."""

    python: str
    platform: str
    libraries: dict[str, str]
    git: GitState | None
    hardware: Hardware
    processes: int


def describe_environment() -> Environment:
    """Versions, git commit and machine. No host or user names."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "git": describe_git(Path(__file__).resolve().parents[2]),
        "hardware": Hardware(
            cpu=torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine(),
            cores=os.cpu_count(),
            threads=torch.get_num_threads(),
            memory_bytes=psutil.virtual_memory().total,
            gpus=tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())),
        ),
        "processes": n_processes(),
    }


def describe_git(folder: Path) -> GitState | None:
    """Commit of the toolkit's source and whether files differ from it; None outside a git checkout."""

    def git(*words: str) -> str:
        return subprocess.run(  # nosec B607 # whichever git the user has
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder:
            return None
        return GitState(git("rev-parse", "HEAD"), dirty=bool(git("status", "--porcelain")))
    except (OSError, subprocess.SubprocessError):
        return None


class PhaseTimer:
    """Seconds per phase of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a block; the times of repeated names are added."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
