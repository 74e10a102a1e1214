"""Only the first position is computed behind the last attention: the same logits from fewer products."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper

from moderation.export.graph_pruning import keep_first_position
from moderation.export.onnx_graph import example_inputs, traceable, write_onnx

SMALL = {"vocab_size": 50, "num_labels": 3}
ENCODERS = {
    "bert": transformers.BertConfig(
        **SMALL, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    ),
    "roberta": transformers.RobertaConfig(
        **SMALL, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    ),
    "distilbert": transformers.DistilBertConfig(**SMALL, dim=16, n_layers=2, n_heads=2, hidden_dim=32),
}


@pytest.fixture(params=ENCODERS)
def model(request):
    torch.manual_seed(0)
    return transformers.AutoModelForSequenceClassification.from_config(ENCODERS[request.param]).eval()


def run(graph, input_ids, attention_mask):
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input_ids": input_ids, "attention_mask": attention_mask})[0]


def width_of_positions(graph, n_tokens):
    """How many products of weights in the graph see every position of a window."""
    graph = copy.deepcopy(graph)
    weights = {value.name for value in graph.graph.initializer}
    seen = [node.output[0] for node in graph.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    for name in seen:
        graph.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    ids = np.full((1, n_tokens), 7)
    answers = session.run(seen, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    return sum(n_tokens in answer.shape for answer in answers), len(answers)


def test_the_logits_stay_and_the_last_layer_shrinks(model, tmp_path):
    write_onnx(tmp_path / "model.onnx", model)
    graph = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(graph)
    rng = np.random.default_rng(0)
    for n_texts, n_tokens in ((1, 1), (1, 9), (3, 21)):
        ids = rng.integers(5, 50, (n_texts, n_tokens))
        mask = np.ones_like(ids)
        mask[-1, (n_tokens + 1) // 2 :] = 0
        with torch.no_grad():
            expected = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits.numpy()
        np.testing.assert_allclose(run(graph, ids, mask), expected, atol=1e-5)
    n_wide, n_products = width_of_positions(graph, 13)
    assert n_wide <= n_products - 3  # output projection and both products of the feed-forward part


def test_a_graph_that_does_not_pick_a_position_is_left_alone():
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "weight")
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["y"]), helper.make_node("ReduceMean", ["y"], ["z"], axes=[1])]
    x, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xz")
    graph = helper.make_model(helper.make_graph(nodes, "mean", [x], [z], [weight]))
    before = graph.SerializeToString()
    assert keep_first_position(graph) == 0
    assert graph.SerializeToString() == before


def test_values_that_others_read_in_full_are_not_narrowed():
    """The first position is picked of one product, and the mean is taken of the same: it must stay whole."""
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "weight")
    index = numpy_helper.from_array(np.array(0), "zero")
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["y"], name="product"),
        helper.make_node("Gather", ["y", "zero"], ["first"], name="pick", axis=1),
        helper.make_node("ReduceMean", ["y"], ["mean"], name="mean", axes=[1], keepdims=0),
        helper.make_node("Add", ["first", "mean"], ["z"], name="sum"),
    ]
    x, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xz")
    graph = helper.make_model(
        helper.make_graph(nodes, "both", [x], [z], [weight, index]), opset_imports=[helper.make_opsetid("", 17)]
    )
    assert keep_first_position(graph) == 0


def test_the_example_for_tracing_contains_padding(model):
    """The trace is made on a batch with padding, or the mask would be traced away."""
    with traceable(model) as wrapper, torch.no_grad():
        ids, mask = example_inputs()
        assert (mask == 0).any()
        assert not torch.equal(wrapper(ids, mask), wrapper(ids, torch.ones_like(mask)))
