"""One trial of a bundle that is wrong: it is refused by one error that names it, or it answers sensibly.

As a program it reads folders from standard input and writes a verdict for each, so that a hang, an abort or too much
memory ends a process of its own: `python -m tests.bundle_trial`.
"""

import json
import os
import resource
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from moderation import Classifier
from moderation.errors import ModerationError

TEXTS = [
    "kind river",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
    "",
    "stupid idiot " * 60,
    "é\ufdfa\ufb03 r\u0301😀",
]
MEMORY_BYTES = 6 << 30
LIMIT_S = 90.0
_LONGEST_MESSAGE = 6_000


def try_bundle(folder: Path, backend: str = "onnx") -> str:
    """Load a bundle and classify some texts.

    Returns:
        `refused` or `answered`; anything else says what went wrong.
    """
    try:
        with Classifier.load(folder, backend=backend, threads=1) as classifier:
            for texts in ([text] for text in TEXTS):
                reading = classifier.read(texts)
                probabilities, n_windows = reading.probabilities, reading.n_windows
                finite = np.isfinite(probabilities)
                if probabilities.shape != (1, len(classifier.labels)) or n_windows.min() < 1:
                    return f"answered with {probabilities.shape} of {n_windows}"
                if not ((probabilities >= 0) & (probabilities <= 1))[finite].all():
                    return "answered outside [0, 1]"
                if finite.all():
                    classifier.classify(texts)
    except ModerationError as error:
        message = str(error)
        if str(folder) not in message:
            return f"refused without its name: {message[:300]}"
        return "refused" if len(message) < _LONGEST_MESSAGE else f"refused in {len(message):,} characters"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    return "answered"


class Trials:
    """A process that tries bundles; a new one takes its place where it ends or takes too long."""

    def __init__(self, errors: Path) -> None:
        self.errors = errors
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, folder: Path, backend: str = "onnx") -> str:
        """The verdict on a bundle; what is written to the standard error is one, too."""
        if self.process is None:
            with self.errors.open("wb") as errors:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "tests.bundle_trial"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    cwd=Path(__file__).parents[1],
                )
        process = self.process
        assert process.stdin
        assert process.stdout
        before = self.errors.stat().st_size
        process.stdin.write(json.dumps([str(folder), backend]).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], LIMIT_S)
        line = process.stdout.readline() if ready else b""
        if not line:
            self.close()
            return f"ended with {process.returncode}" if ready else f"no end within {LIMIT_S:g} s"
        if said := self.errors.read_bytes()[before:]:
            return f"wrote to standard error: {said[:300]!r}"
        return str(json.loads(line))

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def main() -> None:
    """Answer for each line, a folder and a backend, with a verdict."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    answers: Any = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print there is no verdict
    for line in sys.stdin:
        folder, backend = json.loads(line)
        answers.write(json.dumps(try_bundle(Path(folder), backend)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
