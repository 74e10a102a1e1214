"""The Perspective API's language over a real socket: answers, errors in Google's form, what is kept of a decision."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from fastapi.testclient import TestClient

from moderation.categories import find_attributes
from moderation.serving.app import create_app
from moderation.serving.dialects.perspective.routes import render_problem
from moderation.serving.errors import ApiError
from moderation.serving.feedback import store as feedback
from moderation.serving.feedback import writer
from moderation.tables.reading import read_table

ATTRIBUTES = ("TOXICITY", "SEVERE_TOXICITY", "PROFANITY", "THREAT", "INSULT", "IDENTITY_ATTACK")
PATHS = ("/v1alpha1/comments:", "/comments:")
DETAIL = "type.googleapis.com/google.commentanalyzer.v1alpha1.Error"
JSON = {"Content-Type": "application/json"}
ITALIAN = "Questa frase non dice niente di cattivo, ma la lingua non fa parte di quelle che il modello conosce."


def analyze(url: str, text: str, path: str = PATHS[0], **more: Any) -> httpx.Response:
    body = {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}}} | more
    return httpx.post(f"{url}{path}analyze", json=body)


def suggest(url: str, text: str, scores: dict[str, float], **more: Any) -> httpx.Response:
    named = {name: {"summaryScore": {"value": value, "type": "PROBABILITY"}} for name, value in scores.items()}
    return httpx.post(f"{url}{PATHS[0]}suggestscore", json={"comment": {"text": text}, "attributeScores": named} | more)


def probabilities(url: str, *texts: str) -> list[dict[str, float]]:
    """What the server says of the same texts in its own language."""
    results = httpx.post(f"{url}/v1/predict", json={"texts": texts}).json()["results"]
    return [result["probabilities"] for result in results]


def refused(answer: httpx.Response, status: int, name: str, message: str) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert (answer.status_code, error["code"], error["status"]) == (status, status, name)
    assert error["message"] == message
    return error


@pytest.mark.parametrize("path", PATHS)
def test_a_comment_gets_a_score_for_each_attribute(server: Any, path: str) -> None:
    text = "you stupid idiot"
    named = {attribute: {} for attribute in (*ATTRIBUTES, "INSULT_EXPERIMENTAL")}
    answer = analyze(server.url, text, path, requestedAttributes=named, clientToken="t\N{PILE OF POO}")
    assert answer.status_code == 200
    body = answer.json()
    expected = probabilities(server.url, text)[0]
    labels = find_attributes(list(expected))
    for name in named:
        score = {"value": expected[labels[name]], "type": "PROBABILITY"}
        assert body["attributeScores"].pop(name) == {
            "summaryScore": score,
            "spanScores": [{"begin": 0, "end": len(text), "score": score}],
        }
    assert body.pop("modelVersion") == answer.headers["X-Model-Version"]
    assert body == {
        "attributeScores": {},
        "languages": ["en"],
        "detectedLanguages": ["en"],
        "clientToken": "t\N{PILE OF POO}",
    }


def utf16_slice(text: str, begin: int, end: int) -> str:
    """What JavaScript's `text.slice(begin, end)` gives."""
    return text.encode("utf-16-le")[2 * begin : 2 * end].decode("utf-16-le")


def test_spans_are_sentences_with_offsets_in_utf16_units(server: Any) -> None:
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
    text = f"{family} kind bread. E\u0301 fine \U0001f44d\U0001f3fd! You stupid idiot."
    body = analyze(server.url, text, spanAnnotations=True).json()
    scores = body["attributeScores"]["TOXICITY"]
    spans = [(span["begin"], span["end"]) for span in scores["spanScores"]]
    sentences = [f"{family} kind bread.", "E\u0301 fine \U0001f44d\U0001f3fd!", "You stupid idiot."]
    assert [utf16_slice(text, begin, end) for begin, end in spans] == sentences
    whole, *parts = [found["toxic"] for found in probabilities(server.url, text, *sentences)]
    assert scores["summaryScore"]["value"] == whole
    assert [span["score"]["value"] for span in scores["spanScores"]] == parts


def test_a_text_of_many_sentences_gets_spans_up_to_its_end(server: Any) -> None:
    text = "a. " * 6000
    spans = analyze(server.url, text, spanAnnotations=True).json()["attributeScores"]["TOXICITY"]["spanScores"]
    assert len(spans) == 256
    assert spans[-1]["end"] == len(text) - 1


def test_scores_below_their_threshold_are_left_out(server: Any) -> None:
    text = "you stupid idiot damn"
    found = probabilities(server.url, text)[0]
    asked = {
        "TOXICITY": {"scoreThreshold": found["toxic"], "scoreType": "PROBABILITY"},
        "INSULT": {"scoreThreshold": found["insult"] + 1e-6},
    }
    assert analyze(server.url, text, requestedAttributes=asked).json()["attributeScores"].keys() == {"TOXICITY"}
    del asked["TOXICITY"]
    assert "attributeScores" not in analyze(server.url, text, requestedAttributes=asked).json()


def test_languages_are_the_requested_ones_or_else_the_detected_one(server: Any) -> None:
    english = "This is a sentence that everybody would take for an English one."
    body = analyze(server.url, english).json()
    assert (body["languages"], body["detectedLanguages"]) == (["en"], ["en"])
    body = analyze(server.url, ITALIAN, languages=["en-GB"]).json()
    assert (body["languages"], body["detectedLanguages"]) == (["en-GB"], ["it"])


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        (None, "it"),
        ([], "it"),
        (["it"], "it"),
        (["es", "pt-BR"], "es, pt-BR"),
        (["You fool!"], "(a name of 9 characters)"),
    ],
    ids=str,
)
def test_a_language_that_the_model_does_not_know_is_an_error(server: Any, named: list[str] | None, shown: str) -> None:
    answer = analyze(server.url, ITALIAN, languages=named)
    error = refused(answer, 400, "INVALID_ARGUMENT", f"Attribute TOXICITY does not support request languages: {shown}")
    detail = {"detectedLanguages": ["it"], "attribute": "TOXICITY"}
    assert error["details"] == [
        {
            "@type": DETAIL,
            "errorType": "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
            "languageNotSupportedByAttributeError": detail
            | ({"requestedLanguages": shown.split(", ")} if named else {}),
        }
    ]


def test_all_fields_of_a_request_are_accepted_under_both_of_their_names(server: Any) -> None:
    entry = {"text": "an article", "type": "PLAIN_TEXT"}
    more = {
        "comment": {"text": "kind", "type": "PLAIN_TEXT"},
        "context": {"entries": [entry], "articleAndParentComment": {"article": entry, "parentComment": entry}},
        "doNotStore": True,
        "sessionId": "s",
        "communityId": "c",
        "languages": None,
    }
    assert analyze(server.url, "", **more).status_code == 200
    body = {"comment": {"text": "kind"}, "requested_attributes": {"TOXICITY": {"score_threshold": 0}}}
    answer = httpx.post(f"{server.url}/comments:analyze", json=body | {"span_annotations": True, "do_not_store": True})
    assert answer.status_code == 200


@pytest.mark.parametrize("method", ["analyze", "suggestscore"])
@pytest.mark.parametrize(
    ("text", "message", "kind"),
    [
        ("", "Comment must be non-empty.", "COMMENT_EMPTY"),
        (" \n\u2003", "Comment must be non-empty.", "COMMENT_EMPTY"),
        (None, "Comment must be non-empty.", "COMMENT_EMPTY"),
        ("a" * 20_481, "Comment text too long.", "COMMENT_TOO_LONG"),
        ("\N{PILE OF POO}" * 5_121, "Comment text too long.", "COMMENT_TOO_LONG"),
    ],
    ids=["empty", "blank", "none", "long", "long in bytes"],
)
def test_no_text_and_too_much_of_it_are_errors(
    server: Any, method: str, text: str | None, message: str, kind: str
) -> None:
    asked = {"requestedAttributes": {"TOXICITY": {}}}
    if method == "suggestscore":
        asked = {"attributeScores": {"TOXICITY": {"summaryScore": {"value": 1}}}}
    answer = httpx.post(f"{server.url}{PATHS[0]}{method}", json={"comment": {"text": text}} | asked)
    error = refused(answer, 400, "INVALID_ARGUMENT", message)
    assert error["details"] == [{"@type": DETAIL, "errorType": kind}]


def test_a_text_of_just_20_kilobytes_is_scored(server: Any) -> None:
    assert analyze(server.url, "\N{PILE OF POO}" * 5_120).status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"x": 1}', 'Invalid JSON payload received. Unknown name "x": Cannot find field.'),
        ('{"comment": {"y": 1}}', "Invalid JSON payload received. Unknown name \"y\" at 'comment': Cannot find field."),
        ('{"comment": {"text": 5}}', "Invalid value at 'comment.text': Input should be a valid string."),
        ('{"spanAnnotations": 1}', "Invalid value at 'spanAnnotations': Input should be a valid boolean."),
        ('{"languages": {"a": "en"}}', "Invalid value at 'languages.0': Input should be a valid string."),
        ('{"requestedAttributes": {"FUN": {}}}', "Unknown requested attribute: FUN"),
        ('{"requestedAttributes": {"You fool": {}}}', "Unknown requested attribute: (a name of 8 characters)"),
        (
            '{"requestedAttributes": {"TOXICITY": {"scoreType": "PERCENTILE"}}}',
            "Invalid value at 'requestedAttributes.TOXICITY.scoreType': Input should be 'SCORE_TYPE_UNSPECIFIED' or "
            "'PROBABILITY'.",
        ),
    ],
)
def test_unknown_fields_and_wrong_types_are_named(server: Any, body: str, message: str) -> None:
    sound = {"comment": {"text": "kind"}, "requestedAttributes": {"TOXICITY": {}}}
    changed = json.dumps(sound | json.loads(body))
    answer = httpx.post(f"{server.url}/comments:analyze", content=changed, headers=JSON)
    refused(answer, 400, "INVALID_ARGUMENT", message)


BROKEN = {
    "nothing": b"",
    "half": b'{"comment": {"text": "You fool',
    "not UTF-8": b'{"comment": {"text": "You \xff fool"}}',
    "an encoded surrogate": b'{"comment": {"text": "You \xed\xa0\x80 fool"}}',
    "a list": b'["You fool"]',
    "a text": b'"You fool"',
    "null": b"null",
    "deep": b'{"comment":' * 10_000,
    "a deep list": b"[" * 100_000,
    "a huge number": b'{"comment": 1' + b"0" * 10_000 + b"}",
    "no number": b'{"comment": {"text": "You fool"}, "clientToken": NaN}',
    "a number beyond floats": b'{"comment": {"text": "You fool"}, "requestedAttributes": {"TOXICITY": 1e999}}',
    "a text as a name": b'{"You fool, you are stupid": 1}',
    "a long name": b'{"' + b"fool" * 10_000 + b'": 1}',
    "two texts": b'{"comment": {"text": "a"}}{"comment": {"text": "You fool"}}',
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("method", ["analyze", "suggestscore"])
def test_a_body_that_cannot_be_read_is_a_clear_400_that_quotes_nothing(server: Any, method: str, body: bytes) -> None:
    answer = httpx.post(f"{server.url}{PATHS[0]}{method}", content=body, headers=JSON)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert error["message"].startswith(("Invalid JSON payload received. ", "Invalid value at '"))
    assert "fool" not in answer.text


def test_keys_are_requested_as_google_does(keyed_server: Any) -> None:
    server, key = keyed_server
    message = "Method doesn't allow unregistered callers. Please use an API key: ?key=KEY."
    refused(analyze(server.url, "kind"), 403, "PERMISSION_DENIED", message)
    body = {"comment": {"text": "kind"}, "requestedAttributes": {"TOXICITY": {}}}
    url = f"{server.url}{PATHS[0]}analyze"
    message = "API key not valid. Please pass a valid API key."
    refused(httpx.post(url, params={"key": "wrong"}, json=body), 400, "INVALID_ARGUMENT", message)
    assert httpx.post(url, params={"key": key}, json=body).status_code == 200
    assert httpx.get(f"{server.url}/$discovery/rest").status_code == 200


@pytest.mark.parametrize(
    ("problem", "status", "name"),
    [
        (ApiError(429, "queue_full", "m", retry_after_s=7), 429, "RESOURCE_EXHAUSTED"),
        (ApiError(504, "timeout", "m"), 504, "DEADLINE_EXCEEDED"),
        (ApiError(503, "shutting_down", "m"), 503, "UNAVAILABLE"),
        (ApiError(413, "too_large", "m"), 413, "INVALID_ARGUMENT"),
        (ApiError(500, "internal", "m"), 500, "INTERNAL"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_problem_of_the_server_has_googles_name(problem: ApiError, status: int, name: str) -> None:
    answer = render_problem(problem)
    assert answer.status_code == status
    assert json.loads(bytes(answer.body)) == {"error": {"code": status, "message": "m", "status": name}}
    assert answer.headers.get("Retry-After") == ("7" if status == 429 else None)


def test_a_rate_that_is_used_up_has_googles_reason_too() -> None:
    answer = render_problem(ApiError(429, "rate_limited", "m", retry_after_s=7))
    error = json.loads(bytes(answer.body))["error"]
    assert (answer.headers["Retry-After"], error["status"]) == ("7", "RESOURCE_EXHAUSTED")
    assert error["details"][0]["reason"] == "RATE_LIMIT_EXCEEDED"


def test_unknown_paths_and_methods_are_answered_in_the_same_form(server: Any) -> None:
    answer = httpx.get(f"{server.url}{PATHS[0]}analyze")
    assert (answer.status_code, answer.json()["error"]["code"], answer.headers["Allow"]) == (405, 405, "POST")
    answer = httpx.post(f"{server.url}{PATHS[0]}delete", json={})
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")
    answer = httpx.get(f"{server.url}/$discovery/rest?version=v2")
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")


def test_the_openapi_document_describes_what_is_accepted(server: Any) -> None:
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    for path in PATHS:
        schema = paths[f"{path}analyze"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert set(ATTRIBUTES) <= set(schema["properties"]["requestedAttributes"]["propertyNames"]["enum"])
        assert "$ref" not in json.dumps(schema)
        assert paths[f"{path}suggestscore"]["post"]["requestBody"]["required"]
    assert "/$discovery/rest" in paths


def test_your_own_labels_are_attributes_under_their_own_names() -> None:
    assert find_attributes(["rude", "toxic"]) == {
        "RUDE": "rude",
        "TOXICITY": "toxic",
        "TOXICITY_EXPERIMENTAL": "toxic",
    }
    assert find_attributes(["threat", "off topic!"])["OFF_TOPIC_"] == "off topic!"


def folder_of(server: Any) -> Path:
    """Where the server keeps its feedback."""
    return Path(psutil.Process(server.process.pid).cwd())


def moderation(server: Any, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "moderation", *words]
    return subprocess.run(command, cwd=folder_of(server), capture_output=True, text=True, timeout=60)


def test_decisions_become_a_table_for_training(server: Any, tmp_path: Path) -> None:
    texts = [f'a comment, "{number}"\nof \N{PILE OF POO} several lines' for number in range(4)]
    for number, text in enumerate(texts):
        answer = suggest(server.url, text, {"TOXICITY": 0.2 * number, "THREAT_EXPERIMENTAL": 1 - number % 2})
        assert answer.status_code == 200
    assert suggest(server.url, texts[0], {"TOXICITY": 1}, doNotStore=True).status_code == 200, "the newest counts"
    assert suggest(server.url, "never to be stored", {"TOXICITY": 1, "THREAT": 1}, doNotStore=True).status_code == 200
    assert suggest(server.url, "without a threat", {"TOXICITY": 1}).status_code == 200

    path = tmp_path / "decisions.csv"
    done = moderation(server, "feedback", "export", "-o", str(path), "--label-columns", "toxic,threat")
    assert done.returncode == 0, done.stderr
    table = read_table(path).set_index("comment_text")
    assert list(table.columns) == ["toxic", "threat"]
    assert table.loc[texts].to_numpy().tolist() == [["1", "1"], ["0", "0"], ["0", "1"], ["1", "0"]]
    assert not {"never to be stored", "without a threat"} & set(table.index)

    checked = moderation(server, "check", str(path))
    assert checked.returncode == 0, checked.stderr
    assert "toxic" in checked.stdout

    words = ("feedback", "export", "-o", str(path), "--label-columns", "toxic")
    again = moderation(server, *words)
    assert (again.returncode, "exists" in again.stderr) == (1, True)
    assert moderation(server, *words, "--overwrite").returncode == 0
    assert "without a threat" in set(read_table(path)["comment_text"])


def test_a_decision_is_answered_with_what_was_understood(server: Any) -> None:
    answer = suggest(server.url, ITALIAN, {"TOXICITY": 1}, clientToken="c", languages=["it"], communityId="forum")
    assert answer.json() == {
        "clientToken": "c",
        "requestedLanguages": ["it"],
        "detectedLanguages": ["it"],
        "modelVersion": answer.headers["X-Model-Version"],
    }


def test_a_database_that_accepts_nothing_gives_503_until_it_is_repaired(server: Any) -> None:
    assert suggest(server.url, "kind", {"TOXICITY": 0}).status_code == 200
    with closing(sqlite3.connect(folder_of(server) / "moderation-feedback.db", isolation_level=None)) as database:
        database.execute("ALTER TABLE feedback RENAME TO kept")
        database.execute("CREATE TABLE feedback (id INTEGER)")
        answer = suggest(server.url, "an unmistakable fool", {"TOXICITY": 1})
        refused(answer, 503, "UNAVAILABLE", "Feedback cannot be stored now.")
        assert answer.headers["Retry-After"] == "5"
        database.execute("DROP TABLE feedback")
        database.execute("ALTER TABLE kept RENAME TO feedback")
    assert suggest(server.url, "kind", {"TOXICITY": 0}).status_code == 200
    (lost,) = [line for line in server.lines() if line["event"] == "feedback lost"]
    assert "OperationalError" in lost["error"]
    assert "unmistakable" not in "".join(server.log)


def test_a_database_that_does_not_answer_gives_503_in_time(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feedback, "WAIT_S", 1)
    monkeypatch.setattr(writer, "GIVE_UP_S", 0.2)
    path = tmp_path / "f.db"
    app = create_app(tiny_bundle, threads=1, feedback_url=f"sqlite:///{path}")

    async def send() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        body = {
            "comment": {"text": "an unmistakable fool"},
            "attributeScores": {"TOXICITY": {"summaryScore": {"value": 1}}},
        }
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://x") as client,
        ):
            answers = [await client.post("/comments:suggestscore", json=body)]
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                answers.append(await client.post("/comments:suggestscore", json=body))
            names = ("TOXICITY", "FLIRTATION", "SPAM_EXPERIMENTAL", "my_secret", "another")
            body = {"comment": {"text": "fool"}, "requestedAttributes": {name: {} for name in names}}
            await client.post("/comments:analyze", json=body)
            await client.post("/comments:analyze", json=body | {"requestedAttributes": {"FLIRTATION": {}}})
            return [*answers, await client.get("/metrics")]

    kept, lost, metrics = asyncio.run(send())
    for name, labels, value in (
        ("decisions", 'outcome="kept"', 1),
        ("decisions", 'outcome="failed"', 1),
        ("unsupported_attributes", 'attribute="FLIRTATION"', 2),
        ("unsupported_attributes", 'attribute="SPAM_EXPERIMENTAL"', 1),
        ("unsupported_attributes", 'attribute="other"', 2),
    ):
        assert f"moderation_{name}_total{{{labels}}} {value}.0\n" in metrics.text
    assert "my_secret" not in metrics.text
    assert kept.status_code == 200
    refused(lost, 503, "UNAVAILABLE", "Feedback cannot be stored now.")
    (line,) = [record for record in caplog.records if record.message == "feedback lost"]
    assert vars(line)["error"].endswith("f.db: no answer in time")


@pytest.mark.parametrize(
    "scores", [{"TOXICITY": 1, "TOXICITY_EXPERIMENTAL": 0}, {"INSULT_EXPERIMENTAL": 0, "INSULT": 1}]
)
def test_the_plain_one_of_two_names_of_a_label_counts(server: Any, scores: dict[str, float]) -> None:
    text = f"a decision with two names: {min(scores)}"
    assert suggest(server.url, text, scores).status_code == 200
    with closing(sqlite3.connect(folder_of(server) / "moderation-feedback.db")) as database:
        query = "SELECT label_scores, attribute_scores FROM feedback WHERE text = ?"
        ((by_label, by_attribute),) = database.execute(query, [json.dumps(text)])
    assert json.loads(by_label) == {find_attributes(["toxic", "insult"])[min(scores)]: 1}
    assert json.loads(by_attribute) == scores


@pytest.mark.parametrize("value", [-0.1, 1.1, "1.1", "one", " 1", None, True, {}])
def test_a_decision_that_is_not_a_probability_is_refused(server: Any, value: Any) -> None:
    answer = suggest(server.url, "kind", {"TOXICITY": value})
    assert answer.status_code == 400
    assert "attributeScores.TOXICITY.summaryScore.value" in answer.json()["error"]["message"]


def test_disguised_english_is_answered_as_plain_english() -> None:
    """A language gate that looks at the letters alone would refuse the second text, which the model reads at once."""
    plain = "you are a disgusting idiot and nobody wants you here"
    accented = "yòú àré à dìsgústíng ídíòt ànd nóbódy wànts yòú héré"
    with TestClient(create_app(threads=1)) as client:
        answers = [
            client.post(
                f"{PATHS[0]}analyze", json={"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}}}
            ).json()
            for text in (plain, accented)
        ]
        predicted = client.post("/v1/predict", json={"texts": [accented]}).json()
    scores = [answer["attributeScores"]["TOXICITY"]["summaryScore"] for answer in answers]
    assert scores[0] == scores[1]
    assert answers[1]["languages"] == answers[1]["detectedLanguages"] == ["en"]
    assert predicted["results"][0]["language"] == {"code": "en", "supported": True}
