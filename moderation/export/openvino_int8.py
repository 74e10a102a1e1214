"""The classifier for OpenVINO with 8-bit matrix products; scales of activations are fixed on real texts."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moderation.errors import MissingExtraError
from moderation.export.onnx_graph import INPUTS

MAIN_FILE = "openvino/model.xml"


def write_openvino_int8(
    source: Path, path: Path, windows: Sequence[npt.NDArray[np.int64]], *, left_in_float: Sequence[str] = ()
) -> None:
    """Quantize for OpenVINO; attention's products stay in float, where OpenVINO fuses them.

    Args:
        source: The float32 ONNX graph.
        path: The `.xml` file to write, its weights beside it as `.bin`.
        windows: Token ids of real texts, each int64 `(n_tokens,)`, on which the scales are fixed.
        left_in_float: Names of further nodes that keep float32.

    Raises:
        MissingExtraError: `openvino` or `nncf` is not installed.
        ArtifactError: the files cannot be written.
    """
    os.environ.setdefault("NNCF_CI", "1")  # or nncf would report its use to its makers
    with _quiet():
        try:
            import nncf
            import openvino
        except ImportError as error:
            raise MissingExtraError("The OpenVINO form", "export") from error
        nncf.set_log_level(logging.ERROR)
        model = openvino.Core().read_model(str(source))
        names = {node.get_friendly_name() for node in model.get_ops()}
        left_in_float = [
            name for name in left_in_float if name in names
        ]  # OpenVINO renames some, the head's among them
        batches = [dict(zip(INPUTS, (ids[None], np.ones_like(ids)[None]), strict=True)) for ids in windows]
        quantized = nncf.quantize(
            model,
            nncf.Dataset(batches),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(batches),
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(names=[*_attention_products(model), *left_in_float]),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(quantized, str(path), compress_to_fp16=False)


def _attention_products(model: Any) -> list[str]:
    """Names of the products of which neither side is a weight."""
    products = [node for node in model.get_ops() if node.get_type_name() == "MatMul"]
    return [node.get_friendly_name() for node in products if not any(map(_is_weight, node.inputs()))]


def _is_weight(source: Any) -> bool:
    node = source.get_source_output().get_node()
    while node.get_type_name() in ("Convert", "Transpose", "Reshape"):
        node = node.input(0).get_source_output().get_node()
    return bool(node.get_type_name() == "Constant")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and warnings of libraries about each other."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
