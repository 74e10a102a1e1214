"""One connection, one meaning: whatever comes, in whatever pieces, no body is ever read as a request."""

import asyncio
import random
import socket
from collections.abc import Sequence
from contextlib import suppress

import pytest

from tests.attack_table import Attack
from tests.serving.connection.test_protocol import count, running
from tests.serving.wire import Wire, cut, read_by_h11, tell

INNER = b"GET /smuggled HTTP/1.1\r\nHost: s\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"


def whole_and_in_two(stream: bytes, begin: int = 0) -> list[list[bytes]]:
    """In one piece, in single bytes, and cut in two at each place."""
    two = [cut(stream, [place]) for place in range(begin, len(stream))]
    return [[stream], [stream[i : i + 1] for i in range(len(stream))], *two]


def tell_all(streams: Sequence[Sequence[bytes]]) -> list[Wire]:
    async def main() -> list[Wire]:
        return [await tell(pieces) for pieces in streams]

    return asyncio.run(main())


def paths(wire: Wire) -> list[str]:
    return [asked.target for asked in wire.asked]


def lengths(body: bytes, coding: str) -> bytes:
    """Headers and body, by length or in chunks."""
    if coding == "length":
        return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    return b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


UPGRADES = [b"h2c", b"websocket", b"foo", b"TLS/1.0, HTTP/2.0"]
CONNECTIONS = [
    b"Connection: Upgrade\r\n",
    b"Connection: keep-alive, Upgrade\r\n",
    b"Connection: close, Upgrade\r\n",
    b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    b"Proxy-Connection: upgrade\r\n",
    b"",
]


@pytest.mark.hostile("smuggling by Upgrade or CONNECT")
def test_an_upgrade_is_ignored_and_the_body_read(attack: Attack) -> None:
    """For each method, and whatever follows; in pieces of any size."""
    streams: list[list[bytes]] = []
    expected: list[list[str]] = []
    every = attack.cases(61, 1)
    for upgrade in UPGRADES:
        for connection in CONNECTIONS:
            for method in (b"GET", b"POST", b"PUT"):
                for coding in ("length", "chunked"):
                    head = b"%s /outer HTTP/1.1\r\nHost: h\r\n%sUpgrade: %s\r\n" % (method, connection, upgrade)
                    stream = head + lengths(INNER, coding) + NEXT
                    ways = whole_and_in_two(stream, len(head))
                    ways = ways[:2] + ways[2 + len(streams) % every :: every]
                    streams += ways
                    expected += [["/outer"] if b"close" in connection else ["/outer", "/next"]] * len(ways)
    for wire, seen in zip(tell_all(streams), expected, strict=True):
        assert paths(wire) == seen
        assert wire.asked[0].body == INNER
        assert wire.statuses() == [200] * len(seen)
    attack.tried(len(streams))


@pytest.mark.hostile("smuggling by Upgrade or CONNECT")
@pytest.mark.parametrize("target", [b"/outer", b"h:443", b"http://h/outer"])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_connect_is_refused_and_nothing_after_it_is_read(coding: str, target: bytes, attack: Attack) -> None:
    stream = b"CONNECT %s HTTP/1.1\r\nHost: h\r\n" % target + lengths(INNER, coding) + NEXT
    ways = whole_and_in_two(stream)
    for wire in tell_all(ways):
        assert (paths(wire), wire.statuses()) == ([], [400])
        assert wire.is_ended
    attack.tried(len(ways))


HEAD = b"POST /outer HTTP/1.1\r\nHost: h\r\n"
CHUNK = b"%x\r\n%s\r\n" % (len(INNER), INNER)
REFUSED = {
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + INNER,
    "HTTP/2 in the request line": b"GET / HTTP/2.0\r\nHost: h\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: h\r\n\r\n",
    "RTSP": b"GET / RTSP/1.0\r\nHost: h\r\n\r\n",
    "ICE": b"SOURCE / ICE/1.0\r\nHost: h\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two equal Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "two Hosts in HTTP/1.0": b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "a Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a Host with a user": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "a Host of two words": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "another Host in the target": b"GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "another scheme": b"GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
    "a star": b"GET * HTTP/1.1\r\nHost: h\r\n\r\n",
    "an address without a host": b"GET http:// HTTP/1.1\r\nHost:\r\n\r\n",
    "an address with a path alone": b"GET http:///a HTTP/1.1\r\nHost:\r\n\r\n",
    "an address with a user": b"GET http://u@h/ HTTP/1.0\r\n\r\n",
    "a query alone": b"GET ?a HTTP/1.1\r\nHost: h\r\n\r\n",
    "no path": b"GET a HTTP/1.1\r\nHost: h\r\n\r\n",
    "bytes beyond ASCII in the target": b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n",
    "two blanks before the target": b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
    "two blanks behind the target": b"GET /  HTTP/1.1\r\nHost: h\r\n\r\n",
    "a blank behind the version": b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
    "a tab before the target": b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "a blank before the method": b" GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "small letters": b"get / HTTP/1.1\r\nHost: h\r\n\r\n",
    "a line feed before the method": b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "a carriage return before the method": b"\rGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "a line feed behind the request line": b"GET / HTTP/1.1\nHost: h\r\n\r\n",
    "a line feed behind a header": HEAD + b"A: b\nContent-Length: 35\r\n\r\n" + INNER,
    "a carriage return behind a header": HEAD + b"A: b\rContent-Length: 35\r\n\r\n" + INNER,
    "line feeds at the end of the headers": HEAD + b"Content-Length: 35\n\n" + INNER,
    "a blank before the colon": HEAD + b"Content-Length : 36\r\n\r\n" + INNER,
    "a tab before the colon": HEAD + b"Transfer-Encoding\t: chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "no name": HEAD + b": a\r\n\r\n",
    "no colon": HEAD + b"Content-Length\r\n\r\n",
    "a folded header": HEAD + b"A: b\r\n c\r\n\r\n",
    "a folded coding": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "a folded first header": b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
    "NUL in a header": HEAD + b"A: b\0c\r\n\r\n",
    "DEL in a header": HEAD + b"A: b\x7f\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 0\r\nContent-Length: 35\r\n\r\n" + INNER,
    "two equal lengths": HEAD + b"Content-Length: 35\r\nContent-Length: 35\r\n\r\n" + INNER,
    "a list of lengths": HEAD + b"Content-Length: 35, 35\r\n\r\n" + INNER,
    "a length with a sign": HEAD + b"Content-Length: +35\r\n\r\n" + INNER,
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n" + INNER,
    "a hexadecimal length": HEAD + b"Content-Length: 0x23\r\n\r\n" + INNER,
    "an empty length": HEAD + b"Content-Length:\r\n\r\n" + INNER,
    "an endless length": HEAD + b"Content-Length: 18446744073709551651\r\n\r\n" + INNER,
    "length and coding": HEAD + b"Content-Length: 35\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "coding and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    **{
        f"coding {coding.decode('latin-1')!r}": HEAD
        + b"Transfer-Encoding: "
        + coding
        + b"\r\n\r\n"
        + CHUNK
        + b"0\r\n\r\n"
        for coding in (
            *(b"gzip, chunked", b"chunked, gzip", b"gzip", b"identity", b"chunked, chunked", b", chunked", b"chunked,"),
            *(b"xchunked", b"chunked;q=1", b'"chunked"', b"", b"\x0bchunked", b"chunked\x00", b"identity, chunked"),
            *(b"gzip\r\nTransfer-Encoding: chunked", b"chunked\r\nTransfer-Encoding: chunked"),
        )
    },
    "chunks in HTTP/1.0": HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    **{
        f"chunk {chunk[:24].decode('latin-1')!r}": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk
        for chunk in (
            *(b"0x3\r\nabc\r\n0\r\n\r\n", b"+3\r\nabc\r\n0\r\n\r\n", b"-3\r\nabc\r\n", b" 3\r\nabc\r\n0\r\n\r\n"),
            *(b"3 \r\nabc\r\n0\r\n\r\n", b"3 ;a\r\nabc\r\n0\r\n\r\n", b"3_0\r\nabc\r\n", b"\r\nabc\r\n0\r\n\r\n"),
            *(b"3\r\nabcd\r\n0\r\n\r\n", b"3\r\nabc0\r\n\r\n", b"3\r\nabc\n0\r\n\r\n", b"3\nabc\r\n0\r\n\r\n"),
            *(b"3;a\nb\r\nabc\r\n0\r\n\r\n", b"3;\0\r\nabc\r\n0\r\n\r\n", b'3;a="\r\n"\r\nabc\r\n0\r\n\r\n'),
            *(b"3\rabc\r\n0\r\n\r\n", b"100000003\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\n Host: h\r\n\r\n"),
            *(b"3\r\nabc\r\n0\r\n\n" + INNER, b"3\r\nabc\r\n0\n\r\n" + INNER, b"3\r\nabc\r\n0\r\nno trailer\r\n\r\n"),
            *(b"3\r\nabc\r\n0\r\nContent-Length: 35\r\n\r\n", b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        )
    },
}


@pytest.mark.hostile("framing")
def test_ambiguous_requests_are_refused(attack: Attack) -> None:
    every = attack.cases(61, 1)
    for number, (name, stream) in enumerate(REFUSED.items()):
        ways = whole_and_in_two(stream + NEXT)
        ways = ways[:2] + ways[2 + number % every :: every]
        for wire in tell_all(ways):
            assert "/smuggled" not in paths(wire) and "/next" not in paths(wire), name
            assert wire.statuses() == [400], name
            assert not any(asked.is_complete for asked in wire.asked), name
        attack.tried(len(ways))


TAKEN = {
    "blanks around values": (b"POST /a HTTP/1.1\r\nHost: \t h \t\r\nContent-Length: \t3 \t\r\n\r\nabc", ("/a", b"abc")),
    "zeros before a length": (b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0003\r\n\r\nabc", ("/a", b"abc")),
    "line ends before a request": (b"\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", ("/a", b"")),
    "the address of a proxy": (b"GET http://h:80/a?b HTTP/1.1\r\nHost: h:80\r\n\r\n", ("/a?b", b"")),
    "an address without a path": (b"GET http://h HTTP/1.1\r\nHost: h\r\n\r\n", ("/", b"")),
    "an address with a query alone": (b"GET HTTP://h?x=1 HTTP/1.1\r\nHost: h\r\n\r\n", ("/?x=1", b"")),
    "an address with any port": (b"GET https://h:99999/ HTTP/1.1\r\nHost: h:99999\r\n\r\n", ("/", b"")),
    "an empty Host": (b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", ("/a", b"")),
    "capitals": (
        b"POST /a HTTP/1.1\r\nHOST: h\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ("/a", b"abc"),
    ),
    "extensions, trailers": (
        HEAD + b'Transfer-Encoding: chunked\r\n\r\n03;a;b=c;d="e"\r\nabc\r\n00;f\r\nHost: x\r\n\r\n',
        ("/outer", b"abc"),
    ),
    "an upgrade in the trailers": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        ("/outer", b""),
    ),
}


@pytest.mark.hostile("framing")
def test_unambiguous_requests_are_accepted(attack: Attack) -> None:
    every = attack.cases(7, 1)
    for name, (stream, expected) in TAKEN.items():
        ways = whole_and_in_two(stream + NEXT)[::every]
        for wire in tell_all(ways):
            assert [(asked.target, asked.body) for asked in wire.asked] == [expected, ("/next", b"")], name
            assert wire.statuses() == [200, 200], name
        attack.tried(len(ways))


@pytest.mark.parametrize(
    "last", [b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", b"GET /a HTTP/1.0\r\n\r\n"]
)
@pytest.mark.parametrize("keep", [b"", b"Connection: keep-alive\r\n"])
def test_nothing_is_read_after_the_last_request(last: bytes, keep: bytes) -> None:
    if b"1.0" in last:
        last = last[:-2] + keep + b"\r\n"
    for wire in tell_all(whole_and_in_two(last + INNER)):
        assert (paths(wire), wire.statuses()) == (["/a"], [200])
        assert wire.is_closed


@pytest.mark.hostile("framing")
def test_trailers_do_not_count_as_headers() -> None:
    stream = HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-API-Key: other\r\nContent-Encoding: gzip\r\n\r\n"
    for wire in tell_all(whole_and_in_two(stream)[::7]):
        assert dict(wire.asked[0].headers) == {b"host": b"h", b"transfer-encoding": b"chunked"}


@pytest.mark.hostile("framing")
@pytest.mark.parametrize("body", [b"", INNER])
def test_a_client_refused_before_it_sent_its_body_needs_another_connection(body: bytes) -> None:
    """It may leave the body out, and nobody can tell whether what comes is the body or the next request."""
    head = b"POST /refused HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 35\r\n\r\n"
    (wire,) = tell_all([[head, body + NEXT]])
    assert (paths(wire), wire.statuses()) == (["/refused"], [200])
    assert b"connection: close" in wire.written and wire.is_closed
    (wire,) = tell_all([[head.replace(b"/refused", b"/taken"), INNER, NEXT]])
    assert (paths(wire), wire.statuses()) == (["/taken", "/next"], [200, 200])
    assert wire.asked[0].body == INNER


def test_the_rest_of_a_refused_body_is_not_a_request() -> None:
    head = b"POST /refused HTTP/1.1\r\nHost: h\r\n"
    for coding in ("length", "chunked"):
        for wire in tell_all(whole_and_in_two(head + lengths(INNER, coding) + NEXT)[::7]):
            assert (paths(wire), wire.statuses()) == (["/refused", "/next"], [200, 200])


SOUND = [
    NEXT,
    b"GET http://h/absolute?q=1 HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n",
    b"POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: 35\r\n\r\n" + INNER,
    b"POST /upgrade HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 35\r\n\r\n" + INNER,
    b"PUT /chunks HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nG\r\n" + CHUNK + b"0\r\n\r\n",
    b"POST /trailers HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK + b"0;e=1\r\nA: b\r\n\r\n",
    b"POST /expect HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    b"POST /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    b"POST /old HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
]
SCRAPS = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b"\0",
        b":",
        b";",
        b",",
        b"0",
        b"1",
        b"23",
        b"\x0b",
        b"\xff",
        b"#",
    ),
    *(
        b"Content-Length: 35\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: h\r\n",
        b"0\r\n\r\n",
    ),
    *(
        b"Upgrade: h2c\r\n",
        b"Connection: Upgrade\r\n",
        b"Connection: close\r\n",
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"CONNECT ",
        INNER,
    ),
    *(
        b"gzip, ",
        b"Expect: 100-continue\r\n",
        CHUNK,
        b"HEAD ",
        b"OPTIONS * ",
        b"\r\n ",
        b"identity",
        b"-",
        b"+",
        b"0x",
        b"_",
    ),
]


def mutate(stream: bytes, chance: random.Random) -> bytes:
    """Change a few bytes, at places of any kind."""
    for _ in range(chance.randint(0, 4)):
        at = chance.randrange(len(stream) + 1)
        to = min(len(stream), at + chance.randint(0, 12))
        match chance.randrange(6):
            case 0:
                stream = stream[:at] + bytes([chance.randrange(256)]) + stream[at + 1 :]
            case 1:
                stream = stream[:at] + stream[to:]
            case 2:
                stream = stream[:to] + stream[at:]
            case 3:
                words = stream.split(b"\r\n")
                words.insert(chance.randrange(len(words) + 1), chance.choice(words))
                stream = b"\r\n".join(words)
            case _:
                stream = stream[:at] + chance.choice(SCRAPS) + stream[chance.choice([at, to]) :]
    return stream


@pytest.mark.hostile("framing: compared with another parser")
def test_another_parser_reads_the_same_requests_or_more(attack: Attack) -> None:
    """What ours hands on is what h11 reads, in the same order; it may stop earlier. And each request has one answer."""
    seeds = range(attack.cases(300, 20_000))
    streams, ways = [], []
    for seed in seeds:
        chance = random.Random(seed)
        stream = mutate(b"".join(chance.choices(SOUND, k=chance.randint(1, 4))), chance)
        streams.append(stream)
        ways.append(cut(stream, chance.choices(range(len(stream) + 1), k=chance.randint(0, 6))))
    n_taken = 0
    for seed, stream, wire in zip(seeds, streams, tell_all(ways), strict=True):
        where = f"seed {seed}: {stream!r}"
        theirs = read_by_h11(stream)
        assert len(wire.asked) <= len(theirs), where
        for our, their in zip(wire.asked, theirs, strict=False):
            assert (our.method, our.target) == (their.method, strip_host(their.target)), where
            assert our.body == their.body if our.is_complete else their.body.startswith(our.body), where
            assert their.is_complete or not our.is_complete, where
        n_complete = sum(asked.is_complete for asked in wire.asked)
        assert [asked.is_complete for asked in wire.asked[:-1]] == [True] * (len(wire.asked) - 1), where
        assert wire.statuses() in ([200] * n_complete, [200] * n_complete + [400]), where
        n_taken += n_complete
    assert n_taken > len(streams) / 2
    attack.tried(len(streams))


def strip_host(target: str) -> str:
    """The path of an address."""
    return "/" + target.split("/", 3)[3] if target.lower().startswith("http") else target


@pytest.mark.hostile("framing: compared with another parser")
def test_another_parser_reads_the_same_from_real_sockets(attack: Attack) -> None:
    """The same, through a real server: no more answers than there are requests."""
    n_streams = attack.cases(20, 500)
    with running(count) as port:
        for seed in range(n_streams):
            chance = random.Random(-1 - seed)
            stream = mutate(b"".join(chance.choices(SOUND, k=3)), chance)
            received = b""
            with socket.create_connection(("127.0.0.1", port), timeout=60) as line, suppress(OSError):
                for piece in cut(stream, chance.choices(range(len(stream) + 1), k=3)):
                    line.sendall(piece)
                line.shutdown(socket.SHUT_WR)
                while some := line.recv(65536):
                    received += some
            n_theirs = sum(asked.is_complete for asked in read_by_h11(stream))
            assert received.count(b"HTTP/1.1 200 OK") <= n_theirs, f"seed {seed}: {stream!r}"
            assert received.count(b"HTTP/1.1 4") <= 1, f"seed {seed}: {stream!r}"
    attack.tried(n_streams)
