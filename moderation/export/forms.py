"""One model, written in its forms; each form is a few files of the bundle under a fixed name."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from moderation.artifacts import link_or_copy, write_atomically
from moderation.bundles import FORMS
from moderation.export.huggingface import write_torch_weights
from moderation.export.onnx_graph import example_inputs, traceable
from moderation.export.onnx_int8 import write_onnx_int8
from moderation.export.openvino_int8 import write_openvino_int8

MAIN_FILE = "torchscript/model.pt"


def write_torchscript(path: Path, model: PreTrainedModel) -> None:
    """Trace the model; called as `module(input_ids, attention_mask)`, it gives logits for any number of windows.

    Args:
        path: The `.pt` file.
        model: Left as it was.

    Raises:
        ArtifactError: the file cannot be written.
    """
    jit: Any = torch.jit
    content = io.BytesIO()  # on a full disk torch would end the process; and a file's name would become its content
    with traceable(model) as wrapper:
        jit.save(jit.trace(wrapper, example_inputs(), check_trace=False), content)
    with write_atomically(path) as temporary:
        temporary.write_bytes(content.getbuffer())


GRAPH_FORMS = ("onnx", "onnx-int8", "openvino")
INT8_FORMS = ("onnx-int8", "openvino")
SERVER_FORMS = ("triton", "torchserve")


@dataclass(frozen=True)
class Trained:
    """What the forms are made of.

    Args:
        model: On the CPU, float32.
        graph: Its float32 ONNX graph; need not exist where no form is made from it.
        windows: Token ids of real texts, each int64 `(n_tokens,)`, to fix scales on.
    """

    model: PreTrainedModel
    graph: Path
    windows: Sequence[npt.NDArray[np.int64]]


def write_form(folder: Path, name: str, trained: Trained, left_in_float: Sequence[str] = ()) -> list[str]:
    """Write one form into the bundle's folder.

    Args:
        folder: Of the bundle; the plain Hugging Face folder stands in it already.
        name: `torch`, `onnx`, `onnx-int8`, `openvino` or `torchscript`.
        trained: What to write.
        left_in_float: Names of graph nodes that an int8 form keeps in float32.

    Returns:
        Names of its files, relative to the folder.
    """
    main_file = FORMS[name].main_file
    path = folder / main_file
    if name == "torch":
        return write_torch_weights(folder, trained.model)
    if name == "torchscript":
        write_torchscript(path, trained.model)
    elif name == "onnx":
        if path != trained.graph:
            link_or_copy(trained.graph, path)
    elif name == "onnx-int8":
        write_onnx_int8(trained.graph, path, left_in_float=left_in_float)
    else:
        write_openvino_int8(trained.graph, path, trained.windows, left_in_float=left_in_float)
        return [main_file, path.with_suffix(".bin").relative_to(folder).as_posix()]
    return [main_file]
