"""The classifier as an ONNX graph in float32, for ONNX Runtime and as the source of the int8 forms."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from moderation.artifacts import write_atomically
from moderation.errors import MissingExtraError
from moderation.export.first_position import keep_first_position
from moderation.export.logits import example_inputs, traceable

INPUTS = ("input_ids", "attention_mask")
OUTPUT = "logits"
OPSET = 17
MAIN_FILE = "onnx/model.onnx"


def write_onnx(path: Path, model: PreTrainedModel) -> None:
    """Write the graph: `input_ids`, `attention_mask` int64 `(batch, tokens)` -> `logits` float32 `(batch, n_labels)`.

    Behind the last attention only the first position is computed (see `first_position`), where the model picks it.
    Traced with torch's first exporter: the graph of the newer one runs no faster here, and needs one package more.

    Args:
        path: The `.onnx` file; weights are inside it.
        model: Left as it was.

    Raises:
        MissingExtraError: `onnx` is not installed.
        ArtifactError: the file cannot be written.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("The ONNX form", "export") from error
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
