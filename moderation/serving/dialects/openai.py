"""OpenAI's moderation language: `POST /v1/moderations`.

The categories are OpenAI's, and what they say comes from the model's own labels by the table `CATEGORIES`. A category
for which the model has no label is false and 0.0 in every answer; `/v1/model` lists which those are.
"""

import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from moderation.data.languages import Languages
from moderation.inference.classifier import TextResult
from moderation.serving.dialects.language import Language
from moderation.serving.moderator import Moderator
from moderation.serving.problems import ApiProblem


@dataclass(frozen=True)
class Category:
    """Where a category comes from.

    Args:
        labels: Of which it is made.
        every: Whether all of them must hold (then its score is the lowest of theirs), or any of them (the highest).
    """

    labels: tuple[str, ...] = ()
    every: bool = False


CATEGORIES: dict[str, Category] = {
    "harassment": Category(("toxic", "severe_toxic", "insult")),
    "harassment/threatening": Category(("threat",)),
    "hate": Category(("identity_hate",)),
    "hate/threatening": Category(("identity_hate", "threat"), every=True),
    "illicit": Category(),
    "illicit/violent": Category(),
    "self-harm": Category(),
    "self-harm/instructions": Category(),
    "self-harm/intent": Category(),
    "sexual": Category(),
    "sexual/minors": Category(),
    "violence": Category(("threat",)),
    "violence/graphic": Category(),
}
DEFAULT_MODEL = "text-moderation-latest"

_FEW = 8  # texts whose results are put together at once
_FIRST_FAULT = Field(fail_fast=True)  # of a list of a hundred thousand wrong items, name one
_MODEL = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
_KINDS = {401: "authentication_error", 429: "rate_limit_error"} | dict.fromkeys((500, 503, 504), "server_error")
_CODES = {
    "unauthorized": "invalid_api_key",
    "invalid_key": "invalid_api_key",
    "rate_limited": "rate_limit_exceeded",
    "queue_full": "rate_limit_exceeded",
}


class TextPart(BaseModel):
    """A part of one input."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: StrictStr


def _say_once(given: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """One complaint about an input, where each of its three forms would have one of its own."""
    try:
        return read(given)
    except ValidationError:
        raise PydanticCustomError(
            "no_input",
            'Expected a text, a list of texts, or {"type": "text", "text": ...} parts alone, in valid Unicode',
        ) from None


class ModerationRequest(BaseModel):
    """What to classify."""

    model_config = ConfigDict(extra="forbid")

    input: Annotated[
        StrictStr | Annotated[list[StrictStr], _FIRST_FAULT] | Annotated[list[TextPart], _FIRST_FAULT],
        WrapValidator(_say_once),
        Field(description="a text; several texts, with a result for each; or parts of one text, with one result"),
    ]
    model: Annotated[
        StrictStr | None, Field(description="any name; echoed, and without influence", pattern=_MODEL.pattern)
    ] = None


class Moderation(BaseModel):
    """What the model says of one text."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]
    language: Annotated[Language, Field(description="not in OpenAI's own answers; its clients pass it on")]


class ModerationAnswer(BaseModel):
    """Results, in the order of the texts."""

    id: str
    model: str
    model_version: Annotated[str, Field(description="the model that really answered")]
    thresholds_from: Annotated[
        Literal["bundle", "set"],
        Field(description="whose thresholds decided: the bundle's, or some set for this server"),
    ]
    results: list[Moderation]


class OpenAIProblemDetail(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIProblem(BaseModel):
    """A refusal, in OpenAI's form."""

    error: OpenAIProblemDetail


def make_router(max_texts: int) -> APIRouter:
    """The routes.

    Args:
        max_texts: Texts in one request at most.
    """
    responses: dict[int | str, dict[str, Any]] = {code: {"model": OpenAIProblem} for code in ("4XX", "503", "504")}
    router = APIRouter(prefix="/v1", tags=["openai"], responses=responses)

    @router.post("/moderations", response_model=ModerationAnswer)
    async def moderations(body: ModerationRequest, request: Request) -> Response:
        """Classify texts into OpenAI's categories."""
        texts = _texts(body.input)
        if len(texts) > max_texts:
            raise ApiProblem(
                413, "too_many_texts", f"{len(texts)} inputs; expected {max_texts} at most.", param="input"
            )
        moderator: Moderator = request.app.state.moderator
        results = await moderator.read(texts)
        languages = request.app.state.languages
        if len(texts) > _FEW:  # not on the event loop, where all others would wait
            found = await run_in_threadpool(_put_together, texts, results, languages, moderator.classifier.languages)
        else:
            found = _put_together(texts, results, languages, moderator.classifier.languages)
        answer = {
            "id": f"modr-{uuid.uuid4().hex}",
            "model": body.model or DEFAULT_MODEL,
            "model_version": moderator.classifier.model_version,
            "thresholds_from": moderator.classifier.thresholds_from,
        }
        return JSONResponse(answer | {"results": found})

    return router


def describe_categories(labels: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Every category with the labels that it comes from, and the labels that go into none.

    >>> categories, without = describe_categories(["toxic", "obscene"])
    >>> categories["harassment"], categories["sexual"], without
    ({'labels': ['toxic'], 'supported': True}, {'labels': [], 'supported': False}, ['obscene'])
    """
    categories = {}
    for name, category in CATEGORIES.items():
        present = [label for label in category.labels if label in labels]
        supported = len(present) == len(category.labels) > 0 if category.every else bool(present)
        categories[name] = {"labels": present, "supported": supported}
    used = {label for category in CATEGORIES.values() for label in category.labels}
    return categories, [label for label in labels if label not in used]


def _texts(given: str | Sequence[str] | Sequence[TextPart]) -> list[str]:
    """The texts to classify; parts belong together and make one."""
    if isinstance(given, str):
        return [given]
    parts = [part.text for part in given if isinstance(part, TextPart)]
    return ["\n\n".join(parts)] if parts else [text for text in given if isinstance(text, str)]


def _put_together(
    texts: Sequence[str], results: Sequence[TextResult], languages: Languages, trained_on: Sequence[str]
) -> list[dict[str, Any]]:
    return [
        _categorise(result) | {"language": languages.describe(text, trained_on)}
        for text, result in zip(texts, results, strict=True)
    ]


def _categorise(result: TextResult) -> dict[str, Any]:
    flags, scores = {}, {}
    for name, category in CATEGORIES.items():
        present = [label for label in category.labels if label in result.probabilities]
        if not present or (category.every and len(present) < len(category.labels)):
            flags[name], scores[name] = False, 0.0
            continue
        decide: Callable[..., bool] = all if category.every else any
        score: Callable[..., float] = min if category.every else max
        flags[name] = decide(label in result.flagged for label in present)
        scores[name] = score(result.probabilities[label] for label in present)
    return {
        "flagged": any(flags.values()),
        "categories": flags,
        "category_scores": scores,
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
    }


def render_problem(problem: ApiProblem) -> JSONResponse:
    """A refusal in OpenAI's words."""
    detail = {
        "message": problem.message,
        "type": _KINDS.get(problem.status, "invalid_request_error"),
        "param": problem.param,
        "code": _CODES.get(problem.kind, problem.kind),
    }
    status = 400 if problem.status == 422 else problem.status  # as theirs, whose clients know it as a bad request
    return JSONResponse({"error": detail}, status_code=status, headers=problem.headers)
