"""What a bundle's `tokenizer.json` may hold: known kinds of steps, each with limits on what it may do.

The file is checked here before the library that runs it reads it. That library trusts its input: it panics on a damaged
table, and runs for as long as a pattern or a replacement makes it.
"""

import base64
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from moderation.charsmap import find_replacements, longest_replacement
from moderation.escapes import escape_name
from moderation.inspection.tokenizer_patterns import UnknownNotation, read_pattern
from moderation.model_bounds import MOST_TOKENS
from moderation.strict_json import parse_strictly

MOST_BYTES = 128 << 20
"""Size of a `tokenizer.json`."""
_MOST_STEPS = 256  # of one kind; `--fold-disguises` has about seventy
_MOST_STEPS_OF_PATTERN = 100_000  # of one pattern at one place of a text, in steps
_MOST_STEPS_OF_PATTERNS = 500_000
_LONGEST_PATTERN = 16_384
_LONGEST_CONTENT = 64
_LONGEST_WORD = 1_000  # of WordPiece, whose work grows with its square
_MOST_IDS = MOST_TOKENS
_LONGEST_TOKEN = 1_024  # bytes; some vocabularies hold long runs of spaces or dashes
_MOST_OF_TOKENS = 1 << 25  # bytes of a vocabulary; those of a million tokens take 10 MB
_MOST_OF_UNIGRAM = 1 << 22  # whose tree takes some 300 times the tokens; XLM-R's 250,000 take 3 MB
MOST_ADDED = 20_000
"""Added tokens, for each of which a matcher is built."""
_MOST_OF_ADDED = 1 << 20
_HARMLESS_GROWTH = 64
_IGNORES_CASE = re.compile(r"\(\?[a-z]*i")  # one character may then match three: U+FB03 for `ffi`

# Maximum number of characters that one character may become: from Unicode's tables, or because each byte becomes one.
_GROWTH_BY_KIND = {
    "BertNormalizer": 24,
    "ByteLevel": 4,
    "Lowercase": 3,
    "NFC": 3,
    "NFD": 4,
    "NFKC": 18,
    "NFKD": 18,
    "Nmt": 1,
    "Strip": 1,
    "StripAccents": 1,
}
_PRE_TOKENIZERS = {
    "BertPreTokenizer",
    "ByteLevel",
    "CharDelimiterSplit",
    "Digits",
    "FixedLength",
    "Metaspace",
    "Punctuation",
    "Split",
    "UnicodeScripts",
    "Whitespace",
    "WhitespaceSplit",
}
_POST_PROCESSORS = {"BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing"}


@dataclass(frozen=True)
class TokenizerFacts:
    """What the rules found in a file that obeys them.

    Args:
        highest_id: The highest id of its tokens.
        steps: Its normalisation steps, in order, with sequences flattened.
        growing: Whether each of these may make a text longer.
        is_bounded: Whether all of them together cannot make a text many times longer.
        is_bounded_for_ascii: Whether that holds for texts of ASCII alone, which then stay ASCII.
        separators: Tokens at which a text is taken apart before it is normalised.
        normalised: Tokens that are normalised themselves, when the file is opened.
        n_open: Patterns whose work at each place of a text may grow with the text.
    """

    highest_id: int
    steps: tuple[Mapping[str, object], ...]
    growing: tuple[bool, ...]
    is_bounded: bool
    is_bounded_for_ascii: bool
    separators: tuple[str, ...]
    normalised: tuple[str, ...]
    n_open: int


class _Taken(NamedTuple):
    """What a pattern matches.

    Args:
        width: Minimum number of characters.
        is_foreign: Whether it always includes some beyond ASCII, so that it never matches in an ASCII text.
    """

    width: int
    is_foreign: bool


class _Growth(NamedTuple):
    """How many times longer a step can make a text.

    Args:
        of_any: For any text.
        of_ascii: For an ASCII text; infinite if it may not stay ASCII.
    """

    of_any: float
    of_ascii: float


class _Work(NamedTuple):
    """The work of one pattern."""

    steps: int
    is_open: bool


def check_tokenizer(content: bytes) -> TokenizerFacts:
    """Check a `tokenizer.json`.

    Raises:
        ValueError: with the part that is wrong, and what was expected.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(f"{len(content):,} bytes, expected {MOST_BYTES:,} at most")
    try:
        tokenizer = parse_strictly(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _expect(isinstance(tokenizer, dict), "not a JSON object")
    works: list[_Work] = []
    steps = tuple(_steps(tokenizer, "normalizer", "normalizers"))
    growths = [_check_normaliser(step, works) for step in steps]
    _check_pre_tokenizers(list(_steps(tokenizer, "pre_tokenizer", "pretokenizers")), works)
    highest = [_check_post_processor(step) for step in _steps(tokenizer, "post_processor", "processors")]
    _expect(sum(work.steps for work in works) <= _MOST_STEPS_OF_PATTERNS, "its patterns together may take too long")
    highest.append(_check_model(_mapping(tokenizer.get("model"), "model")))
    added = tokenizer.get("added_tokens") or []
    _expect(
        isinstance(added, list) and len(added) <= MOST_ADDED, f"added_tokens: expected a list, {MOST_ADDED:,} at most"
    )
    highest += [_check_added(token) for token in added]
    _check_sizes((token["content"] for token in added), "added_tokens", _MOST_OF_ADDED)
    is_bounded = math.prod(growth.of_any for growth in growths) <= _HARMLESS_GROWTH
    is_bounded_for_ascii = math.prod(growth.of_ascii for growth in growths) <= _HARMLESS_GROWTH
    separators = tuple(token["content"] for token in added if not token.get("normalized"))
    normalised = tuple(token["content"] for token in added if token.get("normalized"))
    if not is_bounded and any(token.get(key) for token in added for key in ("single_word", "rstrip")):
        raise ValueError(
            "added_tokens: no single_word or rstrip allowed with a normalizer that may make a text much longer"
        )
    n_open = sum(work.is_open for work in works)
    growing = tuple(growth.of_any > 1 for growth in growths)
    return TokenizerFacts(
        max(highest), steps, growing, is_bounded, is_bounded_for_ascii, separators, normalised, n_open
    )


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _mapping(value: Any, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{name}: expected an object")
    return value


def _text(part: Mapping[str, object], key: str, longest: int) -> str:
    value = part.get(key)
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{_kind(part)}.{key}: expected a text of at most {longest} characters")
    return value


def _number(part: Mapping[str, object], key: str, least: int, most: int) -> int:
    value = part.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{_kind(part)}.{key}: expected a whole number from {least} to {most}")
    return value


def _kind(part: Mapping[str, object]) -> str:
    return escape_name(part.get("type", "added_tokens"))


def _steps(tokenizer: Mapping[str, object], name: str, inner: str) -> Iterator[Mapping[str, object]]:
    """The steps of a part, with sequences flattened."""
    waiting = [tokenizer.get(name)]
    n_steps = 0
    while waiting:
        step = waiting.pop()
        if step is None and n_steps == 0:
            return
        n_steps += 1
        _expect(n_steps <= _MOST_STEPS, f"{name}: more than {_MOST_STEPS} steps")
        part = _mapping(step, name)
        if part.get("type") != "Sequence":
            yield part
            continue
        steps = part.get(inner)
        if not isinstance(steps, list):
            raise ValueError(f"{name}.{inner}: expected a list")
        waiting += reversed(steps)


def _check_normaliser(step: Mapping[str, object], works: list[_Work]) -> _Growth:
    kind = step.get("type")
    if isinstance(kind, str) and kind in _GROWTH_BY_KIND:
        return _Growth(_GROWTH_BY_KIND[kind], math.inf if kind == "ByteLevel" else 1)
    if kind == "Prepend":
        text = _text(step, "prepend", 8)  # added before each piece between added tokens, which may be one letter
        return _Growth(1 + len(text), 1 + len(text) if text.isascii() else math.inf)
    if kind == "Precompiled":
        try:
            charsmap: Any = step["precompiled_charsmap"]
            table = base64.b64decode(charsmap, validate=True)
            return _Growth(max(1, longest_replacement(table)), _growth_by(find_replacements(table, of_ascii=True)))
        except (ValueError, TypeError, KeyError):
            raise ValueError("Precompiled.precompiled_charsmap: not a readable table") from None
    if kind == "Replace":
        content, taken = _text(step, "content", _LONGEST_CONTENT), _check_pattern(step, works)
        growth = max(1.0, len(content) / taken.width)
        return _Growth(growth, 1 if taken.is_foreign else growth if content.isascii() else math.inf)
    raise ValueError(f"normalizer: a step of the unknown kind {escape_name(repr(kind))}")


def _growth_by(replacements: Iterable[str]) -> float:
    """How many times longer an ASCII text becomes when its characters are replaced."""
    return max(len(text) if text.isascii() else math.inf for text in ("a", *replacements))


def _check_pattern(step: Mapping[str, object], works: list[_Work]) -> _Taken:
    pattern = _mapping(step.get("pattern"), f"{_kind(step)}.pattern")
    if len(pattern) != 1 or not pattern.keys() <= {"String", "Regex"}:
        raise ValueError(f"{_kind(step)}.pattern: expected String or Regex")
    ((kind, text),) = pattern.items()
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_PATTERN:
        raise ValueError(f"{_kind(step)}.pattern: expected a text of 1 to {_LONGEST_PATTERN:,} characters")
    if kind == "String":
        return _Taken(len(text), not text.isascii())
    try:
        cost, is_open = read_pattern(text)
    except UnknownNotation as error:
        raise ValueError(f"{_kind(step)}.pattern: {error}, which is not supported") from None
    except ValueError as error:
        raise ValueError(f"{_kind(step)}.pattern: {error}") from None
    _expect(cost.once <= _MOST_STEPS_OF_PATTERN, f"{_kind(step)}.pattern: a regular expression that may take too long")
    _expect(cost.width > 0, f"{_kind(step)}.pattern: a regular expression that may match nothing")
    works.append(_Work(cost.once, is_open))
    width = max(1, cost.width // 3) if _IGNORES_CASE.search(text) else cost.width
    return _Taken(width, cost.foreign > 0)


def _check_pre_tokenizers(steps: list[Mapping[str, object]], works: list[_Work]) -> None:
    kinds = [step.get("type") for step in steps]
    for step in steps:
        kind = step.get("type")
        if not isinstance(kind, str) or kind not in _PRE_TOKENIZERS:
            raise ValueError(f"pre_tokenizer: a step of the unknown kind {escape_name(repr(kind))}")
        if kind == "Split":
            _check_pattern(step, works)
        elif kind == "FixedLength":
            _number(step, "length", 1, _LONGEST_WORD)
        elif kind == "Metaspace":
            _text(step, "replacement", 1)
    for kind in ("ByteLevel", "Metaspace"):  # each makes a text longer
        _expect(kinds.count(kind) <= 1, f"pre_tokenizer: more than one step {kind}")


def _check_post_processor(step: Mapping[str, object]) -> int:
    """Return the highest id that it puts around a text."""
    kind = step.get("type")
    if not isinstance(kind, str) or kind not in _POST_PROCESSORS:
        raise ValueError(f"post_processor: a step of the unknown kind {escape_name(repr(kind))}")
    if kind == "ByteLevel":
        return 0
    if kind != "TemplateProcessing":
        highest = 0
        for pair in (step.get("sep"), step.get("cls")):
            if not isinstance(pair, list) or len(pair) != 2 or not _is_id(pair[1]):
                raise ValueError(f"{kind}: expected sep and cls, each a token with its id")
            highest = max(highest, pair[1])
        return highest
    tokens = _mapping(step.get("special_tokens"), "TemplateProcessing.special_tokens")
    found = [0]
    for name, token in tokens.items():
        part = _mapping(token, "TemplateProcessing.special_tokens")
        ids = part.get("ids")
        if not isinstance(ids, list) or not 0 < len(ids) <= 16 or not all(map(_is_id, ids)) or part.get("id") != name:
            raise ValueError("TemplateProcessing.special_tokens: expected for each its name and 1 to 16 ids")
        found += ids
    for key in ("single", "pair"):
        pieces = step.get(key)
        if not isinstance(pieces, list) or len(pieces) > 32:
            raise ValueError(f"TemplateProcessing.{key}: expected a list of at most 32 pieces")
        texts = ["A"] if key == "single" else ["A", "B"]
        for piece in pieces:
            part = _mapping(piece, f"TemplateProcessing.{key}")
            for kind, names in (("SpecialToken", list(tokens)), ("Sequence", texts)):
                if kind in part and _mapping(part[kind], f"TemplateProcessing.{key}").get("id") not in names:
                    raise ValueError(f"TemplateProcessing.{key}: an unknown {kind}")
    return max(found)


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST_IDS


def _check_model(model: Mapping[str, object]) -> int:
    """Return its highest id."""
    kind = model.get("type")
    vocabulary = model.get("vocab")
    if kind == "Unigram":
        return _check_unigram(model)
    if not isinstance(kind, str) or kind not in ("BPE", "WordLevel", "WordPiece"):
        raise ValueError(f"model: the unknown kind {escape_name(repr(kind))}")
    if not isinstance(vocabulary, dict) or not vocabulary or not all(map(_is_id, vocabulary.values())):
        raise ValueError("model.vocab: expected tokens with their ids")
    _check_sizes(vocabulary, "model.vocab", _MOST_OF_TOKENS)
    if kind == "BPE":
        _expect(not model.get("dropout"), "model.dropout: would give a text different tokens each time")
        _expect(isinstance(model.get("merges"), list), "model.merges: expected a list")
        for key in ("continuing_subword_prefix", "end_of_word_suffix"):
            if model.get(key) is not None:
                _text(model, key, _LONGEST_CONTENT)
    else:
        unknown = _text(model, "unk_token", 1_000)
        _expect(unknown in vocabulary, "model.unk_token: not in the vocabulary")
    if kind == "WordPiece":
        _number(model, "max_input_chars_per_word", 1, _LONGEST_WORD)
        _text(model, "continuing_subword_prefix", _LONGEST_CONTENT)
    return int(max(vocabulary.values()))


def _check_unigram(model: Mapping[str, object]) -> int:
    vocabulary: Any = model.get("vocab")
    _expect(isinstance(vocabulary, list) and 0 < len(vocabulary) < _MOST_IDS, "model.vocab: expected a list of tokens")
    for entry in vocabulary or ():
        is_pair = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and bool(entry[0])
        is_score = is_pair and isinstance(entry[1], (int, float)) and not isinstance(entry[1], bool)
        _expect(is_score and abs(entry[1]) < 1e6, "model.vocab: expected tokens with their scores")
    _check_sizes((entry[0] for entry in vocabulary or ()), "model.vocab", _MOST_OF_UNIGRAM)
    n = len(vocabulary or ())
    if model.get("unk_id") is not None:
        _number(model, "unk_id", 0, n - 1)
    return n - 1


def _check_sizes(tokens: Iterable[str], name: str, most: int) -> None:
    """Limit the total length of tokens: for each letter the library needs tens or hundreds of bytes."""
    n_bytes = 0
    for token in tokens:
        size = len(token.encode("utf-8", "surrogatepass"))
        _expect(size <= _LONGEST_TOKEN, f"{name}: a token of {size:,} bytes, expected {_LONGEST_TOKEN:,} at most")
        n_bytes += size
    _expect(n_bytes <= most, f"{name}: tokens of {n_bytes:,} bytes together, expected {most:,} at most")


def _check_added(token: Any) -> int:
    """Return its id."""
    part = _mapping(token, "added_tokens")
    _expect(bool(_text(part, "content", 1_000)), "added_tokens.content: an empty text")
    return _number(part, "id", 0, _MOST_IDS - 1)
