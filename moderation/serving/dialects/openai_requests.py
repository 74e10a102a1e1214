"""Reads the requests that clients of OpenAI's moderation endpoint send."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from moderation.serving.dialects.perspective.models import show_name
from moderation.serving.errors import ApiError

DEFAULT_MODEL = "text-moderation-latest"

_LONGEST_MODEL = 256  # characters of a model's name that are echoed
_TEXT_TYPES = ("text", "input_text", "output_text")
_IMAGE_TYPES = ("image_url", "input_image", "image")
_WITHOUT_INFLUENCE = frozenset(
    ("user", "metadata", "stream", "safety_identifier", "store", "service_tier", "prompt_cache_key")
)
_KINDS = {dict: "an object", list: "a list", bool: "a boolean", int: "a number", float: "a number", str: "a text"}


class TextPart(BaseModel):
    """A part of one text."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class ModerationRequest(BaseModel):
    """What to classify; for the OpenAPI document. Bodies are read by `read_request`."""

    model_config = ConfigDict(extra="forbid")

    input: Annotated[
        str | list[str | TextPart] | TextPart,
        Field(description="a text; several texts, with a result for each; or parts of one text, with one result"),
    ]
    model: Annotated[str | None, Field(description="any name; echoed, has no effect")] = None
    user: Annotated[Any, Field(description="has no effect, like all fields that follow")] = None
    metadata: Any = None
    stream: Any = None
    safety_identifier: Any = None
    store: Any = None
    service_tier: Any = None
    prompt_cache_key: Any = None


@dataclass(frozen=True)
class Asked:
    """A request that can be answered.

    Args:
        texts: One for each result.
        model: Name to echo.
        n_images: Number of ignored images.
    """

    texts: list[str]
    model: str
    n_images: int = 0


def read_request(body: Any, *, ignore_images: bool) -> Asked:
    """Read a body.

    Args:
        body: The parsed JSON.
        ignore_images: Ignore images next to a text; otherwise refuse the request.

    Raises:
        ApiError: 400, with the place of the error.
    """
    if not isinstance(body, dict):
        raise _wrong("body", f"{_name_kind(body)}; expected an object with 'input'", param=None)
    unknown = [name for name in body if name not in {"input", "model", *_WITHOUT_INFLUENCE}]
    if unknown:
        named = ", ".join(map(show_name, unknown[:5]))
        raise _wrong(named, "unknown; expected the fields 'input' and 'model'", param=None)
    if "input" not in body:
        raise _wrong("input", "missing; expected a text, or a list of texts")
    model = body.get("model")
    if not isinstance(model, str | None):
        raise _wrong("model", f"{_name_kind(model)}; expected a text", param="model")
    texts, n_images = _read_input(body["input"], ignore_images)
    return Asked(texts, (model or DEFAULT_MODEL)[:_LONGEST_MODEL], n_images)


def _read_input(given: Any, ignore_images: bool) -> tuple[list[str], int]:
    """The texts to classify, and the number of images; parts belong together and make one text."""
    if isinstance(given, str):
        return [given], 0
    if isinstance(given, dict):
        given = [given]
    if not isinstance(given, list):
        raise _wrong(
            "input", f'{_name_kind(given)}; expected a text, a list of texts, or {{"type": "text", ...}} parts'
        )
    if not given:
        raise _wrong("input", "an empty list; expected one text or more")
    parts = [_read_part(part, f"input[{place}]", ignore_images) for place, part in enumerate(given)]
    texts = [text for text in parts if text is not None]
    if not texts:
        raise _wrong("input", "only images, which this server cannot read; expected a text")
    if any(isinstance(part, dict) for part in given):
        return ["\n\n".join(texts)], len(parts) - len(texts)
    return texts, 0


def _read_part(part: Any, where: str, ignore_images: bool) -> str | None:
    """The text of a part; None: an image to ignore."""
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise _wrong(where, f'{_name_kind(part)}; expected a text or a {{"type": "text", "text": ...}} part')
    kind = part.get("type")
    if kind in _TEXT_TYPES:
        if not isinstance(part.get("text"), str):
            raise _wrong(f"{where}.text", f"{_name_kind(part.get('text'))}; expected a text")
        return str(part["text"])
    if kind not in _IMAGE_TYPES:
        raise _wrong(f"{where}.type", f"unknown; expected {', '.join((*_TEXT_TYPES, *_IMAGE_TYPES))}")
    if not ignore_images:
        raise _wrong(
            where,
            "an image, which this server cannot read. Send only the text, and check the image elsewhere. With "
            "--openai-images ignore the server answers for the text and reports how many images it ignored",
        )
    return None


def _name_kind(given: Any) -> str:
    return _KINDS.get(type(given), "null")


def _wrong(where: str, what: str, param: str | None = "input") -> ApiError:
    return ApiError(400, "invalid_request", f"{where}: {what}.", param=param)
