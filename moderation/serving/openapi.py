"""The OpenAPI document, with facts that only a running server has: whether it requires keys, and its languages."""

import re
from functools import lru_cache

from fastapi import FastAPI, Request
from pydantic.json_schema import JsonSchemaValue
from starlette.responses import JSONResponse, Response

from moderation.language_codes import language_parts
from moderation.serving.admission import OPEN_PATHS
from moderation.serving.state import state_of

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "the key as a token"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "query": {"type": "apiKey", "in": "query", "name": "key", "description": "as clients of Google's APIs send it"},
}


_PREFIXES = 16  # of proxies; the serialised document is cached for each


def add_document(app: FastAPI) -> None:
    """Serve `/openapi.json`. FastAPI would serialise the document again for every request, which takes milliseconds.

    Args:
        app: Without a URL for the document.
    """

    @lru_cache(_PREFIXES)
    def write(prefix: str) -> bytes:
        document = app.openapi()
        servers = {"servers": [{"url": prefix}, *document.get("servers", [])]} if prefix else {}
        return bytes(JSONResponse(document | servers).body)

    async def send_document(request: Request) -> Response:
        prefix = str(request.scope.get("root_path", "")).rstrip("/") if app.root_path_in_servers else ""
        return Response(write(prefix), media_type="application/json")

    app.add_route("/openapi.json", send_document, methods=["GET"], include_in_schema=False)


def complete_description(app: FastAPI, *, has_keys: bool) -> None:
    """Complete an application's OpenAPI document on first use, when the missing facts are known.

    Args:
        app: The application; once it has started, it knows the languages of its model.
        has_keys: Whether a key is needed.
    """
    describe = app.openapi

    def describe_completely() -> JsonSchemaValue:
        if app.openapi_schema is None:
            document = describe()
            if has_keys:
                _declare_keys(document)
            _declare_languages(document, state_of(app).language_rule.only)
        return describe()

    app.openapi = describe_completely  # type: ignore[method-assign]  # FastAPI's way to change the document


def _any_case(word: str) -> str:
    """A pattern that matches a word in any case; JSON schema has no flag for that."""
    return "".join(f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else re.escape(letter) for letter in word)


def _declare_keys(document: JsonSchemaValue) -> None:
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    for path, methods in document["paths"].items():
        for operation in methods.values():
            operation["security"] = [] if path in OPEN_PATHS else [{name: []} for name in _SCHEMES]


def _declare_languages(document: JsonSchemaValue, languages: tuple[str, ...]) -> None:
    """Declare the languages of which `analyze` requires one if a request names any; empty: it accepts all.

    The pattern is looser than the server's rule, which compares all parts that two names both have.
    """
    codes = "|".join(sorted({_any_case(language_parts(code)[0]) for code in languages}))
    for path, methods in document["paths"].items():
        if path.endswith(":analyze") and codes:
            content = methods["post"]["requestBody"]["content"]["application/json"]
            several, one, _ = content["schema"]["properties"]["languages"]["anyOf"]
            one["pattern"] = f"^({codes})([-_].*)?$"
            several["anyOf"] = [{"contains": {"type": "string", "pattern": one["pattern"]}}, {"maxItems": 0}]
