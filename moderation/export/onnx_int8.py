"""The ONNX graph with 8-bit matrix products; the scales of activations are computed for each window."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from moderation.artifacts import write_atomically
from moderation.export.block_tables import store_in_blocks
from moderation.forms import FORMS
from moderation.inference.backends import import_onnxruntime


def write_onnx_int8(source: Path, path: Path, *, left_in_float: Sequence[str] = ()) -> None:
    """Quantize the weights of the graph's products and embeddings, one scale per output channel.

    Weights of products are signed and use 7 of their 8 bits, -64 to 64: processors without VNNI add pairs of products
    in 16 bits, which would overflow with full 8-bit weights, so the bundle would decide differently there. Unsigned
    8-bit weights would not overflow either, but are half as fast on processors with VNNI. Embeddings are looked up, not
    multiplied, and use all 8 bits, unsigned; a large table that 4 bits can hold exactly is stored in those (see
    `block_tables`), also if its node is left in float.

    Args:
        source: The float32 graph.
        path: The `.onnx` file to write.
        left_in_float: Names of nodes that keep float32.

    Raises:
        MissingExtraError: `onnx` or `onnxruntime` is not installed.
        ArtifactError: the file cannot be written.
    """
    try:
        import_onnxruntime()
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise FORMS["onnx-int8"].cannot_be_written() from error
    with write_atomically(path) as temporary, tempfile.TemporaryDirectory() as scratch, _quiet():
        source, in_blocks = _store_tables_in_blocks(source, Path(scratch))
        quantize_dynamic(
            str(source),
            str(temporary),
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=True,
            # The quantizer first turns a Gemm into a MatMul, with another name, and an Add.
            nodes_to_exclude=[*in_blocks, *left_in_float, *(f"{name}_MatMul" for name in left_in_float)],
            extra_options={"DisableShapeInference": True, "DefaultTensorType": 1},
        )


def _store_tables_in_blocks(source: Path, scratch: Path) -> tuple[Path, list[str]]:
    """The graph with its tables in 4 bits where that is exact, and the names of the nodes that read those."""
    import onnx

    model = onnx.load(str(source))
    nodes = store_in_blocks(model)
    if not nodes:
        return source, []
    onnx.save(model, str(scratch / "blocks.onnx"))
    return scratch / "blocks.onnx", nodes


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the quantizer's log messages: their advice does not apply to this graph."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
