"""Several requests of the Perspective API in one, as Google's generated clients send them: `POST /batch`."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from moderation.serving.decisions import WAIT_S
from moderation.serving.dialects.perspective import (
    MAX_SENTENCES,
    Analysis,
    prepare,
    render_analysis,
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
from moderation.serving.multipart import BrokenPart, Part, read_part, render_parts, split_parts
from moderation.serving.paths import BATCH_PATHS, route_path
from moderation.serving.problems import ApiProblem

MAX_PARTS = 1000
"""Requests in one batch."""

MAX_REFUSED_PARTS = 20
"""Of one batch, for want of a key, or as no request that is answered here; one more, and all of it is refused."""

_MAX_SPANS = 4096  # of a batch, shared evenly among its parts
_DECIDE_WITHIN_S = 30.0  # the decisions of a batch; each is on disk before the next one
_ANALYZE, _SUGGEST = ((f"/v1alpha1/comments:{name}", f"/comments:{name}") for name in ("analyze", "suggestscore"))


@dataclass(frozen=True, eq=False)
class _Ready:
    """A part that was read.

    Args:
        content_id: By which its answer is known.
        asked: What it asks for, or why it is refused.
        caller: Name of the key that it came with, if any.
    """

    content_id: str
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
    parts = split_parts(request.headers["content-type"], body, most=MAX_PARTS)
    ready = await run_in_threadpool(_prepare_all, state, request.scope, parts)
    analysed = await _analyze_all(state, ready)
    answers = await _answer_all(state, ready, analysed)
    return render_parts([(part.content_id, answer) for part, answer in zip(ready, answers, strict=True)])


def _prepare_all(state: Any, scope: Any, parts: Sequence[bytes]) -> list[_Ready]:
    """Read the parts; of each, what is asked is kept alone.

    Raises:
        ApiProblem: too many are refused before their body is looked at; the last one's problem.
    """
    most = min(MAX_SENTENCES, max(1, _MAX_SPANS // len(parts)))
    ready: list[_Ready] = []
    n_refused = 0
    for content in parts:
        part = read_part(content)
        try:
            request, caller, is_decision = _admit(scope, part)
        except ApiProblem as problem:
            n_refused += problem.status != 429  # it says nothing against the parts before
            if n_refused > MAX_REFUSED_PARTS:
                reason = f"More than {MAX_REFUSED_PARTS} parts are refused, so all of them are. Of the last one: "
                raise ApiProblem(problem.status, problem.kind, reason + problem.message) from None
            ready.append(_Ready(part.content_id, problem))
            continue
        try:
            ready.append(_Ready(part.content_id, _prepare(state, is_decision, request, most), caller))
        except ApiProblem as problem:
            ready.append(_Ready(part.content_id, problem))
    return ready


def _admit(scope: Any, part: Part | BrokenPart) -> tuple[Part, str | None, bool]:
    """A part that is a request to this API, the name of its key, and whether it brings a decision.

    Raises:
        ApiProblem: it is refused.
    """
    admit: Callable[[Part | BrokenPart], tuple[Part, str | None]] = scope[ADMIT_PART]
    request, caller = admit(part)
    path = route_path({"path": request.path, "root_path": scope.get("root_path", "")})
    if path not in (*_ANALYZE, *_SUGGEST):
        raise ApiProblem(404, "not_found", "There is nothing at this path.")
    if request.method != "POST":
        raise ApiProblem(405, "method_not_allowed", "This path does not take that method.", allow="POST")
    return request, caller, path in _SUGGEST


def _prepare(state: Any, is_decision: bool, request: Part, most: int) -> Analysis | SuggestCommentScoreRequest:
    if is_decision:
        return read_message(SuggestCommentScoreRequest, request.body)
    return prepare(state, read_message(AnalyzeCommentRequest, request.body), most)


async def _analyze_all(state: Any, ready: Sequence[_Ready]) -> dict[int, Response]:
    """The answer to each part that is an analysis, by its number."""
    by_caller: dict[str | None, dict[int, Analysis]] = defaultdict(dict)
    for number, part in enumerate(ready):
        if isinstance(part.asked, Analysis):
            by_caller[part.caller][number] = part.asked
    calls = (_analyze(state, list(analyses.values()), caller) for caller, analyses in by_caller.items())
    answers = await asyncio.gather(*calls)
    return {
        number: answer
        for numbers, some in zip(by_caller.values(), answers, strict=True)
        for number, answer in zip(numbers, some, strict=True)
    }


async def _analyze(state: Any, analyses: Sequence[Analysis], caller: str | None) -> list[Response]:
    texts = [analysis.text for analysis in analyses]
    pieces = [piece for analysis in analyses for piece in analysis.pieces]
    try:
        results = await state.moderator.read([*texts, *pieces], caller=caller, n_counted=len(texts))
    except ApiProblem as problem:
        return [render_problem(problem) for _ in analyses]
    return await run_in_threadpool(_render_all, state, analyses, results)


def _render_all(state: Any, analyses: Sequence[Analysis], results: Sequence[Any]) -> list[Response]:
    parts = iter(results[len(analyses) :])
    return [
        render_analysis(state, analysis, whole, [next(parts) for _ in analysis.spans])
        for analysis, whole in zip(analyses, results, strict=False)
    ]


async def _answer_all(state: Any, ready: Sequence[_Ready], analysed: Mapping[int, Response]) -> list[Response]:
    """The answers, in order; decisions are kept only now, after the others are computed.

    Once a decision could not be kept, or time is over, the batch waits for no other one.
    """
    answers: list[Response] = []
    lost: ApiProblem | None = None
    end = time.monotonic() + _DECIDE_WITHIN_S
    for number, part in enumerate(ready):
        if isinstance(part.asked, Analysis):
            answers.append(analysed[number])
        elif isinstance(part.asked, ApiProblem):
            answers.append(render_problem(part.asked))
        elif lost is not None or time.monotonic() >= end:
            lost = lost or ApiProblem(503, "unavailable", "Feedback cannot be kept now.", retry_after_s=WAIT_S)
            state.metrics.decision("failed")
            answers.append(render_problem(lost))
        else:
            try:
                answers.append(render_message(await take_suggestion(state, part.asked, part.caller)))
            except ApiProblem as problem:
                answers.append(render_problem(problem))
                lost = problem if problem.status == 503 else None
    return answers
