"""LitServe around a bundle's int8 ONNX file, with batches of its own.

python benchmarks/serving_litserve.py BUNDLE PORT
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import litserve  # type: ignore[import-not-found,unused-ignore]
import numpy as np
import onnxruntime
from bundles import LONGEST
from tokenizers import Tokenizer

INPUTS = ("input_ids", "attention_mask")


class Moderation(litserve.LitAPI):  # type: ignore[misc,unused-ignore]
    """LitServe's hooks, in the order in which it calls them, in the process that it starts for the model."""

    folder = Path()
    threads = 1

    def setup(self, device: str) -> None:
        """Load tokenizer and model."""
        manifest = json.loads((self.folder / "moderation.json").read_text(encoding="utf-8"))
        self.labels = manifest["labels"]
        self.thresholds = np.array([manifest["thresholds"][label] for label in self.labels])
        self.tokenizer: Any = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(LONGEST)
        self.tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        self.session = onnxruntime.InferenceSession(
            self.folder / "onnx/model_int8.onnx", options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request: dict[str, Any]) -> str:
        """Take the text out of a request."""
        return str(request["texts"][0])

    def predict(self, texts: Any) -> Any:
        """Compute a batch: probabilities `(n_texts, n_labels)`; or one text: `(n_labels,)`."""
        encodings = self.tokenizer.encode_batch([texts] if isinstance(texts, str) else texts)
        inputs = (
            np.array([encoding.ids for encoding in encodings]),
            np.array([encoding.attention_mask for encoding in encodings]),
        )
        probabilities = 1 / (1 + np.exp(-self.session.run(None, dict(zip(INPUTS, inputs, strict=True)))[0]))
        return probabilities[0] if isinstance(texts, str) else probabilities

    def encode_response(self, probabilities: Any) -> dict[str, Any]:
        """Answer one request."""
        flagged = [name for name, flag in zip(self.labels, probabilities >= self.thresholds, strict=True) if flag]
        return {"probabilities": dict(zip(self.labels, probabilities.tolist(), strict=True)), "flagged": flagged}


if __name__ == "__main__":
    cores = len(os.sched_getaffinity(0))
    batches = sys.argv[3] == "batches"
    api = Moderation(max_batch_size=8, batch_timeout=0.01) if batches else Moderation()
    api.folder = Path(sys.argv[1])
    api.threads = cores if batches else 1
    # As its documentation advises: ZeroMQ queues above a hundred requests a second; on a CPU, one worker per core.
    server = litserve.LitServer(api, accelerator="cpu", fast_queue=True, workers_per_device=1 if batches else cores)
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
