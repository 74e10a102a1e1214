"""Stores a large table of embeddings in 4 bits, if that changes none of its values.

Some backbones have weights that were rounded to 4 bits (see `backbones.e5`): every 32 values form a block with a scale,
a float16, and each value is an integer from -8 to 7, times the scale. A table that stays frozen in training keeps this
property. So 4 bits store it exactly, in about half the space of 8 bits, which would round it again.

The graph computes the values of a row with ONNX's own operators. onnxruntime also has `GatherBlockQuantized`, but that
answers a token beyond the table with zeros, where `Gather` fails; and bundles may use only ONNX's own operators.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

SMALLEST = 1 << 22
"""Values of the smallest table that is stored in 4 bits; a smaller one would save little."""

_BLOCK = 32  # values that share a scale
_LOWEST, _HIGHEST = -8, 7
# Possible codes of the value furthest from 0 in a block; usually -8, from which the scale was computed.
_FURTHEST = sorted({*range(_LOWEST, _HIGHEST + 1)} - {0}, key=lambda code: (-abs(code), code))
_ROWS = 1024  # that are examined at once

FloatArray = npt.NDArray[np.float32]
HalfArray = npt.NDArray[np.float16]
ByteArray = npt.NDArray[np.uint8]


def store_in_blocks(model: Any) -> list[str]:
    """Store every large table that 4 bits can hold exactly in 4 bits, in place.

    Args:
        model: An `onnx.ModelProto` in float32.

    Returns:
        Names of the nodes that replace the look-ups in those tables; empty if the model is unchanged.
    """
    from onnx import numpy_helper

    graph = model.graph
    added: list[str] = []
    for tensor in [value for value in graph.initializer if _is_large(value)]:
        readers = [node for node in graph.node if tensor.name in node.input]
        if len(readers) != 1 or not _looks_up_rows(readers[0], tensor.name):
            continue
        blocks = find_blocks(numpy_helper.to_array(tensor))
        if blocks is not None:
            added += _replace(graph, tensor, readers[0], *blocks)
    return added


def find_blocks(table: FloatArray) -> tuple[ByteArray, HalfArray] | None:
    """Find 4-bit codes and scales that reproduce a table to the last bit.

    Args:
        table: float32 `(n_rows, width)`.

    Returns:
        The codes plus 8, two in a byte: those of the first half of each block in the low bits, those of the second half
        in the high bits, uint8 `(n_rows, n_blocks, 16)`. And the scales, float16 `(n_rows, n_blocks, 1)`. None if no
        codes reproduce it.
    """
    n_rows, width = table.shape
    if width % _BLOCK:
        return None
    n_blocks, half = width // _BLOCK, _BLOCK // 2
    packed = np.empty((n_rows, n_blocks, half), dtype=np.uint8)
    scales = np.empty((n_rows, n_blocks, 1), dtype=np.float16)
    for start in range(0, n_rows, _ROWS):
        part = slice(start, start + _ROWS)
        found = _find_codes(table[part].reshape(-1, _BLOCK))
        if found is None:
            return None
        codes = (found[0] - _LOWEST).astype(np.uint8).reshape(-1, n_blocks, _BLOCK)
        packed[part] = codes[..., :half] | codes[..., half:] << 4
        scales[part] = found[1].reshape(-1, n_blocks, 1)
    return packed, scales


def _find_codes(blocks: FloatArray) -> tuple[FloatArray, HalfArray] | None:
    """The codes of blocks, `(n, 32)`, and their scales, `(n,)`; None if a block has none."""
    furthest = blocks[np.arange(len(blocks)), np.abs(blocks).argmax(axis=1)]
    codes = np.empty_like(blocks)
    scales = np.empty(len(blocks), dtype=np.float16)
    left = np.arange(len(blocks))
    for code in _FURTHEST:
        with np.errstate(all="ignore"):  # a scale too large for float16 becomes infinite, and fits no block
            tried = (furthest[left] / code).astype(np.float16)
        found, fits = _encode(blocks[left], tried)
        codes[left[fits]], scales[left[fits]] = found[fits], tried[fits]
        left = left[~fits]
        if not left.size:
            return codes, scales
    return None


def _encode(blocks: FloatArray, scales: HalfArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """The codes of blocks for these scales, and which blocks they reproduce to the last bit, signs of 0 included."""
    factors = scales.astype(np.float32)[:, None]
    of_zeros = np.where(np.signbit(blocks) == np.signbit(factors), 0, -1)  # -1 times 0 is -0
    with np.errstate(all="ignore"):
        codes = np.where(factors == 0, of_zeros, np.rint(blocks / factors)).astype(np.float32) + 0  # 0 in place of -0
        same = (codes * factors).view(np.uint32) == blocks.view(np.uint32)
    return codes, (same & (codes >= _LOWEST) & (codes <= _HIGHEST)).all(axis=1)


def _is_large(tensor: Any) -> bool:
    from onnx import TensorProto

    sizes = tuple(tensor.dims)
    return tensor.data_type == TensorProto.FLOAT and len(sizes) == 2 and sizes[0] * sizes[1] >= SMALLEST


def _looks_up_rows(node: Any, table: str) -> bool:
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    return node.op_type == "Gather" and node.input[0] == table != node.input[1] and axis in (0, -2)


def _replace(graph: Any, tensor: Any, reader: Any, packed: ByteArray, scales: HalfArray) -> list[str]:
    """Replace a table and the node that looks up its rows; return the names of the new nodes."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []

    def constant(name: str, values: npt.ArrayLike, kind: npt.DTypeLike) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype=kind), f"{tensor.name}_{name}"))
        return f"{tensor.name}_{name}"

    def add(operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{reader.name}_{len(nodes)}_{operator}"
        nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    tokens = reader.input[1]
    sixteen = constant("sixteen", 16, np.float32)
    both = add("Cast", add("Gather", constant("packed", packed, np.uint8), tokens), to=TensorProto.FLOAT)
    whole = add("Cast", add("Div", both, sixteen), to=TensorProto.UINT8)  # cuts the fraction off
    high = add("Cast", whole, to=TensorProto.FLOAT)
    low = add("Sub", both, add("Mul", high, sixteen))
    codes = add("Sub", add("Concat", low, high, axis=-1), constant("offset", -_LOWEST, np.float32))
    factors = add("Cast", add("Gather", constant("scales", scales, np.float16), tokens), to=TensorProto.FLOAT)
    shape = add("Concat", add("Shape", tokens), constant("width", tensor.dims[1:], np.int64), axis=0)
    add("Reshape", add("Mul", codes, factors), shape)
    nodes[-1].output[0] = reader.output[0]

    place = next(index for index, node in enumerate(graph.node) if node is reader)
    kept = [*graph.node[:place], *nodes, *graph.node[place + 1 :]]
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.remove(tensor)
    return [node.name for node in nodes]
