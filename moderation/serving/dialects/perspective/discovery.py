"""The discovery document, from which Google's generated clients learn how to call the Perspective API."""

import json
from functools import cache

from pydantic.json_schema import JsonSchemaValue

from moderation.serving.dialects.perspective.models import (
    AnalyzeCommentRequest,
    AnalyzeCommentResponse,
    Message,
    SuggestCommentScoreRequest,
    SuggestCommentScoreResponse,
)

VERSION = "v1alpha1"

_METHODS: dict[str, tuple[str, type[Message], type[Message]]] = {
    "analyze": ("Scores a comment.", AnalyzeCommentRequest, AnalyzeCommentResponse),
    "suggestscore": ("Takes a moderator's decision.", SuggestCommentScoreRequest, SuggestCommentScoreResponse),
}
_FORMATS = {"integer": "int32", "number": "float"}
_ROOT = "\0"  # stands for the server's address; occurs nowhere else in the document


def render_api(root_url: str) -> bytes:
    """The document as JSON; only the address differs between requests.

    Args:
        root_url: Address of the server as the client knows it, with a slash at its end.
    """
    return _render_template().replace(json.dumps(_ROOT), json.dumps(root_url)).encode()


@cache  # clients need no key for it
def _render_template() -> str:
    return json.dumps(describe_api(_ROOT))


def describe_api(root_url: str) -> JsonSchemaValue:
    """The document, of kind `discovery#restDescription`.

    Args:
        root_url: Address of the server as the client knows it, with a slash at its end.
    """
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": f"commentanalyzer:{VERSION}",
        "name": "commentanalyzer",
        "version": VERSION,
        "title": "Perspective Comment Analyzer API, served by content-moderation",
        "description": "Scores comments with your own model.",
        "protocol": "rest",
        "batchPath": "batch",
        "rootUrl": root_url,
        "servicePath": "",
        "baseUrl": root_url,
        "parameters": {
            "key": {"type": "string", "location": "query", "description": "API key."},
            "alt": {"type": "string", "location": "query", "default": "json", "enum": ["json"]},
        },
        "schemas": _describe_messages(),
        "resources": {"comments": {"methods": {name: _describe_method(name) for name in _METHODS}}},
    }


def _describe_method(name: str) -> JsonSchemaValue:
    summary, request, response = _METHODS[name]
    path = f"{VERSION}/comments:{name}"
    return {
        "id": f"commentanalyzer.comments.{name}",
        "httpMethod": "POST",
        "path": path,
        "flatPath": path,
        "description": summary,
        "parameters": {},
        "parameterOrder": [],
        "request": {"$ref": request.__name__},
        "response": {"$ref": response.__name__},
    }


def _describe_messages() -> JsonSchemaValue:
    """All types by name, with their JSON schemas in the format of discovery documents."""
    found: JsonSchemaValue = {}
    for _, request, response in _METHODS.values():
        found |= _read_schema(request) | _read_schema(response)
    return {name: {"id": name} | _translate(schema) for name, schema in found.items()}


def _read_schema(kind: type[Message]) -> JsonSchemaValue:
    schema = kind.model_json_schema(ref_template="{model}")
    definitions: JsonSchemaValue = schema.pop("$defs", {})
    return definitions | {kind.__name__: schema}


def _translate(schema: JsonSchemaValue) -> JsonSchemaValue:
    if "anyOf" in schema:  # a type, or null
        schema = schema["anyOf"][0] | {key: schema[key] for key in ("description",) if key in schema}
    described: JsonSchemaValue = {key: schema[key] for key in ("$ref", "type", "description", "enum") if key in schema}
    if "const" in schema:
        described["enum"] = [schema["const"]]
    if schema.get("type") in _FORMATS:
        described["format"] = _FORMATS[schema["type"]]
    if "items" in schema:
        described["items"] = _translate(schema["items"])
    if "properties" in schema:
        described["properties"] = {name: _translate(part) for name, part in schema["properties"].items()}
    if isinstance(schema.get("additionalProperties"), dict):
        described["additionalProperties"] = _translate(schema["additionalProperties"])
    return described
