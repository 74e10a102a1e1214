"""Which of several processes this one is, as `torchrun` says in the environment."""

import os


def rank() -> int:
    """This process, from 0."""
    return int(os.environ.get("RANK", "0"))


def n_processes() -> int:
    """Processes that train together, 1 or more."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the only process, or the first of several: the one that writes."""
    return rank() == 0
