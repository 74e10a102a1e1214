"""A table that 4 bits hold exactly is looked up to the last bit, in less space; every other stays as it is."""

import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from moderation import Classifier
from moderation.bundles import read_bundle
from moderation.errors import ArtifactError
from moderation.export import block_tables
from moderation.export.block_tables import find_blocks, store_in_blocks
from moderation.export.drafts import Draft
from moderation.export.forms import Trained, write_form
from moderation.export.mixed_precision import layer_groups
from moderation.export.onnx_int8 import write_onnx_int8
from moderation.manifests import FormFacts


def table_of_blocks(n_rows, *, width=64, lowest=-8, highest=7, seed=0):
    """A table in blocks of 32, with scales of both signs and all sizes."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(lowest, highest + 1, (n_rows, width // 32, 32)).astype(np.float32)
    scales = (rng.normal(size=(n_rows, width // 32, 1)) * 10.0 ** rng.integers(-7, 4)).astype(np.float16)
    return (codes * scales.astype(np.float32)).reshape(n_rows, width)


def model_of(table, *more, inputs=("table", "tokens"), **attributes):
    """A graph that looks up tokens in a table, and further nodes."""
    look_up = helper.make_node("Gather", list(inputs), ["row"], name="look_up", **attributes)
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, None)
    row = helper.make_tensor_value_info("row", TensorProto.FLOAT, None)
    graph = helper.make_graph([look_up, *more], "g", [tokens], [row], [numpy_helper.from_array(table, "table")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def open_graph(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture(autouse=True)
def small_tables(monkeypatch):
    """Treat every table as large."""
    monkeypatch.setattr(block_tables, "SMALLEST", 1)


@pytest.mark.parametrize("lowest, highest", [(-8, 7), (-7, 7), (-3, 5), (0, 1), (-1, 0), (0, 0), (7, 7), (-8, -8)])
def test_the_look_up_gives_the_tables_bits(lowest, highest):
    table = np.concatenate(
        [table_of_blocks(150, lowest=lowest, highest=highest, seed=seed) for seed in range(12)]
        + [np.float32([[0.0, -0.0] * 32, [-0.0] * 64, [2.0**-24 * 7, -(2.0**-24) * 8] * 32])]
    )
    model = model_of(table)
    assert store_in_blocks(model)
    session = open_graph(model)
    for tokens in (np.arange(len(table)), np.array([[3, 1], [-1, 3]]), np.array(5), np.zeros((2, 0), np.int64)):
        (row,) = session.run(None, {"tokens": tokens})
        assert row.shape == table[tokens].shape
        assert row.tobytes() == table[tokens].tobytes()
    with pytest.raises(Exception, match="out of data bounds"):
        session.run(None, {"tokens": np.array([len(table)])})


NOT_EXACT = {
    "too many steps": [8.0, 1.0, -8.0],
    "one bit off": [1.0, np.nextafter(np.float32(1), 2)],
    "zeros of both signs": [1.0, -0.0, 0.0],
    "thirds": [0.75, 0.5, 1 / 3],
    "not a number": [np.nan],
    "infinite": [np.inf],
    "below float16": [1e-9],
    "beyond float16": [1e9],
}


@pytest.mark.parametrize("place", [0, 2_049], ids=["first row", "last row"])
@pytest.mark.parametrize("name", NOT_EXACT)
def test_one_block_that_is_not_exact_is_found(name, place):
    table = table_of_blocks(2_050)
    assert find_blocks(table) is not None
    table[place] = [*[0.0] * 32, *NOT_EXACT[name], *[0.0] * (32 - len(NOT_EXACT[name]))]
    assert find_blocks(table) is None


ROWS = table_of_blocks(20)
READ_TWICE = helper.make_node("MatMul", ["x", "table"], ["y"])
UNCHANGED = {
    "ordinary": lambda: model_of(np.random.default_rng(0).normal(size=(20, 64)).astype(np.float32)),
    "of another width": lambda: model_of(ROWS[:, :48]),
    "looked up by column": lambda: model_of(ROWS, axis=1),
    "of float64": lambda: model_of(ROWS.astype(np.float64)),
    "of three sizes": lambda: model_of(ROWS[None]),
    "without rows": lambda: model_of(ROWS[:0]),
    "multiplied too": lambda: model_of(ROWS, READ_TWICE),
    "of indices": lambda: model_of(ROWS, inputs=("tokens", "table")),
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_other_tables_stay_as_they_are(name):
    model = UNCHANGED[name]()
    before = model.SerializeToString()
    assert store_in_blocks(model) == []
    assert model.SerializeToString() == before


def test_a_small_table_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(block_tables, "SMALLEST", ROWS.size + 1)
    assert store_in_blocks(model_of(ROWS)) == []


@pytest.fixture
def rounded(tiny_bundle, tmp_path):
    """The tiny graph with a table of embeddings in blocks, its path; the nodes of its embeddings; and the table."""
    model = onnx.load(tiny_bundle / "onnx/model.onnx")
    tensor = next(value for value in model.graph.initializer if value.name.endswith("word_embeddings.weight"))
    table = table_of_blocks(*tensor.dims[:1], width=tensor.dims[1])
    tensor.CopyFrom(numpy_helper.from_array(table, tensor.name))
    onnx.save(model, tmp_path / "rounded.onnx")
    return tmp_path / "rounded.onnx", layer_groups(tmp_path / "rounded.onnx")["embeddings"], table


def test_the_int8_form_answers_as_with_the_table_in_float(rounded, tmp_path, monkeypatch):
    graph, nodes, table = rounded
    monkeypatch.setattr(block_tables, "SMALLEST", table.size)  # the largest table of the graph
    for name, kept in (("blocks", ()), ("blocks, in float", nodes[:1])):
        write_onnx_int8(graph, tmp_path / name, left_in_float=kept)
    monkeypatch.setattr(block_tables, "SMALLEST", table.size + 1)
    write_onnx_int8(graph, tmp_path / "float", left_in_float=nodes[:1])
    assert (tmp_path / "blocks").read_bytes() == (tmp_path / "blocks, in float").read_bytes()

    model = onnx.load(tmp_path / "blocks")
    assert sum(len(table) in value.dims for value in model.graph.initializer) == 2  # codes and scales
    tokens = np.random.default_rng(0).integers(0, len(table), (2, 20))
    feed = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
    of_blocks, of_float = (open_graph(onnx.load(tmp_path / name)).run(None, feed)[0] for name in ("blocks", "float"))
    assert of_blocks.tobytes() == of_float.tobytes()


def test_a_bundle_with_blocks_is_opened_and_its_range_checked(rounded, tiny_bundle, tmp_path):
    graph, _, table = rounded
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    draft = Draft(folder, read_bundle(folder))
    draft.add("onnx-int8", FormFacts(tuple(write_form(folder, "onnx-int8", Trained(None, graph, ())))))
    bundle = draft.seal()
    with Classifier.load(bundle.path, backend="onnx-int8", threads=1) as classifier:
        assert np.isfinite(classifier.probabilities(["kind river", "", "stupid idiot " * 40])).all()
        engine = classifier.models[0]._open()
        engine.check_range(len(table) - 1, 64)
        with pytest.raises(ArtifactError, match=rf"the model fails on token {len(table)}, .*expected an embedding"):
            engine.check_range(len(table), 64)
