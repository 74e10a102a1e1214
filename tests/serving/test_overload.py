"""Too slow and too much, over real sockets: each dialect says so in its own form, and goes on."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.serving.conftest import Server, started, wait_until
from tests.serving.test_hostile import DIALECTS, MARK, NATIVE, OPENAI, Dialect, check_answered, check_refused, post

HOLD = """
import os, pathlib, time
from moderation.inference.classifier import Classifier
cut = Classifier.windows
def windows(self, text, watch=None):
    if "slowly" in text:
        pathlib.Path("held").touch()
        while os.path.exists("held"):
            time.sleep(0.01)
    return cut(self, text, watch)
Classifier.windows = windows
"""


@dataclass(frozen=True)
class Strained:
    """A server without patience, which cuts a text with the word "slowly" only when it is told to go on."""

    server: Server
    held: Path

    @contextmanager
    def holding(self) -> Iterator[None]:
        """While such a text was sent and is being cut."""
        wait_until(self.held.exists)
        try:
            yield
        finally:
            self.held.unlink()


@pytest.fixture(scope="module")
def strained(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strained]:
    folder = tmp_path_factory.mktemp("strained")
    (folder / "sitecustomize.py").write_text(HOLD)
    with started(tiny_bundle, folder, "--timeout-s", "1", "--max-wait-s", "0.0001", PYTHONPATH=str(folder)) as it:
        yield Strained(it, folder / "held")


def code_of(dialect: Dialect, error: dict[str, str]) -> str:
    """What programs tell errors apart by."""
    return (
        error["type"]
        if dialect is NATIVE
        else f"{error['type']}, {error['code']}"
        if dialect is OPENAI
        else error["status"]
    )


@DIALECTS
def test_what_has_no_answer_in_time_gets_504_and_what_would_wait_too_long_429(
    dialect: Dialect, strained: Strained
) -> None:
    server = strained.server
    slow = json.dumps(dialect.around(f"{MARK} slowly " + "kind river " * 1500)).encode()
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(post, server, dialect, slow)
        with strained.holding():
            answer = post(server, dialect, dialect.literally(f'"{MARK} and others {dialect.field}"'))
            check_refused(dialect, answer, 429)
            check_refused(dialect, late.result(), 504)
    assert int(answer.headers["Retry-After"]) >= 1
    names = ("queue_full", "rate_limit_error, rate_limit_exceeded", "RESOURCE_EXHAUSTED")
    assert code_of(dialect, answer.json()["error"]) in names
    names = ("timeout", "server_error, timeout", "DEADLINE_EXCEEDED")
    assert code_of(dialect, late.result().json()["error"]) in names

    def is_calm() -> bool:
        answer = post(server, dialect, dialect.literally(f'"{MARK} and others {dialect.field}"'))
        if answer.status_code == 200:
            check_answered(dialect, answer)
        return answer.status_code == 200

    wait_until(is_calm)
