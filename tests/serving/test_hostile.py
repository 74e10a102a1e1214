"""What nobody sends by mistake: each gets a right answer or a clear refusal in its dialect, and no text leaks."""

import codecs
import gzip
import http.client
import itertools
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from moderation.serving.errors import ApiError
from tests.attack_table import Attack
from tests.hostile_names import OBEYED, SHOWN, obeyed_in
from tests.serving.conftest import Server, exchange, started
from tests.serving.processes.test_lifecycle import workers_of

MARK = "zqxmarker"  # in every text, and in nothing else
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Dialect:
    """How a text is sent, and what a refusal looks like.

    Args:
        path: Of the route.
        around: Text -> body.
        field: That holds the texts.
        statuses: Of refusals of a body.
        form: Fields of an error.
    """

    path: str
    around: Callable[[Any], dict[str, Any]]
    field: str
    statuses: frozenset[int]
    form: frozenset[str]

    def literally(self, literal: str) -> bytes:
        """A body whose text is this piece of JSON, or of what is none."""
        return json.dumps(self.around("TEXT")).replace('"TEXT"', literal).encode()


NATIVE = Dialect(
    "/v1/predict", lambda text: {"texts": [text]}, "texts", frozenset({400, 413, 422}), frozenset({"type", "message"})
)
OPENAI = Dialect(
    "/v1/moderations",
    lambda text: {"input": text},
    "input",
    frozenset({400, 413}),
    frozenset({"message", "type", "param", "code"}),
)
PERSPECTIVE = Dialect(
    "/v1alpha1/comments:analyze",
    lambda text: {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}}, "languages": ["en"]},
    "comment",
    frozenset({400, 413}),
    frozenset({"code", "message", "status"}),
)
DIALECTS = pytest.mark.parametrize("dialect", [NATIVE, OPENAI, PERSPECTIVE], ids=["native", "openai", "perspective"])


@pytest.fixture(scope="module")
def hostile(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits a second for a body, and breaks on a text that says so, quoting it.

    Behind an answer it reads on for as long as a client needs, however busy the machine is.
    """
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "sitecustomize.py").write_text(
        "from moderation.inference.classifier import Classifier\n"
        "from moderation.serving.connection import protocol\n"
        "protocol.LINGER_S = 600\n"
        "cut = Classifier.windows\n"
        "def windows(self, text, watch=None):\n"
        "    if 'provoke' in text:\n"
        "        raise RuntimeError(f'cannot read {text}')\n"
        "    return cut(self, text, watch)\n"
        "Classifier.windows = windows\n"
    )
    with started(tiny_bundle, folder, "--body-timeout-s", "1", PYTHONPATH=str(folder)) as it:
        yield it


@pytest.fixture(autouse=True)
def harmless(hostile: Server) -> Iterator[None]:
    """Whatever came, the server still answers, and neither its log nor its metrics hold a text."""
    begin = len(hostile.log)
    yield
    assert post(hostile, NATIVE, NATIVE.literally('"kind"')).status_code == 200
    assert MARK not in str(hostile.lines(begin))
    assert MARK not in httpx.get(f"{hostile.url}/metrics").text


def post(server: Server, dialect: Dialect, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(server.url + dialect.path, content=body, headers=JSON | headers, timeout=60)


def check_refused(dialect: Dialect, answer: httpx.Response, *statuses: int) -> None:
    assert answer.status_code in (statuses or dialect.statuses), answer.text[:300]
    error = answer.json()["error"]
    assert dialect.form <= set(error) <= dialect.form | {"details"}
    assert error["message"]
    assert dialect is not NATIVE or error["type"] in ApiError.KINDS
    assert dialect is not PERSPECTIVE or error["code"] == answer.status_code
    assert MARK not in answer.text and "Traceback" not in answer.text and "site-packages" not in answer.text
    assert {"X-Request-Id", "X-Model-Version"} <= {name.title() for name in answer.headers}


def check_answered(dialect: Dialect, answer: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text[:300]
    results = answer.json()["attributeScores" if dialect is PERSPECTIVE else "results"]
    assert len(results) == 1
    assert MARK not in answer.text


TEXTS = {
    "right to left": "\u202e idiot \u2066\u2069",
    "zero width": "i\u200bd\u200ci\u200do\ufefft",
    "NUL": "\0 idiot \0",
    "control characters": "\x01\x1b[31m\x7f\x85",
    "no character": "\ufffe\uffff\U0010ffff",
    "one word": "a" * 1_900_000,
    "spaces": " " * 1_900_000,
    "lines": "\n" * 900_000,
    "two words": "a b " * 100_000,
    "emoji": "\U0001f600" * 470_000,
    "combining marks": "\u0301" * 900_000,
}


@pytest.mark.hostile("unwanted bodies")
@pytest.mark.parametrize(("kind", "status"), [("application/json", 413), ("text/plain", 415)])
def test_a_client_that_sends_a_large_body_first_learns_why_it_is_refused(
    kind: str, status: int, hostile: Server, attack: Attack
) -> None:
    n_tries = attack.cases(2, 10)
    for _ in range(n_tries):
        client = http.client.HTTPConnection(hostile.url.removeprefix("http://"), timeout=60)
        client.request("POST", NATIVE.path, b" " * 5_000_000, {"Content-Type": kind})
        assert client.getresponse().status == status
        client.close()
    attack.tried(n_tries)


@DIALECTS
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.hostile("requests: wrong bodies, nothing in log or metrics")
def test_a_text_is_a_text_whatever_it_is_made_of(dialect: Dialect, text: str, hostile: Server) -> None:
    body = json.dumps(dialect.around(MARK + text), ensure_ascii=False).encode()
    answer = post(hostile, dialect, body)
    if dialect is PERSPECTIVE and len(text) > 20_480:
        assert "too long" in answer.text
        check_refused(dialect, answer, 400)
    else:
        check_answered(dialect, answer)


REFUSED = {
    "a raw NUL": f'"{MARK} \0"',
    "a raw line end": f'"{MARK} \n"',
    "an unknown escape": rf'"{MARK} \x41"',
    "no end": f'"{MARK}',
    "single quotes": f"'{MARK}'",
    "a number": "5",
    "a huge number": "9" * 5000,
    "a number of a million digits": "1" + "0" * 1_000_000,
    "a number beyond floats": "1e999",
    "NaN": "NaN",
    "infinity": "-Infinity",
    "null": "null",
    "true": "true",
    "an object": f'{{"{MARK}": "{MARK}"}}',
    "brackets": "[" * 100_000 + f'"{MARK}"' + "]" * 100_000,
    "braces": '{"a":' * 100_000 + f'"{MARK}"' + "}" * 100_000,
    "too many bytes": f'"{MARK}{"a" * 2_000_000}"',
}


@DIALECTS
@pytest.mark.parametrize("literal", REFUSED.values(), ids=REFUSED)
@pytest.mark.hostile("requests: wrong bodies, nothing in log or metrics")
def test_values_that_are_not_texts_are_refused(dialect: Dialect, literal: str, hostile: Server) -> None:
    check_refused(dialect, post(hostile, dialect, dialect.literally(literal)))


@DIALECTS
@pytest.mark.parametrize("wrong", [b"\xff\xfe", b"\xf0\x9f\x98", b"\xc0\xaf", b"\xed\xa0\x80"], ids=bytes.hex)
@pytest.mark.hostile("requests: wrong bodies, nothing in log or metrics")
def test_a_body_that_is_not_utf8_is_refused(dialect: Dialect, wrong: bytes, hostile: Server) -> None:
    check_refused(dialect, post(hostile, dialect, dialect.literally(f'"{MARK} WRONG"').replace(b"WRONG", wrong)), 400)


@DIALECTS
@pytest.mark.parametrize("body", [b"", b"null", b"1", b"[]", b"true", f'"{MARK}"'.encode(), b"[" * 100_000, b"\0"])
@pytest.mark.hostile("requests: wrong bodies, nothing in log or metrics")
def test_a_body_that_is_not_an_object_is_refused(dialect: Dialect, body: bytes, hostile: Server) -> None:
    check_refused(dialect, post(hostile, dialect, body))


@DIALECTS
@pytest.mark.hostile("requests: wrong bodies, nothing in log or metrics")
def test_unknown_or_trailing_fields_are_refused(dialect: Dialect, hostile: Server) -> None:
    plain = dialect.around(MARK)
    for body in (
        json.dumps(plain | {"surprise": MARK}),
        json.dumps(plain | {f"field {i}": MARK for i in range(20_000)}),
        json.dumps({"surprise": MARK}),
        json.dumps(plain) + f' "{MARK}"',
        f"/* {MARK} */" + json.dumps(plain),
        "\ufeff" * 2 + json.dumps(plain),
    ):
        check_refused(dialect, post(hostile, dialect, body.encode()))


@DIALECTS
def test_cases_that_json_leaves_open_get_an_answer_or_a_refusal(dialect: Dialect, hostile: Server) -> None:
    plain = json.dumps(dialect.around(MARK))
    twice = plain[:-1] + f', "{dialect.field}": {json.dumps(dialect.around("kind")[dialect.field])}}}'
    for body in (twice.encode(), plain.encode("utf-8-sig")):
        check_answered(dialect, post(hostile, dialect, body))


_OTHER_ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")


@pytest.mark.hostile("UTF-16 and UTF-32 bodies")
@DIALECTS
def test_a_body_is_in_utf8_whatever_its_header_says(dialect: Dialect, hostile: Server, attack: Attack) -> None:
    plain = json.dumps(dialect.around(f"{MARK} \u00e9 \U0001f600"), ensure_ascii=False)
    with httpx.Client(base_url=hostile.url, headers=JSON, timeout=60) as client:
        for encoding in _OTHER_ENCODINGS:
            for mark in (b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                check_refused(dialect, client.post(dialect.path, content=mark + plain.encode(encoding)), 400)
                attack.tried()
        for charset in (*_OTHER_ENCODINGS, '"UTF-16"', "latin-1", "utf-7", "x" * 1000):
            kind = {"Content-Type": f"application/json; charset={charset}"}
            check_refused(dialect, client.post(dialect.path, content=plain.encode(), headers=kind), 415)
            attack.tried()


def around(change: Callable[[dict[str, Any], str], dict[str, Any]]) -> Callable[[Dialect], str]:
    """A body made of a sound one and the name of the field that holds its texts."""
    return lambda dialect: json.dumps(change(dialect.around("kind"), dialect.field))[:1_990_000]


def behind(value: str) -> Callable[[Dialect], str]:
    """A sound body, and behind it a field of this value."""
    return lambda dialect: f'{json.dumps(dialect.around("kind"))[:-1]}, "x": {value}}}'


N = 1_900_000
_DEEP: Any = json.loads("[" * 90 + "]" * 90)
MANY: dict[str, Callable[[Dialect], str]] = {  # cost little to write, and much to parse or to complain about in full
    "names": around(lambda plain, _: plain | {f"{i}": 0 for i in range(150_000)}),
    "some names": around(lambda plain, _: plain | {f"{i}": 0 for i in range(9_900)}),
    "long names": around(lambda plain, _: plain | {f"{i}{'x' * 180}": 0 for i in range(9_900)}),
    "one long name": around(lambda plain, _: plain | {"x" * N: 0}),
    "deep lists": around(lambda _, field: {field: [_DEEP] * 10_000}),
    "numbers": around(lambda _, field: {field: [1] * 600_000}),
    "lists": around(lambda _, field: {field: [[]] * 400_000}),
    "objects": around(lambda _, field: {field: [{}] * 400_000}),
    "nulls": around(lambda _, field: {field: [None] * 300_000}),
    "texts": around(lambda _, field: {field: [""] * 450_000}),
    "parts": around(lambda _, field: {field: [{"type": "text", "text": ""}] * 60_000}),
    "some parts": around(lambda _, field: {field: [{"type": "text", "text": ""}] * 4_900}),
    "languages": around(lambda plain, _: plain | {"languages": [1] * 90_000}),
    "entries": around(lambda plain, _: plain | {"context": {"entries": [{"x": 1}] * 9_000}}),
    "attributes": around(lambda plain, _: plain | {"requestedAttributes": {f"A{i}": {"x": "y"} for i in range(4_900)}}),
    "scores": around(lambda plain, _: plain | {"attributeScores": {f"A{i}": {"x": {}} for i in range(4_900)}}),
    "spans": around(lambda plain, _: plain | {"attributeScores": {"INSULT": {"spanScores": [1] * 90_000}}}),
    "a long token": around(lambda plain, _: plain | {"clientToken": "x" * N}),
    "digits": behind("9" * N),
    "5,000 digits": behind("9" * 5_000),
    "a fraction": behind("0." + "9" * N),
    "beyond floats": behind("1e400"),
    "an exponent": behind("1e" + "9" * N),
    "minus": behind("-" * N),
    "brackets": lambda _: "[" * N,
    "braces": lambda _: '{"a":' * (N // 5),
    "quotes": lambda _: '"' * N,
    "commas": lambda _: "," * N,
    "colons": lambda _: ":" * N,
    "blanks": lambda _: " " * N,
    "NUL": lambda _: "\0" * N,
    "no end": lambda _: '"' + "a" * N,
    "bare names": lambda _: "{" + "a:0," * (N // 4),
    "some bare names": lambda _: "{" + "a:0," * 9_000,
    "a bare name": lambda _: "{" + "a" * N,
    "dots": lambda _: "{" + "a." * (N // 2),
    "halves of pairs": lambda _: '{"x":"' + r"\ud83d" * (N // 6),
    "backslashes": lambda _: '{"x":"' + "\\" * N,
    "comments": lambda _: "/*" * (N // 2),
}
_PATHS = ("/v1/predict", "/v1/moderations", "/comments:analyze", "/comments:suggestscore", "/batch")


@pytest.mark.hostile("JSON bodies: stall")
@pytest.mark.parametrize("path", _PATHS)
def test_many_problems_get_one_short_refusal(path: str, hostile: Server, attack: Attack) -> None:
    dialect = next((one for one in (NATIVE, OPENAI) if one.path == path), PERSPECTIVE)
    for name in random.Random(path).sample(sorted(MANY), attack.cases(4, len(MANY))):
        body, kind = MANY[name](dialect).encode(), "application/json"
        if path == "/batch":
            head = b"--b\r\nContent-Type: application/http\r\n\r\nPOST /comments:analyze HTTP/1.1\r\n\r\n"
            body, kind = head + body + b"\r\n--b--", "multipart/mixed; boundary=b"
        answer = httpx.post(hostile.url + path, content=body, headers={"Content-Type": kind}, timeout=60)
        if path == "/batch":
            assert answer.status_code == 200 and "HTTP/1.1 4" in answer.text, name
        elif (path, name) == ("/v1/moderations", "some parts"):  # of one text, which is empty
            check_answered(dialect, answer)
        else:
            check_refused(dialect, answer, 400, 404, 413, 422)
        assert len(answer.content) < 2_000, name
        attack.tried()


@pytest.mark.parametrize("dialect", [NATIVE, OPENAI], ids=["native", "openai"])
def test_the_number_of_texts_has_a_limit(dialect: Dialect, hostile: Server) -> None:
    def send(texts: list[Any]) -> httpx.Response:
        return post(hostile, dialect, json.dumps({dialect.field: texts}).encode())

    if dialect is NATIVE:
        assert send([]).json()["results"] == []
    else:
        check_refused(dialect, send([]), 400)
    assert len(send([MARK, ""] * 128).json()["results"]) == 256
    for n_texts in (257, 40_000):
        answer = send([MARK] * n_texts) if n_texts < 1000 else send([""] * n_texts)
        check_refused(dialect, answer, 413)
        assert str(n_texts) in answer.json()["error"]["message"]
    check_refused(dialect, send([MARK, 1, None, [MARK]]))
    (worker,) = workers_of(hostile)
    before = sum(worker.cpu_times()[:2])
    answer = send([1] * 600_000)
    check_refused(dialect, answer)
    assert sum(worker.cpu_times()[:2]) - before < 10, "every wrong item was looked at"
    assert len(answer.text) < 1000


def test_the_number_of_sentences_has_a_limit(hostile: Server) -> None:
    text = f"{MARK}\n" * 2000
    body = {"texts": [text], "sentences": True}
    (result,) = post(hostile, NATIVE, json.dumps(body).encode()).json()["results"]
    sentences = result["sentences"]
    assert len(sentences) == 512
    assert (sentences[1]["begin"], sentences[1]["end"]) == (10, 19)
    assert sentences[-1]["end"] == len(text.rstrip())


@DIALECTS
@pytest.mark.hostile("requests: wrong bodies, nothing in log or metrics")
def test_a_body_is_json_and_nothing_around_it(dialect: Dialect, hostile: Server) -> None:
    body = dialect.literally(f'"{MARK}"')
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", MARK):
        check_refused(dialect, post(hostile, dialect, body, **{"Content-Type": kind}), 415)
    for coding in ("deflate", "br", "gzip, gzip", MARK):
        check_refused(dialect, post(hostile, dialect, gzip.compress(body), **{"Content-Encoding": coding}), 415)
    pieces = itertools.chain([body], itertools.repeat(b" " * 100_000, 20))
    check_refused(dialect, post(hostile, dialect, pieces), 413)  # in chunks, whose sum nobody announces
    named = {"X-Request-Id": f"{MARK} {MARK}"}
    for address in (f"/{MARK}?{MARK}={MARK}", f"%00%ff{MARK}", f"?{MARK}={MARK}&key={MARK}"):
        answer = httpx.post(hostile.url + dialect.path + address, content=body, headers=JSON | named)
        assert answer.status_code in (200, 404)
        assert MARK not in answer.text + str(answer.headers)


def head(dialect: Dialect, *lines: str) -> bytes:
    first = (f"POST {dialect.path} HTTP/1.1", "Host: x", "Content-Type: application/json", "Connection: close")
    return "\r\n".join((*first, *lines, "", "")).encode()


@DIALECTS
@pytest.mark.hostile("slow senders")
def test_a_body_that_does_not_arrive_in_time_is_given_up(dialect: Dialect, hostile: Server) -> None:
    body = dialect.literally(f'"{MARK}"')
    length = f"Content-Length: {len(body)}"
    single = [body[i : i + 1] for i in range(len(body))]
    check_refused(dialect, exchange(hostile, head(dialect, length), *single, pause_s=0.1), 408)
    check_refused(dialect, exchange(hostile, head(dialect, "Content-Length: 500"), body), 408)
    check_refused(dialect, exchange(hostile, head(dialect, "Transfer-Encoding: chunked"), b"5\r\n"), 408)


@DIALECTS
@pytest.mark.hostile("requests: wrong bodies, nothing in log or metrics")
def test_a_false_length_gains_nothing(dialect: Dialect, hostile: Server) -> None:
    body = dialect.literally(f'"{MARK}"')
    check_refused(dialect, exchange(hostile, head(dialect, "Content-Length: 99999999999")), 413)
    for lines in (
        ["Content-Length: 5"],
        ["Content-Length: -5"],
        [f"Content-Length: {MARK}"],
        ["Content-Length: " + "9" * 40],
        ["Content-Length: 5", f"Content-Length: {len(body)}"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: gzip"],
    ):
        answer = exchange(hostile, head(dialect, *lines), body)
        assert answer.status_code in (400, 408), lines
        assert MARK not in answer.text


@DIALECTS
@pytest.mark.hostile("requests: wrong bodies, nothing in log or metrics")
def test_a_body_has_one_type_and_one_encoding(dialect: Dialect, hostile: Server) -> None:
    body = dialect.literally('"kind"')
    packed = gzip.compress(body)
    for sent, lines, status in (
        (body, ["Content-Type: application/json"], 200),
        (body, ["Content-Type: text/plain"], 415),
        (packed, ["Content-Encoding: gzip"], 200),
        (packed, ["Content-Encoding: gzip", "Content-Encoding: gzip"], 415),
        (packed, ["Content-Encoding: gzip", "Content-Encoding: identity"], 415),
        (body, ["Content-Encoding: identity", "Content-Encoding: gzip"], 415),
    ):
        answer = exchange(hostile, head(dialect, f"Content-Length: {len(sent)}", *lines), sent)
        (check_answered if status == 200 else check_refused)(dialect, answer, *([] if status == 200 else [status]))


@pytest.mark.parametrize(
    "sent",
    [
        f"{MARK}\r\n\r\n",
        f"{MARK.upper()} / HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET / HTTP/9.9\r\nHost: x\r\n{MARK}: {MARK}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nX: {MARK * 7_150}",
        "GET / HTTP/1.1\r\n" + f"X: {MARK}\r\n" * 4_590,
        f"\x16\x03\x01{MARK}",
    ],
    ids=["words", "method", "version", "a long header", "many headers", "TLS"],
)
@pytest.mark.hostile("requests: wrong bodies, nothing in log or metrics")
def test_anything_but_http_is_refused(sent: str, hostile: Server) -> None:
    answer = exchange(hostile, sent.encode())
    assert answer.status_code == (431 if sent.count("\n") > 100 else 400)
    assert MARK not in answer.text.lower()


@DIALECTS
@pytest.mark.hostile("requests: wrong bodies, nothing in log or metrics")
def test_a_fault_is_reported_only_with_its_request_id(dialect: Dialect, hostile: Server) -> None:
    answer = post(
        hostile, dialect, dialect.literally(f'"{MARK} provoke"'), **{"X-Request-Id": f"asked-for-it-{dialect.field}"}
    )
    check_refused(dialect, answer, 500)
    assert "asked-for-it" in answer.json()["error"]["message"]
    faults = [line for line in hostile.lines() if line["event"] == "fault"]
    fault = next(fault for fault in faults if fault["request_id"] == f"asked-for-it-{dialect.field}")
    assert fault["error"] == "RuntimeError"
    assert any("service.py" in place for place in fault["trace"])


@pytest.mark.hostile("terminal: log of the server")
def test_no_line_of_the_log_controls_the_terminal(hostile: Server, attack: Attack) -> None:
    names = [name.encode("utf-8", "surrogatepass") for name in (*OBEYED, *SHOWN) if not {"\n", "\r", "\0"} & set(name)]
    for name in names:
        line = b"GET /v1/%s?key=%s HTTP/1.1\r\n" % (name.replace(b" ", b"_"), name.replace(b" ", b"_"))
        headers = b"Host: x\r\nX-Request-Id: %s\r\nX-API-Key: %s\r\nUser-Agent: %s\r\nConnection: close\r\n\r\n"
        assert exchange(hostile, line + headers % (name, name, name)).status_code in (400, 404)
        answer = exchange(hostile, b"GET /livez HTTP/1.1\r\n" + headers % (name, name, name))
        assert not obeyed_in("".join(map(str, answer.headers.values())))
    lines = hostile.lines()
    assert not obeyed_in("".join(hostile.log))
    assert len(lines) == len(hostile.log)
    attack.tried(2 * len(names))
