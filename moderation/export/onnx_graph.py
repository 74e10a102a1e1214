"""The classifier as a float32 ONNX graph, for ONNX Runtime and as the source of the int8 forms."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from moderation.artifacts import write_atomically
from moderation.export.graph_pruning import keep_first_position
from moderation.forms import FORMS

INPUTS = ("input_ids", "attention_mask")
OUTPUT = "logits"
OPSET = 17


class LogitsOnly(nn.Module):
    """A sequence classifier that returns plain logits, as tracing needs.

    Args:
        model: A sequence classifier of transformers.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Compute logits.

        Args:
            input_ids: int64 `(n_windows, n_tokens)`.
            attention_mask: int64, of the same shape; 0 marks padding.

        Returns:
            float32 `(n_windows, n_labels)`.
        """
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def example_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Two windows, one of them padded, so that a trace keeps the mask: int64 `(2, 16)` each."""
    input_ids = torch.arange(32).reshape(2, 16) % 7 + 5
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 10:] = 0
    return input_ids, attention_mask


@contextmanager
def traceable(model: PreTrainedModel) -> Iterator[LogitsOnly]:
    """Yield the model ready for tracing: without dropout or gradients, and with attention as plain products.

    torch's fused attention would become a graph with NaN checks that keep runtimes from fusing it again. Warnings about
    code that a trace cannot follow are suppressed: `parity` measures whether the trace is right.
    """
    was_training, attention = model.training, model.config._attn_implementation
    verbosity = transformers_logging.get_verbosity()
    changeable: Any = model
    changeable.set_attn_implementation("eager")
    try:
        transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield LogitsOnly(model).eval()
    finally:
        transformers_logging.set_verbosity(verbosity)
        changeable.set_attn_implementation(attention)
        model.train(was_training)


def write_onnx(path: Path, model: PreTrainedModel) -> None:
    """Write the graph: `input_ids`, `attention_mask` int64 `(batch, tokens)` -> `logits` float32 `(batch, n_labels)`.

    After the last attention only the first position is computed (see `graph_pruning`), if the model uses only that.
    Traced with torch's older exporter: the graph of the newer one runs no faster here, and needs another package.

    Args:
        path: The `.onnx` file, weights included.
        model: Not changed.

    Raises:
        MissingExtraError: `onnx` is not installed.
        ArtifactError: the file cannot be written.
    """
    try:
        import onnx
    except ImportError as error:
        raise FORMS["onnx"].cannot_be_written() from error
    with write_atomically(path) as temporary, traceable(model) as wrapper:
        torch.onnx.export(
            wrapper,
            example_inputs(),
            str(temporary),
            dynamo=False,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in INPUTS} | {OUTPUT: {0: "batch"}},
            opset_version=OPSET,
        )
        graph = onnx.load(str(temporary))
        if keep_first_position(graph):
            onnx.save(graph, str(temporary))
