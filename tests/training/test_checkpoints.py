import pickle
import random
import shutil

import pytest
import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from moderation.errors import ArtifactError
from moderation.labels import JIGSAW_LABELS
from moderation.training.checkpoints import load_checkpoint, save_checkpoint
from moderation.training.model import build_model, describe_labels

INPUTS = {"input_ids": torch.tensor([[2, 5, 6, 7, 8, 3], [2, 9, 10, 11, 12, 3]])}
ABOUT = {"backbone": "tiny", "max_length": 32, "step": 7, "val_metrics": {"loss": 0.5}}


@pytest.fixture
def model(tiny_backbone):
    torch.manual_seed(0)
    return build_model(tiny_backbone, JIGSAW_LABELS).eval()


@pytest.fixture
def path(model, tmp_path):
    save_checkpoint(tmp_path / "checkpoint_best.pt", model, JIGSAW_LABELS, ABOUT)
    return tmp_path / "checkpoint_best.pt"


def altered(path, **changes):
    """Write the checkpoint again with other parts."""
    torch.save(torch.load(path, weights_only=True) | changes, path)
    return path


def refusal(path):
    with pytest.raises(ArtifactError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_the_file_alone_gives_the_same_logits(tiny_backbone, tmp_path):
    backbone = shutil.copytree(tiny_backbone, tmp_path / "backbone")
    model = build_model(backbone, JIGSAW_LABELS)
    path = tmp_path / "run" / "checkpoint_best.pt"
    save_checkpoint(path, model, JIGSAW_LABELS, ABOUT)
    shutil.rmtree(backbone)

    checkpoint = load_checkpoint(path)
    assert torch.equal(checkpoint.model(**INPUTS).logits, model.eval()(**INPUTS).logits)
    assert checkpoint.labels == JIGSAW_LABELS
    assert checkpoint.about == ABOUT
    assert checkpoint.model.config.id2label == dict(enumerate(JIGSAW_LABELS))
    assert not checkpoint.model.training
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint_best.pt"]


def test_another_architecture_is_rebuilt_too(tmp_path):
    config = DistilBertConfig(
        vocab_size=65,
        dim=16,
        hidden_dim=32,
        n_layers=1,
        n_heads=2,
        max_position_embeddings=64,
        sinusoidal_pos_embds=True,
    )
    describe_labels(config, ("b", "a"))
    model = DistilBertForSequenceClassification(config).eval()
    save_checkpoint(tmp_path / "c.pt", model, ("b", "a"), {})
    checkpoint = load_checkpoint(tmp_path / "c.pt")
    assert torch.equal(checkpoint.model(**INPUTS).logits, model(**INPUTS).logits)
    assert checkpoint.labels == ("b", "a")


def test_float32_whatever_the_configuration_says(path):
    config = torch.load(path, weights_only=True)["config"] | {"dtype": "bfloat16"}
    assert load_checkpoint(altered(path, config=config)).model.dtype == torch.float32


def test_saving_leaves_the_model_as_it_was(model, tmp_path):
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_checkpoint(tmp_path / "c.pt", model, JIGSAW_LABELS, {})
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Trap:
    """Pickles to a call that creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


@pytest.mark.hostile("pickles")
def test_code_in_a_file_is_refused_and_not_run(path, tmp_path, attack):
    mark = tmp_path / "code was run"
    whole = path.read_bytes()
    for place in ("about", "config", "weights", "labels", "format", "version", "more"):
        for evil in (Trap(mark), [Trap(mark)], {"model_type": "bert", "x": Trap(mark)}):
            path.write_bytes(whole)
            altered(path, **{place: evil})
            assert "not a readable checkpoint" in refusal(path)
            assert not mark.exists()
            attack.tried()
    for content in (pickle.dumps(Trap(mark), protocol) for protocol in range(6)):
        path.write_bytes(content)
        assert "not a readable checkpoint" in refusal(path)
        assert not mark.exists()
        attack.tried()
    path.write_bytes(whole)
    torch.load(altered(path, about=Trap(mark)), weights_only=False)  # the trap is a real one
    assert mark.exists()


@pytest.mark.hostile("pickles")
def test_a_flipped_bit_gives_a_checkpoint_or_a_clear_error_and_nothing_else(path, attack):
    seed = 3
    rng, whole = random.Random(seed), path.read_bytes()
    for case in range(attack.cases(20, 1_000)):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 1, 8))):
            bit = rng.randrange(8 * min(len(whole), 4_000)) if case % 2 else rng.randrange(8 * len(whole))
            content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            load_checkpoint(path)
        except ArtifactError as error:
            assert str(path) in str(error), (seed, case)
        attack.tried()


def test_the_same_model_gives_the_same_bytes_under_any_name(path, model, tmp_path):
    other = tmp_path / "elsewhere" / "another name.pt"
    model.config.architectures = None  # transformers sets it when it first saves the model
    save_checkpoint(other, model, JIGSAW_LABELS, ABOUT)
    assert other.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_file(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "truncated" in refusal(path)


@pytest.mark.parametrize(
    "content", [b"not a checkpoint, just a text\n", b"PK\x03\x04", b"\x93NUMPY\x01\x00", bytes(200)]
)
def test_a_file_of_another_format(tmp_path, content):
    (tmp_path / "other.pt").write_bytes(content)
    assert "expected checkpoint_best.pt or checkpoint_final.pt" in refusal(tmp_path / "other.pt")


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"format": "other"}, torch.ones(2), [1, 2]])
def test_a_checkpoint_of_another_program(tmp_path, content):
    torch.save(content, tmp_path / "foreign.pt")
    assert "of another program" in refusal(tmp_path / "foreign.pt")


def test_no_file_or_a_folder(tmp_path):
    assert "no such file" in refusal(tmp_path / "absent.pt")
    assert "no such file" in refusal(tmp_path)


def test_a_newer_version(path):
    assert "newer version" in refusal(altered(path, version=2))


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 64},
        {"hidden_size": 33},
        {"hidden_size": "wide"},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 1},
        {"model_type": "vit"},
        {"hidden_act": "unheard-of"},
        {"id2label": {0: "toxic"}},
    ],
    ids=str,
)
def test_a_configuration_that_does_not_fit_the_weights(path, changes):
    config = torch.load(path, weights_only=True)["config"]
    assert "do not fit together" in refusal(altered(path, config=config | changes))


@pytest.mark.parametrize("model_type", ["unheard-of", None, ["bert"], 3])
def test_an_architecture_that_transformers_does_not_know(path, model_type):
    config = torch.load(path, weights_only=True)["config"]
    assert "does not know (model_type)" in refusal(altered(path, config=config | {"model_type": model_type}))


@pytest.mark.parametrize("part", ["config", "weights", "labels", "about"])
def test_a_part_that_is_missing(path, part):
    content = torch.load(path, weights_only=True)
    del content[part]
    torch.save(content, path)
    assert "do not fit together" in refusal(path)


def test_weights_of_other_shapes_or_names(path):
    weights = torch.load(path, weights_only=True)["weights"]
    for changed in (
        weights | {"classifier.bias": torch.zeros(5)},
        weights | {"classifier.extra": torch.zeros(5)},
        {name: tensor for name, tensor in weights.items() if name != "classifier.bias"},
        list(weights),
    ):
        assert "do not fit together" in refusal(altered(path, weights=changed))


def test_labels_that_are_not_those_of_the_logits(path):
    assert "do not fit together" in refusal(altered(path, labels=["toxic"]))


def test_a_full_disk_leaves_the_old_checkpoint(path, model, full_disk):
    before = path.read_bytes()
    with torch.no_grad():
        model.classifier.bias += 1
    with full_disk(len(before) // 2), pytest.raises(ArtifactError, match="could not be written") as caught:
        save_checkpoint(path, model, JIGSAW_LABELS, ABOUT)
    assert str(path) in str(caught.value)
    assert "disk may be full" in str(caught.value)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    save_checkpoint(path, model, JIGSAW_LABELS, ABOUT)  # with room again it works
    assert torch.equal(load_checkpoint(path).model.classifier.bias, model.classifier.bias)


def test_a_folder_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="could not be written"):
        save_checkpoint(tmp_path / "file" / "checkpoint_best.pt", model, JIGSAW_LABELS, ABOUT)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("of the device")], ids=repr)
@pytest.mark.parametrize("name", ["torch.load", "moderation.training.checkpoints.make_model"])
def test_too_little_memory_is_not_called_a_damaged_file(path, monkeypatch, name, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(name, fail)
    with pytest.raises(type(error)):
        load_checkpoint(path)


def test_a_file_that_may_not_be_read_is_not_called_damaged(path, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(torch, "load", fail)
    assert "cannot be read (Permission denied)" in refusal(path)


def test_what_is_no_full_disk_is_not_called_one(model, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="the device is gone"):
        save_checkpoint(tmp_path / "checkpoint_best.pt", model, JIGSAW_LABELS, ABOUT)
