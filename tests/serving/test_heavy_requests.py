"""Large requests run beside the event loop, are bounded, and end when nobody waits for them."""

import asyncio
import gc
import json
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from moderation import Classifier
from moderation.serving import deadline, heavy_requests
from moderation.serving.admission import SENDER
from moderation.serving.app import create_app
from moderation.serving.bodies import json_bodies
from moderation.serving.bodies import reading as bodies_module
from moderation.serving.bodies.json_bodies import MAX_ITEMS, MAX_NAMES, check_items
from moderation.serving.bodies.media import Media
from moderation.serving.bodies.reading import Body
from moderation.serving.errors import ApiError
from moderation.serving.heavy_requests import LARGE_BYTES, HeavyRequests, read_by_size, run_heavy
from moderation.serving.metrics import Metrics
from moderation.serving.service import PredictionService, _GivenUp
from tests.attack_table import Attack
from tests.serving.in_process import ask
from tests.serving.test_hostile import DIALECTS, NATIVE, PERSPECTIVE, Dialect, check_refused

Scope = dict[str, Any]


def scope_of(**headers: str) -> Scope:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "path": "/v1/predict", "headers": raw}


def pieces_of(*pieces: bytes) -> Callable[[], Awaitable[Any]]:
    left = list(pieces)

    async def receive() -> Any:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return receive


def run_app(scope: Scope, *pieces: bytes) -> tuple[str, bytes]:
    """Name of the thread in which an application ran, and the body that it got."""
    found: list[tuple[str, bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        found.append((threading.current_thread().name, body))
        await send({"type": "http.response.start"})

    async def send(message: Any) -> None:
        assert threading.current_thread() is threading.main_thread()

    async def main() -> None:
        heavy = HeavyRequests(100_000)
        heavy.open()
        try:
            await heavy.run(app, scope, pieces_of(*pieces), send)
        finally:
            heavy.close()

    asyncio.run(main())
    return found[0]


def test_small_bodies_stay_and_large_or_unknown_ones_go_to_the_second_loop() -> None:
    large = b"x" * (LARGE_BYTES + 1)
    here = threading.main_thread().name
    assert run_app(scope_of(**{"content-length": str(LARGE_BYTES)}), large[1:]) == (here, large[1:])
    assert run_app(scope_of(), b"") == (here, b"")
    assert run_app(scope_of(**{"content-length": str(len(large))}), large[:5], large[5:]) == ("heavy_requests", large)
    assert run_app(scope_of(**{"transfer-encoding": "chunked"}), b"a", b"b", b"") == ("heavy_requests", b"ab")
    for coding, where in (
        ("gzip", "heavy_requests"),
        ("identity", here),
        ("", here),
        ("identity, gzip", "heavy_requests"),
    ):
        assert run_app(scope_of(**{"content-length": "1", "content-encoding": coding}), b"a") == (where, b"a")


def test_heavy_work_of_many_large_requests_has_one_thread() -> None:
    threads: set[str] = set()

    def work() -> None:
        threads.add(threading.current_thread().name)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.gather(*(run_heavy(work) for _ in range(10)))

    async def main() -> None:
        heavy = HeavyRequests(100_000)
        heavy.open()
        try:
            await asyncio.gather(*(heavy.run(app, scope_of(), pieces_of(b"x"), None) for _ in range(10)))  # type: ignore[arg-type]
            large = scope_of(**{"transfer-encoding": "chunked"})
            await asyncio.gather(*(heavy.run(app, large, pieces_of(b"x"), None) for _ in range(10)))  # type: ignore[arg-type]
        finally:
            heavy.close()

    asyncio.run(main())
    assert len(threads) == 2, "one beside each loop"


@pytest.mark.parametrize("headers", [{"transfer-encoding": "chunked"}, {"content-length": "1"}], ids=["large", "small"])
def test_heavy_work_does_not_wait_endlessly_for_other_work(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heavy_requests, "_LONGEST_LINE_S", 0.05)
    began, go, found = threading.Event(), threading.Event(), []

    def hold() -> str:
        began.set()
        assert go.wait(60)
        return "held"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        first = asyncio.create_task(run_heavy(hold))
        while not began.is_set():
            await asyncio.sleep(0.001)
        with pytest.raises(ApiError) as refused:
            await run_heavy(found.append, "must not run")
        found.append(refused.value.status)
        go.set()
        found.append(await first)

    async def main() -> None:
        heavy = HeavyRequests(100_000)
        heavy.open()
        try:
            await heavy.run(app, scope_of(**headers), pieces_of(b"x"), None)  # type: ignore[arg-type]
        finally:
            heavy.close()

    asyncio.run(main())
    assert found == [429, "held"]


def test_heavy_work_that_nobody_waits_for_any_more_is_not_begun() -> None:
    began, go, found = threading.Event(), threading.Event(), []

    def hold() -> None:
        began.set()
        assert go.wait(60)

    async def main() -> None:
        first = asyncio.create_task(run_heavy(hold))
        while not began.is_set():
            await asyncio.sleep(0.001)
        left = asyncio.create_task(run_heavy(found.append, "must not run"))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left])
        go.set()
        await asyncio.gather(first, run_heavy(found.append, "next"))

    asyncio.run(main())
    assert found == ["next"]


@pytest.mark.hostile("large bodies: others wait")
def test_heavy_work_of_one_sender_does_not_wait_for_all_that_another_brought() -> None:
    began, go = threading.Event(), threading.Event()
    asked: list[str] = []
    done: list[str] = []

    def hold() -> None:
        began.set()
        assert go.wait(60)

    async def main() -> None:
        heavy = HeavyRequests(100_000)
        heavy.open()

        async def send(name: str, who: str = "a") -> None:
            async def app(*_: object) -> None:
                asked.append(name)
                await run_heavy(hold if name == "first" else partial(done.append, name))

            large = scope_of(**{"transfer-encoding": "chunked"})
            await heavy.run(app, large | {SENDER: who}, pieces_of(b"x"), None)  # type: ignore[arg-type]

        try:
            sent = [asyncio.create_task(send("first"))]
            while not began.is_set():
                await asyncio.sleep(0.001)
            for name in (*("many" for _ in range(20)), "one"):
                sent.append(asyncio.create_task(send(name, "b" if name == "one" else "a")))
            while sum(task.done() for task in sent) == 0 and len(asked) < 22:
                await asyncio.sleep(0.001)
            go.set()
            await asyncio.gather(*sent)
        finally:
            heavy.close()

    asyncio.run(main())
    assert "one" in done[:2] and len(done) == 21


@pytest.mark.hostile("large bodies: others wait")
def test_a_large_request_that_would_wait_too_long_is_refused_before_it_is_read(attack: Attack) -> None:
    """However small it comes packed; one of another sender is let in."""
    n_waiting, began, go = 4, threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        assert go.wait(60)

    async def work(*_: object) -> None:
        await run_heavy(hold)

    async def main() -> None:
        heavy = HeavyRequests(100_000)
        heavy.open()
        heavy._heavy_thread._usual_s = 2.0
        packed = scope_of(**{"content-length": "9", "content-encoding": "gzip"}) | {SENDER: "a"}
        sent = [asyncio.create_task(heavy.run(work, packed, pieces_of(b"x"), None)) for _ in range(n_waiting)]  # type: ignore[arg-type]
        try:
            while heavy._heavy_thread._waiting.n_before("a") < n_waiting - 1:
                await asyncio.sleep(0.001)
            with pytest.raises(ApiError) as refused:
                await heavy.run(work, packed, pieces_of(), None)  # type: ignore[arg-type]
            assert (refused.value.status, refused.value.kind) == (429, "queue_full")
            assert refused.value.headers["Retry-After"] == "1"
            sent.append(asyncio.create_task(heavy.run(work, packed | {SENDER: "b"}, pieces_of(b"x"), None)))  # type: ignore[arg-type]
            while heavy._heavy_thread._waiting.n_before("b") < 2:
                await asyncio.sleep(0.001)
            go.set()
            await asyncio.gather(*sent)
        finally:
            go.set()
            heavy.close()

    asyncio.run(main())
    attack.tried(n_waiting)


def held_until(go: threading.Event) -> Any:
    """An application that reads a body and then keeps it until an event."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.to_thread(go.wait, 30)

    return app


@pytest.mark.hostile("large bodies: memory")
def test_bodies_of_one_sender_leave_room_for_those_of_others(monkeypatch: pytest.MonkeyPatch, attack: Attack) -> None:
    monkeypatch.setattr(heavy_requests, "_BODIES_AT_WORK", 4)
    go = threading.Event()
    app = held_until(go)

    async def main() -> None:
        heavy = HeavyRequests(10_000)
        heavy.open()

        async def run(who: str) -> None:
            scope = scope_of(**{"content-length": "10000"}) | {SENDER: who}
            await heavy.run(app, scope, pieces_of(b"a" * 10_000), None)  # type: ignore[arg-type]

        tasks = []
        for who, n_bytes in (("a", 10_000), ("a", 20_000), ("b", 30_000)):
            tasks.append(asyncio.create_task(run(who)))
            while heavy._room.n_bytes < n_bytes:
                await asyncio.sleep(0.001)
            if n_bytes > 10_000:
                with pytest.raises(ApiError, match="Too many large requests"):
                    await run("a")
        go.set()
        await asyncio.gather(*tasks)
        assert heavy._room.n_bytes == 0 and not heavy._room.by_sender
        heavy.close()

    asyncio.run(main())
    attack.tried(2)


@pytest.mark.hostile("large bodies: memory")
def test_what_was_read_of_a_refused_body_goes_at_once() -> None:
    """Without the garbage collector: an exception and the frames in its traceback may hold each other."""

    class Content:
        pass

    seen: list[weakref.ref[Content]] = []

    def read(body: bytes) -> None:
        content = Content()
        seen.append(weakref.ref(content))
        raise ApiError(400, "invalid_request", "No.")

    async def main() -> None:
        with pytest.raises(ApiError):
            await read_by_size(read, bytes(LARGE_BYTES + 1))

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
        assert [it() for it in seen] == [None]
    finally:
        gc.enable()


@pytest.mark.hostile("large bodies: memory")
def test_large_bodies_are_parsed_one_after_the_other_and_off_the_loop(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So one that waits too long is refused; on the loop, all that came are parsed before the first is answered."""
    threads, parse = [], json_bodies._parse
    monkeypatch.setattr(
        json_bodies, "_parse", lambda text: (threads.append(threading.current_thread().name), parse(text))[1]
    )
    app = create_app(tiny_bundle, threads=1, feedback_url=f"sqlite:///{tmp_path / 'f.db'}")
    comment, full = {"comment": {"text": "kind"}}, {"context": {"entries": [{}] * 100}}
    padding = " " * LARGE_BYTES
    bodies = {
        "/v1/predict": {"texts": ["kind"]},
        "/v1/moderations": {"input": "kind"},
        "/comments:analyze": comment | full | {"requestedAttributes": {"TOXICITY": {}}},
        "/comments:suggestscore": comment | full | {"attributeScores": {"TOXICITY": {"summaryScore": {"value": 1}}}},
    }
    kind = {"Content-Type": "application/json"}
    asked = [{"url": url, "content": json.dumps(body) + padding, "headers": kind} for url, body in bodies.items()]
    assert [answer.status_code for answer in ask(app, *asked)] == [200] * len(bodies)
    assert len(threads) == len(bodies) and all(name.startswith("heavy work") for name in threads), threads


def test_until_it_is_open_everything_stays() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert threading.current_thread() is threading.main_thread()

    asyncio.run(HeavyRequests(10).run(app, scope_of(**{"content-length": "99999"}), pieces_of(b""), None))  # type: ignore[arg-type]


def test_an_error_on_the_second_loop_comes_back() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ValueError("as it was")

    async def main() -> None:
        heavy = HeavyRequests(100_000)
        heavy.open()
        try:
            with pytest.raises(ValueError, match="as it was"):
                await heavy.run(app, scope_of(**{"content-length": "9000"}), pieces_of(b"{}"), None)  # type: ignore[arg-type]
        finally:
            heavy.close()

    asyncio.run(main())


def test_a_client_that_leaves_ends_the_work_on_the_second_loop() -> None:
    began, ended = threading.Event(), threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def main() -> None:
        heavy = HeavyRequests(100_000)
        heavy.open()
        task = asyncio.create_task(
            heavy.run(app, scope_of(**{"content-length": "9000"}), pieces_of(b"{}"), None)  # type: ignore[arg-type]
        )
        while not began.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert ended.wait(30), "it goes on"
        heavy.close()

    asyncio.run(main())


def test_the_bytes_in_progress_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heavy_requests, "_BODIES_AT_WORK", 2)
    go = threading.Event()
    app = held_until(go)

    async def main() -> None:
        heavy = HeavyRequests(10_000)
        heavy.open()

        async def run() -> None:
            await heavy.run(app, scope_of(**{"content-length": "10000"}), pieces_of(b"a" * 10_000), None)  # type: ignore[arg-type]

        tasks = [asyncio.create_task(run()) for _ in range(2)]
        while heavy._room.n_bytes < 2 * 10_000:
            await asyncio.sleep(0.01)
        with pytest.raises(ApiError) as refused:
            await run()
        assert (refused.value.status, refused.value.kind) == (429, "queue_full")
        go.set()
        await asyncio.gather(*tasks)
        await run()
        heavy.close()

    asyncio.run(main())


@pytest.mark.hostile("unfinished bodies (memory)")
def test_announcing_a_large_body_and_sending_nothing_keeps_nobody_out(attack: Attack) -> None:
    n_announced = 200

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def never() -> Any:
        await asyncio.Event().wait()

    async def main() -> None:
        heavy = HeavyRequests(10_000)
        heavy.open()
        scope = scope_of(**{"content-length": "10000"})
        waiting = [asyncio.create_task(heavy.run(app, scope, never, None)) for _ in range(n_announced)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await heavy.run(app, scope, pieces_of(b"a" * 10_000), None)  # type: ignore[arg-type]
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        heavy.close()

    asyncio.run(main())
    attack.tried(n_announced)


def test_a_body_of_unknown_length_counts_as_it_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many short bodies, packed or in chunks, are no large ones; long ones are refused when they are too many."""
    monkeypatch.setattr(heavy_requests, "_BODIES_AT_WORK", 1)
    most = 10_000

    async def main() -> None:
        heavy = HeavyRequests(most)
        heavy.open()
        go = threading.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await asyncio.to_thread(go.wait, 30)

        async def run(name: str, *pieces: bytes) -> None:
            await heavy.run(app, scope_of(**{name: "x"}), pieces_of(*pieces), None)  # type: ignore[arg-type]

        kinds = ("transfer-encoding", "content-encoding")
        tasks = [asyncio.create_task(run(kinds[i % 2], b"a" * 50, b"b" * 50)) for i in range(10)]
        while heavy._room.n_bytes < 10 * 100:
            await asyncio.sleep(0.01)
        for kind in kinds:
            with pytest.raises(ApiError) as refused:
                await run(kind, b"a" * (most - 1000), b"bb")
            assert (refused.value.status, refused.value.kind) == (429, "queue_full")
        go.set()
        await asyncio.gather(*tasks)
        assert heavy._room.n_bytes == 0
        await run(kinds[0], b"a" * most)
        heavy.close()

    asyncio.run(main())


def test_a_body_comes_in_while_the_thread_is_busy() -> None:
    """Otherwise a sender would be told that it was slow, when it was another's request that took the time."""
    last = threading.Event()
    left = [b"a", b"b", b"c"]

    async def receive() -> Any:
        piece = left.pop(0)
        if not left:
            last.set()
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    found: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        coming = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        assert last.wait(30), "it waits for this loop"
        found.append((await coming)["body"])

    async def main() -> None:
        heavy = HeavyRequests(100_000)
        heavy.open()
        await heavy.run(app, scope_of(**{"content-length": "9000"}), receive, None)  # type: ignore[arg-type]
        heavy.close()

    asyncio.run(main())
    assert found == [b"abc"]


def test_the_time_for_a_body_begins_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(bodies_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    async def receive() -> Any:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"", "more_body": True}

    async def main() -> None:
        body = Body(receive, Headers(), Media(Headers(), "/v1/predict", ()), timeout_s=30, max_bytes=10)
        clock[0] = 1000.0
        assert (await body.receive())["more_body"]
        clock[0] = 1030.0
        with pytest.raises(ApiError) as refused:
            await body.receive()
        assert refused.value.status == 408

    asyncio.run(main())


def test_failures_after_the_client_left_are_logged_without_their_messages(caplog: pytest.LogCaptureFixture) -> None:
    began, ended = threading.Event(), threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
            raise RuntimeError("cannot read zqxmarker")

    async def aside() -> None:
        heavy = HeavyRequests(100_000)
        heavy.open()
        scope = scope_of(**{"content-length": "9000"})
        task = asyncio.create_task(heavy.run(app, scope, pieces_of(b"{}"), None))  # type: ignore[arg-type]
        while not began.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert ended.wait(30)
        heavy.close()

    async def here() -> None:
        body = Body(pieces_of(b""), Headers(), Media(Headers(), "/", ()), timeout_s=30, max_bytes=10)
        task = asyncio.create_task(body.while_sender_waits(app({}, body.receive, None)))
        while not began.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        while not ended.is_set():
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    for way in (aside, here):
        began.clear()
        ended.clear()
        asyncio.run(way())
        gc.collect()
    assert "zqxmarker" not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({str(i): 0 for i in range(MAX_NAMES + 1)}).encode(),
        json.dumps([{"a": 1, "b": 2}] * MAX_NAMES).encode(),
        b'{"a":' * (MAX_NAMES + 1),
        b'{"a\\\\" : 1,' * (MAX_NAMES + 1),
        b'{"a\\"b"\n:' * (MAX_NAMES + 1),
        json.dumps([0] * (MAX_ITEMS + 2)).encode(),
        json.dumps([[""] * 1000] * (MAX_ITEMS // 1000 + 2)).encode(),
        json.dumps([[[[[]]]]] * (MAX_ITEMS // 4)).encode(),
        b"[" * (MAX_ITEMS + 1),
        b'"' * (2 * MAX_ITEMS + 1),
    ],
    ids=[
        "one object",
        "many objects",
        "nested",
        "a backslash at the end",
        "a quote within",
        "numbers",
        "lists",
        "empty lists",
        "brackets",
        "quotes",
    ],
)
def test_too_many_names_are_refused_before_anybody_reads_them(body: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        check_items(body)
    assert (refused.value.status, refused.value.kind) == (413, "too_large")


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({str(i): 0 for i in range(MAX_NAMES)}).encode(),
        json.dumps({"texts": ['{"a": 1, "b": 2}' * 20_000, "a: b", '"', "\\"]}).encode(),
        b'"' + b'\\"' * 900_000,
        b'{"a": "' + b"\\" * 900_001,
        b":" * 900_000,
        json.dumps({"texts": ["a, b, c" * 200_000]}).encode(),
    ],
    ids=["the limit", "names within a text", "no end", "backslashes", "colons", "commas within a text"],
)
def test_text_that_only_looks_like_names_does_not_count(body: bytes) -> None:
    check_items(body)  # in time that grows with the body: were it to grow with its square, this would never end


@DIALECTS
@pytest.mark.parametrize("n_fields", [200, 60_000])
def test_too_many_fields_are_refused_in_the_dialects_format(dialect: Dialect, n_fields: int, tiny_bundle: Path) -> None:
    async def send() -> httpx.Response:
        app = create_app(tiny_bundle, threads=1)
        transport = httpx.ASGITransport(app)
        body = json.dumps(dialect.around("kind") | {f"field {i}": 0 for i in range(n_fields)}).encode()
        headers = {"Content-Type": "application/json"}
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://x") as client,
        ):
            return await client.post(dialect.path, content=body, headers=headers)

    refused = asyncio.run(send())
    check_refused(dialect, refused, *([413] if n_fields > MAX_NAMES else []))


def test_large_texts_get_the_answers_of_small_ones(tiny_bundle: Path) -> None:
    """Through the thread, in every language, with sentences and spans."""
    text = "You idiot. Kind river! " * 500
    expected = Classifier.load(tiny_bundle, threads=1).classify([text])[0].probabilities

    async def send() -> list[Any]:
        app = create_app(tiny_bundle, threads=1)
        transport = httpx.ASGITransport(app)
        bodies = [
            NATIVE.around(text) | {"sentences": True},
            PERSPECTIVE.around(text) | {"spanAnnotations": True},
        ]
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://x") as client,
        ):
            paths = (NATIVE.path, PERSPECTIVE.path)
            return [(await client.post(path, json=body)).json() for path, body in zip(paths, bodies, strict=True)]

    own, perspective = asyncio.run(send())
    assert own["results"][0]["probabilities"] == expected
    assert len(own["results"][0]["sentences"]) == 512
    scores = perspective["attributeScores"]["TOXICITY"]
    assert scores["summaryScore"]["value"] == expected["toxic"]
    assert len(scores["spanScores"]) == 256


def test_work_ends_where_the_request_is_cancelled_from_outside() -> None:
    ended = asyncio.Event()

    async def answer() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def main() -> None:
        body = Body(pieces_of(b""), Headers(), Media(Headers(), "/", ()), timeout_s=30, max_bytes=10)
        task = asyncio.create_task(body.while_sender_waits(answer()))
        await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        async with asyncio.timeout(30):
            await ended.wait()

    asyncio.run(main())


def test_windows_of_a_cancelled_request_leave_the_queue(tiny_bundle: Path) -> None:
    classifier = Classifier.load(tiny_bundle, threads=1)
    service = PredictionService(classifier, Metrics(), max_wait_s=60, timeout_s=60, cache_texts=0)
    engine, go = classifier.window_probabilities, threading.Event()
    computed: list[int] = []

    def slow(windows: Any) -> Any:
        go.wait(60)
        computed.append(len(windows))
        return engine(windows)

    classifier.window_probabilities = slow  # type: ignore[method-assign]

    async def main() -> None:
        first = asyncio.create_task(service.read(["the first one holds the engine"]))
        long = asyncio.create_task(service.read(["kind river " * 2000]))
        while service._batcher._n_tokens < 4000:
            await asyncio.sleep(0.01)
        long.cancel()
        with suppress(asyncio.CancelledError):
            await long
        assert service._batcher._n_tokens < 100
        go.set()
        await first

    try:
        asyncio.run(main())
    finally:
        go.set()
        service.close()
    assert sum(computed) < 5


def test_the_time_of_a_request_counts_from_its_admission(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it waits for before its texts are read is part of it."""
    clock = [0.0]
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    app = create_app(tiny_bundle, threads=1, timeout_s=30, cache_texts=0)

    async def pieces(wait_s: float) -> AsyncIterator[bytes]:
        yield b'{"texts": ["kind"]}'
        clock[0] += wait_s

    request = {"url": "/v1/predict", "headers": {"Content-Type": "application/json"}}
    statuses = []
    for wait_s in (29.0, 31.0):
        (answer,) = ask(app, request | {"content": pieces(wait_s)})
        statuses.append(answer.status_code)
    assert statuses == [200, 504]


def test_a_cancelled_request_is_not_cut_any_further(tiny_bundle: Path) -> None:
    service = PredictionService(
        Classifier.load(tiny_bundle, threads=1), Metrics(), max_wait_s=1e6, timeout_s=1e6, cache_texts=0
    )
    given_up = threading.Event()
    given_up.set()
    with pytest.raises(_GivenUp):
        service._cut(["kind river " * 5000], given_up)
    service.close()


def test_letters_that_become_many_tokens_are_refused_as_soon_as_that_is_known(tiny_bundle: Path) -> None:
    """By its letters it is short enough; by its tokens it takes longer than a request may."""
    service = PredictionService(
        Classifier.load(tiny_bundle, threads=1), Metrics(), max_wait_s=60, timeout_s=60, cache_texts=0
    )
    text = "?" * 30_000
    service._batcher._fastest = len(text) / 2 / 60
    try:
        with pytest.raises(ApiError, match="take longer") as refused:
            asyncio.run(service.read([text]))
        assert refused.value.status == 413
    finally:
        service.close()
