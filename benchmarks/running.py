"""How every benchmark runs: if something cannot be measured, it ends with a message instead of a traceback."""

import subprocess
import sys
from collections.abc import Callable, Sequence

from moderation.errors import ModerationError


def run(main: Callable[[], None]) -> None:
    """Call a benchmark's `main`; an error of the toolkit ends it with its message and exit code."""
    try:
        main()
    except ModerationError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def in_own_process(words: Sequence[str], name: str) -> str:
    """Run a contender in a process of its own; apart from notes, its other output is shown only if it fails.

    Args:
        words: The command.
        name: Name of the contender, for the message.

    Returns:
        The last line that it printed.
    """
    print(f"{name} ...", file=sys.stderr)
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:].strip()}")
    for line in done.stderr.splitlines():
        if line.startswith("NOTE: "):
            print(line, file=sys.stderr)
    return done.stdout.splitlines()[-1]
