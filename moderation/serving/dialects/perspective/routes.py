"""The Perspective API, for clients written for Google's: analyze, suggestscore, discovery.

A score is the model's probability of a label. Analyzed texts are never stored, whatever `doNotStore` says.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter, Request
from pydantic.json_schema import JsonSchemaValue
from starlette.responses import JSONResponse, Response

from moderation.categories import TWIN
from moderation.errors import ArtifactError
from moderation.inference.classifier import TextResult
from moderation.inference.sentences import split_sentences
from moderation.serving.admission import CALLER
from moderation.serving.dialects.perspective.discovery import VERSION, render_api
from moderation.serving.dialects.perspective.languages import TextLanguage
from moderation.serving.dialects.perspective.models import (
    AnalyzeCommentRequest,
    AnalyzeCommentResponse,
    AttributeScores,
    Message,
    PerspectiveProblem,
    Problem,
    Score,
    SpanScore,
    SuggestCommentScoreRequest,
    SuggestCommentScoreResponse,
    inline_schema,
    show_name,
)
from moderation.serving.dialects.perspective.requests import (
    Suggestion,
    Wanted,
    no_feedback,
    read_suggestion,
    read_wanted,
)
from moderation.serving.errors import ApiError, describe_fault
from moderation.serving.feedback.decisions import WAIT_S, Decision, OutcomeUnknownError
from moderation.serving.heavy_requests import read_by_size
from moderation.serving.service import PredictionService
from moderation.serving.state import AppState, state_for

logger = logging.getLogger(__name__)

MAX_SENTENCES = 256
"""Maximum number of spans in one answer; the last one contains all the rest."""

_STATUS_OF_KIND = {
    "unauthorized": (403, "PERMISSION_DENIED"),
    "invalid_key": (400, "INVALID_ARGUMENT"),
    "method_not_allowed": (405, "UNIMPLEMENTED"),
    "timeout": (504, "DEADLINE_EXCEEDED"),
    "slow_body": (408, "DEADLINE_EXCEEDED"),
}
_STATUS = {404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
_MESSAGES = {
    "unauthorized": "Method doesn't allow unregistered callers. Please use an API key: ?key=KEY.",
    "invalid_key": "API key not valid. Please pass a valid API key.",
}
_REASONS = {"invalid_key": "API_KEY_INVALID", "rate_limited": "RATE_LIMIT_EXCEEDED"}
_SOON_S = 0.5


def to_utf16(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    r"""Offsets of code points as offsets of UTF-16 units, which JavaScript, Java and C# count.

    Args:
        text: Without halves of surrogate pairs.
        spans: Begin and end of each, in order and without overlap.

    >>> to_utf16("\N{GRINNING FACE} Nice day. You fool!", [(0, 11), (12, 21)])
    [(0, 12), (13, 22)]
    """
    if text.isascii():
        return list(spans)
    found = []
    place = units = 0
    for begin, end in spans:
        first = units + _count_units(text[place:begin])
        units = first + _count_units(text[begin:end])
        place = end
        found.append((first, units))
    return found


def _count_units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


@dataclass(frozen=True)
class Analysis:
    """A request for scores that can be answered.

    Args:
        wanted: The request.
        language: Of the text.
        spans: Sentences to score too, in code points.
    """

    wanted: Wanted
    language: TextLanguage
    spans: list[tuple[int, int]]

    @property
    def pieces(self) -> list[str]:
        """The sentences to score."""
        return [self.wanted.text[begin:end] for begin, end in self.spans]


def make_router(attributes: Sequence[str]) -> APIRouter:
    """The routes.

    Args:
        attributes: Those that the OpenAPI document names; requests get those of the model.
    """
    router = APIRouter(tags=["perspective"], responses={code: {"model": Problem} for code in ("4XX", "503", "504")})
    for prefix in (f"/{VERSION}/comments:", "/comments:"):
        for name, handle, asked, answer in (
            ("analyze", analyze, AnalyzeCommentRequest, AnalyzeCommentResponse),
            ("suggestscore", suggest_score, SuggestCommentScoreRequest, SuggestCommentScoreResponse),
        ):
            router.add_api_route(
                f"{prefix}{name}",
                handle,
                methods=["POST"],
                response_model=answer,
                openapi_extra={"requestBody": _describe_body(asked, attributes)},
            )
    router.add_api_route("/$discovery/rest", discover, methods=["GET"], response_model=JsonSchemaValue)
    return router


async def analyze(request: Request) -> Response:
    """Scores of a comment, one for each requested attribute."""
    state = state_for(request)
    analysis = prepare(state, await read_by_size(partial(read_wanted, state), await request.body()))
    texts = [analysis.wanted.text, *analysis.pieces]
    whole, *parts = await state.service.read(texts, caller=request.scope[CALLER], owners=[0] * (len(texts) - 1))
    return render_analysis(state, analysis, whole, parts)


async def suggest_score(request: Request) -> Response:
    """Store what a moderator decided about a comment."""
    state = state_for(request)
    suggestion = await read_by_size(partial(read_suggestion, state), await request.body())
    return await take_suggestion(state, suggestion, request.scope[CALLER])


async def discover(request: Request, version: str = VERSION) -> Response:
    """What Google's generated clients read first: where and how to call the methods."""
    if version != VERSION:
        raise ApiError(404, "not_found", f"No such version of this API; expected version={VERSION}.")
    root = str(request.scope.get("root_path", "")).rstrip("/")  # base_url lacks what a mount adds to it
    url = state_for(request).root_url or str(request.base_url.replace(path=f"{root}/"))
    return Response(render_api(url), media_type="application/json")


def render_problem(problem: ApiError) -> JSONResponse:
    """A refusal in Google's words."""
    code, status = _STATUS_OF_KIND.get(problem.kind) or (
        problem.status,
        _STATUS.get(problem.status, "INVALID_ARGUMENT"),
    )
    error = {"code": code, "message": _MESSAGES.get(problem.kind, problem.message), "status": status}
    if isinstance(problem, PerspectiveProblem):
        error["details"] = problem.details
    elif problem.kind in _REASONS:
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        error["details"] = [{"@type": kind, "reason": _REASONS[problem.kind], "domain": "googleapis.com"}]
    return JSONResponse({"error": error}, status_code=code, headers=problem.headers)


def prepare(state: AppState, wanted: Wanted, most: int = MAX_SENTENCES) -> Analysis:
    """Check that a request can be answered, and find what to compute for it.

    Args:
        state: Of the application.
        wanted: The request.
        most: Maximum number of spans.

    Raises:
        ApiError: 400, the language; 413 or 429, the text is too long or the queue is.
    """
    state.service.check_size([wanted.text])
    language = state.language_rule.judge(wanted.text, wanted.languages, next(iter(wanted.labels)))
    spans = split_sentences(wanted.text, most=most) if wanted.by_sentence else []
    return Analysis(wanted, language, spans)


def render_analysis(state: AppState, analysis: Analysis, whole: TextResult, parts: Sequence[TextResult]) -> Response:
    """The answer, from the results for the text and each of its spans; also counts the text's language."""
    wanted, spans = analysis.wanted, analysis.spans
    if not wanted.by_sentence:  # still one span, which some clients read
        spans, parts = [(0, len(wanted.text))], [whole]
    spans = to_utf16(wanted.text, spans)
    scores = {
        name: _score(label, whole, spans, parts)
        for name, label in wanted.labels.items()
        if whole.probabilities[label] >= wanted.thresholds[name]
    }
    state.language_rule.count(analysis.language)
    answer = AnalyzeCommentResponse(
        attribute_scores=scores or None,
        languages=analysis.language.named,
        detected_languages=[analysis.language.detected],
        unsupported_attributes=list(map(show_name, wanted.unsupported)) or None,
        client_token=wanted.client_token,
        model_version=whole.model_version,
    )
    return render_message(answer, analysis.language.headers)


def _score(
    label: str, whole: TextResult, spans: Sequence[tuple[int, int]], parts: Sequence[TextResult]
) -> AttributeScores:
    return AttributeScores(
        summary_score=Score(value=whole.probabilities[label], type="PROBABILITY"),
        span_scores=[
            SpanScore(begin=begin, end=end, score=Score(value=part.probabilities[label], type="PROBABILITY"))
            for (begin, end), part in zip(spans, parts, strict=True)
        ],
    )


async def take_suggestion(state: AppState, suggestion: Suggestion, caller: str | None) -> Response:
    """Store a decision.

    Args:
        state: Of the application.
        suggestion: The decision, as the client sent it.
        caller: Name of the request's key, if any.

    Raises:
        ApiError: 404, this server stores none; 503, it is not stored; 500 or 504, it may be.
    """
    service, feedback, known = state.service, state.feedback, state.counterparts.attributes
    if feedback is None:
        raise no_feedback()
    detected, values = state.languages.detect(suggestion.text), suggestion.values
    decision = Decision(
        text=suggestion.text,
        keep_text=suggestion.keep_text,
        attribute_scores=values,
        label_scores={known[name]: values[name] for name in sorted(values, key=_is_plain)},  # the plain name wins
        languages=tuple(suggestion.languages or [detected]),
        model_version=service.classifier.model_version,
        model_scores=await _score_soon(service, suggestion.text, caller),
        community_id=suggestion.community_id,
        client_token=suggestion.client_token,
    )
    try:
        await feedback.write(decision, caller)
    except ArtifactError as error:
        state.metrics.decision("failed")
        logger.error("feedback lost", extra={"error": str(error)})
        if isinstance(error, OutcomeUnknownError):
            unknown = "The database did not report whether the decision was stored. Send it again: twice does no harm."
            raise ApiError(504, "timeout", unknown, retry_after_s=WAIT_S) from None
        raise not_stored() from None
    except Exception as error:  # a bug; a batch still has to answer for its other decisions
        state.metrics.decision("failed")
        logger.error("fault", extra=describe_fault(error))
        unknown = "Internal error; it is not known whether the decision was stored."
        raise ApiError(500, "internal", unknown) from None
    state.metrics.decision("kept")
    answer = SuggestCommentScoreResponse(
        client_token=suggestion.client_token,
        requested_languages=suggestion.languages,
        detected_languages=[detected],
        model_version=service.classifier.model_version,
    )
    return render_message(answer)


def not_stored() -> ApiError:
    """The refusal of a decision that is not stored, and will not be unless it is sent again."""
    return ApiError(503, "unavailable", "Feedback cannot be stored now.", retry_after_s=WAIT_S)


def _is_plain(name: str) -> bool:
    return not name.endswith(TWIN)


async def _score_soon(service: PredictionService, text: str, caller: str | None) -> dict[str, float] | None:
    """The model's scores of a text, if they come at once; a decision is worth storing without them."""
    try:
        async with asyncio.timeout(_SOON_S):
            return (await service.read([text], caller=caller))[0].probabilities
    except (ApiError, TimeoutError):
        return None
    except Exception as error:
        logger.error("fault", extra=describe_fault(error))
        return None


def render_message(message: Message, headers: Mapping[str, str] | None = None) -> Response:
    """A message as a response."""
    return Response(message.model_dump_json(exclude_none=True), headers=headers, media_type="application/json")


def _describe_body(kind: type[Message], attributes: Sequence[str]) -> JsonSchemaValue:
    """A method's request body for the OpenAPI document: the type of its message, and what the type cannot express."""
    schema = inline_schema(kind)
    named = "requestedAttributes" if "requestedAttributes" in schema["properties"] else "attributeScores"
    schema["properties"][named]["propertyNames"] = {"enum": list(attributes)}
    if named == "requestedAttributes":
        schema["properties"][named]["additionalProperties"]["anyOf"].append({"type": "null"})
    comment = schema["properties"]["comment"]["anyOf"][0]
    schema["properties"]["comment"] = comment
    comment["properties"]["text"] = {"type": "string", "pattern": r"\S", "description": "UTF-8, 20 KB at most"}
    comment["required"] = ["text"]
    return {"required": True, "content": {"application/json": {"schema": schema}}}
