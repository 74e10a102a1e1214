"""Clean rows -> encoded dataset: tokenised once, in parallel, cached by content."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moderation.artifacts import read_bytes, sha256, sync, write_atomically
from moderation.data.validation import as_numbers, check_table, find_label_columns
from moderation.errors import ArtifactError, ConfigError, DataError
from moderation.inspection.text_limits import TextLimits, find_limits
from moderation.links import refuse_links_out
from moderation.tables.options import TEXT_COLUMN

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_ENCODING_VERSION = 1  # increase it when the same text and tokenizer give other columns
_N_KEPT = 20  # encodings to keep in the cache, the last used ones; a training has three
_DAYS_KEPT = 30  # since they were last used
# A complete encoding, or one that `datasets` is still writing.
_ENCODING = re.compile(r"[0-9a-f]{32}\.arrow|tmp[a-z0-9_]{8}")
_BESIDE = re.compile(r"([0-9a-f]{32})\.sha256|\.[0-9a-f]{32}\.sha256\.[0-9a-f]{12}\.tmp")


def df_to_hfds(
    df: pd.DataFrame,
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str] | None = None,
    *,
    text_column: str = TEXT_COLUMN,
    max_length: int = 256,
    cache_dir: Path | str | None = None,
) -> Dataset:
    """Convert a table to an encoded `datasets.Dataset`.

    Case handling, special tokens and truncation are the tokenizer's own; padding is left to the batches. The
    number of texts that were cut is logged. With `cache_dir`, the token ids are stored there under a hash of texts,
    tokenizer and maximum length, and used again for the same input; a damaged file is made again. Such a file contains
    the texts as token ids, so only its owner may read it, and files that were not used for 30 days, or are not among
    the 20 used last, are removed.

    Args:
        df: Rows without missing texts; label columns hold 0/1 (or probabilities, for soft targets), NaN where unknown.
        tokenizer: A fast tokenizer.
        labels: Label columns, in the order of the targets; default: the Jigsaw six if present, otherwise every
            0/1 column.
        text_column: Column of the texts.
        max_length: Tokens to keep of each text, including special ones, at least 8; never more than the tokenizer's own
            maximum.
        cache_dir: Where to store the encoding; None: nowhere.

    Returns:
        A dataset of `len(df)` rows in the order of `df`, with the columns `input_ids` and `attention_mask` (lists of
        int), `labels` (float32, `n_labels` long, in label order), `length` (int32, tokens) and `cut` (bool, longer
        than `max_length`).

    Raises:
        DataError: no rows, a column is absent, texts are missing or not strings, targets are outside [0, 1], or the
            tokenizer makes a text many times longer.
        ConfigError: the tokenizer is slow, or `max_length` is below 8.

    Example:
        >>> from transformers import AutoTokenizer  # doctest: +SKIP
        >>> dataset = df_to_hfds(df, AutoTokenizer.from_pretrained("my-backbone"))  # doctest: +SKIP
        >>> dataset[0]["labels"]  # doctest: +SKIP
        [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    """
    from datasets import Dataset, Features, List, Value, concatenate_datasets

    labels = tuple(labels) if labels is not None else find_label_columns(df, text_column)
    targets = _targets(df, text_column, labels)
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError("df_to_hfds: expected a fast tokenizer (with a tokenizer.json), found a slow one.")
    if max_length < 8:
        raise ConfigError(f"df_to_hfds: max_length is {max_length}, expected 8 or more.")
    max_length = min(max_length, tokenizer.model_max_length)

    encoded = _encode(df[text_column].tolist(), tokenizer, max_length, cache_dir)
    n_cut = int(np.count_nonzero(encoded.data["cut"].to_numpy()))
    logger.info("Tokens: %d texts, %d of them cut at %d tokens.", len(df), n_cut, max_length)
    features = Features({"labels": List(Value("float32"), length=len(labels))})
    with_targets = Dataset.from_dict({"labels": list(targets)}, features=features)
    return concatenate_datasets([encoded, with_targets], axis=1)


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of everything that decides which token ids a text gets, as 64 hex digits."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules |= {"truncation": None, "padding": None}  # a tokenizer keeps those of its last call
    return hashlib.sha256(json.dumps(rules).encode()).hexdigest()


def _targets(df: pd.DataFrame, text_column: str, labels: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Targets, float32 `(n_examples, n_labels)`; refuse values that are not texts or targets, without quoting any."""
    df = df.reset_index(drop=True)  # rows are counted by position
    any_fraction = 0.5  # probabilities are fine here; the value of the cut does not matter
    check_table(
        df,
        labels,
        text_column=text_column,
        label_cut=any_fraction,
        require_both_classes=False,
        partial=True,
        where="df_to_hfds",
    )
    n_missing = int(df[text_column].isna().sum())
    if n_missing:
        raise DataError(f"df_to_hfds: {n_missing} rows have no text in {text_column!r}; leave them out first.")
    if df.empty:
        raise DataError("df_to_hfds: the table has no rows; expected one or more.")
    targets = np.column_stack([as_numbers(df[label]) for label in labels]).astype(np.float32)
    if n_unknown := int(np.isnan(targets).sum()):
        logger.info(
            "Targets: %d of %d targets are unknown, and count in no loss and no figure.", n_unknown, targets.size
        )
    return targets


def _encode(
    texts: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int, cache_dir: Path | str | None
) -> Dataset:
    from datasets import Dataset

    fingerprint = _fingerprint(texts, tokenizer, max_length)
    limits = text_limits(tokenizer)

    def tokenize(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        check_growth(batch["text"], limits)
        encodings = tokenizer(batch["text"], truncation=True, max_length=max_length, return_token_type_ids=False)
        return {
            "input_ids": encodings["input_ids"],
            "attention_mask": encodings["attention_mask"],
            "length": np.array([len(ids) for ids in encodings["input_ids"]], dtype=np.int32),
            "cut": [bool(encoding.overflowing) for encoding in encodings.encodings],
        }

    def encode(cache_file: Path | None) -> Dataset:
        with _bar_only_on_terminals():
            return Dataset.from_dict({"text": texts}).map(
                tokenize,
                batched=True,
                remove_columns="text",
                cache_file_name=None if cache_file is None else str(cache_file),
                load_from_cache_file=False,  # it would accept a damaged file
                new_fingerprint=fingerprint,
                desc="Tokens",
            )

    if cache_dir is None:
        return encode(None)
    folder = Path(cache_dir) / "tokens"
    cache_file = folder / f"{fingerprint}.arrow"
    try:
        refuse_links_out(folder)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        if _is_whole(cache_file):
            encoded = Dataset.from_file(str(cache_file))
        else:
            cache_file.unlink(missing_ok=True)
            encoded = encode(cache_file)
            sync(cache_file)
            with write_atomically(_hash_file(cache_file)) as temporary:
                temporary.write_text(sha256(cache_file), encoding="ascii")
        cache_file.touch()  # mark as used
        prune_tokens(folder)
        return encoded
    except (OSError, ValueError, ArtifactError) as error:  # a full disk, a folder without write permission
        logger.warning("Tokens: the cache %s cannot be used (%s); continuing without it.", folder, type(error).__name__)
        return encode(None)


def text_limits(tokenizer: PreTrainedTokenizerBase) -> TextLimits | None:
    """What a tokenizer may make of a text; None for one that keeps no rules, which only a caller can have made."""
    with suppress(ArtifactError):  # what comes from files was checked when it was loaded
        return find_limits(tokenizer, tokenizer.name_or_path or "tokenizer")
    return None


def check_growth(texts: Sequence[str], limits: TextLimits | None) -> None:
    """Check that a tokenizer does not make texts many times longer.

    Args:
        texts: What it will read.
        limits: From `text_limits`.

    Raises:
        DataError: it does.
    """
    for text in texts if limits else ():
        try:
            limits.check_growth(text)  # type: ignore[union-attr]
        except ArtifactError as error:
            raise DataError(str(error)) from None


def _hash_file(cache_file: Path) -> Path:
    """The file with the SHA-256 of an encoding."""
    return cache_file.with_suffix(".sha256")


def _is_whole(cache_file: Path) -> bool:
    """Whether an encoding is exactly what was written."""
    try:
        return read_bytes(_hash_file(cache_file), 1 << 10).decode("ascii") == sha256(cache_file)
    except (OSError, ValueError, ArtifactError):  # one of the two is missing, or cannot be read
        return False


def prune_tokens(folder: Path) -> None:
    """Remove encodings that were not used for 30 days, and all except the 20 used last; no files with other names.

    Unfinished encodings, which a killed process leaves behind, count as well. It does no harm if another process
    removes or reads a file at the same time: it can continue to read a file that it has open.
    """
    used, beside = {}, []
    for file in folder.iterdir():
        with suppress(OSError):
            if file.is_symlink() or not file.is_file():
                continue
            if _ENCODING.fullmatch(file.name):
                used[file] = file.stat().st_mtime
            elif _BESIDE.fullmatch(file.name):
                beside.append((file, file.stat().st_mtime))
    newest_first = sorted(used, key=lambda file: used[file], reverse=True)
    oldest = time.time() - _DAYS_KEPT * 86_400
    for place, file in enumerate(newest_first):
        if place >= _N_KEPT or used[file] < oldest:
            with suppress(OSError):
                file.unlink()
    for file, written in beside:  # hash files without an encoding, unless another process may be writing it just now
        if written < oldest and not file.with_suffix(".arrow").exists():
            with suppress(OSError):
                file.unlink()


@contextmanager
def _bar_only_on_terminals() -> Iterator[None]:
    """Hide the progress bar of `datasets` if it would go to a file."""
    import datasets

    hidden = not sys.stderr.isatty() and not datasets.are_progress_bars_disabled()
    if hidden:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if hidden:
            datasets.enable_progress_bars()


def _fingerprint(texts: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> str:
    settings = f"{_ENCODING_VERSION} {max_length} {tokenizer.truncation_side} {tokenizer_sha256(tokenizer)}"
    digest = hashlib.sha256(settings.encode())
    for text in texts:
        # Lone surrogates are legal in a Python string; a length before each text keeps the boundaries apart.
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()[:32]
