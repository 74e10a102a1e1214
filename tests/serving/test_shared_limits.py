"""Limits that workers and machines share, in a real Redis: one count, and each by itself while the server is away."""

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from moderation import cli
from moderation.errors import ArtifactError, ConfigError, MissingExtraError
from moderation.serving.app import create_app
from moderation.serving.rates import read_rate
from moderation.serving.redis_servers import open_pool, read_redis_url, tell_cause
from moderation.serving.shared_limits import SharedLimiter, check_rate_limit_url
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


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here depends on how busy this machine is."""
    monkeypatch.setattr(SharedLimiter, "wait_s", 60.0)
    monkeypatch.setattr(SharedLimiter, "again_s", 0.0)


def test_servers_share_a_limit_and_tell_the_store_no_names(tiny_bundle: Path, redis: Redis) -> None:
    first, second = (create_app(tiny_bundle, threads=1, rate_limit="4/hour", rate_limit_url=redis.url) for _ in "ab")
    part = b"--b\r\nContent-Type: application/http\r\n\r\nPOST /comments:analyze HTTP/1.1\r\n\r\n{}\r\n"
    batch = {
        "url": "/batch",
        "content": 2 * part + b"--b--",
        "headers": {"Content-Type": "multipart/mixed; boundary=b"},
    }
    assert [answer.status_code for answer in ask(first, MODEL, MODEL, MODEL)] == [200] * 3
    parts, refused = ask(second, batch, MODEL)
    assert [parts.text.count(f"HTTP/1.1 {status}") for status in (400, 429)] == [1, 1]  # one was left
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 3600
    client = redis_client(redis)
    names = client.keys("*")
    assert names and all(name.startswith(b"moderation:") and b"127.0.0.1" not in name for name in names)
    assert all(0 < client.ttl(name) <= 7200 for name in names)
    client.close()


def redis_client(server: Redis) -> Any:
    from redis import Redis as Client

    client = Client(connection_pool=open_pool(read_redis_url(server.url, "x"), 60))
    client.auto_close_connection_pool = True
    return client


def test_each_worker_counts_alone_while_the_server_is_away(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    alone: list[None] = []
    here, there = (SharedLimiter(read_rate("2/hour"), redis.url, lambda: alone.append(None)) for _ in "ab")
    assert [here.take("a"), there.take("a")] == [None, None]
    assert here.take("a") is not None and not alone
    redis.kill()
    for one in (here, there):
        assert [one.take("a") is None for _ in range(4)] == [True, True, False, False]
    assert len(alone) == 8
    redis.start()
    assert [here.take("a"), there.take("a")] == [None, None]
    assert asyncio.run(here.take_soon("a")) is not None and len(alone) == 8
    here.close()
    assert here.take("b") is None  # its connections are made anew
    here.close()
    there.close()
    said = [record.__dict__ for record in caplog.records if record.name.startswith("moderation")]
    assert [("by itself" in line["msg"], "together again" in line["msg"]) for line in said] == (
        2 * [(True, False)] + 2 * [(False, True)]
    )
    assert all(line["why"].startswith(("connection refused", "the connection was closed")) for line in said[:2])
    assert SECRET not in str(said)


def test_nobody_waits_for_a_server_that_hangs(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedLimiter, "wait_s", 0.2)
    monkeypatch.setattr(SharedLimiter, "again_s", 3600.0)
    alone: list[None] = []
    limiter = SharedLimiter(read_rate("9/hour"), redis.url, lambda: alone.append(None))
    assert redis.process is not None
    redis.process.send_signal(signal.SIGSTOP)

    async def ask_beside_others() -> int:
        n_turns = 0
        asked = asyncio.ensure_future(limiter.take_soon("a"))
        while not asked.done():
            n_turns += 1
            await asyncio.sleep(0)
        assert await asked is None
        return n_turns

    assert asyncio.run(ask_beside_others()) > 3
    monkeypatch.setattr(limiter, "_ask", None)  # it is left alone now
    assert limiter.take("a") is None and asyncio.run(limiter.take_soon("a")) is None
    assert len(alone) == 3
    redis.process.send_signal(signal.SIGCONT)
    limiter.close()


def test_the_rights_that_the_document_names_are_enough(redis: Redis) -> None:
    document = (Path(__file__).parents[2] / "docs/operations.md").read_text(encoding="utf-8")
    (rights,) = re.findall(r"`(~moderation:\* [^`]+)`", document)
    client = redis_client(redis)
    client.execute_command("ACL", "SETUSER", "counter", "on", ">pass", *rights.split())
    check_rate_limit_url(redis.url.replace(f":{SECRET}", "counter:pass"))
    limiter = SharedLimiter(read_rate("1/hour"), redis.url.replace(f":{SECRET}", "counter:pass"), lambda: None)
    assert limiter.take("a") is None and limiter.take("a") is not None
    client.execute_command("ACL", "SETUSER", "counter", "resetkeys", "~other:*")
    with pytest.raises(ArtifactError, match="does not let this user run the commands"):
        check_rate_limit_url(redis.url.replace(f":{SECRET}", "counter:pass"))
    client.close()
    limiter.close()


@pytest.mark.hostile("rate limit: a store that others write to")
def test_what_others_wrote_there_stops_no_server(redis: Redis) -> None:
    limiter = SharedLimiter(read_rate("2/hour"), redis.url, lambda: None)
    assert limiter.take("a") is None
    client = redis_client(redis)
    (name,) = client.keys("*")
    for value in ("x", "1e9", "-5", "9" * 400, "nan", "inf", ""):
        for one in (name, name + b"/-1"):
            client.set(one, value, px=7_000_000)
        waits = [limiter.take("a"), limiter.take("b")]
        assert all(wait is None or 0 <= wait <= 3600 for wait in waits), (value, waits)
    client.delete(name)
    client.lpush(name, "a list")
    assert limiter.take("c") is None
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
def test_what_names_no_server_is_refused_and_not_repeated(url: str) -> None:
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
        (redis.url.replace(SECRET, "sekret"), "asks for another user or password"),
        (redis.url + "?db=99", "answers with an error"),
        (f"redis://:sekret@127.0.0.1:{port}", "connection refused"),
        ("unix://:sekret@/nowhere/redis.sock", "no server has its socket there"),
        ("redis://:sekret@a..b", "no such host"),
    ):
        status, said = serve(url, tiny_bundle, capsys)
        assert status == 1 and why in said and "leave --rate-limit-url out" in said
        assert "sekret" not in said + caplog.text and SECRET not in said + caplog.text


def test_the_package_that_it_needs_is_named(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    status, said = serve("redis://:sekret@host", tiny_bundle, capsys)
    assert status == 2 and said.rstrip().endswith("pip install '.[serve-redis]'") and "sekret" not in said
    with pytest.raises(MissingExtraError):
        create_app(tiny_bundle, rate_limit="9/hour", rate_limit_url="redis://host")


def test_what_is_no_failure_of_a_connection_is_told_in_words_of_ours() -> None:
    assert tell_cause(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "secret")) == "no such host"
    assert "secret" not in tell_cause(ValueError("secret"))
