"""Letters of other alphabets that look like Latin ones, read as the Latin ones they stand for."""

# ruff: noqa: RUF001 -- to be taken for one another is what these letters are here for

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# Chosen by their looks in common fonts; Unicode Technical Standard 39 (confusables) has most of them, and many more.
_CYRILLIC = {
    "а": "a",
    "в": "b",
    "с": "c",
    "ԁ": "d",
    "е": "e",
    "ё": "e",
    "ѐ": "e",
    "ԍ": "g",
    "һ": "h",
    "н": "h",
    "і": "i",
    "ї": "i",
    "ј": "j",
    "к": "k",
    "ӏ": "l",
    "м": "m",
    "п": "n",
    "о": "o",
    "р": "p",
    "ԛ": "q",
    "г": "r",
    "ѕ": "s",
    "т": "t",
    "ѵ": "v",
    "ԝ": "w",
    "х": "x",
    "у": "y",
    "А": "A",
    "В": "B",
    "С": "C",
    "Е": "E",
    "Ё": "E",
    "Н": "H",
    "І": "I",
    "Ї": "I",
    "Ј": "J",
    "К": "K",
    "М": "M",
    "О": "O",
    "Р": "P",
    "Ԛ": "Q",
    "Ѕ": "S",
    "Т": "T",
    "Ѵ": "V",
    "Ԝ": "W",
    "Х": "X",
    "У": "Y",
}
_GREEK = {
    "α": "a",
    "ε": "e",
    "η": "n",
    "ι": "i",
    "κ": "k",
    "ν": "v",
    "ο": "o",
    "ρ": "p",
    "τ": "t",
    "υ": "u",
    "χ": "x",
    "Α": "A",
    "Β": "B",
    "Ε": "E",
    "Ζ": "Z",
    "Η": "H",
    "Ι": "I",
    "Κ": "K",
    "Μ": "M",
    "Ν": "N",
    "Ο": "O",
    "Ρ": "P",
    "Τ": "T",
    "Υ": "Y",
    "Χ": "X",
}
_LATIN = {"ı": "i", "ɑ": "a", "ɡ": "g", "ɩ": "i", "ʟ": "l", "ɴ": "n", "ʀ": "r"}
LOOKALIKES = _CYRILLIC | _GREEK | _LATIN


def fold_lookalikes(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Give a fast tokenizer a first step that reads look-alike letters as Latin ones.

    Compatibility forms come first (Unicode's NFKC: full-width, circled and mathematical letters), then `LOOKALIKES`,
    then the tokenizer's own normalisation. The step stands in `tokenizer.json`, so that every backend takes it, and
    offsets still point into the text as it was written. Russian or Greek text becomes unreadable to the model: for
    models of English alone.

    Args:
        tokenizer: A fast one; its own normalisation is changed.

    Returns:
        A tokenizer of the general class, since those of single architectures build their normalisation anew when
        they are loaded and would lose the step.
    """
    from tokenizers import normalizers
    from transformers import PreTrainedTokenizerFast

    backend = tokenizer.backend_tokenizer
    own = [] if backend.normalizer is None else [backend.normalizer]
    steps = [normalizers.Replace(letter, latin) for letter, latin in LOOKALIKES.items()]
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), *steps, *own])
    logger.info("Tokenizer: %d look-alike letters are read as Latin ones.", len(LOOKALIKES))
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        **tokenizer.special_tokens_map,
    )
