"""The messages of the Perspective API, as types.

Like Google's servers, they follow protocol buffers' JSON mapping: field names in camelCase or snake_case, with or
without quotes, null for absent, numbers and booleans in quotes, constants by name or number, one value for a list.
Unknown fields are refused.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError

from moderation.serving.bodies.json_bodies import keep_one_unknown, read_json
from moderation.serving.errors import ApiError

MAX_TEXT_BYTES = 20_480

_Model = TypeVar("_Model", bound="Message")
# Maximum number of items of a list, and of fields of an object with free names: validating more would keep the server
# busy.
_MOST = 1000
_LIKELY_NAME = re.compile(r"[\w.@$-]{1,64}", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_EMPTY_LIST = {"type": "array", "maxItems": 0}


def _read_number(given: Any) -> Any:
    return float(given) if isinstance(given, str) and _NUMBER.fullmatch(given) else given


def _read_integer(given: Any) -> Any:
    number = _read_number(given)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _read_boolean(given: Any) -> Any:
    return {"true": True, "false": False}.get(given.lower(), given) if isinstance(given, str) else given


def _read_name(given: Any) -> Any:
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


def _read_list(given: Any) -> Any:
    return given if isinstance(given, list) or given is None else [given]


def _refuse_many(given: Any) -> Any:
    """Refuse an object with very many fields before they are validated."""
    if isinstance(given, dict) and len(given) > _MOST:
        raise PydanticCustomError("too_long", "Object should have at most {most} fields", {"most": _MOST})
    return given


def _read_empty(given: Any) -> Any:
    return {} if given is None else given


def _read_constant(*names: str) -> Callable[[Any], Any]:
    """A constant by its name, in capitals or not, or by its number, in quotes or not."""
    numbers = {str(number): name for number, name in enumerate(names)}

    def read(given: Any) -> Any:
        word = str(given).upper() if isinstance(given, str | int) and not isinstance(given, bool) else given
        return numbers.get(word, word) if isinstance(word, str) else given

    return read


_QuotedNumber = Annotated[str, Field(pattern=f"^{_NUMBER.pattern}$")]
_QuotedBoolean = Literal["true", "false", "True", "False"]
_Number = Annotated[float, BeforeValidator(_read_number, json_schema_input_type=float | _QuotedNumber)]
_Integer = Annotated[int, BeforeValidator(_read_integer, json_schema_input_type=int | _QuotedNumber)]
_Boolean = Annotated[bool, BeforeValidator(_read_boolean, json_schema_input_type=bool | _QuotedBoolean)]
_PlainName = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]
_Name = Annotated[_PlainName, BeforeValidator(_read_name, json_schema_input_type=_PlainName | int)]
_Code = Annotated[str, Field(max_length=35)]
_Codes = Annotated[list[_Code], Field(max_length=100, fail_fast=True)]
_Languages = Annotated[_Codes, BeforeValidator(_read_list, json_schema_input_type=_Codes | _Code)]
_TextTypeName = Literal["TEXT_TYPE_UNSPECIFIED", "PLAIN_TEXT"]
_TextType = Annotated[
    _TextTypeName,
    BeforeValidator(
        _read_constant("TEXT_TYPE_UNSPECIFIED", "PLAIN_TEXT"),
        json_schema_input_type=_TextTypeName | Literal[0, 1, "0", "1"],
    ),
]
_ScoreTypeName = Literal["SCORE_TYPE_UNSPECIFIED", "PROBABILITY"]
_ScoreType = Annotated[
    _ScoreTypeName,
    BeforeValidator(
        _read_constant("SCORE_TYPE_UNSPECIFIED", "PROBABILITY"),
        json_schema_input_type=_ScoreTypeName | Literal[0, 1, "0", "1"],
    ),
]


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

    @model_validator(mode="before")
    @classmethod
    def _take_loosely(cls, given: Any) -> Any:
        """PHP, R and others send an empty object as an empty list; one unknown field is enough to refuse a message."""
        return {} if given == [] else keep_one_unknown(given, _names_of(cls))


@cache
def _names_of(kind: type[Message]) -> frozenset[str]:
    """Names of the fields of a message, in both spellings."""
    return frozenset(kind.model_fields) | {to_camel(name) for name in kind.model_fields}


class TextEntry(Message):
    """A text."""

    text: Annotated[str | None, Field(description="UTF-8, 20 KB at most")] = None
    type: Annotated[_TextType | None, Field(description="only plain text")] = None


class ArticleAndParentComment(Message):
    """What a comment replies to."""

    article: TextEntry | None = None
    parent_comment: TextEntry | None = None


class Context(Message):
    """What surrounds a comment; accepted, but has no effect."""

    entries: (
        Annotated[
            Annotated[list[TextEntry], Field(max_length=_MOST, fail_fast=True)],
            BeforeValidator(_read_list, json_schema_input_type=list[TextEntry] | TextEntry),
        ]
        | None
    ) = None
    article_and_parent_comment: ArticleAndParentComment | None = None


class AttributeParameters(Message):
    """How one attribute is requested."""

    score_type: Annotated[_ScoreType | None, Field(description="only probabilities")] = None
    score_threshold: Annotated[_Number | None, Field(description="leave out scores below this")] = None


class Score(Message):
    """A score."""

    value: Annotated[_Number, Field(ge=0, le=1, description="share of readers who would see the attribute in the text")]
    type: _ScoreType | None = None


class SpanScore(Message):
    """A score of a part of the text."""

    begin: Annotated[_Integer | None, Field(description="offset of its first character, in UTF-16 units")] = None
    end: Annotated[_Integer | None, Field(description="offset after its last character")] = None
    score: Score


class AttributeScores(Message):
    """Scores of one attribute."""

    summary_score: Score
    span_scores: (
        Annotated[
            Annotated[list[SpanScore], Field(max_length=_MOST, fail_fast=True)],
            BeforeValidator(_read_list, json_schema_input_type=list[SpanScore] | SpanScore),
        ]
        | None
    ) = None


class AnalyzeCommentRequest(Message):
    """Ask for scores of a comment."""

    comment: TextEntry
    requested_attributes: Annotated[
        dict[str, Annotated[AttributeParameters, BeforeValidator(_read_empty)]],
        Field(min_length=1, max_length=_MOST),
        BeforeValidator(_refuse_many),
    ]
    languages: Annotated[
        _Languages | None,
        Field(description="ISO 639-1 or BCP 47; one has to be a language of the model; detected if absent"),
    ] = None
    context: Context | None = None
    span_annotations: Annotated[_Boolean | None, Field(description="score each sentence too")] = None
    do_not_store: Annotated[_Boolean | None, Field(description="nothing is ever stored by this method")] = None
    drop_unsupported_attributes: Annotated[
        _Boolean | None,
        Field(
            description="leave out what the model cannot score (true) or refuse it (false); default: the server's own"
        ),
    ] = None
    client_token: Annotated[_Name | None, Field(description="echoed")] = None
    session_id: _Name | None = None
    community_id: _Name | None = None


class AnalyzeCommentResponse(Message):
    """Scores of a comment."""

    attribute_scores: Annotated[
        dict[str, AttributeScores] | None, Field(description="absent if every score is below its threshold")
    ] = None
    languages: list[str]
    detected_languages: list[str]
    unsupported_attributes: Annotated[
        list[str] | None, Field(description="requested but left out, because the model cannot score them")
    ] = None
    client_token: str | None = None
    model_version: Annotated[str, Field(description="bundle and engine that answered")]


class SuggestCommentScoreRequest(Message):
    """Report what a moderator decided about a comment."""

    comment: TextEntry
    attribute_scores: Annotated[
        dict[str, AttributeScores], Field(min_length=1, max_length=_MOST), BeforeValidator(_refuse_many)
    ]
    languages: _Languages | None = None
    context: Context | None = None
    do_not_store: Annotated[_Boolean | None, Field(description="store the decision without the text")] = None
    client_token: Annotated[_Name | None, Field(description="echoed")] = None
    session_id: _Name | None = None
    community_id: _Name | None = None


class SuggestCommentScoreResponse(Message):
    """The decision was stored."""

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
    """A refusal, in Google's format."""

    error: Status


class PerspectiveProblem(ApiError):
    """A refusal that names an error type of the API.

    Args:
        message: As the API words it; clients compare it.
        error_type: Its name there.
        more: Further fields of the detail.
    """

    def __init__(self, message: str, error_type: str, more: Mapping[str, object] | None = None) -> None:
        super().__init__(400, "invalid_request", message)
        kind = "type.googleapis.com/google.commentanalyzer.v1alpha1.Error"
        self.details = [{"@type": kind, "errorType": error_type, **(more or {})}]


def read_message(kind: type[_Model], body: bytes) -> _Model:
    """Read a body as a message of this kind.

    Raises:
        ApiError: 400 or 413 in Google's words, with a place and never with a value.
    """
    try:
        content = read_json(body, bare_names=True)
    except ApiError as problem:
        raise ApiError(problem.status, problem.kind, f"Invalid JSON payload received. {problem.message}") from None
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    *parents, name = map(show_name, first["loc"] or ("",))
    if first["type"] == "extra_forbidden":
        at = f" at '{'.'.join(parents)}'" if parents else ""
        message = f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.'
        raise ApiError(400, "invalid_request", message)
    where = ".".join(part for part in (*parents, name) if part) or "body"
    message = f"Invalid value at '{where}': {first['msg']}."
    if where in ("requestedAttributes", "requested_attributes") and not content.get(where):
        raise PerspectiveProblem("Missing requested_attributes", "NO_REQUESTED_ATTRIBUTES")
    raise ApiError(400, "invalid_request", message, param=where)


def show_name(name: object) -> str:
    """A client's name for a field or an attribute, for messages; one that may be a text is shown only by its length.

    >>> show_name("TOXICITY"), show_name("You fool")
    ('TOXICITY', '(a name of 8 characters)')
    """
    text = str(name)
    return text if _LIKELY_NAME.fullmatch(text) else f"(a name of {len(text)} characters)"


def inline_schema(kind: type[Message]) -> JsonSchemaValue:
    """JSON schema of a message without references, so that it fits anywhere in an OpenAPI document.

    An object without required fields may also be an empty list.
    """
    schema = kind.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, list):
            return [inline(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            found = inline(definitions[part["$ref"].rsplit("/", 1)[-1]])
            return found if found.get("required") else {"anyOf": [found, _EMPTY_LIST]}
        return {key: inline(value) for key, value in part.items()}

    inlined: JsonSchemaValue = inline(schema)
    return inlined
