"""A backbone with fewer pieces and layers: what is kept has its old weights, and texts are still spelled."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from examples.cut_backbone import cut_tokenizer, cut_weights, keep_pieces, most_frequent

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581kind", "\u2581river", "\u2581", "r", "i", "v", "e", "k", "n", "d"]


@pytest.fixture
def content() -> dict[str, object]:
    tokenizer = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(PIECES)], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    found: dict[str, object] = json.loads(tokenizer.to_str())
    return found


def test_a_word_whose_piece_is_gone_is_spelled_with_smaller_ones(content: dict[str, object], tmp_path: Path) -> None:
    kept = keep_pieces(content, {PIECES.index("\u2581kind")})
    assert [PIECES[old] for old in kept if old < len(PIECES)] == [piece for piece in PIECES if piece != "\u2581river"]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(cut_tokenizer(content, kept)))
    tokenizer = Tokenizer.from_file(str(path))
    assert tokenizer.encode("kind river").tokens == ["<s>", "\u2581kind", "\u2581", *"river", "</s>"]
    assert tokenizer.token_to_id("<mask>") == len(kept) - 1
    assert tokenizer.get_vocab_size() == len(kept)


def test_weights_of_what_is_kept_are_the_old_ones() -> None:
    table = torch.arange(12.0).reshape(6, 2)
    weights = {"embeddings.word_embeddings.weight": table, "pooler.dense.weight": torch.ones(2)}
    weights |= {f"encoder.layer.{number}.output.dense.weight": torch.full((2,), float(number)) for number in range(12)}
    cut = cut_weights(weights, [0, 2, 5], 3)
    assert cut["embeddings.word_embeddings.weight"].tolist() == table[[0, 2, 5]].tolist()
    layers = sorted(name for name in cut if name.startswith("encoder"))
    assert layers == [f"encoder.layer.{number}.output.dense.weight" for number in range(3)]


def test_the_most_frequent_pieces_make_up_the_share() -> None:
    assert most_frequent({1: 5, 2: 4, 3: 1}, 0.9) == {1, 2}
    assert most_frequent({1: 5, 2: 4, 3: 1}, 1.0) == {1, 2, 3}
    assert most_frequent({}, 0.5) == set()
