"""Finds the layers whose quantization costs an int8 form most, so that they can stay in float."""

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moderation.export.onnx_graph import INPUTS, OUTPUT
from moderation.export.onnx_int8 import write_onnx_int8
from moderation.export.parity import ParityRow
from moderation.forms import FORMS
from moderation.inference.backends import import_onnxruntime

_LAYER = re.compile(r"layers?[./](\d+)[./]")


def layer_groups(graph: Path) -> dict[str, list[str]]:
    """Groups of the graph's quantized nodes that stay in float together.

    Args:
        graph: The float32 ONNX graph.

    Returns:
        `layer 0 attention`, `layer 0 feed-forward up`, `layer 0 feed-forward down`, ..., `embeddings`, `head` -> names
        of nodes, in the graph's order.
    """
    try:
        import onnx
    except ImportError as error:
        raise FORMS["onnx-int8"].cannot_be_written() from error
    content = onnx.load(str(graph)).graph
    shapes = {weight.name: tuple(weight.dims) for weight in content.initializer}
    groups: dict[str, list[str]] = {}
    for node in content.node:
        weights = [shapes[name] for name in node.input if len(shapes.get(name, ())) == 2]
        if weights and node.op_type in ("MatMul", "Gemm", "Gather"):
            groups.setdefault(_group(node, weights[0]), []).append(node.name)
    return groups


def rank_groups(graph: Path, groups: dict[str, list[str]], windows: Sequence[npt.NDArray[np.int64]]) -> list[str]:
    """Order groups by how much the logits' error falls when only that group stays in float, costliest first.

    Args:
        graph: The float32 ONNX graph.
        groups: From `layer_groups`.
        windows: Token ids of real texts, each int64 `(n_tokens,)`.
    """
    expected = _logits(graph, windows)
    errors = {}
    with tempfile.TemporaryDirectory() as scratch:
        trial = Path(scratch) / "trial.onnx"
        for name, nodes in groups.items():
            write_onnx_int8(graph, trial, left_in_float=nodes)
            errors[name] = float(np.square(_logits(trial, windows) - expected).mean())
    return sorted(errors, key=errors.__getitem__)


def leave_until_passed(
    groups: dict[str, list[str]], ranked: Sequence[str], attempt: Callable[[list[str]], ParityRow]
) -> tuple[list[str], ParityRow]:
    """Leave 1, 2, 4, ... of the costliest groups in float until the form passes.

    Args:
        groups: From `layer_groups`.
        ranked: From `rank_groups`.
        attempt: Writes the form with these nodes in float and returns its parity row.

    Returns:
        Names of the groups left in float and the parity row; of the last attempt if none passed.
    """
    n_left = 1
    while True:
        left = list(ranked[:n_left])
        row = attempt([node for name in left for node in groups[name]])
        if row.passed or n_left >= len(ranked):
            return left, row
        n_left *= 2


def _group(node: Any, shape: tuple[int, ...]) -> str:
    if node.op_type == "Gather":
        return "embeddings"
    layer = _LAYER.search(node.name)
    if layer is None:
        return "head"
    if "attention" in node.name:
        return f"layer {layer[1]} attention"
    return f"layer {layer[1]} feed-forward {'up' if shape[1] > shape[0] else 'down'}"


def _logits(graph: Path, windows: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    feeds = ({INPUTS[0]: ids[None], INPUTS[1]: np.ones_like(ids)[None]} for ids in windows)
    return np.concatenate([session.run([OUTPUT], feed)[0] for feed in feeds])
