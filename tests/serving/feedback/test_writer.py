"""Decisions that wait for a database, beside requests that do not need one."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from moderation.serving.app import create_app
from moderation.serving.feedback import writer
from moderation.serving.feedback.decisions import Decision
from moderation.serving.feedback.store import FeedbackStore

DECISION = {"comment": {"text": "you fool"}, "attributeScores": {"TOXICITY": {"summaryScore": {"value": 1}}}}
TEXTS = {"texts": [f"kind river {n}" for n in range(10)]}  # so many that their answer is put together in a thread
N_WAITING, N_REFUSED = 20, 3


def test_texts_do_not_wait_for_a_database_that_is_silent(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers_again, kept = threading.Event(), []

    def add(store: FeedbackStore, decision: Decision) -> None:
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
