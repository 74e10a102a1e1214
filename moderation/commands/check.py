"""`moderation check`: what tables of labelled comments contain, and everything that is wrong with them."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from moderation.artifacts import resolve_target, write_json
from moderation.config import CheckConfig
from moderation.data.cleaning import CleanTable, clean_table, describe_left_out
from moderation.data.encoding import check_growth, text_limits
from moderation.data.profile import TableReport, describe, shared_texts
from moderation.data.validation import raise_problems
from moderation.errors import DataError
from moderation.tables.columns import show_names

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXTS_AT_ONCE = 1000


def check(config: CheckConfig) -> int:
    """Report what the tables contain, then raise one error for everything that is wrong with any of them.

    Even a table with problems is described as far as possible: its sound columns over the rows in use. A label without
    positives or without negatives is a problem for `data_path`, which will be trained on, but not for the tables of
    `also`. These must have the labels of `data_path`, as for training.

    Args:
        config: Settings.

    Returns:
        0, the exit code.

    Raises:
        DataError: lists the problems of all tables; the report has been written by then.
        ConfigError, MissingExtraError, ArtifactError: a setting, the tokenizer or the report's file.
    """
    target = None if config.json is None or str(config.json) == "-" else resolve_target(config.json)
    tokenizer = _load_tokenizer(config.backbone)
    tables, problems = _read_all(config)
    reports = {str(path): _report(table, config, tokenizer) for path, table in tables.items()}
    shared = _shared(tables, config.table.text_column)
    content = _as_json(tables, reports, shared, problems)

    if config.json is not None and str(config.json) == "-":
        print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        if tables:
            print("\n\n".join(_as_blocks(tables, reports, shared)))
        if target is not None:
            write_json(target, content)
    if problems:
        raise DataError("\n".join(problems.values()))
    return 0


def _read_all(config: CheckConfig) -> tuple[dict[Path, CleanTable], dict[str, str]]:
    """Path -> table, if readable, and path -> what is wrong with it."""
    tables: dict[Path, CleanTable] = {}
    problems: dict[str, str] = {}
    form = config.table
    for path in dict.fromkeys((config.data_path, *config.also)):
        try:
            tables[path] = clean_table(path, form, require_both_classes=path == config.data_path)
            raise_problems(tables[path].problems, str(path))
            if path == config.data_path:
                form = replace(form, label_columns=tables[path].labels)  # as training requires of its other tables
        except DataError as error:
            problems[str(path)] = str(error)
    return tables, problems


def _load_tokenizer(backbone: str | None) -> "PreTrainedTokenizerBase | None":
    if backbone is None:
        return None
    from moderation.backbones.registry import load_tokenizer

    return load_tokenizer(backbone)


def _report(table: CleanTable, config: CheckConfig, tokenizer: "PreTrainedTokenizerBase | None") -> TableReport | None:
    """Describe a table; None if it has no texts."""
    if config.table.text_column not in table.rows.columns:
        return None
    lengths, max_length = None, None
    if tokenizer is not None:
        lengths = count_tokens(table.rows[config.table.text_column].tolist(), tokenizer)
        max_length = min(config.max_length, tokenizer.model_max_length)
    return describe(table.rows, table.labels, config.table.text_column, lengths, max_length)


def count_tokens(texts: list[str], tokenizer: "PreTrainedTokenizerBase") -> npt.NDArray[np.int32]:
    """Count the tokens of each text, including special ones, with nothing cut off; int32 `(n_texts,)`.

    Raises:
        DataError: the tokenizer makes a text many times longer.
    """
    limits = text_limits(tokenizer)

    def batches() -> Iterator[list[list[int]]]:
        for start in tqdm(range(0, len(texts), _TEXTS_AT_ONCE), desc="Tokens", unit="k texts", disable=None):
            batch = texts[start : start + _TEXTS_AT_ONCE]
            check_growth(batch, limits)
            encoded = tokenizer(
                batch,
                truncation=False,
                padding=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,  # no warning of texts longer than the model reads: they are counted here
            )
            yield encoded["input_ids"]

    return np.array([len(ids) for batch in batches() for ids in batch], dtype=np.int32)


def _shared(tables: dict[Path, CleanTable], text_column: str) -> dict[tuple[str, str], int]:
    frames: dict[str, pd.DataFrame] = {
        str(path): table.rows for path, table in tables.items() if text_column in table.rows.columns
    }
    return shared_texts(frames, text_column)


def _as_blocks(
    tables: dict[Path, CleanTable],
    reports: dict[str, TableReport | None],
    shared: dict[tuple[str, str], int],
) -> Iterator[str]:
    for path, table in tables.items():
        report = reports[str(path)]
        aside = f"\ncolumns not used: {show_names(table.left_aside)}" if table.left_aside else ""
        yield f"{path}\nleft out: {describe_left_out(table.left_out)}{aside}"
        if report is not None:
            yield report.to_text()
    if shared:
        lines = [f"{count:>9,}  {one}  and  {two}" for (one, two), count in shared.items()]
        yield "\n".join(["different texts that are in two files (ignoring case and white space)", *lines])


def _as_json(
    tables: dict[Path, CleanTable],
    reports: dict[str, TableReport | None],
    shared: dict[tuple[str, str], int],
    problems: dict[str, str],
) -> dict[str, object]:
    described = {
        str(path): {
            "left_out": table.left_out,
            "left_aside": list(table.left_aside),
            **(report.to_dict() if (report := reports[str(path)]) is not None else {}),
        }
        for path, table in tables.items()
    }
    return {
        "version": 1,
        "tables": described,
        "shared_texts": [{"tables": list(pair), "count": count} for pair, count in shared.items()],
        "problems": problems,
    }
