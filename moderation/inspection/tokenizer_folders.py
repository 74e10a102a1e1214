"""A tokenizer's folder as transformers gets to see it: a copy of the files that it needs, pointing nowhere else.

The settings of a tokenizer may name files under dozens of keys, in several files; transformers opens whatever they
name. So it never reads a folder from elsewhere. It reads a temporary copy: files with fixed names and limited sizes,
and only those settings that are plain values.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from moderation.artifacts import read_bytes, read_json
from moderation.errors import ArtifactError
from moderation.escapes import escape_name
from moderation.inspection.text_limits import TextLimits
from moderation.inspection.tokenizer_rules import MOST_ADDED, MOST_BYTES, check_tokenizer

_TOKENIZER = "tokenizer.json"
_VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "entity_vocab.json", "*.model")
_SETTINGS = "tokenizer_config.json"
_SPECIAL = "special_tokens_map.json"
_ADDED = "added_tokens.json"
_MODEL = "config.json"

_OF_MODEL = ("model_type", "model_name", "tokenizer_class", "transformers_version")  # all that a tokenizer depends on
_SWITCHES = {
    *("add_bos_token", "add_eos_token", "add_prefix_space", "clean_text", "clean_up_tokenization_spaces"),
    *("do_basic_tokenize", "do_clean_text", "do_lower_case", "do_lowercase", "do_lowercase_and_remove_accent"),
    *("do_split_on_punc", "do_upper_case", "handle_chinese_chars", "keep_accents", "legacy", "legacy_behaviour"),
    *(
        "lowercase",
        "normalization",
        "normalize",
        "only_label_first_subword",
        "remove_space",
        "spaces_between_special_tokens",
    ),
    *("split_by_punct", "split_special_tokens", "strip_accents", "tokenize_chinese_chars", "trim_offsets"),
    *("trim_whitespace", "use_default_system_prompt"),
}
_NUMBERS = {
    *("max_len", "max_length", "model_max_length", "pad_to_multiple_of", "pad_token_label", "pad_token_type_id"),
    *("stride", "unk_id", "cls_token_segment_id", "sep_token_segment_id", "pad_token_segment_id"),
}
_COUNTS = {"extra_ids", "max_entity_length", "max_input_chars_per_word", "max_mention_length", "offset"}
_MOST = 10_000  # of what is counted; a token is made for each
_WORDS = {
    *("backend", "errors", "language", "language_codes", "padding_side", "src_lang", "target_lang", "task", "tgt_lang"),
    *("token_type_ids_pattern", "tokenizer_class", "truncation_side", "truncation_strategy", "wordpieces_prefix"),
}
_LISTS = {"model_input_names", "never_split"}
_TOKENS = {"additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens"}
_LONGEST = 1_000  # characters of a token or a word
_SIDES = ("lstrip", "normalized", "rstrip", "single_word", "special")  # of an added token


@contextmanager
def copied(folder: Path) -> Iterator[Path]:
    """Copy what makes up a tokenizer to a temporary folder, and leave out whatever could point elsewhere.

    Args:
        folder: A local folder.

    Yields:
        The copy; removed afterwards.

    Raises:
        ArtifactError: a file is too large, not a regular file, a link out of the folder, or breaks the rules of
            `tokenizer_rules`; or a setting is not the plain value that it ought to be.
    """
    with ExitStack() as stack:
        try:
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="moderation-")))
            for name, content in _copies(folder):
                (copy / name).write_bytes(content)
        except OSError as error:
            raise ArtifactError(
                f"{folder}: its tokenizer cannot be copied to the temporary folder ({error.strerror}). Free some space "
                "there, or set TMPDIR to another folder."
            ) from error
        yield copy


def _copies(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of the copy."""
    vocabularies = (path.name for pattern in _VOCABULARIES for path in sorted(folder.glob(pattern)))
    for name in vocabularies:
        if (content := _read(folder, name)) is not None:
            yield name, content
    settings = {name: _read_settings(folder, name) for name in (_SETTINGS, _SPECIAL, _ADDED, _MODEL)}
    for name, values in settings.items():
        if values is not None:
            yield name, json.dumps(values).encode()
    tokenizer = _read(folder, _TOKENIZER)
    if tokenizer is not None:
        added = [token for values in settings.values() for token in _contents(values)]
        yield _TOKENIZER, _check_rules(_with_type(tokenizer), added, folder / _TOKENIZER)


def _read(folder: Path, name: str) -> bytes | None:
    """A file's content; None if there is no such file."""
    path = folder / name
    _refuse_link_out(path)
    try:
        return read_bytes(path, MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); expected a file of a tokenizer.") from error


def _refuse_link_out(path: Path) -> None:
    """Refuse a link out of its folder: the tokens of a vocabulary, which are shipped, could be any file's lines.

    Only the hub's cache consists of links, to the folder where it keeps all files of a model.
    """
    home = path.parent.resolve()
    homes = (home, home.parent.parent / "blobs") if home.parent.name == "snapshots" else (home,)
    try:
        if any(path.resolve().is_relative_to(one) for one in homes):
            return
    except (OSError, RuntimeError):  # RuntimeError: raised by Python 3.11 and 3.12 for links in a circle
        pass
    raise ArtifactError(f"{path}: a link out of its folder, which is not followed. Put the file itself there.")


def _read_settings(folder: Path, name: str) -> dict[str, object] | None:
    """The plain values of a file with settings; None if there is no such file."""
    path = folder / name
    _refuse_link_out(path)
    if not path.exists():
        return None
    content = read_json(path, "a JSON object, as written by transformers")
    if name == _MODEL:
        return {key: content[key] for key in _OF_MODEL if isinstance(content.get(key), str)}
    if name == _ADDED:
        _expect(_is_numbered(content), f"{path}: expected tokens with their ids")
        return content
    return {key: value for key, value in content.items() if _is_wanted(key, value, path)}


def _is_wanted(key: str, value: Any, path: Path) -> bool:
    """Whether a setting belongs into the copy.

    Raises:
        ArtifactError: it does, but has a value of another kind.
    """
    for keys, fits, expected in _KINDS:
        if key in keys:
            _expect(value is None or fits(value), f"{path}: {escape_name(key)}: expected {expected}")
            return True
    return key.endswith("_token") and _is_token(value)


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ArtifactError(f"{otherwise}. Get the tokenizer from its source again.")


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST


def _is_token(value: Any) -> bool:
    if not isinstance(value, dict):
        return _is_word(value)
    flags = {key: flag for key, flag in value.items() if key not in ("content", "__type")}
    known = value.get("__type", "AddedToken") == "AddedToken" and flags.keys() <= set(_SIDES)
    return known and _is_word(value.get("content")) and all(isinstance(flag, bool) for flag in flags.values())


def _are_tokens(value: Any) -> bool:
    tokens = value.values() if isinstance(value, dict) else value if isinstance(value, list) else (None,)
    return len(tokens) <= MOST_ADDED and all(map(_is_token, tokens))


def _is_decoder(value: Any) -> bool:
    is_numbered = isinstance(value, dict) and all(key.isdecimal() and len(key) < 10 for key in value)
    return is_numbered and _are_tokens(value) and all(isinstance(token, dict) for token in value.values())


def _is_numbered(value: Mapping[str, Any]) -> bool:
    return len(value) <= MOST_ADDED and all(_is_word(token) and _is_count(i, 10**9) for token, i in value.items())


def _is_count(value: Any, most: int = _MOST) -> bool:
    return type(value) is int and 0 <= value <= most


_KINDS: tuple[tuple[set[str], Callable[[Any], bool], str], ...] = (
    (_SWITCHES, lambda value: isinstance(value, bool), "true or false"),
    (_NUMBERS, lambda value: isinstance(value, (int, float)), "a number"),
    (_COUNTS, _is_count, f"a whole number of at most {_MOST:,}"),
    (_WORDS, _is_word, "a word"),
    (_LISTS, lambda value: isinstance(value, list) and all(map(_is_word, value)), "a list of words"),
    (_TOKENS, _are_tokens, f"at most {MOST_ADDED:,} tokens"),
    ({"added_tokens_decoder"}, _is_decoder, f"at most {MOST_ADDED:,} tokens with their ids"),
)


def _contents(settings: Mapping[str, Any] | None) -> Iterator[str]:
    """Every text in settings that may be a token: those of tokens, and whatever else."""
    waiting: list[Any] = [settings]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str):
            yield value


def _with_type(content: bytes) -> bytes:
    """A `tokenizer.json` whose model names its type, which files of old versions leave to be guessed."""
    try:
        tokenizer = json.loads(content)
        model = tokenizer["model"]
        if "type" in model:
            return content
    except (ValueError, TypeError, KeyError, RecursionError):
        return content  # the rules say what is wrong
    if "merges" in model:
        kind = "BPE"
    elif isinstance(model.get("vocab"), list):
        kind = "Unigram"
    else:
        kind = "WordPiece" if "continuing_subword_prefix" in model else "WordLevel"
    tokenizer["model"] = {"type": kind, **model}
    return json.dumps(tokenizer).encode()


def _check_rules(content: bytes, added: list[str], path: Path) -> bytes:
    """Check that a `tokenizer.json` can be opened and given these tokens in reasonable time and memory."""
    try:
        facts = check_tokenizer(content)
    except ValueError as error:
        raise ArtifactError(
            f"{path}: not a usable tokenizer ({error}); expected a tokenizer.json of a fast tokenizer."
        ) from error
    limits = TextLimits(facts, str(path))
    for token in (*facts.normalised, *added):  # each is normalised as a whole when it is added
        limits.check(token, in_pieces=False)
    return content
