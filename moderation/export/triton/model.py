"""Triton's Python backend around the classifier: copied into the model repository as `1/model.py`, and run there.

Needs `content-moderation[onnx]` in the Python that Triton runs.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np


class TritonPythonModel:
    """Texts in, probabilities and decisions out. Triton makes one of these per instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the bundle that `config.pbtxt` names, relative to the model repository.

        Args:
            args: From Triton: `model_repository` (this model's own folder), `model_config` (JSON).
        """
        from moderation import Classifier

        parameters = {
            name: value["string_value"] for name, value in json.loads(args["model_config"])["parameters"].items()
        }
        repository = Path(args["model_repository"]).resolve().parent
        self.classifier = Classifier.load(
            repository / parameters["bundle"], backend=parameters["backend"], device=parameters["device"]
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests, one response each. All texts are scored together; no request changes another's answer.

        Args:
            requests: Each with an input `text`, bytes of UTF-8, shape `(n_texts, 1)`.
        """
        triton = import_module("triton_python_backend_utils")
        per_request = [_read_texts(triton.get_input_tensor_by_name(request, "text").as_numpy()) for request in requests]
        results = iter(self.classifier.classify([text for texts in per_request for text in texts or []]))
        responses = []
        for texts in per_request:
            if texts is None:
                error = triton.TritonError("text: not UTF-8.", triton.TritonError.INVALID_ARG)
                responses.append(triton.InferenceResponse(output_tensors=[], error=error))
                continue
            arrays = self._arrays([next(results) for _ in texts])
            tensors = [triton.Tensor(name, array) for name, array in arrays.items()]
            responses.append(triton.InferenceResponse(output_tensors=tensors))
        return responses

    def finalize(self) -> None:
        """Release the model's memory."""
        self.classifier.close()

    def _arrays(self, results: list[Any]) -> dict[str, Any]:
        """The outputs of one request: `(n_texts, n_labels)` twice, `(n_texts, 1)`."""
        labels = self.classifier.labels
        return {
            "probabilities": np.array([list(result.probabilities.values()) for result in results], dtype=np.float32),
            "flagged": np.array([[label in result.flagged for label in labels] for result in results], dtype=np.bool_),
            "n_windows": np.array([[result.n_windows] for result in results], dtype=np.int64),
        }


def _read_texts(array: Any) -> list[str] | None:
    """The texts of a request; None if one is not UTF-8."""
    try:
        return [value.decode("utf-8") for value in array.ravel()]
    except UnicodeDecodeError:
        return None
