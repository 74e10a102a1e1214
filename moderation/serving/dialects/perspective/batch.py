"""Several requests of the Perspective API in one, as Google's generated clients send them: `POST /batch`."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Scope

from moderation.inference.classifier import TextResult
from moderation.serving.admission import COUNT_PARTS, IDENTIFY_PART
from moderation.serving.bodies.json_bodies import check_items_together
from moderation.serving.bodies.multipart import BrokenPart, Part, read_part, render_parts, split_parts
from moderation.serving.dialects.perspective.requests import Suggestion, Wanted, read_suggestion, read_wanted
from moderation.serving.dialects.perspective.routes import (
    MAX_SENTENCES,
    Analysis,
    not_stored,
    prepare,
    render_analysis,
    render_problem,
    take_suggestion,
)
from moderation.serving.errors import ApiError
from moderation.serving.heavy_requests import run_heavy
from moderation.serving.paths import BATCH_PATHS, route_path
from moderation.serving.state import AppState, state_for

MAX_PARTS = 1000
"""Requests in one batch."""

MAX_REFUSED_PARTS = 20
"""Parts of a batch that may be refused by their head: no valid key, or another path. One more, and all are refused."""

_MAX_ITEMS = 200_000  # of all parts together: strings, commas and opening brackets
_MAX_SPANS = 4096  # of a batch, shared evenly among its parts
_DECIDE_WITHIN_S = 30.0  # for all decisions of a batch; each is on disk before the next one
_ANALYZE, _SUGGEST = ((f"/v1alpha1/comments:{name}", f"/comments:{name}") for name in ("analyze", "suggestscore"))


@dataclass(frozen=True, eq=False)
class _Read:
    """A part whose head was read.

    Args:
        content_id: Identifies its answer.
        problem: Why it is refused, if it is.
        caller: Name of its key, if any.
        is_decision: Whether it holds a moderator's decision.
        body: Its bytes.
    """

    content_id: str
    problem: ApiError | None = None
    caller: str | None = None
    is_decision: bool = False
    body: bytes = b""


@dataclass(frozen=True, eq=False)
class _Ready:
    """A part whose body was read, too.

    All parts stay in memory until the last one is answered, so they hold neither messages nor exceptions: the frames of
    a traceback would keep the whole body.

    Args:
        content_id: Identifies its answer.
        asked: The request, or its refusal.
        caller: Name of its key, if any.
    """

    content_id: str
    asked: Analysis | Suggestion | Response
    caller: str | None = None


def make_router() -> APIRouter:
    """The routes; an OpenAPI document cannot describe their bodies."""
    router = APIRouter(include_in_schema=False)
    for path in BATCH_PATHS:
        router.add_api_route(path, answer_batch, methods=["POST"])
    return router


async def answer_batch(request: Request) -> Response:
    """Each part's answer, with a status of its own; all texts are computed together."""
    state = state_for(request)
    ready = await _read_batch(request)
    analysed = await _analyze_all(state, ready)
    answers = await _answer_all(state, ready, analysed)
    return render_parts([(part.content_id, answer) for part, answer in zip(ready, answers, strict=True)])


async def _read_batch(request: Request) -> list[_Ready]:
    """Read the parts; of each, only the request is kept.

    All parts whose head was read are counted at once, before their bodies are read.

    Raises:
        ApiError: too many are refused because of their head; it is the last one's problem. 413, too many items.
    """
    body = await request.body()  # which also checks the headers
    count: Callable[[Sequence[str | None]], Awaitable[list[ApiError | None]]] = request.scope[COUNT_PARTS]
    read, excess = await run_heavy(_read_heads, request.scope, request.headers["content-type"], body)
    refusals = await count([part.caller for part in read])
    if excess is not None:
        raise excess
    return await run_heavy(_prepare_all, state_for(request), read, refusals)


def _read_heads(scope: Scope, kind: str, body: bytes) -> tuple[list[_Read], ApiError | None]:
    """Parts with unread bodies, up to the refused one that is one too many, and its problem."""
    parts = split_parts(kind, body, most=MAX_PARTS)
    read: list[_Read] = []
    n_refused = 0
    for content in parts:
        read.append(_read_head(scope, read_part(content)))
        if (problem := read[-1].problem) is not None:
            n_refused += 1
            if n_refused > MAX_REFUSED_PARTS:
                reason = f"More than {MAX_REFUSED_PARTS} parts are refused, so the whole batch is. For the last one: "
                return read, ApiError(problem.status, problem.kind, reason + problem.message)
    return read, None


def _read_head(scope: Scope, part: Part | BrokenPart) -> _Read:
    """Check that a part is a request to this API, with a key if one is needed, and find out which request."""
    identify: Callable[[Part | BrokenPart], tuple[Part, str | None]] = scope[IDENTIFY_PART]
    try:
        request, caller = identify(part)
    except ApiError as problem:
        return _Read(part.content_id, problem)
    path = route_path({"path": request.path, "root_path": scope.get("root_path", "")})
    if path not in (*_ANALYZE, *_SUGGEST):
        return _Read(part.content_id, ApiError(404, "not_found", "There is nothing at this path."), caller)
    if request.method != "POST":
        other = ApiError(405, "method_not_allowed", "This path does not accept that method.", allow="POST")
        return _Read(part.content_id, other, caller)
    return _Read(part.content_id, None, caller, path in _SUGGEST, request.body)


def _prepare_all(state: AppState, read: Sequence[_Read], refusals: Sequence[ApiError | None]) -> list[_Ready]:
    check_items_together((part.body for part in read), most=_MAX_ITEMS)
    most = min(MAX_SENTENCES, max(1, _MAX_SPANS // len(read)))
    found = [
        render_problem(refusal) if refusal else _read_body(state, part)
        for part, refusal in zip(read, refusals, strict=True)
    ]
    too_much = _check_sizes(state, read, found)
    ready: list[_Ready] = []
    for part, asked in zip(read, found, strict=True):
        if isinstance(asked, Wanted):
            problem = too_much[part.caller]
            now: Analysis | Suggestion | Response = render_problem(problem) if problem else _prepare(state, asked, most)
        else:
            now = asked
        ready.append(_Ready(part.content_id, now, part.caller))
    return ready


def _read_body(state: AppState, part: _Read) -> Wanted | Suggestion | Response:
    try:
        if part.problem is not None:
            return render_problem(part.problem)
        return read_suggestion(state, part.body) if part.is_decision else read_wanted(state, part.body)
    except ApiError as problem:
        return render_problem(problem)


def _check_sizes(state: AppState, read: Sequence[_Read], found: Sequence[object]) -> dict[str | None, ApiError | None]:
    """Why each key's texts are too much together, if they are; checked before detecting languages and sentences."""
    texts: dict[str | None, list[str]] = {part.caller: [] for part in read}
    for part, asked in zip(read, found, strict=True):
        if isinstance(asked, Wanted):
            texts[part.caller].append(asked.text)
    return {caller: _check_size(state, some) for caller, some in texts.items()}


def _check_size(state: AppState, texts: Sequence[str]) -> ApiError | None:
    try:
        state.service.check_size(texts)
    except ApiError as problem:
        return problem
    return None


def _prepare(state: AppState, wanted: Wanted, most: int) -> Analysis | Response:
    try:
        return prepare(state, wanted, most)
    except ApiError as problem:
        return render_problem(problem)


async def _analyze_all(state: AppState, ready: Sequence[_Ready]) -> dict[int, Response]:
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


async def _analyze(state: AppState, analyses: Sequence[Analysis], caller: str | None) -> list[Response]:
    texts = [analysis.wanted.text for analysis in analyses]
    pieces = [piece for analysis in analyses for piece in analysis.pieces]
    owners = [place for place, analysis in enumerate(analyses) for _ in analysis.pieces]
    try:
        results = await state.service.read([*texts, *pieces], caller=caller, owners=owners)
    except ApiError as problem:
        return [render_problem(problem) for _ in analyses]
    return await run_heavy(_render_all, state, analyses, results)


def _render_all(state: AppState, analyses: Sequence[Analysis], results: Sequence[TextResult]) -> list[Response]:
    parts = iter(results[len(analyses) :])
    return [
        render_analysis(state, analysis, whole, [next(parts) for _ in analysis.spans])
        for analysis, whole in zip(analyses, results, strict=False)
    ]


async def _answer_all(state: AppState, ready: Sequence[_Ready], analysed: Mapping[int, Response]) -> list[Response]:
    """The answers, in order; decisions are stored only now, after the texts are scored.

    Once a decision could not be stored, or the time is up, the remaining ones are not tried.
    """
    answers: list[Response] = []
    is_lost = False
    end = time.monotonic() + _DECIDE_WITHIN_S
    for number, part in enumerate(ready):
        if isinstance(part.asked, Analysis):
            answers.append(analysed[number])
        elif isinstance(part.asked, Response):
            answers.append(part.asked)
        elif is_lost or time.monotonic() >= end:
            state.metrics.decision("failed")
            answers.append(render_problem(not_stored()))
        else:
            try:
                answers.append(await take_suggestion(state, part.asked, part.caller))
            except ApiError as problem:
                answers.append(render_problem(problem))
                is_lost = problem.status >= 500
    return answers
