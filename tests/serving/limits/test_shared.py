"""Limits that workers and machines share, in a real Redis: one count, and each by itself while the server is away."""

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation import cli
from moderation.errors import ArtifactError, ConfigError, MissingExtraError
from moderation.serving.app import create_app
from moderation.serving.limits import shared as shared_limits
from moderation.serving.limits.local import Limiter, Taken, take_from
from moderation.serving.limits.rates import read_rate
from moderation.serving.limits.redis_servers import open_pool, read_redis_url, tell_cause
from moderation.serving.limits.shared import SharedLimiter, check_rate_limit_url
from tests.serving.conftest import wait_until
from tests.serving.in_process import ask

SECRET = "hush-hush"
MODEL = {"method": "GET", "url": "/v1/model"}
PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")


@dataclass
class Redis:
    """A server with a password, on a socket in a folder of its own."""

    folder: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"unix://:{SECRET}@{self.folder}/redis.sock"

    def start(self) -> None:
        words = ["--port", "0", "--unixsocket", f"{self.folder}/redis.sock", "--requirepass", SECRET, "--save", ""]
        self.process = subprocess.Popen([str(PROGRAM), *words], stdout=subprocess.PIPE, cwd=self.folder)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if b"eady to accept connections" in line:
                return
        raise AssertionError("redis-server did not start")

    def kill(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


@pytest.fixture
def redis() -> Iterator[Redis]:
    if PROGRAM is None:
        pytest.skip("neither redis-server nor valkey-server is installed")
    folder = Path(tempfile.mkdtemp())  # pytest's own may be too long for the path of a socket
    server = Redis(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


@dataclass
class Held:
    """An answer of a server that comes when a test says so."""

    answer: Callable[[], Taken] = lambda: Taken(1)
    is_asked: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> Taken:
        self.is_asked.set()
        assert self.may_answer.wait(60)
        return self.answer()


class Play:
    """A server whose answers are written down beforehand, and a clock that stands still between them."""

    def __init__(self) -> None:
        self.answers: list[Callable[[], Taken]] = []
        self.n_asked, self.now_s = 0, 1000.0

    def take(self, *_: object) -> Taken:
        self.n_asked += 1
        return self.answers.pop(0)()


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    play = Play()
    monkeypatch.setattr(shared_limits, "take_from", play.take)
    monkeypatch.setattr(shared_limits, "time", SimpleNamespace(monotonic=lambda: play.now_s))
    monkeypatch.setattr(SharedLimiter, "again_s", 5.0)
    return play


def there() -> Taken:
    return Taken(1)


def lost() -> Taken:
    raise ConnectionRefusedError("hush-hush")


def ignore(_: int) -> None:
    pass


def take(limiter: Limiter, who: str = "a") -> bool:
    return asyncio.run(limiter.take(who)).n == 1


async def begin(limiter: Limiter, answer: Held) -> "asyncio.Task[Taken]":
    """Ask, and go on when the server knows of it."""
    asked = asyncio.create_task(limiter.take("a"))
    while not answer.is_asked.is_set():
        await asyncio.sleep(0)
    return asked


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What the log says of a limiter: `lost` and why, or `back`."""
    records = [record.__dict__ for record in caplog.records if record.name == shared_limits.__name__]
    assert SECRET not in str(records)
    kinds = {"this worker counts for --rate-limit by itself": "lost"}
    return [(kinds.get(record["msg"], "back"), record.get("why", "")) for record in records]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here depends on how busy this machine is."""
    monkeypatch.setattr(SharedLimiter, "wait_s", 60.0)
    monkeypatch.setattr(SharedLimiter, "again_s", 0.0)


def test_servers_share_a_limit_and_send_the_store_no_names(tiny_bundle: Path, redis: Redis) -> None:
    first, second = (create_app(tiny_bundle, threads=1, rate_limit="4/hour", rate_limit_url=redis.url) for _ in "ab")
    part = b"--b\r\nContent-Type: application/http\r\n\r\nPOST /comments:analyze HTTP/1.1\r\n\r\n{}\r\n"
    batch = {
        "url": "/batch",
        "content": 1000 * part + b"--b--",
        "headers": {"Content-Type": "multipart/mixed; boundary=b"},
    }
    assert [answer.status_code for answer in ask(first, MODEL, MODEL, MODEL)] == [200] * 3
    client = redis_client(redis)
    n_before = n_questions(client)
    parts, refused, *at_the_door = ask(second, batch, MODEL, batch, batch | {"content": b"no batch"})
    assert re.findall(r"HTTP/1.1 (\d+)", parts.text) == ["400"] + 999 * ["429"]  # one was left
    assert n_questions(client) - n_before <= 10  # not one for each part
    assert [answer.status_code for answer in (refused, *at_the_door)] == [429] * 3
    assert 1 <= int(refused.headers["Retry-After"]) <= 3600
    third = create_app(tiny_bundle, threads=1, rate_limit="5/hour", rate_limit_url=redis.url)  # counts of its own
    none = batch | {"content": b"no batch"}
    assert sorted(answer.status_code for answer in ask(third, *[none] * 9, at_once=True)) == [400] * 5 + [429] * 4
    names = client.keys("*")
    assert names and all(name.startswith(b"moderation:") and b"127.0.0.1" not in name for name in names)
    assert all(0 < client.ttl(name) <= 7200 for name in names)
    client.close()


def n_questions(client: Any) -> int:
    return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])


def redis_client(server: Redis) -> Any:
    from redis import Redis as Client

    client = Client(connection_pool=open_pool(read_redis_url(server.url, "x"), 60))
    client.auto_close_connection_pool = True
    return client


def test_each_worker_counts_by_itself_while_the_server_is_away(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    alone: list[int] = []
    here, there = (SharedLimiter(read_rate("2/hour"), redis.url, alone.append) for _ in "ab")
    assert [take(here), take(there)] == [True, True]
    assert not take(here) and not alone
    redis.kill()
    for one in (here, there):
        assert [take(one) for _ in range(4)] == [True, True, False, False]
    assert len(alone) == 8
    redis.start()
    assert [take(here), take(there)] == [True, True]
    assert not take(here) and len(alone) == 8
    here.close()
    assert take(here, "b")  # its connections are made anew
    here.close()
    there.close()
    assert [kind for kind, _ in said(caplog)] == ["lost", "lost", "back", "back"]
    assert all(why.startswith(("connection refused", "the connection was closed")) for _, why in said(caplog)[:2])


def test_nobody_waits_for_a_server_that_hangs(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedLimiter, "wait_s", 0.2)
    monkeypatch.setattr(SharedLimiter, "again_s", 3600.0)
    alone: list[int] = []
    limiter = SharedLimiter(read_rate("9/hour"), redis.url, alone.append)
    assert redis.process is not None
    redis.process.send_signal(signal.SIGSTOP)

    async def ask_beside_others() -> int:
        n_turns = 0
        asked = asyncio.ensure_future(limiter.take("a"))
        while not asked.done():
            n_turns += 1
            await asyncio.sleep(0)
        assert (await asked).n == 1
        return n_turns

    assert asyncio.run(ask_beside_others()) > 3
    monkeypatch.setattr(limiter, "_take_there", None)  # it is left alone now
    assert take(limiter) and asyncio.run(limiter.take("a", 5)).n == 5
    assert alone == [1, 1, 5]
    redis.process.send_signal(signal.SIGCONT)
    limiter.close()


@contextmanager
def liar(answer: bytes, more: bytes, pause_s: float) -> Iterator[tuple[str, list[int]]]:
    """The URL of a server that sends `more` without end, and how many bytes it could send on each connection."""
    n_sent: list[int] = []

    def serve(connection: socket.socket) -> None:
        n_bytes = 0
        with connection, suppress(OSError):
            connection.recv(1000)
            connection.sendall(answer)
            while n_bytes < 1 << 28:
                connection.sendall(more)
                n_bytes += len(more)
                time.sleep(pause_s)
        n_sent.append(n_bytes)

    def accept() -> None:
        with suppress(OSError):  # it was closed
            while True:
                threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}", n_sent
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.hostile("rate limit: a store that answers without end")
@pytest.mark.parametrize(
    ("answer", "more", "pause_s", "why"),
    [
        (b"$8000000000\r\n", bytes(1 << 16), 0.0, "what listens there is neither Redis nor Valkey"),
        (b"*1000000000\r\n", b":1\r\n" * 9999, 0.0, "what listens there is neither Redis nor Valkey"),
        (b">1000000000\r\n", b"+" * 9999, 0.0, "what listens there is neither Redis nor Valkey"),
        (b"+", b"x", 0.02, "no answer in time"),
        (b"$8000000000\r\n", b"x", 0.02, "no answer in time"),
    ],
    ids=["large", "many", "long line", "slow line", "slow and large"],
)
def test_a_server_with_an_endless_answer_holds_no_thread_and_no_memory(
    answer: bytes, more: bytes, pause_s: float, why: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """More questions than there are threads: each one's connection is closed by this end."""
    n_questions = 2 * shared_limits._THREADS
    with liar(answer, more, pause_s) as (url, n_sent):
        monkeypatch.setattr(SharedLimiter, "wait_s", 0.2 if pause_s else 30.0)
        limiter = SharedLimiter(read_rate("99/hour"), url, ignore)

        async def ask_all() -> None:
            for _ in range(2):
                await asyncio.gather(*(limiter.take("a") for _ in range(n_questions // 2)))

        asyncio.run(ask_all())
        threads = limiter._threads
        assert threads is not None
        threads.shutdown()  # comes to an end
        limiter.close()
        wait_until(lambda: len(n_sent) >= (1 if pause_s else n_questions))
    assert max(n_sent) < 1 << 26  # most of it stands in the buffers of the system
    assert {kind for kind, _ in said(caplog)} == {"lost"} and why in said(caplog)[0][1]
    monkeypatch.setattr(shared_limits, "_START_WITHIN_S", 0.2 if pause_s else 30.0)
    with liar(answer, more, pause_s) as (url, _), pytest.raises(ArtifactError, match=why):
        check_rate_limit_url(url)


def test_only_a_request_that_tries_it_again_ends_an_outage(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    limiter = SharedLimiter(read_rate("9/hour"), "redis://host", ignore)
    late, too_late, probe = Held(), Held(lost), Held()
    play.answers = [late, too_late, lost]

    async def ask_all() -> None:
        before = [await begin(limiter, late), await begin(limiter, too_late)]
        await limiter.take("a")
        late.may_answer.set()  # it was asked before the server was lost
        await before[0]
        play.now_s += 4.9
        await limiter.take("a")
        assert (play.n_asked, [kind for kind, _ in said(caplog)]) == (3, ["lost"])
        play.now_s += 0.2
        play.answers = [probe]
        trying = await begin(limiter, probe)
        await limiter.take("a")  # one request tries at a time
        probe.may_answer.set()
        await trying
        too_late.may_answer.set()  # it was asked before the server was back
        await before[1]
        play.answers = [there]
        await limiter.take("a")
        assert (play.n_asked, [kind for kind, _ in said(caplog)]) == (5, ["lost", "back"])

    asyncio.run(ask_all())
    limiter.close()


def test_a_failed_attempt_makes_the_others_wait_again(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    limiter = SharedLimiter(read_rate("9/hour"), "redis://host", ignore)
    for seconds, answers in ((0, [lost]), (4, []), (2, [lost]), (4, []), (2, [there]), (0, [there]), (0, [lost])):
        play.now_s += seconds
        play.answers = list(answers)
        assert take(limiter) and not play.answers
    assert [kind for kind, _ in said(caplog)] == ["lost", "back", "lost"]
    limiter.close()


@pytest.mark.parametrize("error", [KeyError, AttributeError, RecursionError, MemoryError, StopIteration, EOFError])
def test_a_failure_of_a_store_is_not_a_failure_of_the_server(
    error: type[Exception], play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Taken:
        raise error(SECRET)

    alone: list[int] = []
    limiter = SharedLimiter(read_rate("1/hour"), "redis://host", alone.append)
    play.answers = [fail]
    assert [take(limiter), take(limiter)] == [True, False] and alone == [1, 1]
    assert said(caplog) == [("lost", f"an unexpected {error.__name__}")]
    play.answers = [fail]
    with pytest.raises(ArtifactError, match=f"requests cannot be counted there .an unexpected {error.__name__}"):
        check_rate_limit_url("redis://host")
    limiter.close()


def test_a_system_without_threads_stops_no_request(
    play: Play, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(shared_limits.ThreadPoolExecutor, "submit", fail)
    limiter = SharedLimiter(read_rate("1/hour"), "redis://host", ignore)
    assert [take(limiter), take(limiter)] == [True, False]
    assert said(caplog) == [("lost", "an unexpected RuntimeError")]
    limiter.close()


def test_a_client_that_leaves_waits_no_longer(play: Play) -> None:
    limiter = SharedLimiter(read_rate("9/hour"), "redis://host", ignore)
    held = Held()
    play.answers = [held]

    async def leave() -> None:
        asked = await begin(limiter, held)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(leave())
    held.may_answer.set()
    limiter.close()


def test_closing_cancels_queries_and_logs_nothing_about_the_server(
    play: Play, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    pool = shared_limits.ThreadPoolExecutor
    monkeypatch.setattr(shared_limits, "ThreadPoolExecutor", lambda *_, **words: made.append(0) or pool(1, **words))
    alone: list[int] = []
    limiter = SharedLimiter(read_rate("9/hour"), "redis://host", alone.append)
    limiter.close()
    assert not made
    held = Held(lost)
    play.answers = [held, there]

    async def close_meanwhile() -> None:
        running = await begin(limiter, held)
        queued = asyncio.create_task(limiter.take("a"))
        await asyncio.sleep(0)
        limiter.close()
        assert await queued == Taken(1)
        held.may_answer.set()
        assert await running == Taken(1)

    asyncio.run(close_meanwhile())
    assert (len(made), alone, said(caplog)) == (1, [1, 1], [])
    assert take(limiter) and (len(made), len(alone)) == (2, 2)
    limiter.close()


@pytest.mark.hostile("rate limit: batches")
@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 50))
def test_concurrent_requests_are_limited_like_consecutive_ones(sizes: list[int], limit: int) -> None:
    rate = read_rate(f"{limit}/day")
    together, apart = Limiter(rate), Limiter(rate)
    for n in sizes:
        taken = asyncio.run(together.take("a", n))
        assert taken.n == sum(take(apart) for _ in range(n))
        assert (taken.wait_s > 0) == (taken.n < n)


@pytest.mark.hostile("rate limit: batches")
def test_requests_that_others_take_meanwhile_are_not_taken_again() -> None:
    class Crowded:
        """Counts from which others take as many as this, each time that they were looked at."""

        def __init__(self, left: int, step: int) -> None:
            self.left, self.step, self.n_asked = left, step, 0

        def hit(self, *_: object, cost: int) -> bool:
            self.n_asked += 1
            if cost > self.left:
                return False
            self.left -= cost
            return True

        def get_window_stats(self, *_: object) -> Any:
            found = SimpleNamespace(remaining=self.left, reset_time=0.0)
            self.left = max(0, self.left - self.step) if self.step else 0
            return found

    for left in (0, 1, 7, 100, 999, 1000, 5000):
        for step in (1, 2, 50, 900):
            counts = Crowded(left, step)
            taken = take_from(counts, read_rate("9/hour"), "a", 1000)  # type: ignore[arg-type]
            assert 0 <= taken.n <= min(left, 1000) and counts.left >= 0 and counts.n_asked <= 12
            assert (taken.n == 1000) == (left >= 1000)


def test_the_documented_permissions_are_enough(redis: Redis) -> None:
    document = (Path(__file__).parents[3] / "docs/operations.md").read_text(encoding="utf-8")
    (rights,) = re.findall(r"`(~moderation:\* [^`]+)`", document)
    client = redis_client(redis)
    client.execute_command("ACL", "SETUSER", "counter", "on", ">pass", *rights.split())
    check_rate_limit_url(redis.url.replace(f":{SECRET}", "counter:pass"))
    limiter = SharedLimiter(read_rate("1/hour"), redis.url.replace(f":{SECRET}", "counter:pass"), ignore)
    assert take(limiter) and not take(limiter)
    client.execute_command("ACL", "SETUSER", "counter", "resetkeys", "~other:*")
    with pytest.raises(ArtifactError, match="does not let this user run the commands"):
        check_rate_limit_url(redis.url.replace(f":{SECRET}", "counter:pass"))
    client.close()
    limiter.close()


@pytest.mark.hostile("rate limit: a store that others write to")
def test_keys_of_other_programs_stop_no_server(redis: Redis) -> None:
    limiter = SharedLimiter(read_rate("2/hour"), redis.url, ignore)
    assert take(limiter)
    client = redis_client(redis)
    (name,) = client.keys("*")
    for value in ("x", "1e9", "-5", "9" * 400, "nan", "inf", ""):
        for one in (name, name + b"/-1"):
            client.set(one, value, px=7_000_000)
        found = [asyncio.run(limiter.take(who, n)) for who, n in (("a", 1), ("b", 1), ("a", 1000))]
        assert all(0 <= taken.n <= 2 and 0 <= taken.wait_s <= 7200 for taken in found), (value, found)
    client.delete(name)
    client.lpush(name, "a list")
    assert take(limiter, "c")
    client.close()
    limiter.close()


@pytest.mark.hostile("rate limit: settings")
@pytest.mark.parametrize(
    "url",
    [
        "sekret",
        "http://sekret@host",
        "redis://",
        "redis://:sekret@",
        "redis://:sekret@/0",
        "redis://:se/kret@host",
        "redis://:12/sekret@host",
        "redis://:12/3?sekret@host",
        "redis://:se#kret@host",
        "redis://:se?kret@host",
        "redis://:sekret@host/zero",
        "redis://:sekret@host/-1",
        "redis://:sekret@host:0",
        "redis://:sekret@host:99999",
        "redis://:sekret@host:6379x",
        "redis://:sekret@[::1",
        "redis://:[sekret@host",
        "redis://:sekret@ho st",
        "redis://:sekret@ho\nst",
        "redis://:sekret@host,other",
        "redis://:sekret@host?socket_timeout=9999",
        "redis://:x@host?password=sekret",
        "redis://:x@host?db=1&db=2",
        "redis://sekret/@host?db=1",
        "redis://:x@host?ssl_ca_certs=sekret",
        "rediss://:x@host?ssl_ca_certs=sekret",
        "rediss://:x@host?ssl_cert_reqs=none",
        "unix://:sekret@",
        "unix://sekret",
        "unix://:se/kret@/redis.sock",
        "unix:///redis.sock?db=sekret",
        "redis+sentinel://:sekret@host",
    ],
)
def test_a_url_that_names_no_server_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^--rate-limit-url: .*expected ") as refused:
        check_rate_limit_url(url)
    assert not any(piece in str(refused.value) for piece in ("sekret", "kret", "9999"))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://host", "redis://host:6379/0"),
        ("valkey://user:a%40b@host:7/3", "valkey://host:7/3"),
        ("rediss://:x@[::1]:7?db=2", "rediss://[::1]:7/2"),
        ("unix://:x@/run/redis.sock?db=1", "unix:///run/redis.sock (database 1)"),
        ("redis+unix:///run/redis.sock", "unix:///run/redis.sock (database 0)"),
    ],
)
def test_a_server_is_shown_without_user_and_password(url: str, name: str) -> None:
    server = read_redis_url(url, "x")
    assert server.name == name
    assert "a@b" not in repr(server) and "user" not in repr(server)
    assert server.options["password"] == {"redis://host": None, "valkey://user:a%40b@host:7/3": "a@b"}.get(
        url, "x" if ":x@" in url else None
    )


def serve(url: str, bundle: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    words = ["--model", str(bundle), "--port", "0", "--rate-limit", "9/hour", "--rate-limit-url", url]
    return cli.main(["serve", "--feedback-url", "", *words]), capsys.readouterr().err


def test_a_server_that_cannot_count_is_refused_at_the_start(
    redis: Redis, tiny_bundle: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for url, why in (
        (redis.url.replace(SECRET, "sekret"), "requires another user or password"),
        (redis.url + "?db=99", "answers with an error"),
        (f"redis://:sekret@127.0.0.1:{port}", "connection refused"),
        ("unix://:sekret@/nowhere/redis.sock", "no server has its socket there"),
        ("redis://:sekret@a..b", "no such host"),
    ):
        status, said = serve(url, tiny_bundle, capsys)
        assert status == 1 and why in said and "leave --rate-limit-url out" in said
        assert "sekret" not in said + caplog.text and SECRET not in said + caplog.text


def test_the_start_does_not_wait_for_name_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()

    def resolve(*_: object, **__: object) -> None:
        is_over.wait(30)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(shared_limits, "_START_WITHIN_S", 0.05)
    with pytest.raises(ArtifactError, match="no answer in time"):
        check_rate_limit_url("redis://host")
    is_over.set()


def test_the_package_that_it_needs_is_named(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    status, said = serve("redis://:sekret@host", tiny_bundle, capsys)
    assert status == 2 and said.rstrip().endswith("pip install '.[serve-redis]'") and "sekret" not in said
    with pytest.raises(MissingExtraError):
        create_app(tiny_bundle, rate_limit="9/hour", rate_limit_url="redis://host")


def test_other_failures_are_reported_in_our_own_words() -> None:
    foreign = "another program wrote the counts there"
    assert tell_cause(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "secret")) == foreign
    assert tell_cause(ValueError("secret")) == foreign
    assert tell_cause(UnicodeEncodeError("idna", "secret", 0, 1, "secret")) == "no such host"
