"""Several requests of the Perspective API in one, as Google's generated clients send them: `POST /batch`."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response

from moderation.serving.decisions import WAIT_S
from moderation.serving.dialects.perspective import (
    MAX_SENTENCES,
    Analysis,
    prepare,
    put_together,
    render_message,
    render_problem,
    take_suggestion,
)
from moderation.serving.dialects.perspective_models import (
    AnalyzeCommentRequest,
    SuggestCommentScoreRequest,
    read_message,
)
from moderation.serving.gate import ADMIT_PART
from moderation.serving.multipart import BrokenPart, Part, read_parts, render_parts
from moderation.serving.paths import BATCH_PATHS, route_path
from moderation.serving.problems import ApiProblem

MAX_PARTS = 1000
"""Requests in one batch."""

_MAX_SPANS = 4096  # of a batch, shared evenly among its parts
_DECIDE_WITHIN_S = 30.0  # the decisions of a batch; each is on disk before the next one
_ANALYZE, _SUGGEST = ((f"/v1alpha1/comments:{name}", f"/comments:{name}") for name in ("analyze", "suggestscore"))


@dataclass(frozen=True, eq=False)
class _Ready:
    """A part that was read.

    Args:
        asked: What it asks for, or why it is refused.
        caller: Name of the key that it came with, if any.
    """

    asked: Analysis | SuggestCommentScoreRequest | ApiProblem
    caller: str | None = None


def make_router() -> APIRouter:
    """The routes; the OpenAPI document has no way to describe their bodies."""
    router = APIRouter(include_in_schema=False)
    for path in BATCH_PATHS:
        router.add_api_route(path, answer_batch, methods=["POST"])
    return router


async def answer_batch(request: Request) -> Response:
    """Each part's answer, with a status of its own; all texts are computed together."""
    state = request.app.state
    body = await request.body()  # where the gate has looked at the headers
    parts = read_parts(request.headers["content-type"], body, most=MAX_PARTS)
    ready = await run_in_threadpool(_prepare_all, state, request.scope, parts)
    found = await _analyze_all(state, ready)
    answers = await _settle_all(state, ready, found)
    return render_parts([(part.content_id, answer) for part, answer in zip(parts, answers, strict=True)])


def _prepare_all(state: Any, scope: Any, parts: Sequence[Part | BrokenPart]) -> list[_Ready]:
    most = min(MAX_SENTENCES, max(1, _MAX_SPANS // len(parts)))
    ready: list[_Ready] = []
    for part in parts:
        try:
            ready.append(_prepare(state, scope, part, most))
        except ApiProblem as problem:
            ready.append(_Ready(problem))
    return ready


def _prepare(state: Any, scope: Any, part: Part | BrokenPart, most: int) -> _Ready:
    """What a part asks for.

    Raises:
        ApiProblem: it is refused.
    """
    if isinstance(part, BrokenPart):
        raise ApiProblem(400, "invalid_request", "This part is no HTTP request of Content-Type: application/http.")
    admit: Callable[[bytes, Headers], str | None] = scope[ADMIT_PART]
    caller = admit(part.query.encode(), part.headers)
    path = route_path({"path": part.path, "root_path": scope.get("root_path", "")})
    if path not in (*_ANALYZE, *_SUGGEST):
        raise ApiProblem(404, "not_found", "There is nothing at this path.")
    if part.method != "POST":
        raise ApiProblem(405, "method_not_allowed", "This path does not take that method.", allow="POST")
    if path in _SUGGEST:
        return _Ready(read_message(SuggestCommentScoreRequest, part.body), caller)
    return _Ready(prepare(state, read_message(AnalyzeCommentRequest, part.body), most), caller)


async def _analyze_all(state: Any, ready: Sequence[_Ready]) -> dict[int, Response]:
    """The answer to each analysis, by its identity."""
    by_caller: dict[str | None, list[Analysis]] = defaultdict(list)
    for part in ready:
        if isinstance(part.asked, Analysis):
            by_caller[part.caller].append(part.asked)
    found = await asyncio.gather(*(_analyze(state, analyses, caller) for caller, analyses in by_caller.items()))
    return {key: answer for answers in found for key, answer in answers.items()}


async def _analyze(state: Any, analyses: Sequence[Analysis], caller: str | None) -> dict[int, Response]:
    texts = [analysis.text for analysis in analyses]
    pieces = [piece for analysis in analyses for piece in analysis.pieces]
    try:
        results = await state.moderator.read([*texts, *pieces], caller=caller, n_counted=len(texts))
    except ApiProblem as problem:
        return {id(analysis): render_problem(problem) for analysis in analyses}
    return await run_in_threadpool(_put_together_all, state, analyses, results)


def _put_together_all(state: Any, analyses: Sequence[Analysis], results: Sequence[Any]) -> dict[int, Response]:
    parts = iter(results[len(analyses) :])
    return {
        id(analysis): render_message(put_together(state, analysis, whole, [next(parts) for _ in analysis.spans]))
        for analysis, whole in zip(analyses, results, strict=False)
    }


async def _settle_all(state: Any, ready: Sequence[_Ready], found: dict[int, Response]) -> list[Response]:
    """The answers, in order. Once a decision could not be kept, or time is over, the batch waits for no other one."""
    answers: list[Response] = []
    lost: ApiProblem | None = None
    end = time.monotonic() + _DECIDE_WITHIN_S
    for part in ready:
        if lost is None and time.monotonic() >= end:
            lost = ApiProblem(503, "unavailable", "Feedback cannot be kept now.", retry_after_s=WAIT_S)
        if lost is not None and isinstance(part.asked, SuggestCommentScoreRequest):
            part = _Ready(lost)
        try:
            answers.append(await _settle(state, part, found))
        except ApiProblem as problem:
            lost = problem if problem.status == 503 else lost
            answers.append(render_problem(problem))
    return answers


async def _settle(state: Any, part: _Ready, found: dict[int, Response]) -> Response:
    """The answer to one part; a decision is kept only now, after the others are computed.

    Raises:
        ApiProblem: it is refused.
    """
    if isinstance(part.asked, Analysis):
        return found[id(part.asked)]
    if isinstance(part.asked, ApiProblem):
        raise part.asked
    return render_message(await take_suggestion(state, part.asked, part.caller))
