"""Graphs that the check and the engine could read differently: the check refuses them."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from moderation.errors import ArtifactError
from moderation.inference.backends import OpenVinoBackend
from moderation.inspection.graph_files import check_onnx, check_openvino

onnx = pytest.importorskip("onnx")


def number(value: int, *, longer: int = 0) -> bytes:
    """A number in groups of seven bits, in more of them than it needs."""
    groups = [value & 127]
    while value := value >> 7:
        groups.append(value & 127)
    groups += [0] * longer
    return bytes([group | 128 for group in groups[:-1]] + groups[-1:])


def field(key: int, content: bytes, *, longer: int = 0, longer_size: int = 0) -> bytes:
    return number(key << 3 | 2, longer=longer) + number(len(content), longer=longer_size) + content


def model(*, graph: bytes = b"", behind: bytes = b"") -> bytes:
    """A sound model, with further bytes in its graph and behind it."""
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Relu", ["x"], ["y"], name="one")],
            "g",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 6])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 6])],
            [onnx.helper.make_tensor("c", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])],
        )
    )
    inner = made.graph.SerializeToString()
    made.ClearField("graph")
    return bytes(made.SerializeToString()) + field(7, inner + graph) + behind


ELSEWHERE = onnx.TensorProto(name="e", data_type=2, dims=[24], data_location=onnx.TensorProto.EXTERNAL)
NODE = onnx.helper.make_node("Relu", ["x"], ["z"]).SerializeToString()
TENSOR = onnx.helper.make_tensor("d", onnx.TensorProto.FLOAT, [2], [1.0, 2.0]).SerializeToString()
ALIAS = 1 << 29  # which a reader of 32 bits cuts off a field's number

MODELS = {
    "initializer of a tag beyond 32 bits": model(graph=field(5 | ALIAS, ELSEWHERE.SerializeToString())),
    "node of a tag beyond 32 bits": model(graph=field(1 | ALIAS, NODE)),
    "tag of 64 bits": model(graph=field(1 | 1 << 60, NODE)),
    "tag beyond 64 bits": model(graph=field(1 | 1 << 62, NODE)),
    "graph of a tag beyond 32 bits": model(behind=field(7 | ALIAS, b"")),
    "tag in too many bytes": model(graph=field(1, NODE, longer=1)),
    "tag in ten bytes": model(graph=field(1, NODE, longer=9)),
    "size in too many bytes": model(graph=field(1, NODE, longer_size=1)),
    "field nought": model(graph=field(0, b"")),
    "unknown field": model(graph=field(30, b"")),
    "unknown field of a tensor": model(graph=field(5, TENSOR + field(3, b""))),
    "group": model(graph=number(1 << 3 | 3) + number(1 << 3 | 4)),
    "wire type 6": model(graph=number(1 << 3 | 6)),
    "node as a number": model(graph=number(1 << 3) + number(7)),
    "location as bytes": model(graph=field(5, TENSOR + field(14, b"\x01"))),
    "two graphs": model(behind=field(7, b"")),
    "operation named twice": model(graph=field(1, NODE + field(4, b"Relu"))),
    "domain named twice": model(graph=field(1, NODE + field(7, b"") + field(7, b""))),
    "location given twice": model(graph=field(5, TENSOR + b"\x70\x00\x70\x00")),
    "a million huge sizes": model(graph=field(5, field(1, (b"\xff" * 9 + b"\x01") * 1_000_000))),
    "huge sizes one by one": model(graph=field(5, (b"\x08" + b"\xff" * 9 + b"\x01") * 1_000)),
    "huge sizes behind nought": model(graph=field(5, field(1, b"\x00" + (b"\xff" * 9 + b"\x01") * 1_000))),
    "more sizes than any tensor": model(graph=field(5, field(1, b"\x01" * 65))),
    "format of onnxruntime": b"\x08\x07\x12\x04ORTM" + model(),
}


def test_a_usual_graph_is_accepted(tmp_path: Path) -> None:
    plain = tmp_path / "plain.onnx"
    plain.write_bytes(model(graph=field(1, NODE) + field(5, TENSOR)))
    check_onnx(plain.read_bytes(), plain)


@pytest.mark.hostile("bundle: graph read in two ways")
@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_readers_understand_differently_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(MODELS[name])
    with pytest.raises(ArtifactError, match="not a graph that a bundle may hold"):
        check_onnx(path.read_bytes(), path)


def divided(divisor: str, *, by: int = 0, to: int = onnx.TensorProto.INT64) -> bytes:
    """A model that divides its input, taken as whole numbers or not, by the output of an operation or by a constant."""
    helper, whole = onnx.helper, onnx.TensorProto.INT64
    cast = helper.make_node("Cast", ["x"], ["w"], to=to)
    made = {"constant": helper.make_node("Constant", [], ["d"], value=helper.make_tensor("", whole, [1], [by]))}
    given = helper.make_node("Neg" if divisor == "initializer" else divisor, ["w"], ["d"])
    constants = [helper.make_tensor("d", whole, [2], [3, by])]
    given = made.get(divisor, given) if divisor == "constant" else given
    nodes = [cast, *([] if divisor == "initializer" else [given]), helper.make_node("Div", ["w", "d"], ["y"])]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants if divisor == "initializer" else [])
    return bytes(helper.make_model(graph).SerializeToString())


def raw(content: bytes) -> bytes:
    """The same with its constants as bytes, as exporters write them."""
    made = onnx.load_from_string(content)
    tensors = [
        *made.graph.initializer,
        *(node.attribute[0].t for node in made.graph.node if node.op_type == "Constant"),
    ]
    for tensor in tensors:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    return bytes(made.SerializeToString())


@pytest.mark.hostile("bundle: graph that computes places")
@pytest.mark.parametrize("divisor", ["Neg", "Abs", "Relu", "constant", "initializer"])
@pytest.mark.parametrize("by", [0, -1])
def test_a_division_of_whole_numbers_by_what_may_be_minus_one_is_refused(divisor, by, tmp_path):
    path = tmp_path / "model.onnx"
    for content in (divided(divisor, by=by), raw(divided(divisor, by=by))):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="divides integers by something that may be 0 or -1"):
            check_onnx(path.read_bytes(), path)


def test_other_divisions_are_accepted(tmp_path):
    path = tmp_path / "model.onnx"
    for content in (
        raw(divided("constant", by=8)),
        raw(divided("initializer", by=-2)),
        divided("Sqrt"),
        divided("Neg", to=1),
    ):
        path.write_bytes(content)
        check_onnx(path.read_bytes(), path)


@pytest.mark.hostile("bundle: graph that computes places")
@pytest.mark.parametrize(
    "operation", ["ScatterND", "GatherND", "TopK", "OneHot", "Mod", "NonZero", "Einsum", "EPContext", ""]
)
def test_an_operation_that_no_export_needs_is_refused(operation, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(model(graph=field(1, onnx.helper.make_node(operation, ["x"], ["z"]).SerializeToString())))
    with pytest.raises(ArtifactError, match="which bundles do not use"):
        check_onnx(path.read_bytes(), path)


@pytest.mark.hostile("bundle: graph that computes places")
def test_indices_that_a_graph_computes_stay_within_its_tables(attack):
    """In a process of its own, which an index out of range would end."""
    pytest.importorskip("openvino")
    script = Path(__file__).with_name("computed_indices.py")
    found = subprocess.run(
        [sys.executable, script, str(attack.cases(1, 13))], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, (found.stdout.splitlines()[-1:], found.stderr[-2_000:])
    verdicts = Counter(line.rpartition(": ")[2] for line in found.stdout.splitlines())
    assert verdicts.keys() <= {"answered", "refused", "error"} and min(verdicts["answered"], verdicts["refused"]) > 10
    attack.tried(verdicts.total())


@pytest.mark.hostile("bundle: graph that fails while it runs")
def test_a_graph_that_fails_for_one_text_raises_and_gives_no_answer_of_another(tmp_path, attack):
    """Two tables of different lengths are added where a text holds the token 7."""
    openvino = pytest.importorskip("openvino")
    op = openvino.opset13
    ids, mask = (op.parameter([-1, -1], np.int64, name=name) for name in ("input_ids", "attention_mask"))
    axes, first, one = (op.constant(np.array(numbers, np.int64)) for numbers in ([0, 1], [0], [1]))
    holds = op.reduce_max(op.convert(op.equal(ids, op.constant(np.int64(7))), "i64"), axes, False)
    ones = op.broadcast(op.constant(np.float32(1)), op.reshape(op.add(holds, op.constant(np.int64(9))), one, False))
    highest = op.convert(op.reduce_max(op.multiply(ids, mask), axes, False), "f32")
    count = op.add(highest, op.constant(np.float32(9)))
    nine = op.range(op.constant(np.float32(0)), op.subtract(count, highest), op.constant(np.float32(1)), "f32")
    total = op.add(op.reduce_sum(op.add(ones, nine), first, True), highest)
    answer = op.unsqueeze(total, first)
    answer.output(0).set_names({"logits"})
    for parameter in (ids, mask):
        parameter.output(0).set_names({parameter.get_friendly_name()})
    openvino.save_model(
        openvino.Model([op.result(answer)], [ids, mask], "graph"), tmp_path / "g.xml", compress_to_fp16=False
    )
    backend = OpenVinoBackend((tmp_path / "g.xml").read_bytes(), (tmp_path / "g.bin").read_bytes(), 1, "cpu")

    def ask(*tokens: int) -> list[float]:
        return backend.logits(np.array([tokens]), np.ones((1, len(tokens)), np.int64)).ravel().tolist()

    for n in range(attack.cases(3, 50)):
        assert ask(1, n % 5) == [45 + max(1, n % 5)]
        with pytest.raises(RuntimeError):
            ask(1, 7)
        attack.tried()


NET = '<net name="n" version="11"><layers>{}</layers></net>'
LAYER = '<layer id="0" name="a" type="{}" version="opset1"/>'
GRAPHS = {
    kind: NET.format(LAYER.format(kind)) for kind in ("loop", "LOOP", "Loop", "tensoriterator", "if", "readvalue")
}
GRAPHS |= {kind: NET.format(LAYER.format(kind)) for kind in ("READVALUE", "assign", "ASSIGN", "Loop ", "&#76;oop", "")}
GRAPHS |= {
    "result in small letters": NET.format(LAYER.format("result")),
    **{
        kind: NET.format(LAYER.format(kind))
        for kind in (
            "ScatterUpdate",
            "ScatterElementsUpdate",
            "ScatterNDUpdate",
            "GatherND",
            "TopK",
            "OneHot",
            "FloorMod",
        )
    },
    **{
        number: NET.format(f'{LAYER.format("Convolution")[:-2]}><data strides="{number}"/></layer>')
        for number in (
            "4611686018427387904",
            "1,4611686018427387904",
            "-4611686018427387904",
            " 1000000.5",
            "1,9999999x",
        )
    },
    "very many pieces": NET.format(f'{LAYER.format("Split")[:-2]}><data num_splits="999999"/></layer>'),
    "many pieces": NET.format(f'{LAYER.format("Split")[:-2]}><data num_splits=" +65"/></layer>'),
    "no type": NET.format('<layer id="0" version="opset1"/>'),
    "no version": NET.format('<layer id="0" type="ReLU"/>'),
    "version of somebody": NET.format('<layer id="0" type="ReLU" version="opset1evil"/>'),
    "extension": NET.format('<layer id="0" type="ReLU" version="extension"/>'),
    "type twice": NET.format('<layer id="0" type="ReLU" type="Loop" version="opset1"/>'),
    "loop within another element": NET.format(f"<a><body>{LAYER.format('Loop')}</body></a>"),
    "entity": f'<!DOCTYPE net [<!ENTITY a "Loop">]>{NET.format(LAYER.format("&a;"))}',
    "unknown entity": NET.format(LAYER.format("&a;")),
    "latin-1": '<?xml version="1.0" encoding="ISO-8859-1"?>' + NET.format(LAYER.format("ReLU")),
    "UTF-7": '<?xml version="1.0" encoding="UTF-7"?>' + NET.format(LAYER.format("ReLU")),
    "UTF-16 declared": '<?xml version="1.0" encoding="UTF-16"?>' + NET.format(LAYER.format("ReLU")),
    "two roots": NET.format("") * 2,
    "another root": f"<x>{NET.format(LAYER.format('ReLU'))}</x>",
    "another version": NET.format(LAYER.format("ReLU")).replace('"11"', '"7"'),
    "deep": NET.format("<a>" * 10_000 + "</a>" * 10_000),
    "NUL": NET.format(LAYER.format("ReLU")) + "\0",
}
ENCODED = {
    name: NET.format(LAYER.format("ReLU")).encode(name) for name in ("utf-16", "utf-16-be", "utf-32", "utf-8-sig")
}


@pytest.mark.hostile("bundle: graph read in two ways")
@pytest.mark.parametrize("name", [*GRAPHS, *ENCODED])
def test_layers_that_loop_or_that_readers_understand_differently_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_bytes(ENCODED[name] if name in ENCODED else GRAPHS[name].encode())
    with pytest.raises(ArtifactError, match="not a graph that a bundle may hold"):
        check_openvino(path.read_bytes(), path)


@pytest.mark.parametrize("declaration", ["", '<?xml version="1.0"?>\n', '<?xml version="1.0" encoding="utf-8"?>'])
def test_usual_layers_are_accepted(declaration: str, tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text(declaration + NET.format(LAYER.format("ReLU") + LAYER.format("Const")))
    check_openvino(path.read_bytes(), path)
