"""What clients of the Perspective API send and get, as types.

As Google's servers do, they take the names of fields in camelCase and in snake_case, take null for absent, and refuse
every field that they do not know.
"""

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from moderation.serving.problems import ApiProblem

MAX_TEXT_BYTES = 20_480

_Model = TypeVar("_Model", bound="Message")
_Code = Annotated[str, Field(max_length=35)]
_Name = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]
_Languages = Annotated[list[_Code], Field(max_length=100)]
_MOST = 1000  # items of a list that a request may hold: who sends more shall not keep the server busy with reading them
_LIKELY_NAME = re.compile(r"[\w.@$-]{1,64}", re.ASCII)


class Message(BaseModel):
    """A JSON object of the API."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        allow_inf_nan=False,
    )


class TextEntry(Message):
    """A text."""

    text: Annotated[str | None, Field(description="UTF-8, 20 KB at most")] = None
    type: Annotated[Literal["TEXT_TYPE_UNSPECIFIED", "PLAIN_TEXT"] | None, Field(description="plain text alone")] = None


class ArticleAndParentComment(Message):
    """What a comment answers."""

    article: TextEntry | None = None
    parent_comment: TextEntry | None = None


class Context(Message):
    """What stands around a comment; taken, and without influence."""

    entries: Annotated[list[TextEntry] | None, Field(max_length=_MOST)] = None
    article_and_parent_comment: ArticleAndParentComment | None = None


class AttributeParameters(Message):
    """How one attribute is asked for."""

    score_type: Annotated[
        Literal["SCORE_TYPE_UNSPECIFIED", "PROBABILITY"] | None, Field(description="probabilities alone")
    ] = None
    score_threshold: Annotated[float | None, Field(description="leave a score out that is lower")] = None


class Score(Message):
    """A score."""

    value: Annotated[float, Field(ge=0, le=1, description="share of readers who would see the attribute in the text")]
    type: Literal["SCORE_TYPE_UNSPECIFIED", "PROBABILITY"] | None = None


class SpanScore(Message):
    """A score of a part of the text."""

    begin: Annotated[int | None, Field(description="offset of its first character (code point)")] = None
    end: Annotated[int | None, Field(description="offset after its last character")] = None
    score: Score


class AttributeScores(Message):
    """Scores of one attribute."""

    summary_score: Score
    span_scores: Annotated[list[SpanScore] | None, Field(max_length=_MOST)] = None


class AnalyzeCommentRequest(Message):
    """Ask for scores of a comment."""

    comment: TextEntry
    requested_attributes: Annotated[dict[str, AttributeParameters], Field(min_length=1)]
    languages: Annotated[_Languages | None, Field(description="ISO 639-1; detected where absent")] = None
    context: Context | None = None
    span_annotations: Annotated[bool | None, Field(description="score each sentence too")] = None
    do_not_store: Annotated[bool | None, Field(description="nothing is ever stored by this method")] = None
    client_token: Annotated[_Name | None, Field(description="echoed")] = None
    session_id: _Name | None = None
    community_id: _Name | None = None


class AnalyzeCommentResponse(Message):
    """Scores of a comment."""

    attribute_scores: Annotated[
        dict[str, AttributeScores] | None, Field(description="absent where every score is below its threshold")
    ] = None
    languages: list[str]
    detected_languages: list[str]
    client_token: str | None = None
    model_version: Annotated[str, Field(description="bundle and engine that answered")]


class SuggestCommentScoreRequest(Message):
    """Say what a moderator decided about a comment."""

    comment: TextEntry
    attribute_scores: Annotated[dict[str, AttributeScores], Field(min_length=1)]
    languages: _Languages | None = None
    context: Context | None = None
    do_not_store: Annotated[bool | None, Field(description="keep the decision without the text")] = None
    client_token: Annotated[_Name | None, Field(description="echoed")] = None
    session_id: _Name | None = None
    community_id: _Name | None = None


class SuggestCommentScoreResponse(Message):
    """The decision was kept."""

    client_token: str | None = None
    requested_languages: list[str] | None = None
    detected_languages: list[str]
    model_version: str


class Status(BaseModel):
    """What was wrong."""

    code: int
    message: str
    status: str
    details: list[dict[str, Any]] | None = None


class Problem(BaseModel):
    """A refusal, in Google's form."""

    error: Status


class PerspectiveProblem(ApiProblem):
    """A refusal that names an error type of the API.

    Args:
        message: As the API words it; clients compare it.
        error_type: Its name there.
        more: Further fields of the detail.
    """

    def __init__(self, message: str, error_type: str, more: dict[str, Any] | None = None) -> None:
        super().__init__(400, "invalid_request", message)
        kind = "type.googleapis.com/google.commentanalyzer.v1alpha1.Error"
        self.details = [{"@type": kind, "errorType": error_type, **(more or {})}]


def read_message(kind: type[_Model], body: bytes) -> _Model:
    """Read a body as a message of this kind.

    Raises:
        ApiProblem: 400 in Google's words, with a place and never with a value.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        raise ApiProblem(
            400, "invalid_json", f"Invalid JSON payload received. {first['msg'].removeprefix('Invalid JSON: ')}."
        )
    *parents, name = map(show_name, first["loc"] or ("",))
    if first["type"] == "extra_forbidden":
        at = f" at '{'.'.join(parents)}'" if parents else ""
        message = f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.'
        raise ApiProblem(400, "invalid_request", message)
    where = ".".join(part for part in (*parents, name) if part) or "body"
    raise ApiProblem(400, "invalid_request", f"Invalid value at '{where}': {first['msg']}.", param=where)


def show_name(name: object) -> str:
    """The name of a field or an attribute that a client made up; what may be a text is shown by its length alone.

    >>> show_name("TOXICITY"), show_name("You fool")
    ('TOXICITY', '(a name of 8 characters)')
    """
    text = str(name)
    return text if _LIKELY_NAME.fullmatch(text) else f"(a name of {len(text)} characters)"


def inline_schema(kind: type[Message]) -> dict[str, Any]:
    """JSON schema of a message, without references, as an OpenAPI document can hold it anywhere."""
    schema = kind.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, list):
            return [inline(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return inline(definitions[part["$ref"].rsplit("/", 1)[-1]])
        return {key: inline(value) for key, value in part.items()}

    inlined: dict[str, Any] = inline(schema)
    return inlined
