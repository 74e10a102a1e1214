"""OpenAI's moderation API: `POST /v1/moderations`.

The categories are OpenAI's; their values come from the model's own labels (`moderation.categories`). A category for
which the model has no label is false and 0.0 in every answer; `/v1/model` lists those. A text is flagged if any of its
labels is, whether that label maps to a category or not.
"""

import uuid
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal, NotRequired, TypedDict

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from pydantic.json_schema import JsonSchemaValue
from starlette.responses import JSONResponse, Response

from moderation.categories import BOTH, CATEGORIES, Counterparts
from moderation.data.languages import Languages
from moderation.inference.classifier import TextResult
from moderation.serving.admission import CALLER
from moderation.serving.bodies.json_bodies import read_json
from moderation.serving.dialects.native import Language
from moderation.serving.dialects.openai_requests import Asked, ModerationRequest, read_request
from moderation.serving.errors import ApiError
from moderation.serving.heavy_requests import read_by_size, run_heavy
from moderation.serving.state import state_for

_FEW = 8  # texts whose answer is assembled on the event loop
_KINDS = {401: "authentication_error", 429: "rate_limit_error"} | dict.fromkeys((500, 501, 503, 504), "server_error")
_CODES = {
    "unauthorized": "invalid_api_key",
    "invalid_key": "invalid_api_key",
    "rate_limited": "rate_limit_exceeded",
    "queue_full": "rate_limit_exceeded",
}


class Moderation(BaseModel):
    """The model's result for one text."""

    flagged: Annotated[bool, Field(description="whether any label of the model is flagged, in a category or not")]
    flagged_labels: Annotated[list[str], Field(description="the flagged labels; not in OpenAI's own answers")]
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]
    language: Annotated[Language, Field(description="not in OpenAI's own answers; its clients pass it through")]
    model_version: Annotated[
        str | None, Field(description="the model that read this text, where there are several, or several languages")
    ] = None


class ModerationAnswer(BaseModel):
    """Results, in the order of the texts."""

    id: str
    model: str
    model_version: Annotated[str, Field(description="the model that really answered")]
    thresholds_from: Annotated[
        Literal["bundle", "set"],
        Field(description="whether the bundle's thresholds decided, or some set for this server"),
    ]
    results: list[Moderation]
    ignored_images: Annotated[
        int | None, Field(description="number of ignored images; only present if there were any")
    ] = None


class OpenAIProblemDetail(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIProblem(BaseModel):
    """A refusal, in OpenAI's format."""

    error: OpenAIProblemDetail


def make_router(max_texts: int) -> APIRouter:
    """The routes.

    Args:
        max_texts: Maximum number of texts in one request.
    """
    router = APIRouter(
        prefix="/v1",
        tags=["openai"],
        responses={code: {"model": OpenAIProblem} for code in ("4XX", "501", "503", "504")},
    )

    @router.post("/moderations", response_model=ModerationAnswer, openapi_extra={"requestBody": _describe_body()})
    async def moderations(request: Request) -> Response:
        """Classify texts into OpenAI's categories."""
        state = state_for(request)
        ignore_images = state.dialects.openai_images == "ignore"
        read = partial(_read, ignore_images=ignore_images)
        asked = await read_by_size(read, await request.body())
        if len(asked.texts) > max_texts:
            raise ApiError(
                413, "too_many_texts", f"{len(asked.texts)} inputs; expected {max_texts} at most.", param="input"
            )
        if not state.counterparts.has_categories:
            raise ApiError(
                501,
                "no_categories",
                "No label of this server's model maps to an OpenAI category, so this endpoint cannot answer. The "
                "server's operator can set a mapping: moderation serve --map LABEL=CATEGORY, such as "
                "--map offensive=harassment. "
                "/v1/predict answers with the model's own labels.",
            )
        service = state.service
        results = await service.read(asked.texts, caller=request.scope[CALLER])
        known = service.classifier.languages
        work = (asked.texts, results, state.counterparts, state.languages, known)
        # Many results are not assembled on the event loop, where all other requests would wait.
        found = await run_heavy(_put_together, *work) if len(results) > _FEW else _put_together(*work)
        answer = {
            "id": f"modr-{uuid.uuid4().hex}",
            "model": asked.model,
            "model_version": service.classifier.model_version,
            "thresholds_from": service.classifier.thresholds_from,
        }
        ignored = {"ignored_images": asked.n_images} if asked.n_images else {}
        return JSONResponse({**answer, **ignored, "results": found})

    return router


class ModerationJson(TypedDict):
    """As `Moderation`, but without the cost of validating hundreds of our own results."""

    flagged: bool
    flagged_labels: list[str]
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]
    language: dict[str, str | bool]
    model_version: NotRequired[str]


def _read(body: bytes, *, ignore_images: bool) -> Asked:
    return read_request(read_json(body), ignore_images=ignore_images)


def _describe_body() -> JsonSchemaValue:
    schema = ModerationRequest.model_json_schema()
    part = schema.pop("$defs")["TextPart"]
    several = {"type": "array", "items": {"anyOf": [{"type": "string"}, part]}, "minItems": 1}
    schema["properties"]["input"]["anyOf"] = [{"type": "string"}, several, part]
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _put_together(
    texts: Sequence[str],
    results: Sequence[TextResult],
    counterparts: Counterparts,
    languages: Languages,
    trained_on: Sequence[str],
) -> list[ModerationJson]:
    return [
        categorise(result, counterparts, languages.describe(text, trained_on, result.language))
        for text, result in zip(texts, results, strict=True)
    ]


def categorise(result: TextResult, counterparts: Counterparts, language: dict[str, str | bool]) -> ModerationJson:
    """The model's result for a text, in OpenAI's categories."""
    flags, scores = {}, {}
    for name, labels in counterparts.categories.items():
        flags[name] = any(label in result.flagged for label in labels)
        scores[name] = max((result.probabilities[label] for label in labels), default=0.0)
    name, both = BOTH
    if not counterparts.categories[name]:
        flags[name] = all(flags[part] for part in both)
        scores[name] = min(scores[part] for part in both)
    answer = ModerationJson(
        flagged=bool(result.flagged),
        flagged_labels=list(result.flagged),
        categories=flags,
        category_scores=scores,
        category_applied_input_types={name: ["text"] for name in CATEGORIES},
        language=language,
    )
    if result.language is not None:
        answer["model_version"] = result.model_version
    return answer


def render_problem(problem: ApiError) -> JSONResponse:
    """A refusal in OpenAI's format."""
    detail = {
        "message": problem.message,
        "type": _KINDS.get(problem.status, "invalid_request_error"),
        "param": problem.param,
        "code": _CODES.get(problem.kind, problem.kind),
    }
    status = 400 if problem.status == 422 else problem.status  # as at OpenAI: clients know it as a bad request
    return JSONResponse({"error": detail}, status_code=status, headers=problem.headers)
