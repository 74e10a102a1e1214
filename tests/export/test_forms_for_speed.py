"""OpenVINO's form, the servers' forms through the command itself, and layers that stay in float."""

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from moderation import Classifier, cli
from moderation.bundles import read_bundle
from moderation.errors import ArtifactError
from moderation.export.mixed_precision import layer_groups, leave_until_passed, rank_groups
from moderation.export.onnx_int8 import write_onnx_int8
from moderation.export.openvino_int8 import write_openvino_int8
from moderation.forms import FORMS
from moderation.training.batching import PAD_TO_MULTIPLE_OF
from tests.bundle_mutator import mutate, openvino_mutations
from tests.bundle_trial import Trials, try_bundle

TEXTS = ["kind river", "stupid idiot", "", "a b c " * 60, "them damn kill " * 9]


def test_every_requested_form_is_written_and_no_other(speedy_bundle):
    bundle = read_bundle(speedy_bundle)
    assert set(bundle.forms) == {"onnx", "openvino", "torch", "triton", "torchserve"}
    for name in bundle.forms:
        assert (speedy_bundle / FORMS[name].main_file.format(name=bundle.name)).is_file()
    assert not (speedy_bundle / "model.safetensors").exists(), "hf was not asked for"


def test_the_card_shows_only_ways_that_the_bundle_supports(speedy_bundle, tiny_bundle):
    assert "from transformers import pipeline" in (tiny_bundle / "README.md").read_text()
    assert "from transformers import pipeline" not in (speedy_bundle / "README.md").read_text()


def test_verify_knows_forms_that_others_run(speedy_bundle, capsys):
    assert cli.main(["verify", str(speedy_bundle), "--threads", "1"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in ("openvino", "triton", "torchserve"))


def test_openvino_answers_close_to_torch_and_the_same_with_any_other_texts(speedy_bundle, tiny_bundle):
    reference = Classifier.load(tiny_bundle, backend="torch").probabilities(TEXTS)
    with Classifier.load(speedy_bundle, threads=2) as classifier:
        assert classifier.backend_name == "openvino"
        together = classifier.probabilities(TEXTS * 4)
        alone = np.concatenate([classifier.probabilities([text]) for text in TEXTS * 4])
        assert together.tobytes() == alone.tobytes()
        assert np.abs(together[: len(TEXTS)] - reference).mean() < 0.1  # 8 bits: how near depends on the weights


@pytest.mark.hostile("bundle: sizes that are not the model's")
def test_openvino_does_not_answer_with_the_last_row_for_an_index_beyond_it(speedy_bundle):
    bundle = read_bundle(speedy_bundle)
    with Classifier.load(speedy_bundle, backend="openvino", threads=1) as classifier:
        engine, n_tokens = classifier.models[0]._open(), bundle.n_tokens
        engine.check_range(n_tokens - 1, 64)
        with pytest.raises(
            ArtifactError, match=rf"\.xml: the model fails on token {n_tokens}, .*expected an embedding"
        ):
            engine.check_range(n_tokens, 64)
        with pytest.raises(ArtifactError, match=r"\.xml: the model fails on a window of 65 tokens"):
            engine.check_range(n_tokens - 1, 65)


@pytest.mark.hostile("bundle: ONNX, tokenizer malicious")
def test_an_exchanged_openvino_graph_is_refused(speedy_bundle, tmp_path, attack):
    trials, found = Trials(tmp_path / "stderr"), []
    mutations = openvino_mutations()
    for seed in range(attack.cases(1, 8)):
        for mutation in mutations[: attack.cases(8, len(mutations))]:
            folder = tmp_path / "changed"
            shutil.rmtree(folder, ignore_errors=True)
            mutate(speedy_bundle, folder, mutation, seed)
            verdict = trials.run(folder, "openvino") if attack.long else try_bundle(folder, "openvino")
            if verdict not in ("refused", "answered"):
                found.append(f"{mutation.name} (seed {seed}): {verdict}")
            attack.tried()
    trials.close()
    assert not found


def test_the_weights_of_the_torch_form_are_those_of_the_plain_one(speedy_bundle, tiny_bundle):
    import torch
    from safetensors.torch import load_file

    pickled = torch.load(speedy_bundle / "pytorch_model.bin", weights_only=True)
    plain = load_file(tiny_bundle / "model.safetensors")
    assert pickled.keys() >= plain.keys()
    assert all(torch.equal(pickled[name], plain[name]) for name in plain)


def test_nothing_is_reported_to_the_makers_of_nncf(tmp_path):
    """Nobody else imports it before us: nor do other tests."""
    with suppress(Exception):
        write_openvino_int8(tmp_path / "x", tmp_path / "y", [])
    from nncf.telemetry import wrapper

    assert isinstance(wrapper.telemetry, wrapper.NNCFTelemetryStub)


@pytest.fixture
def costly(tiny_bundle, tmp_path):
    """The tiny graph with one row of weights so large that 8 bits leave nothing of the others; a norm removes it."""
    graph = onnx.load(tiny_bundle / "onnx/model.onnx")
    groups = layer_groups(tiny_bundle / "onnx/model.onnx")
    victim = "layer 1 feed-forward down"
    node = next(node for node in graph.graph.node if node.name == groups[victim][0])
    weight = next(value for value in graph.graph.initializer if value.name == node.input[1])
    array = numpy_helper.to_array(weight).copy()
    array[0] += 40.0
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(graph, tmp_path / "costly.onnx")
    return tmp_path / "costly.onnx", groups, victim


def test_groups_name_every_product_once(tiny_bundle):
    groups = layer_groups(tiny_bundle / "onnx/model.onnx")
    nodes = [node for group in groups.values() for node in group]
    assert len(nodes) == len(set(nodes))
    kinds = ("attention", "feed-forward up", "feed-forward down")
    assert set(groups) == {"embeddings", "head"} | {f"layer {layer} {kind}" for layer in (0, 1) for kind in kinds}


def test_the_costliest_layer_is_found_and_stays_in_float(costly, tmp_path):
    graph, groups, victim = costly
    rng = np.random.default_rng(0)
    windows = [rng.integers(4, 30, PAD_TO_MULTIPLE_OF * 2) for _ in range(10)]
    ranked = rank_groups(graph, groups, windows)
    assert ranked[0] == victim
    write_onnx_int8(graph, tmp_path / "some.onnx", left_in_float=groups[victim])
    products = [node for node in onnx.load(tmp_path / "some.onnx").graph.node if node.op_type == "MatMul"]
    assert set(groups[victim]) <= {node.name for node in products}
    write_onnx_int8(graph, tmp_path / "none.onnx", left_in_float=[node for group in groups.values() for node in group])
    assert not [node for node in onnx.load(tmp_path / "none.onnx").graph.node if "Integer" in node.op_type]


def test_weights_of_products_are_signed_and_take_seven_bits(tiny_bundle):
    graph = onnx.load(tiny_bundle / "onnx/model_int8.onnx").graph
    weights = {value.name: numpy_helper.to_array(value) for value in graph.initializer}
    factors = [weights[name] for node in graph.node if "MatMulInteger" in node.op_type for name in node.input[1:2]]
    assert factors
    assert {array.dtype for array in factors} == {np.dtype(np.int8)}
    assert max(int(np.abs(array.astype(int)).max()) for array in factors) <= 64


def test_one_two_four_layers_stay_until_it_passes():
    groups = {name: [f"{name}1", f"{name}2"] for name in "abcdefg"}
    tried = []

    def attempt(nodes):
        tried.append(len(nodes) // 2)
        return SimpleNamespace(passed=len(nodes) >= 6)

    left, row = leave_until_passed(groups, list("gfedcba"), attempt)
    assert (left, row, tried) == (list("gfed"), SimpleNamespace(passed=True), [1, 2, 4])
    left, row = leave_until_passed(groups, list("gfedcba"), lambda nodes: SimpleNamespace(passed=False))
    assert len(left) == 7
    assert not row.passed


@pytest.mark.usefixtures("short_texts")
def test_layers_that_stay_in_float_are_named(tiny_run, tmp_path, monkeypatch, capsys):
    """A limit that only the float graph meets: all layers end in float, and the bundle says so."""
    limits = {"auc_drop": 1.0, "flips": 1.0, "max_difference": 1e-6}
    monkeypatch.setitem(FORMS, "onnx-int8", replace(FORMS["onnx-int8"], limits=limits))
    folder = tmp_path / "bundle"
    words = f"export {tiny_run} --to {folder} --formats hf,onnx-int8 --threads 1 --parity-texts 20"
    assert cli.main(words.split()) == 0
    facts = json.loads((folder / "moderation.json").read_text())["forms"]["onnx-int8"]
    assert {"head", "embeddings", "layer 0 attention"} <= set(facts["left_in_float"])
    assert "keeps in float" in (folder / "README.md").read_text()
