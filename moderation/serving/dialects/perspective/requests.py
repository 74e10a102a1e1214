"""The parts of a Perspective API request that are kept while it waits.

A parsed message takes many times the memory of its bytes, so it is dropped as soon as it is read.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from moderation.serving.dialects.perspective.models import (
    MAX_TEXT_BYTES,
    AnalyzeCommentRequest,
    PerspectiveProblem,
    SuggestCommentScoreRequest,
    TextEntry,
    read_message,
    show_name,
)
from moderation.serving.errors import ApiError
from moderation.serving.state import AppState


@dataclass(frozen=True)
class Wanted:
    """What it takes to answer a request for scores.

    Args:
        text: Of the comment.
        labels: Requested attribute -> label of the model.
        thresholds: Requested attribute -> score below which it is left out of the answer.
        unsupported: Requested attributes that the model cannot score and that are left out.
        languages: Those that the client named.
        by_sentence: Whether each sentence is scored too.
        client_token: Echoed.
    """

    text: str
    labels: dict[str, str]
    thresholds: dict[str, float]
    unsupported: tuple[str, ...]
    languages: list[str] | None
    by_sentence: bool
    client_token: str | None


@dataclass(frozen=True)
class Suggestion:
    """A moderator's decision, as the client sent it.

    Args:
        text: Of the comment.
        keep_text: Whether the text is stored too.
        values: Attribute -> score.
        languages: Those that the client named.
        community_id: Where the text was posted, as the client calls it.
        client_token: Echoed.
    """

    text: str
    keep_text: bool
    values: dict[str, float]
    languages: list[str] | None
    community_id: str | None
    client_token: str | None


def read_wanted(state: AppState, body: bytes) -> Wanted:
    """Read a request for scores.

    Raises:
        ApiError: 400 or 413 in Google's words.
    """
    asked = read_message(AnalyzeCommentRequest, body)
    text = _read_text(asked.comment)
    labels, unsupported = _choose_labels(asked, state)
    return Wanted(
        text=text,
        labels=labels,
        thresholds={name: asked.requested_attributes[name].score_threshold or 0.0 for name in labels},
        unsupported=unsupported,
        languages=asked.languages,
        by_sentence=bool(asked.span_annotations),
        client_token=asked.client_token,
    )


def read_suggestion(state: AppState, body: bytes) -> Suggestion:
    """Read a moderator's decision.

    Raises:
        ApiError: 400 or 413 in Google's words; 404, this server stores no decisions.
    """
    asked = read_message(SuggestCommentScoreRequest, body)
    if state.feedback is None:
        raise no_feedback()
    text = _read_text(asked.comment)
    _find_labels(asked.attribute_scores, state)
    return Suggestion(
        text=text,
        keep_text=not asked.do_not_store,
        values={name: scores.summary_score.value for name, scores in asked.attribute_scores.items()},
        languages=asked.languages,
        community_id=asked.community_id,
        client_token=asked.client_token,
    )


def no_feedback() -> ApiError:
    """The refusal of a decision where none is stored."""
    return ApiError(
        404,
        "not_found",
        "This server is not set up to store feedback, which suggestscore needs. Its operator finds the reason, and "
        "how to fix it, in the first lines of its log.",
    )


def _read_text(comment: TextEntry) -> str:
    text = comment.text or ""
    if not text.strip():
        raise PerspectiveProblem("Comment must be non-empty.", "COMMENT_EMPTY")
    if len(text) > MAX_TEXT_BYTES or len(text.encode()) > MAX_TEXT_BYTES:
        raise PerspectiveProblem("Comment text too long.", "COMMENT_TOO_LONG")
    return text


def _choose_labels(asked: AnalyzeCommentRequest, state: AppState) -> tuple[dict[str, str], tuple[str, ...]]:
    """Attribute -> label for those that are scored, and the attributes that are left out.

    If nothing would be left, the request is refused, since clients read a missing score like a low one.
    """
    names = asked.requested_attributes
    known = [name for name in names if name in state.counterparts.attributes]
    state.metrics.unsupported_attributes(name for name in names if name not in state.counterparts.attributes)
    omit = asked.drop_unsupported_attributes
    if known and (state.dialects.perspective_missing == "omit" if omit is None else omit):
        return _find_labels(known, state), tuple(name for name in names if name not in known)
    return _find_labels(names, state), ()


def _find_labels(names: Iterable[str], state: AppState) -> dict[str, str]:
    """Attribute -> label, for the attributes of a request."""
    known = state.counterparts.attributes
    for name in names:
        if name not in known:
            raise PerspectiveProblem(f"Unknown requested attribute: {show_name(name)}", "INVALID_REQUEST")
    return {name: known[name] for name in names}
