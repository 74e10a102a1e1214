"""Too slow and too much, over real sockets: each dialect says so in its own form, and goes on."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serving.conftest import Server, started
from tests.serving.test_hostile import DIALECTS, MARK, NATIVE, OPENAI, Dialect, check_answered, check_refused, post

_CUT_S = 2.0


@pytest.fixture(scope="module")
def strained(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without patience, which takes long to cut a text that says so."""
    folder = tmp_path_factory.mktemp("strained")
    (folder / "sitecustomize.py").write_text(
        "import time\n"
        "from moderation.inference.classifier import Classifier\n"
        "cut = Classifier.windows\n"
        "def windows(self, text, watch=None):\n"
        f"    time.sleep({_CUT_S} if 'slowly' in text else 0)\n"
        "    return cut(self, text, watch)\n"
        "Classifier.windows = windows\n"
    )
    with started(tiny_bundle, folder, "--timeout-s", "1", "--max-wait-s", "0.0001", PYTHONPATH=str(folder)) as it:
        yield it


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
def test_requests_without_an_answer_in_time_get_504(dialect: Dialect, strained: Server) -> None:
    answer = post(strained, dialect, dialect.literally(f'"{MARK} slowly"'))
    check_refused(dialect, answer, 504)
    assert code_of(dialect, answer.json()["error"]) in ("timeout", "server_error, timeout", "DEADLINE_EXCEEDED")
    time.sleep(_CUT_S)
    check_answered(dialect, post(strained, dialect, dialect.literally(f'"{MARK} {dialect.field}"')))


@DIALECTS
def test_requests_that_would_wait_too_long_get_429(dialect: Dialect, strained: Server) -> None:
    slow = json.dumps(dialect.around(f"{MARK} slowly " + "kind river " * 1500)).encode()
    for _ in range(5):  # a busy machine may bring the second before the first
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(post, strained, dialect, slow)
            time.sleep(0.3)  # until it is being cut, and the rest waits for it
            answer = post(strained, dialect, dialect.literally(f'"{MARK} and others {dialect.field}"'))
        if (held.result().status_code, answer.status_code) == (504, 429):
            break
        time.sleep(_CUT_S)
    check_refused(dialect, held.result(), 504)
    check_refused(dialect, answer, 429)
    assert int(answer.headers["Retry-After"]) >= 1
    names = ("queue_full", "rate_limit_error, rate_limit_exceeded", "RESOURCE_EXHAUSTED")
    assert code_of(dialect, answer.json()["error"]) in names
    time.sleep(_CUT_S)
    check_answered(dialect, post(strained, dialect, dialect.literally(f'"{MARK} and others {dialect.field}"')))
