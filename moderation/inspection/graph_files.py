"""Checks a bundle's graphs before an engine runs them: no references to other files, no loops, no custom code."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.parsers import expat

from moderation.errors import ArtifactError
from moderation.escapes import escape_name

# Field numbers in onnx.proto, which never change.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATION, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_NUMBER = 1, 3
_TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 2, 8, 9
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_SIZES, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 13, 14
_SPARSE_PARTS = (1, 2)

# For each message, all fields that a bundle may hold: number -> how it is written. A star: it may be repeated. If any
# other field is repeated, readers take the last one or merge them; and they skip a field of another kind.
_NUMBER, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_WRITTEN = {"number": {_NUMBER}, "bytes": {_BYTES}, "float": {_FOUR_BYTES}} | {
    "bytes*": {_BYTES},
    "number*": {_NUMBER, _BYTES},
    "float*": {_FOUR_BYTES, _BYTES},
    "double*": {_EIGHT_BYTES, _BYTES},
}
_MODEL = {1: "number", 5: "number", 8: "bytes*", 14: "bytes*", 20: "bytes*", 25: "bytes*"} | dict.fromkeys(
    (2, 3, 4, 6, 7), "bytes"
)
_GRAPH = {2: "bytes", 10: "bytes"} | dict.fromkeys((1, 5, 11, 12, 13, 14, 15, 16), "bytes*")
_NODE = dict.fromkeys((3, 4, 6, 7, 8), "bytes") | dict.fromkeys((1, 2, 5, 9), "bytes*")
_ATTRIBUTE = (
    {2: "float", 3: "number", 7: "float*", 8: "number*", 20: "number"}
    | dict.fromkeys((1, 4, 5, 6, 13, 14, 22), "bytes")
    | dict.fromkeys((9, 10, 11, 15, 23), "bytes*")
)
_TENSOR = (
    {1: "number*", 2: "number", 4: "float*", 5: "number*", 7: "number*", 10: "double*", 11: "number*", 14: "number"}
    | dict.fromkeys((8, 9, 12), "bytes")
    | dict.fromkeys((6, 13, 16), "bytes*")
)
_SPARSE = {1: "bytes", 2: "bytes", 3: "number*"}
_SIZES = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_MOST_FIELDS = 1 << 29  # a larger number does not fit into a 32-bit tag, and other readers truncate it

_DOMAINS = (b"", b"ai.onnx")
_OTHER_FORMAT = b"ORTM"  # by which onnxruntime recognises its own format, whatever follows
_MOST_VALUES = 1 << 40  # a negative size reads as a larger one
_MOST_SIZES = 64  # of a tensor; usually up to 5
# The operations of exported classifiers: encoders such as BERT, DistilBERT, RoBERTa, MPNet, ALBERT, ELECTRA, DeBERTa
# and ModernBERT, with the usual activations. None of them loops, remembers a text, loads anything, or writes to an
# index that the graph computes. All others are refused, and so is any other spelling: OpenVINO ignores case.
_LAYERS_NAMED = """
    Abs Add Broadcast Ceiling Clamp Concat Const Convert Convolution Cos CumSum Divide Elu Equal Erf Exp FakeQuantize
    Gather GatherElements Gelu Greater GreaterEqual GroupConvolution HSwish Identity Less LessEqual Log LogicalAnd
    LogicalNot LogicalOr MVN MatMul Maximum Minimum Mish Multiply Negative NotEqual PReLU Pad Parameter Power Range ReLU
    ReduceMax ReduceMean ReduceProd ReduceSum Reshape Result Select ShapeOf Sigmoid Sign Sin Slice SoftMax SoftPlus
    Split Sqrt Squeeze StridedSlice Subtract Swish Tanh Tile Transpose Unsqueeze VariadicSplit
"""
_OPERATIONS_NAMED = """
    Abs Add And Cast CastLike Ceil Clip Concat Constant ConstantOfShape Conv ConvInteger Cos CumSum DequantizeLinear Div
    DynamicQuantizeLinear Elu Equal Erf Exp Expand Flatten Gather GatherElements Gelu Gemm Greater GreaterOrEqual
    HardSigmoid HardSwish Identity LayerNormalization LeakyRelu Less LessOrEqual Log MatMul MatMulInteger Max Min Mish
    Mul Neg Not Or PRelu Pad Pow QLinearMatMul QuantizeLinear Range Reciprocal ReduceMax ReduceMean ReduceProd ReduceSum
    Relu Reshape Shape Sigmoid Sign Sin Slice Softmax Softplus Split Sqrt Squeeze Sub Tanh Tile Transpose Unsqueeze
    Where
"""
# Dividing the lowest integer by -1 crashes the process, and onnxruntime does not check for it.
_OF_FRACTIONS_NAMED = (
    "Cos DequantizeLinear Erf Exp LayerNormalization Log Reciprocal Sigmoid Sin Softmax Softplus Sqrt Tanh"
)
_OF_FRACTIONS = frozenset(name.encode() for name in _OF_FRACTIONS_NAMED.split())
_FRACTIONS = (1, 10, 11, 16)  # types: float, float16, double, bfloat16
_WHOLE = {6: 4, 7: 8}  # types int32 and int64, bytes of each
_OPERATIONS = frozenset(name.encode() for name in _OPERATIONS_NAMED.split())
_LAYERS = frozenset(_LAYERS_NAMED.split())
_OPERATION_SET = re.compile("opset[0-9]{1,3}")
_NUMBER_OF_LAYER = re.compile(r"\s*[-+]?([0-9]*)")  # the part of a text that OpenVINO reads as an integer
_LONGEST_NUMBER = 6
_MOST_OUTPUTS = 64  # of a layer that splits a table; OpenVINO creates them all when the graph is opened
_IR_VERSIONS = ("10", "11")
MOST_XML = 64 << 20
"""Bytes of an OpenVINO graph; its weights are in another file."""
_DEEPEST = 64  # nested elements


def check_onnx(content: bytes, path: Path) -> None:
    """Refuse anything but an ONNX model that contains its weights and whose graph has no loops or branches.

    Args:
        content: Of the file.
        path: The file, for the message.

    Raises:
        ArtifactError: it is not such a graph.
    """
    try:
        if content[4:8] == _OTHER_FORMAT:
            raise ValueError("it is in onnxruntime's own format")
        _check_model(memoryview(content))
    except ValueError as error:
        raise refuse_graph(path, str(error)) from None


def check_openvino(content: bytes, path: Path) -> None:
    """Check the graph of an OpenVINO model, without its weights, as `check_onnx` does.

    Raises:
        ArtifactError: it is not such a graph.
    """
    try:
        _check_layers(content)
    except expat.ExpatError:
        raise refuse_graph(path, "it is not XML") from None
    except ValueError as error:
        raise refuse_graph(path, str(error)) from None


def _check_layers(content: bytes) -> None:
    """Check every layer at any depth, in the one encoding that all readers accept."""
    parser = expat.ParserCreate("utf-8")
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth == 1 and (name != "net" or attributes.get("version") not in _IR_VERSIONS):
            raise ValueError("it is not an OpenVINO graph, or has an unknown version")
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        if name == "data":
            _check_numbers(attributes)
        if name != "layer":
            return
        if attributes.get("type") not in _LAYERS:
            raise ValueError(f"it holds a layer {escape_name(attributes.get('type', ''))}, which bundles do not use")
        if not _OPERATION_SET.fullmatch(attributes.get("version", "")):
            raise ValueError("it holds a layer that is not OpenVINO's own")

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def declare(_: str, encoding: str | None, __: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "us-ascii"):
            raise ValueError("its encoding is not UTF-8")

    def refuse_document_type(*_: object) -> None:
        raise ValueError("it declares a document type")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.XmlDeclHandler, parser.StartDoctypeDeclHandler = declare, refuse_document_type
    if not content.startswith(b"<"):
        raise ValueError("it is not XML in UTF-8 that begins with <")
    parser.Parse(content, True)


def _check_numbers(attributes: Mapping[str, str]) -> None:
    """Limit strides, axes and similar numbers: OpenVINO multiplies them without checking for an overflow."""
    for name, value in attributes.items():
        if name in ("offset", "size", "shape"):  # compared with the weights
            continue
        numbers = [found[1] for found in map(_NUMBER_OF_LAYER.match, value.split(",")) if found]
        if any(len(number) > _LONGEST_NUMBER for number in numbers):
            raise ValueError(f"it holds a layer whose {escape_name(name)} is far too large")
        if name == "num_splits" and any(int(number or 0) > _MOST_OUTPUTS for number in numbers):
            raise ValueError(f"it holds a layer whose num_splits is above {_MOST_OUTPUTS}")


def refuse_graph(path: Path, reason: str) -> ArtifactError:
    """The error for a refused graph; the caller raises it."""
    return ArtifactError(
        f"{path}: not a graph that a bundle may hold: {reason}. Get the bundle from a source that you trust."
    )


def _check_model(model: memoryview) -> None:
    n_graphs = 0
    for number, value in _fields(model, _MODEL):
        if number == _MODEL_GRAPH:
            n_graphs += 1
            _check_graph(value)
        elif number in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
            raise ValueError("it contains its own functions")
    if not n_graphs:
        raise ValueError("it holds no graph")


def _check_graph(graph: memoryview) -> None:
    divisors = _Divisors()
    for number, value in _fields(graph, _GRAPH):
        if number == _GRAPH_NODE:
            _check_node(value)
            divisors.add_node(value)
        elif number == _GRAPH_INITIALIZER:
            _check_tensor(value)
            divisors.add_tensor(value)
        elif number == _GRAPH_SPARSE:
            _check_sparse(value)
    divisors.check()


def _check_node(node: memoryview) -> None:
    operation = b""
    for number, value in _fields(node, _NODE):
        if number == _NODE_DOMAIN and bytes(value) not in _DOMAINS:
            raise ValueError("it holds an operation that is not ONNX's own")
        if number == _NODE_OPERATION:
            operation = bytes(value)
        if number == _NODE_ATTRIBUTE:
            _check_attribute(value)
    if operation not in _OPERATIONS:
        name = escape_name(operation.decode("utf-8", "replace"))
        raise ValueError(f"it holds an operation {name}, which bundles do not use")


class _Divisors:
    """What a graph divides, and by what: floating-point values, or integers written in the file."""

    def __init__(self) -> None:
        self.fractions: set[bytes] = set()  # names of values that are not integers
        self.harmless: set[bytes] = set()  # names of constants that are neither 0 nor -1
        self.known: set[bytes] = set()
        self.divisions: list[list[bytes]] = []

    def add_tensor(self, tensor: memoryview, name: bytes | None = None) -> None:
        """Add a constant, under its own name if none is given."""
        found = {number: bytes(value) for number, value in _fields(tensor, _TENSOR)}
        kind = next(_numbers(memoryview(found.get(_TENSOR_TYPE, b"\0"))))
        raw, size = found.get(_TENSOR_RAW, b""), _WHOLE.get(kind, 0)
        numbers = {raw[place : place + size] for place in range(0, len(raw), size)} if size else set()
        is_harmless = bool(numbers) and not numbers & {b"\0" * size, b"\xff" * size}
        self._add(found.get(_TENSOR_NAME, b"") if name is None else name, kind in _FRACTIONS, is_harmless)

    def add_node(self, node: memoryview) -> None:
        """Add the outputs of a node."""
        fields = [(number, value) for number, value in _fields(node, _NODE)]
        operation = next((bytes(value) for number, value in fields if number == _NODE_OPERATION), b"")
        outputs = [bytes(value) for number, value in fields if number == _NODE_OUTPUT]
        if operation == b"Div":
            self.divisions.append([bytes(value) for number, value in fields if number == _NODE_INPUT])
        attributes = [dict(_fields(value, _ATTRIBUTE)) for number, value in fields if number == _NODE_ATTRIBUTE]
        if operation == b"Constant" and len(attributes) == len(outputs) == 1 and _ATTRIBUTE_TENSORS[0] in attributes[0]:
            self.add_tensor(attributes[0][_ATTRIBUTE_TENSORS[0]], outputs[0])
            return
        types = [next(_numbers(it[_ATTRIBUTE_NUMBER])) for it in attributes if it.get(_ATTRIBUTE_NAME, b"") == b"to"]
        is_fraction = operation in _OF_FRACTIONS or (operation == b"Cast" and types[:1] in [[it] for it in _FRACTIONS])
        for name in outputs:
            self._add(name, is_fraction, False)

    def _add(self, name: bytes, is_fraction: bool, is_harmless: bool) -> None:
        if name in self.known and name:
            raise ValueError("it uses one name for two values")
        self.known.add(name)
        self.fractions |= {name} if is_fraction else set()
        self.harmless |= {name} if is_harmless else set()

    def check(self) -> None:
        """Refuse to divide numbers that may be integers by something that may be 0 or -1."""
        for inputs in self.divisions:
            if self.fractions.isdisjoint(inputs) and inputs[1:2] and inputs[1] not in self.harmless:
                raise ValueError("it divides integers by something that may be 0 or -1")


def _check_attribute(attribute: memoryview) -> None:
    for number, value in _fields(attribute, _ATTRIBUTE):
        if number in _ATTRIBUTE_GRAPHS:
            raise ValueError("it holds a loop or a condition, which bundles do not use")
        if number in _ATTRIBUTE_TENSORS:
            _check_tensor(value)
        elif number in _ATTRIBUTE_SPARSE:
            _check_sparse(value)


def _check_sparse(tensor: memoryview) -> None:
    for number, value in _fields(tensor, _SPARSE):
        if number in _SPARSE_PARTS:
            _check_tensor(value)


def _check_tensor(tensor: memoryview) -> None:
    n_values, n_sizes = 1, 0
    for number, value in _fields(tensor, _TENSOR):
        if number == _TENSOR_SIZES:
            for size in _numbers(value):
                n_values, n_sizes = n_values * max(1, size), n_sizes + 1
                if n_values > _MOST_VALUES or n_sizes > _MOST_SIZES:  # checked at once: the final product may be huge
                    raise ValueError("it holds a tensor of an impossible size")
        is_elsewhere = number == _TENSOR_LOCATION and any(byte & 127 for byte in value)
        if is_elsewhere or number == _TENSOR_EXTERNAL:
            raise ValueError("its weights are in another file (external data)")


def _fields(message: memoryview, known: Mapping[int, str]) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of each field of a message, as every reader would find them."""
    place, end = 0, len(message)
    seen: set[int] = set()
    while place < end:
        key, place = _read_number(message, place)
        number, kind = key >> 3, key & 7
        how = known.get(number, "")
        if number >= _MOST_FIELDS or kind not in _WRITTEN.get(how, ()):
            raise ValueError("it is not an ONNX file, or holds an unknown field")
        if number in seen and not how.endswith("*"):
            raise ValueError("it holds a field twice that may occur only once")
        seen.add(number)
        size, start = _read_number(message, place) if kind == _BYTES else (_SIZES.get(kind, 0), place)
        place = start + size if kind != _NUMBER else _read_number(message, place)[1]
        if place > end:
            raise ValueError("it is cut off, or not an ONNX file")
        yield number, message[start:place]


def _numbers(values: memoryview) -> Iterator[int]:
    place = 0
    while place < len(values):
        number, place = _read_number(values, place)
        yield number


def _read_number(message: memoryview, place: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and the position after it.

    A number that is longer than necessary, or larger than 64 bits, is refused: other readers truncate it.
    """
    number = shift = 0
    while place < len(message) and shift < 70:
        byte = message[place]
        number |= (byte & 127) << shift
        place += 1
        if byte < 128:
            if (shift and not byte) or number >= 1 << 64:
                raise ValueError("it holds a number that is not written in the usual way")
            return number, place
        shift += 7
    raise ValueError("it is cut off, or not an ONNX file")
