"""Decisions that wait for a database, beside requests that do not need one."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from moderation.errors import ArtifactError
from moderation.serving.app import create_app
from moderation.serving.feedback import store as stores
from moderation.serving.feedback import writer
from moderation.serving.feedback.decisions import Decision, OutcomeUnknownError
from moderation.serving.feedback.store import FeedbackStore
from moderation.serving.feedback.writer import DecisionWriter

DECISION = {"comment": {"text": "you fool"}, "attributeScores": {"TOXICITY": {"summaryScore": {"value": 1}}}}
TEXTS = {"texts": [f"kind river {n}" for n in range(10)]}  # so many that their answer is put together in a thread
N_WAITING, N_REFUSED = 20, 3


def decide(text: str) -> Decision:
    return Decision(text, False, {"TOXICITY": 1.0}, {"toxic": 1.0}, ("en",), "m", client_token=text)


@pytest.fixture
def a_writer(tmp_path: Path) -> Iterator[DecisionWriter]:
    made = DecisionWriter(FeedbackStore(f"sqlite:///{tmp_path / 'f.db'}"))
    yield made
    made.close()


@pytest.mark.parametrize("how", ["given up", "left"])
def test_what_nobody_was_told_to_be_stored_is_not_stored_later(
    how: str, a_writer: DecisionWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database answers again right before the commit."""
    is_begun, may_go_on, as_row = threading.Event(), threading.Event(), stores._as_row

    def wait(decision: Decision) -> dict[str, object]:
        is_begun.set()
        assert may_go_on.wait(60)
        return as_row(decision)

    monkeypatch.setattr(stores, "_as_row", wait)

    async def send() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(writer, "GIVE_UP_S", 60.0 if how == "left" else 0.2)
            late = asyncio.create_task(a_writer.write(decide("late")))
            while not is_begun.is_set() and not late.done():
                await asyncio.sleep(0.001)
            if how == "left":
                late.cancel()
            with pytest.raises(asyncio.CancelledError if how == "left" else ArtifactError):
                await late
        assert a_writer.store.state() == ("ready" if how == "left" else "unavailable")
        may_go_on.set()
        await a_writer.write(decide("next"))
        assert a_writer.store.state() == "ready"

    asyncio.run(send())
    assert [decision.client_token for decision in a_writer.store.decisions()] == ["next"]


def test_a_commit_is_waited_for_and_one_without_an_answer_is_told_apart(
    a_writer: DecisionWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on, add = threading.Event(), FeedbackStore.add

    def hang(store: FeedbackStore, decision: Decision, is_wanted: Any) -> None:
        assert is_wanted()
        assert may_go_on.wait(60)
        add(store, decision)

    monkeypatch.setattr(FeedbackStore, "add", hang)
    monkeypatch.setattr(writer, "GIVE_UP_S", 0.1)

    async def send() -> None:
        monkeypatch.setattr(writer, "_COMMIT_WITHIN_S", 0.0)
        with pytest.raises(OutcomeUnknownError):
            await a_writer.write(decide("unknown"))
        monkeypatch.setattr(writer, "_COMMIT_WITHIN_S", 60.0)
        waits = asyncio.create_task(a_writer.write(decide("kept")))
        await asyncio.sleep(0.2)
        assert not waits.done()
        may_go_on.set()
        await waits

    asyncio.run(send())
    assert "kept" in [decision.client_token for decision in a_writer.store.decisions()]


def test_texts_do_not_wait_for_a_database_that_is_silent(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers_again, kept = threading.Event(), []

    def add(store: FeedbackStore, decision: Decision, is_wanted: object) -> None:
        kept.append(decision)
        assert answers_again.wait(60)

    monkeypatch.setattr(FeedbackStore, "add", add)
    monkeypatch.setattr(writer, "_MOST_WAITING", N_WAITING)
    monkeypatch.setattr(writer, "GIVE_UP_S", 60.0)
    app = create_app(tiny_bundle, threads=1, feedback_url=f"sqlite:///{tmp_path / 'f.db'}")

    async def send() -> list[httpx.Response]:
        async with app.router.lifespan_context(app):
            client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x", timeout=60)
            asked: list[asyncio.Task[Any]] = []

            async def decide_until(is_done: Any) -> None:
                asked.append(asyncio.create_task(client.post("/comments:suggestscore", json=DECISION)))
                while not is_done():
                    await asyncio.sleep(0.001)

            for n in range(writer._THREADS):  # all threads are at work, before any decision waits
                await decide_until(lambda n=n: len(kept) > n)
            for _ in range(N_WAITING + N_REFUSED):
                asked.append(asyncio.create_task(client.post("/comments:suggestscore", json=DECISION)))
            while sum(task.done() for task in asked) < N_REFUSED:
                await asyncio.sleep(0.001)
            read = await client.post("/v1/predict", json=TEXTS)
            assert (read.status_code, len(read.json()["results"])) == (200, 10)
            assert sum(task.done() for task in asked) == N_REFUSED
            answers_again.set()
            return list(await asyncio.gather(*asked))

    statuses = [answer.status_code for answer in asyncio.run(send())]
    assert sorted(statuses) == [200] * (writer._THREADS + N_WAITING) + [503] * N_REFUSED
    assert len(kept) == writer._THREADS + N_WAITING
