import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertModel,
    MPNetConfig,
    MPNetForSequenceClassification,
    ViTConfig,
)
from transformers.utils import logging as transformers_logging

from moderation.errors import ArtifactError, ConfigError
from moderation.labels import JIGSAW_LABELS
from moderation.training.model import build_model, check_tokenizer, encoder_layers, freeze_for_speed

INPUTS = {"input_ids": torch.tensor([[2, 5, 6, 7, 8, 3], [2, 9, 10, 3, 0, 0]])}
INPUTS["attention_mask"] = (INPUTS["input_ids"] != 0).long()


@pytest.fixture
def distilbert(tmp_path):
    config = DistilBertConfig(
        vocab_size=65, dim=16, hidden_dim=32, n_layers=2, n_heads=2, max_position_embeddings=64, attention_dropout=0.1
    )
    DistilBertModel(config).save_pretrained(tmp_path / "distilbert")
    return tmp_path / "distilbert"


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Building


def test_a_pretrained_encoder_gets_one_logit_per_label(tiny_backbone):
    labels = ("threat", "toxic", "spam")
    model = build_model(tiny_backbone, labels)
    assert model.config.id2label == {0: "threat", 1: "toxic", 2: "spam"}
    assert model.config.label2id == {"threat": 0, "toxic": 1, "spam": 2}
    assert model.config.problem_type == "multi_label_classification"
    assert model(**INPUTS).logits.shape == (2, 3)
    pretrained = BertModel.from_pretrained(tiny_backbone).state_dict()
    for name, tensor in model.bert.state_dict().items():
        assert torch.equal(tensor, pretrained[name]), name


def test_random_weights_need_no_weights_and_follow_the_seed(tiny_backbone, tmp_path):
    shutil.copy(tiny_backbone / "config.json", tmp_path)
    built = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        built.append(build_model(tmp_path, JIGSAW_LABELS, random_weights=True).state_dict())
    first, again, other = (weights["bert.embeddings.word_embeddings.weight"] for weights in built)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("random_weights", [False, True])
def test_float32_whatever_the_backbone_was_saved_in(tiny_backbone, tmp_path, random_weights):
    BertModel.from_pretrained(tiny_backbone).bfloat16().save_pretrained(tmp_path)
    model = build_model(tmp_path, JIGSAW_LABELS, random_weights=random_weights)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("random_weights", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_attention_dropout_is_set_and_other_dropout_is_unchanged(tiny_backbone, distilbert, dropout, random_weights):
    bert = build_model(tiny_backbone, JIGSAW_LABELS, attention_dropout=dropout, random_weights=random_weights)
    distil = build_model(distilbert, JIGSAW_LABELS, attention_dropout=dropout, random_weights=random_weights)
    assert (bert.config.attention_probs_dropout_prob, bert.config.hidden_dropout_prob) == (dropout, 0.1)
    assert (distil.config.attention_dropout, distil.config.dropout) == (dropout, 0.1)
    assert {layer.attention.self.dropout.p for layer in bert.bert.encoder.layer} == {dropout}
    assert {layer.attention.output.dropout.p for layer in bert.bert.encoder.layer} == {0.1}


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_attention_dropout_works_only_during_training(tiny_backbone, tmp_path, dropout):
    folder = shutil.copytree(tiny_backbone, tmp_path / "no-hidden-dropout")
    change_config(folder, hidden_dropout_prob=0.0)
    model = build_model(folder, JIGSAW_LABELS, attention_dropout=dropout)
    trained, evaluated = model.train()(**INPUTS).logits, model.eval()(**INPUTS).logits
    assert torch.allclose(trained, evaluated, atol=1e-6) == (dropout == 0)


# Folders that hold no such model


def test_a_folder_without_weights_gets_an_error_with_the_cure(tiny_backbone, tmp_path):
    shutil.copy(tiny_backbone / "config.json", tmp_path)
    with pytest.raises(ArtifactError, match=r"weights cannot be loaded.*--random-weights") as caught:
        build_model(tmp_path, JIGSAW_LABELS)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, r"has no config\.json of a model that transformers knows"),
        ("{}", r"has no config\.json of a model that transformers knows"),
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ('{"model_type": "unheard-of"}', r"does not know \(model_type\)"),
    ],
)
def test_a_foreign_folder_is_named(tmp_path, content, expected):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ArtifactError, match=expected) as caught:
        build_model(tmp_path, JIGSAW_LABELS)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("random_weights", [False, True])
@pytest.mark.parametrize("changes", [{"hidden_size": "wide"}, {"hidden_size": 33}])
def test_a_configuration_of_wrong_values_is_refused(tiny_backbone, tmp_path, changes, random_weights):
    folder = shutil.copytree(tiny_backbone, tmp_path / "wrong")
    change_config(folder, **changes)
    with pytest.raises(ArtifactError, match="wrong"):
        build_model(folder, JIGSAW_LABELS, random_weights=random_weights)


@pytest.mark.parametrize("random_weights", [False, True])
def test_a_model_that_reads_no_text_is_refused(tmp_path, random_weights):
    ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8).save_pretrained(tmp_path)
    with pytest.raises(ArtifactError):
        build_model(tmp_path, JIGSAW_LABELS, random_weights=random_weights)


def test_weights_that_were_cut_off_are_refused(tiny_backbone, tmp_path):
    folder = shutil.copytree(tiny_backbone, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="weights cannot be loaded"):
        build_model(folder, JIGSAW_LABELS)


def test_weights_of_another_shape_are_refused(tiny_backbone, tmp_path):
    folder = shutil.copytree(tiny_backbone, tmp_path / "wide")
    change_config(folder, hidden_size=64)
    with pytest.raises(ArtifactError, match="weights cannot be loaded"):
        build_model(folder, JIGSAW_LABELS)


@pytest.mark.parametrize("lost", ["encoder.layer.1.", "embeddings.word_embeddings."])
def test_weights_that_lack_a_part_of_the_encoder_are_refused(tiny_backbone, tmp_path, lost):
    folder = shutil.copytree(tiny_backbone, tmp_path / "part")
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if lost not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=rf"lacks {len(weights) - len(kept)} weights.*{lost}"):
        build_model(folder, JIGSAW_LABELS)


def test_weights_without_a_pooler_are_fine(tiny_backbone, tmp_path):
    """Backbones saved from masked language models have none."""
    folder = shutil.copytree(tiny_backbone, tmp_path / "no-pooler")
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    assert build_model(folder, JIGSAW_LABELS)(**INPUTS).logits.isfinite().all()


def test_the_verbosity_of_transformers_is_restored(tiny_backbone, tmp_path):
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_info()
    try:
        build_model(tiny_backbone, JIGSAW_LABELS)
        assert transformers_logging.get_verbosity() == transformers_logging.INFO
        shutil.copy(tiny_backbone / "config.json", tmp_path)
        with pytest.raises(ArtifactError):
            build_model(tmp_path, JIGSAW_LABELS)
        assert transformers_logging.get_verbosity() == transformers_logging.INFO
    finally:
        transformers_logging.set_verbosity(before)


# Freezing

SIZES = {"vocab_size": 65, "max_position_embeddings": 64}
BERT_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
ARCHITECTURES = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SIZES, **BERT_SIZES, num_labels=3)),  # type: ignore[call-arg]
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(**SIZES, dim=16, hidden_dim=32, n_layers=2, n_heads=2, num_labels=3)  # type: ignore[call-arg]
    ),
    "mpnet": lambda: MPNetForSequenceClassification(MPNetConfig(**SIZES, **BERT_SIZES, num_labels=3)),  # type: ignore[call-arg]
}
# A key's bias adds the same to all scores of a query, which the softmax takes out: its gradient is rounding noise.
KEY_BIASES = ("key.bias", "k_lin.bias", "attn.k.bias")


@pytest.fixture(params=ARCHITECTURES)
def model(request):
    torch.manual_seed(0)
    return ARCHITECTURES[request.param]().train()


@pytest.mark.parametrize("n_layers", [0, 1, 2])
def test_frozen_parts_stay_and_all_the_rest_learns(model, n_layers):
    n_learning = freeze_for_speed(model, n_layers)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert any("word_embeddings" in name for name in frozen)
    for position, layer in enumerate(encoder_layers(model)):
        assert {p.requires_grad for p in layer.parameters()} == {position >= n_layers}
    assert n_learning == sum(p.numel() for p in model.parameters() if p.requires_grad)

    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model(**INPUTS).logits.square().sum().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        if name in frozen:
            assert parameter.grad is None, name
            assert torch.equal(parameter, before[name]), name
        else:
            assert parameter.grad is not None, name
            assert not torch.equal(parameter, before[name]) or name.endswith(KEY_BIASES), name
    assert len(optimizer.state) == sum(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("n_layers", [0, 1, 2])
def test_the_graph_ends_above_what_is_frozen(model, n_layers):
    """No output below the lowest free layer is part of the graph, so no backward pass goes there."""
    freeze_for_speed(model, n_layers)
    outputs = []
    for layer in encoder_layers(model):
        layer.register_forward_hook(
            lambda _, inputs, output: outputs.append(output[0] if isinstance(output, tuple) else output)
        )
    entries = []
    encoder_layers(model)[0].register_forward_pre_hook(
        lambda _, inputs, named: entries.append(inputs[0] if inputs else named["hidden_states"]), with_kwargs=True
    )
    logits = model(**INPUTS).logits
    assert logits.requires_grad
    assert not entries[0].requires_grad
    assert [output.requires_grad for output in outputs] == [position >= n_layers for position in range(2)]


def test_unfrozen_embeddings_keep_the_graph(model):
    """The counter-check of the test above."""
    freeze_for_speed(model, 0, embeddings=False)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("n_layers", [-1, 3])
def test_a_wrong_number_of_layers_is_refused(model, n_layers):
    with pytest.raises(ConfigError, match=f"{n_layers} layers requested, but the encoder has 2"):
        freeze_for_speed(model, n_layers)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_layers_are_not_frozen_above_learning_embeddings(model):
    with pytest.raises(ConfigError, match="embeddings=True"):
        freeze_for_speed(model, 1, embeddings=False)


def test_an_encoder_that_shares_one_layer_is_refused():
    config = AlbertConfig(**SIZES, **BERT_SIZES, embedding_size=8)
    with pytest.raises(ConfigError, match="AlbertForSequenceClassification: no list of layers"):
        freeze_for_speed(AlbertForSequenceClassification(config), 1)


# Its tokenizer


def test_a_tokenizer_of_another_model_is_refused(tiny_backbone, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone)
    model = build_model(tiny_backbone, ("a", "b"))
    check_tokenizer(tokenizer, model, tmp_path)
    tokenizer.add_tokens(["more"])
    with pytest.raises(ArtifactError, match=rf"{tmp_path}: its tokenizer has a token 65, and the model knows 65"):
        check_tokenizer(tokenizer, model, tmp_path)
    tokenizer.pad_token = None
    with pytest.raises(ArtifactError, match=f"{tmp_path}: its tokenizer has no pad_token"):
        check_tokenizer(tokenizer, model, tmp_path)


@pytest.mark.hostile("weights: sizes")
def test_a_model_with_random_weights_fits_in_memory(tiny_backbone, tmp_path):
    config = json.loads((tiny_backbone / "config.json").read_text())
    huge = {"hidden_size": 1 << 14, "num_attention_heads": 2, "num_hidden_layers": 900, "intermediate_size": 1 << 16}
    (tmp_path / "config.json").write_text(json.dumps(config | huge))
    before = torch.get_rng_state()
    with pytest.raises(ArtifactError, match="describes a model that needs more memory than is free"):
        build_model(tmp_path, JIGSAW_LABELS, random_weights=True)
    assert torch.equal(torch.get_rng_state(), before)
