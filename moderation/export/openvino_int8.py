"""The classifier for OpenVINO with 8-bit matrix products; the scales of activations are set on real texts."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moderation.export.onnx_graph import INPUTS
from moderation.forms import FORMS


def write_openvino_int8(
    source: Path, path: Path, windows: Sequence[npt.NDArray[np.int64]], *, left_in_float: Sequence[str] = ()
) -> None:
    """Quantize for OpenVINO; attention's products stay in float, where OpenVINO fuses them.

    Args:
        source: The float32 ONNX graph.
        path: The `.xml` file to write; its weights go next to it as `.bin`.
        windows: Token ids of real texts, each int64 `(n_tokens,)`, to set the scales.
        left_in_float: Names of further nodes that keep float32.

    Raises:
        MissingExtraError: `openvino` or `nncf` is not installed.
        ArtifactError: the files cannot be written.
    """
    os.environ.setdefault("NNCF_CI", "1")  # otherwise nncf would send telemetry
    with _quiet():
        try:
            import nncf
            import openvino
        except ImportError as error:
            raise FORMS["openvino"].cannot_be_written() from error
        logging.getLogger("nncf").setLevel(logging.ERROR)  # nncf's own function also changes handlers
        model = openvino.Core().read_model(str(source))
        names = _names(model)
        left_in_float = [known for name in left_in_float for known in _renamed(name) if known in names]
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


def groups_in_openvino(source: Path, groups: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The groups that can be left in float: those whose nodes all have a known name in OpenVINO.

    Args:
        source: The float32 ONNX graph.
        groups: Name -> names of nodes of the ONNX graph.

    Raises:
        MissingExtraError: `openvino` is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise FORMS["openvino"].cannot_be_written() from error
    names = _names(openvino.Core().read_model(str(source)))
    return {group: list(nodes) for group, nodes in groups.items() if all(names & set(_renamed(it)) for it in nodes)}


def _names(model: Any) -> set[str]:
    return {node.get_friendly_name() for node in model.get_ops()}


def _renamed(name: str) -> tuple[str, str]:
    """Names that a node of the ONNX graph may have: OpenVINO splits a Gemm into a MatMul, so named, and an Add."""
    return name, f"{name}/WithoutBiases"


def _attention_products(model: Any) -> list[str]:
    """Names of the products in which neither operand is a weight."""
    products = [node for node in model.get_ops() if node.get_type_name() == "MatMul"]
    return [node.get_friendly_name() for node in products if not any(map(_is_weight, node.inputs()))]


def _is_weight(source: Any) -> bool:
    node = source.get_source_output().get_node()
    while node.get_type_name() in ("Convert", "Transpose", "Reshape"):
        node = node.input(0).get_source_output().get_node()
    return bool(node.get_type_name() == "Constant")


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress progress bars, and the libraries' warnings about each other."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
