"""Graphs of a bundle, read before an engine runs them: nothing outside of the file, no loops, no code of others."""

import math
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from moderation.errors import ArtifactError

# Numbers of fields in onnx.proto, which never change.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OPERATION, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_SIZES, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 13, 14
_SPARSE_PARTS = (1, 2)

_DOMAINS = (b"", b"ai.onnx", b"com.microsoft")
_REFUSED = (b"EPContext",)  # names a file to load
_MOST_VALUES = 1 << 40  # a negative size reads as a larger one
_LOOPS = {"Loop", "TensorIterator", "If", "ReadValue", "Assign"}  # the last two remember the text before


def read_onnx(path: Path) -> bytes:
    """Read an ONNX file whose weights are inside it, and whose graph runs from its beginning to its end.

    Raises:
        ArtifactError: no such graph.
    """
    try:
        content = path.read_bytes()
        _check_model(memoryview(content))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise _refusal(path, str(error)) from None
    return content


def check_openvino(path: Path) -> None:
    """Check the graph of an OpenVINO model, as `read_onnx` checks that of an ONNX file.

    Raises:
        ArtifactError: no such graph.
    """
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "layer" and attributes.get("type") in _LOOPS:
            raise ValueError(f"it holds a layer {attributes['type']}, which no bundle needs")
        if name == "layer" and not attributes.get("version", "opset").startswith("opset"):
            raise ValueError("it holds a layer that is not OpenVINO's own")

    def refuse_document_type(*_: object) -> None:
        raise ValueError("it declares a document type")

    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse_document_type
    try:
        parser.Parse(path.read_bytes(), True)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}).") from error
    except expat.ExpatError:
        raise _refusal(path, "it is no XML") from None
    except ValueError as error:
        raise _refusal(path, str(error)) from None


def _refusal(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        f"{path}: not a graph that a bundle may hold: {reason}. Take the bundle from a source that you trust."
    )


def _check_model(model: memoryview) -> None:
    n_graphs = 0
    for number, value in _fields(model):
        if number == _MODEL_GRAPH:
            n_graphs += 1
            _check_graph(value)
        elif number in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
            raise ValueError("it brings functions of its own")
    if not n_graphs:
        raise ValueError("it holds none")


def _check_graph(graph: memoryview) -> None:
    for number, value in _fields(graph):
        if number == _GRAPH_NODE:
            _check_node(value)
        elif number == _GRAPH_INITIALIZER:
            _check_tensor(value)
        elif number == _GRAPH_SPARSE:
            _check_sparse(value)


def _check_node(node: memoryview) -> None:
    for number, value in _fields(node):
        if number == _NODE_DOMAIN and bytes(value) not in _DOMAINS:
            raise ValueError("it holds an operation that is not ONNX's own")
        if number == _NODE_OPERATION and bytes(value) in _REFUSED:
            raise ValueError("it names another file to load")
        if number == _NODE_ATTRIBUTE:
            _check_attribute(value)


def _check_attribute(attribute: memoryview) -> None:
    for number, value in _fields(attribute):
        if number in _ATTRIBUTE_GRAPHS:
            raise ValueError("it holds a loop or a condition, which no bundle needs")
        if number in _ATTRIBUTE_TENSORS:
            _check_tensor(value)
        elif number in _ATTRIBUTE_SPARSE:
            _check_sparse(value)


def _check_sparse(tensor: memoryview) -> None:
    for number, value in _fields(tensor):
        if number in _SPARSE_PARTS:
            _check_tensor(value)


def _check_tensor(tensor: memoryview) -> None:
    n_values = 1
    for number, value in _fields(tensor):
        if number == _TENSOR_SIZES:
            n_values *= math.prod(max(1, size) for size in _numbers(value))
            if n_values > _MOST_VALUES:
                raise ValueError("it holds a tensor of an impossible size")
        is_elsewhere = number == _TENSOR_LOCATION and any(byte & 127 for byte in value)
        if is_elsewhere or number == _TENSOR_EXTERNAL:
            raise ValueError("its weights lie in another file (external data)")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of each field of a message."""
    place, end = 0, len(message)
    while place < end:
        key, place = _read_number(message, place)
        kind = key & 7
        if kind == 0:
            start, place = place, _read_number(message, place)[1]
        elif kind == 1:
            start, place = place, place + 8
        elif kind == 2:
            size, start = _read_number(message, place)
            place = start + size
        elif kind == 5:
            start, place = place, place + 4
        else:
            raise ValueError("it is no ONNX file")
        if place > end:
            raise ValueError("it is cut off, or no ONNX file")
        yield key >> 3, message[start:place]


def _numbers(values: memoryview) -> Iterator[int]:
    place = 0
    while place < len(values):
        number, place = _read_number(values, place)
        yield number


def _read_number(message: memoryview, place: int) -> tuple[int, int]:
    """A number in groups of seven bits, the last ones first, and the place behind it."""
    number = shift = 0
    while place < len(message) and shift < 70:
        byte = message[place]
        number |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return number, place
        shift += 7
    raise ValueError("it is cut off, or no ONNX file")
