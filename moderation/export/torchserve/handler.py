"""TorchServe's handler around the classifier: copied into the archive, and run there.

Needs `content-moderation[onnx]` in the Python that TorchServe runs. It is self-contained: no other file of this package
is in the archive. A request is `{"text": "..."}`, or a UTF-8 text as the body, or a form with a field `text`.
"""

import json
from typing import Any


class ModerationHandler:
    """Texts in, probabilities and decisions out. TorchServe makes one of these per worker."""

    def initialize(self, context: Any) -> None:
        """Load the bundle inside the archive.

        Args:
            context: From TorchServe: `system_properties["model_dir"]` is the unpacked archive.
        """
        from moderation import Classifier

        self.classifier = Classifier.load(context.system_properties["model_dir"])

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer each request of a batch with its own JSON; no request changes another's answer.

        Args:
            data: One per request: `body` or `data` (parsed JSON, text or bytes), or a form's `text`.
            context: From TorchServe; a request without a text gets status 400.
        """
        texts = [_read_text(request, place, context) for place, request in enumerate(data)]
        results = iter(self.classifier.classify([text for text in texts if text is not None]))
        answers = []
        for place, text in enumerate(texts):
            context.set_response_content_type(place, "application/json")
            if text is None:
                context.set_response_status(code=400, phrase="Bad Request", idx=place)
                message = 'no text in the request; expected {"text": "..."} as JSON, or the text itself as UTF-8'
                answers.append(_as_json({"error": message}))
                continue
            result = next(results)
            answers.append(
                _as_json(
                    {
                        "probabilities": result.probabilities,
                        "flagged": list(result.flagged),
                        "n_windows": result.n_windows,
                        "model_version": result.model_version,
                    }
                )
            )
        return answers


def _read_text(request: dict[str, Any], place: int, context: Any) -> str | None:
    """The text of a request; None if it has none. TorchServe passes on JSON that it could not read as bytes."""
    key = next((key for key in ("body", "data", "text") if key in request), "body")
    value = request.get(key)
    try:
        if isinstance(value, (bytes, bytearray)):
            value = bytes(value).decode("utf-8")
            declared = context.get_request_header(place, key) or {}
            if declared.get("content-type", "").startswith("application/json"):
                value = json.loads(value, parse_constant=_refuse)
        if isinstance(value, dict):
            value = value.get("text")
        if not isinstance(value, str):
            return None
        value.encode("utf-8")  # refuses half of a surrogate pair, which JSON's escapes can contain
    except (ValueError, RecursionError):
        return None
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _as_json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode("utf-8")
