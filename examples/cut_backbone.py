"""Make a multilingual encoder smaller: keep its lowest layers, and the pieces of its vocabulary that texts need.

    pip install wordfreq==3.1.1
    python examples/cut_backbone.py multilingual-e5-small --layers 6 --texts runs/multi/train.parquet --to runs/e5-6

Most of a small multilingual model is its table of embeddings, and most of that are pieces of words in languages that
nobody reads. What is kept: the pieces that make up nearly all running words of each of `LANGUAGES` (frequencies from
wordfreq, R. Speer 2022, which are only counted here), nearly all words of the texts, every single character, and the
special tokens. A word whose piece is gone is spelled with smaller ones. The folder written can be trained:
`moderation train --backbone runs/e5-6`.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from moderation.backbones.registry import resolve_backbone
from moderation.tables.options import TEXT_COLUMN

LANGUAGES = (
    "ar", "cs", "de", "en", "es", "fr", "hi", "id", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv", "tr", "uk", "zh",
)  # fmt: skip
WORDS_OF_A_LANGUAGE = 60_000
OF_WORDS, OF_TEXTS = 0.98, 0.985  # share of all pieces in running text
_MOST_OF_A_TEXT = 400  # pieces that are counted
_AT_ONCE = 2_000
_WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"


def count_words(tokenizer: Tokenizer, language: str) -> Counter[int]:
    """How often each piece occurs in running text of a language, by the frequencies of its words."""
    from wordfreq import get_frequency_dict

    frequencies = get_frequency_dict(language)
    words = sorted(frequencies, key=lambda word: (-frequencies[word], word))[:WORDS_OF_A_LANGUAGE]
    counts: Counter[int] = Counter()
    for word, encoding in zip(words, tokenizer.encode_batch(words, add_special_tokens=False), strict=True):
        for piece in encoding.ids:
            counts[piece] += frequencies[word]
    return counts


def count_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> Counter[int]:
    """How often each piece occurs in texts."""
    counts: Counter[int] = Counter()
    for start in range(0, len(texts), _AT_ONCE):
        for encoding in tokenizer.encode_batch(texts[start : start + _AT_ONCE], add_special_tokens=False):
            counts.update(encoding.ids[:_MOST_OF_A_TEXT])
    return counts


def most_frequent(counts: Mapping[int, float], share: float) -> set[int]:
    """The fewest pieces that together make up a share of all occurrences.

    >>> sorted(most_frequent({7: 60.0, 8: 30.0, 9: 10.0}, 0.9))
    [7, 8]
    """
    kept, seen, wanted = set(), 0.0, share * sum(counts.values())
    for piece in sorted(counts, key=lambda piece: (-counts[piece], piece)):
        if seen >= wanted:
            break
        kept.add(piece)
        seen += counts[piece]
    return kept


def keep_pieces(content: Mapping[str, Any], wanted: Iterable[int]) -> list[int]:
    """The wanted pieces, single characters and special tokens of a Unigram tokenizer, in their old order."""
    single = {place for place, (piece, _) in enumerate(content["model"]["vocab"]) if len(piece.lstrip("\u2581")) <= 1}
    special = {token["id"] for token in content["added_tokens"]}
    return sorted({*wanted, *single, *special})


def cut_tokenizer(content: dict[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """The `tokenizer.json` with only the kept pieces, numbered anew."""
    new = {old: place for place, old in enumerate(kept)}
    vocabulary = content["model"]["vocab"]
    padding = len(vocabulary)  # special tokens may be numbered after the pieces
    content["model"]["vocab"] = [vocabulary[old] for old in kept if old < padding]
    content["model"]["unk_id"] = new[content["model"]["unk_id"]]
    for token in content["added_tokens"]:
        token["id"] = new[token["id"]]
    for token in content["post_processor"]["special_tokens"].values():
        token["ids"] = [new[old] for old in token["ids"]]
    content["truncation"] = content["padding"] = None
    return content


def cut_weights(weights: Mapping[str, torch.Tensor], kept: Sequence[int], n_layers: int) -> dict[str, torch.Tensor]:
    """The weights without the other pieces and the upper layers."""
    cut = {}
    for name, tensor in weights.items():
        _, is_layer, rest = name.partition("encoder.layer.")
        if not is_layer or int(rest.split(".")[0]) < n_layers:
            cut[name] = (tensor[list(kept)] if name.endswith(_WORD_EMBEDDINGS) else tensor).contiguous()
    return cut


def main() -> None:
    """Cut the backbone and print what is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", help="short name, hub id or folder of an encoder with a Unigram tokenizer")
    parser.add_argument("--layers", type=int, required=True, help="layers to keep, from the lowest")
    parser.add_argument("--texts", type=Path, nargs="+", required=True, help="Parquet tables whose words are kept")
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    given = parser.parse_args()
    folder = resolve_backbone(given.backbone).path
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    texts = pd.concat([pd.read_parquet(path, columns=[TEXT_COLUMN, "lang"]) for path in given.texts])
    wanted = set()
    for language in LANGUAGES:
        wanted |= most_frequent(count_words(tokenizer, language), OF_WORDS)
    for _, rows in texts.groupby("lang"):
        wanted |= most_frequent(count_texts(tokenizer, rows[TEXT_COLUMN].tolist()), OF_TEXTS)
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not 0 < given.layers <= config["num_hidden_layers"]:
        parser.error(f"--layers {given.layers}: the backbone has {config['num_hidden_layers']}")
    kept = keep_pieces(content, wanted)
    pad = kept.index(config["pad_token_id"])
    config |= {"num_hidden_layers": given.layers, "vocab_size": len(kept), "pad_token_id": pad}
    weights = cut_weights(load_file(folder / "model.safetensors"), kept, given.layers)
    given.to.mkdir(parents=True, exist_ok=True)
    save_file(weights, given.to / "model.safetensors", metadata={"format": "pt"})
    (given.to / "tokenizer.json").write_text(
        json.dumps(cut_tokenizer(content, kept), ensure_ascii=False), encoding="utf-8"
    )
    (given.to / "tokenizer_config.json").write_bytes((folder / "tokenizer_config.json").read_bytes())
    (given.to / "config.json").write_text(json.dumps(config), encoding="utf-8")  # last: it shows that all is there
    print(f"{given.to}: {given.layers} layers, {len(kept):,} pieces")


if __name__ == "__main__":
    main()
