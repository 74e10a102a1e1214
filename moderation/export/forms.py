"""One model, written in its forms; each form is a few files of the bundle with fixed names."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from moderation.artifacts import link_or_copy, write_atomically
from moderation.export.huggingface import write_torch_weights
from moderation.export.onnx_graph import example_inputs, traceable
from moderation.export.onnx_int8 import write_onnx_int8
from moderation.export.openvino_int8 import groups_in_openvino, write_openvino_int8
from moderation.export.torchserve.archive import write_torchserve
from moderation.export.triton.repository import write_triton
from moderation.forms import FORMS

Groups = dict[str, list[str]]


def write_torchscript(path: Path, model: PreTrainedModel) -> None:
    """Trace the model; called as `module(input_ids, attention_mask)`, it gives logits for any number of windows.

    Args:
        path: The `.pt` file.
        model: Not changed.

    Raises:
        ArtifactError: the file cannot be written.
    """
    jit: Any = torch.jit
    content = io.BytesIO()  # on a full disk torch would end the process; and it stores the file's name in the file
    with traceable(model) as wrapper:
        jit.save(jit.trace(wrapper, example_inputs(), check_trace=False), content)
    with write_atomically(path) as temporary:
        temporary.write_bytes(content.getbuffer())


@dataclass(frozen=True)
class Trained:
    """What the forms are made from.

    Args:
        model: On the CPU, float32.
        graph: Its float32 ONNX graph; need not exist if no form is made from it.
        windows: Token ids of real texts, each int64 `(n_tokens,)`, to set scales.
    """

    model: PreTrainedModel
    graph: Path
    windows: Sequence[npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Writer:
    """How a form that the classifier or another program loads is written.

    Args:
        write: Gets the path of the form's main file, what to write, and, for an int8 form, names of the graph's nodes
            that keep float32; folders on the way to the file may be missing.
        can_keep: For an int8 form: of the groups of nodes of the float32 graph at a path, those that it can keep in
            float32.
    """

    write: Callable[[Path, Trained, Sequence[str]], None]
    can_keep: Callable[[Path, Groups], Groups] = lambda graph, groups: groups


WRITERS: dict[str, Writer] = {
    "torch": Writer(lambda path, trained, kept: write_torch_weights(path, trained.model)),
    "onnx": Writer(lambda path, trained, kept: _place_graph(trained.graph, path)),
    "onnx-int8": Writer(lambda path, trained, kept: write_onnx_int8(trained.graph, path, left_in_float=kept)),
    "openvino": Writer(
        lambda path, trained, kept: write_openvino_int8(trained.graph, path, trained.windows, left_in_float=kept),
        can_keep=groups_in_openvino,
    ),
    "torchscript": Writer(lambda path, trained, kept: write_torchscript(path, trained.model)),
}
"""Form -> how it is written. `hf` is not included: every bundle starts as that folder (`huggingface`)."""

SERVER_WRITERS: dict[str, Callable[[Path, str], list[str]]] = {"triton": write_triton, "torchserve": write_torchserve}
"""Form for a server -> function that writes it into a complete bundle and returns the names of its files."""


def write_form(folder: Path, name: str, trained: Trained, left_in_float: Sequence[str] = ()) -> list[str]:
    """Write one form into the bundle's folder.

    Args:
        folder: Of the bundle; it already contains the plain Hugging Face folder.
        name: A key of `WRITERS`.
        trained: What to write.
        left_in_float: Names of graph nodes that an int8 form keeps in float32.

    Returns:
        Names of its files, relative to the folder.
    """
    form = FORMS[name]
    WRITERS[name].write(folder / form.main_file, trained, left_in_float)
    return [form.main_file, *form.beside]


def _place_graph(graph: Path, path: Path) -> None:
    if path != graph:
        link_or_copy(graph, path)
