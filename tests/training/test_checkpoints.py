import json
import pickle
import random
import shutil
import struct
import zipfile
from dataclasses import asdict

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaConfig,
)

from moderation.errors import ArtifactError
from moderation.labels import JIGSAW_LABELS
from moderation.pretrained import read_model
from moderation.training.checkpoints import CheckpointFacts, load_checkpoint, save_checkpoint
from moderation.training.model import build_model, describe_labels

INPUTS = {"input_ids": torch.tensor([[2, 5, 6, 7, 8, 3], [2, 9, 10, 11, 12, 3]])}
ABOUT = CheckpointFacts(backbone="tiny", max_length=32, step=7, val_metrics={"loss": 0.5})


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


def test_the_file_by_itself_gives_the_same_logits(tiny_backbone, tmp_path):
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
    save_checkpoint(tmp_path / "c.pt", model, ("b", "a"), CheckpointFacts())
    checkpoint = load_checkpoint(tmp_path / "c.pt")
    assert torch.equal(checkpoint.model(**INPUTS).logits, model(**INPUTS).logits)
    assert checkpoint.labels == ("b", "a")


def test_weights_are_float32_whatever_the_configuration_states(path):
    config = torch.load(path, weights_only=True)["config"] | {"dtype": "bfloat16"}
    assert load_checkpoint(altered(path, config=config)).model.dtype == torch.float32


def test_saving_leaves_the_model_as_it_was(model, tmp_path):
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_checkpoint(tmp_path / "c.pt", model, JIGSAW_LABELS, CheckpointFacts())
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
def test_a_truncated_file_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "truncated" in refusal(path)


@pytest.mark.parametrize(
    "content", [b"not a checkpoint, just a text\n", b"PK\x03\x04", b"\x93NUMPY\x01\x00", bytes(200)]
)
def test_a_file_of_another_format_is_refused(tmp_path, content):
    (tmp_path / "other.pt").write_bytes(content)
    assert "expected checkpoint_best.pt or checkpoint_final.pt" in refusal(tmp_path / "other.pt")


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"format": "other"}, torch.ones(2), [1, 2]])
def test_a_checkpoint_of_another_program_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "foreign.pt")
    assert "of another program" in refusal(tmp_path / "foreign.pt")


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "absent.pt")
    assert "no such file" in refusal(tmp_path)


def test_a_newer_version_is_refused(path):
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
        {"chunk_size_feed_forward": 4},
        {"chunk_size_feed_forward": 7},
        {"chunk_size_feed_forward": "x"},
        {"return_dict": False},
    ],
    ids=str,
)
def test_a_configuration_that_does_not_fit_the_weights_is_refused(path, changes):
    config = torch.load(path, weights_only=True)["config"]
    assert "parts of this checkpoint do not match" in refusal(altered(path, config=config | changes))


def test_a_longest_text_that_the_model_does_not_read_is_refused(path):
    """It has 64 positions: a file about it says more, and the tokenizer might too."""
    refusal(altered(path, about=asdict(ABOUT) | {"max_length": 64 + 1}))
    load_checkpoint(altered(path, about=asdict(ABOUT) | {"max_length": 64}))


@pytest.mark.parametrize("kind", [DistilBertConfig, RobertaConfig, GPT2Config])
def test_positions_beyond_those_that_are_tried_are_counted(tmp_path, kind):
    """RoBERTa's positions begin after its padding: of 1,502 it has 1,500."""
    small = {"n_layers": 1, "num_hidden_layers": 1, "n_layer": 1, "num_attention_heads": 1, "n_head": 1, "n_heads": 1}
    small |= {"hidden_size": 8, "dim": 8, "n_embd": 8, "hidden_dim": 8, "intermediate_size": 8}
    n_positions = 1_502 if kind is RobertaConfig else 1_500
    config = kind(vocab_size=20, pad_token_id=1, bos_token_id=0, eos_token_id=2, **small)
    config.max_position_embeddings = n_positions
    describe_labels(config, JIGSAW_LABELS)
    model = AutoModelForSequenceClassification.from_config(config)
    for longest in (1_500, 1_501, 100_000):
        about = CheckpointFacts(max_length=longest)
        save_checkpoint(tmp_path / "a.pt", model, JIGSAW_LABELS, about)
        if longest == 1_500:
            load_checkpoint(tmp_path / "a.pt")
        else:
            assert "parts of this checkpoint do not match" in refusal(tmp_path / "a.pt")


def test_a_model_for_one_text_at_a_time_is_refused(tmp_path):
    """GPT-2 looks for the padding of a batch by the number of a token, which the configuration may lack."""
    config = GPT2Config(n_embd=8, n_layer=1, n_head=1, n_positions=32, vocab_size=20, bos_token_id=0, eos_token_id=0)
    describe_labels(config, JIGSAW_LABELS)
    for pad in (None, 19):
        config.pad_token_id = pad
        save_checkpoint(tmp_path / "a.pt", GPT2ForSequenceClassification(config), JIGSAW_LABELS, ABOUT)
        if pad is None:
            refusal(tmp_path / "a.pt")
        else:
            load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "facts",
    [
        {"max_length": "x"},
        {"max_length": 10**30},
        {"max_length": 0},
        {"step": torch.zeros(2)},
        {"step": "x"},
        {1: b"x"},
    ],
    ids=str,
)
def test_impossible_facts_are_refused(path, facts):
    about = torch.load(path, weights_only=True)["about"]
    assert "parts of this checkpoint do not match" in refusal(altered(path, about=about | facts))


@pytest.mark.parametrize("model_type", ["unheard-of", None, ["bert"], 3])
def test_an_architecture_that_transformers_does_not_know_is_refused(path, model_type):
    config = torch.load(path, weights_only=True)["config"]
    assert "does not know (model_type)" in refusal(altered(path, config=config | {"model_type": model_type}))


@pytest.mark.parametrize("part", ["config", "weights", "labels", "about"])
def test_a_missing_part_is_refused(path, part):
    content = torch.load(path, weights_only=True)
    del content[part]
    torch.save(content, path)
    assert "parts of this checkpoint do not match" in refusal(path)


def test_weights_of_other_shapes_or_names_are_refused(path):
    weights = torch.load(path, weights_only=True)["weights"]
    for changed in (
        weights | {"classifier.bias": torch.zeros(5)},
        weights | {"classifier.extra": torch.zeros(5)},
        {name: tensor for name, tensor in weights.items() if name != "classifier.bias"},
        list(weights),
    ):
        assert "parts of this checkpoint do not match" in refusal(altered(path, weights=changed))


def test_labels_that_do_not_match_the_logits_are_refused(path):
    assert "parts of this checkpoint do not match" in refusal(altered(path, labels=["toxic"]))


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


def test_a_folder_that_cannot_be_written_is_reported(model, tmp_path):
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


def test_other_errors_are_not_reported_as_a_full_disk(model, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="the device is gone"):
        save_checkpoint(tmp_path / "checkpoint_best.pt", model, JIGSAW_LABELS, ABOUT)


def large(**values):
    """Parts of a configuration that ask for much, by what they do."""
    return pytest.param(values, id=" ".join(values))


@pytest.mark.hostile("checkpoint: sizes")
@pytest.mark.parametrize(
    "values",
    [
        large(num_hidden_layers=10**7),
        large(num_hidden_layers=10**4),  # within the bound of the number itself
        large(vocab_size=10**8),
        large(vocab_size=10**13),
        large(max_position_embeddings=10**9),
        large(intermediate_size=10**9),
        large(type_vocab_size=10**11),
        large(num_labels=10**9, id2label=None, label2id=None),
        large(model_type="distilbert", max_position_embeddings=10**9, sinusoidal_pos_embds=True),
        large(model_type="modernbert", num_hidden_layers=10**9),
        large(model_type="gpt2", n_layer=10**8, n_positions=10**7),
        large(model_type="deberta-v2", vocab_size=10**10),
    ],
)
def test_a_model_larger_than_its_weights_is_not_built(path, monkeypatch, values):
    def build(config, dtype=torch.float32, **_):
        assert torch.empty(0).is_meta, "built in earnest"
        return from_config(config, dtype=dtype)

    from_config = AutoModelForSequenceClassification.from_config
    monkeypatch.setattr(AutoModelForSequenceClassification, "from_config", build)
    config = {key: value for key, value in torch.load(path, weights_only=True)["config"].items() if key not in values}
    given = {key: value for key, value in values.items() if value is not None}
    assert "config" in refusal(
        altered(path, config=config | given)
    ) or "parts of this checkpoint do not match" in refusal(path)


@pytest.mark.hostile("checkpoint: sizes")
def test_a_packed_archive_is_refused(path, tmp_path):
    altered(path, more=torch.zeros(1_000_000))
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert torch.load(packed, weights_only=True)["more"].shape == (1_000_000,), "torch reads it"
    assert "not a readable checkpoint" in refusal(packed)


@pytest.mark.hostile("checkpoint: sizes")
def test_an_archive_that_names_one_record_twice_is_refused(path):
    """Entries of the directory that share their bytes: together they are larger than the file."""
    whole = path.read_bytes()
    begin = whole.index(b"PK\x01\x02")
    end = whole.rindex(b"PK\x06\x06")
    size = end - begin
    copies = 2 + len(whole) // size
    counts = struct.unpack_from("<QQ", whole, end + 24)[0] * copies
    tail = bytearray(whole[end:])
    struct.pack_into("<QQQ", tail, 24, counts, counts, size * copies)
    struct.pack_into("<Q", tail, 56 + 8, begin + size * copies)
    struct.pack_into("<HHI", tail, 76 + 8, counts % 65536, counts % 65536, size * copies)
    path.write_bytes(whole[:begin] + whole[begin:end] * copies + tail)
    refusal(path)


@pytest.mark.hostile("checkpoint: sizes")
@pytest.mark.parametrize("kind", ["repeated", "meta", "sparse"])
def test_weights_that_hold_less_than_they_claim_are_refused(path, kind):
    content = torch.load(path, weights_only=True)
    name = next(name for name in content["weights"] if "word_embeddings" in name)
    n, width = 50_000_000, content["weights"][name].shape[1]
    made = {
        "repeated": torch.zeros(1).expand(n, width),
        "meta": torch.empty(n, width, device="meta"),
        "sparse": torch.sparse_coo_tensor(
            torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0), (n, width), check_invariants=True
        ),
    }
    weights = content["weights"] | {name: made[kind]}
    altered(path, config=content["config"] | {"vocab_size": n}, weights=weights)
    assert refusal(path)


@pytest.mark.hostile("checkpoint: sizes")
@pytest.mark.parametrize("values", [{"num_hidden_layers": 9_999}, {"num_hidden_layers": 10**6}, {"vocab_size": 10**8}])
def test_a_folder_whose_configuration_is_larger_than_its_weights_is_refused(tiny_backbone, tmp_path, values):
    folder = shutil.copytree(tiny_backbone, tmp_path / "backbone")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
    with pytest.raises(ArtifactError, match=r"config\.json: (requests far more|describes a model that is much larger)"):
        read_model(folder)
