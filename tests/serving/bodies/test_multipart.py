"""Batches as bytes: what is a part, what is a broken one, what is no batch at all."""

import tracemalloc
from email.parser import BytesParser
from email.policy import HTTP

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse

from moderation.serving.bodies.multipart import BrokenPart, Part, read_first_part, read_part, render_parts, split_parts
from moderation.serving.errors import ApiError
from tests.attack_table import Attack

TYPE = 'multipart/mixed; boundary="==x=="'
REQUEST = (
    "POST /v1alpha1/comments%3Aanalyze?key=K&alt=json HTTP/1.1\nContent-Type: application/json\nX-API-Key: k\n\n{}"
)


def part(request: str = REQUEST, content_id: str = "<u + 1>", kind: str = "application/http") -> str:
    return f"--==x==\nContent-Type: {kind}\nContent-Transfer-Encoding: binary\nContent-ID: {content_id}\n\n{request}\n"


def read(body: str, kind: str = TYPE, most: int = 5) -> list[Part | BrokenPart]:
    return [read_part(content) for content in split_parts(kind, body.encode(), most=most)]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_part_is_a_request(line_end: str) -> None:
    body = ("preamble\n" + part() + part(content_id="<u\n + 2>") + "--==x==--\nepilogue").replace("\n", line_end)
    first, second = read(body)
    assert isinstance(first, Part) and isinstance(second, Part)
    assert (first.method, first.path, first.query) == ("POST", "/v1alpha1/comments:analyze", "key=K&alt=json")
    assert (first.headers["x-api-key"], first.body.strip()) == ("k", b"{}")
    assert (first.content_id, second.content_id) == ("u + 1", "u + 2")


@pytest.mark.parametrize(
    "broken",
    [
        part("You fool"),
        part("GET\n\n"),
        part("post /x HTTP/1.1\n\n"),
        part("POST http://[/ HTTP/1.1\n\n"),
        part("POST /a b HTTP/1.1\n\n"),
        part(kind="text/plain"),
        part(REQUEST.replace("X-API-Key: k", "a:\n" * 50)),
        part(REQUEST.replace("X-API-Key: k", f"a: {'k' * 9000}")),
        part(content_id="<a>\n" + "a:\n" * 50),
        part(content_id="<a>\nX: " + "a" * 9000),
        "--==x==\nContent-ID: <u + 1>\n",
        "--==x==\n\n\n",
    ],
)
def test_a_broken_part_leaves_the_others_alone(broken: str) -> None:
    first, second, third = read(part() + broken + part() + "--==x==--")
    assert isinstance(first, Part) and isinstance(second, BrokenPart) and isinstance(third, Part)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ("", TYPE, 400),
        ("You fool", TYPE, 400),
        ("--==x==--", TYPE, 400),
        (part(), TYPE, 400),
        (part() + "--==x==fool", TYPE, 400),
        (part() + "--==x==--", "multipart/mixed", 400),
        (part() + "--==x==--", 'multipart/mixed; boundary=""', 400),
        (part() + "--==x==--", f"multipart/mixed; boundary={'x' * 71}", 400),
        (part() + "--==x==--", "multipart/mixed; boundary=é", 400),
        (part() + "--==x==--", 'multipart/mixed;"' + ";" * 60_000, 415),
        (part() + "--==x==--", 'multipart/mixed; boundary="==x==', 415),
        (part() * 6 + "--==x==--", TYPE, 413),
    ],
)
def test_an_invalid_batch_is_refused_as_a_whole(body: str, kind: str, status: int) -> None:
    with pytest.raises(ApiError) as refused:
        read(body, kind)
    assert refused.value.status == status
    assert "fool" not in refused.value.message


def test_as_many_parts_as_are_allowed_are_read() -> None:
    assert len(read(part() * 5 + "--==x==--")) == 5


def test_the_first_part_is_recognised_by_its_beginning() -> None:
    whole = part() + part("You fool") + "--==x==--"
    key = whole.index("X-API-Key: k") + len("X-API-Key: k")
    for end in (key, len(part()), len(whole)):
        first = read_first_part(TYPE, whole[:end].encode())
        assert isinstance(first, Part) and (first.query, first.headers["x-api-key"]) == ("key=K&alt=json", "k")
    for end in (0, 3, 30, 90):
        assert isinstance(read_first_part(TYPE, whole[:end].encode()), BrokenPart)
    assert isinstance(read_first_part(TYPE, part("\n--==x==\n\n" + REQUEST).encode()), BrokenPart)


@pytest.mark.hostile("batches: the price of a part")
@pytest.mark.parametrize("line_end", [b"\r", b"\n", b"\r\n", b"\n ", b"a:\n", b"\x0b", b"\x85"], ids=repr)
@pytest.mark.parametrize("around", [True, False], ids=["around", "within"])
def test_the_head_of_a_part_takes_no_more_memory_than_its_bytes(around: bool, line_end: bytes, attack: Attack) -> None:
    lines = b"a: b\r\n" + line_end * (1_000_000 // len(line_end)) + b"\r\n\r\n"
    content = lines if around else b"\r\nPOST /v1alpha1/comments:analyze HTTP/1.1\r\n" + lines
    tracemalloc.start()
    read_part(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(content)
    attack.tried()


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_parts_or_a_refusal(body: bytes, framed: bool) -> None:
    framed_body = b"--==x==\n" + body + b"\n--==x==--" if framed else body
    try:
        assert [read_part(content) for content in split_parts(TYPE, framed_body, most=5)]
    except ApiError as problem:
        assert problem.status in (400, 413)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
def test_no_content_id_can_add_a_header(content_id: str) -> None:
    (found,) = read(part(content_id=content_id) + "--==x==--")
    answer = render_parts([(found.content_id, JSONResponse({"a": "é"}, status_code=429, headers={"Retry-After": "7"}))])
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    (only,) = BytesParser(policy=HTTP).parsebytes(head + bytes(answer.body)).iter_parts()
    assert set(only) <= {"Content-Type", "Content-ID"}
    status, *headers = only.get_content().decode().split("\r\n")
    assert (status, "Retry-After: 7" in headers) == ("HTTP/1.1 429 Too Many Requests", True)
