"""SemEval-2021 task 5: does the evidence that we show overlap the characters that annotators marked?"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from moderation.bundles import Bundle
from moderation.data.cleaning import PLAIN_FORM
from moderation.data.options import TableOptions
from moderation.errors import DataError
from moderation.evaluation.split_metrics import Interval
from moderation.inference.sentences import split_sentences
from moderation.strict_json import parse_strictly
from moderation.suites.intervals import of_mean
from moderation.suites.options import SuiteOptions
from moderation.suites.results import Figure, SuiteResult, Table
from moderation.suites.rows import read_rows
from moderation.suites.scorer import Scorer
from moderation.tables.columns import show_rows
from moderation.text_tables import interval, number

COLUMNS = ("spans", "text")
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


def read_toxic_spans(path: Path, bundle: Bundle, form: TableOptions = PLAIN_FORM) -> pd.DataFrame:
    """Read `tsd_test.csv` or a similar file: `text`, and in `spans` a list of the marked characters' offsets.

    Raises:
        DataError: other columns, or a cell that is not a list of offsets in its text, by row number.
    """
    frame = read_rows(path, COLUMNS, "text", form)
    spans = [_offsets(cell, len(text)) for cell, text in zip(frame["spans"], frame["text"], strict=True)]
    wrong = np.array([offsets is None for offsets in spans])
    if wrong.any():
        raise DataError(
            f"{path}: column 'spans': {wrong.sum()} cells that are not a list of character offsets within the text "
            f"({show_rows(frame.index.to_numpy()[wrong][:6] + 1)}, counted from 1 below the header)."
        )
    return frame.assign(spans=pd.Series(spans, index=frame.index, dtype=object))


def character_f1(found: set[int], gold: set[int]) -> float:
    """F1 of two sets of characters of a post; 1 if both are empty, 0 if one of them is.

    >>> character_f1({0, 1, 2, 3}, {2, 3}), character_f1(set(), set()), character_f1({0}, set())
    (0.6666666666666666, 1.0, 0.0)
    """
    if not found and not gold:
        return 1.0
    return 2 * len(found & gold) / (len(found) + len(gold))


@dataclass(frozen=True)
class CharacterF1:
    """Mean character F1 of all posts, with its 95 % interval."""

    character_f1: float
    interval: Interval | None


@dataclass(frozen=True)
class SpanNumbers:
    """What was measured.

    Args:
        n_posts: Posts.
        n_marked: Those in which annotators marked words.
        n_shown: Those in which a sentence is flagged.
        evidence: What is shown -> character F1.
    """

    n_posts: int
    n_marked: int
    n_shown: int
    evidence: Mapping[str, CharacterF1]


def measure_toxic_spans(frame: pd.DataFrame, scorer: Scorer, options: SuiteOptions) -> SuiteResult:
    """Measure the mean character F1 of the sentences that are flagged when scored separately, as the server does.

    For comparison: words that are flagged when scored separately, and two trivial answers: every character of every
    post, and no character.
    """
    texts = frame["text"].tolist()
    gold = [set(offsets) for offsets in frame["spans"]]
    sentences = _flagged_pieces(texts, [split_sentences(text) for text in texts], scorer, "sentences")
    words = [[found.span() for found in _WORD.finditer(text)] for text in texts]
    kinds: dict[str, list[set[int]]] = {
        "flagged sentences": sentences,
        "flagged words": _flagged_pieces(texts, words, scorer, "words"),
        "every character": [set(range(len(text))) for text in texts],
        "no character": [set() for _ in texts],
    }
    numbers: dict[str, CharacterF1] = {}
    rows, figures = [], []
    for name, found in kinds.items():
        values = np.array([character_f1(*pair) for pair in zip(found, gold, strict=True)])
        mean, spread = float(values.mean()), of_mean(values, samples=options.bootstrap, seed=options.seed)
        numbers[name] = CharacterF1(mean, spread)
        rows.append((name, number(mean), interval(spread)))
        if name.startswith("flagged"):
            figures.append(Figure(f"character F1, {name}", mean, spread))
    marked = sum(map(bool, gold))
    return SuiteResult(
        n_rows=len(frame),
        figures=tuple(figures),
        tables=(Table("Evidence", ("evidence", "character F1", "95 % interval"), tuple(rows)),),
        numbers=SpanNumbers(len(frame), marked, sum(map(bool, sentences)), numbers),
        notes=(
            f"{marked:,} of {len(frame):,} posts have a mark. Annotators marked words, but sentences are longer: even "
            "the right sentence has a low precision.",
        ),
    )


def _flagged_pieces(
    texts: Sequence[str], cuts: Sequence[Sequence[tuple[int, int]]], scorer: Scorer, what: str
) -> list[set[int]]:
    """The characters of each text that are in a piece that is flagged when scored separately."""
    pieces = [text[begin:end] for text, spans in zip(texts, cuts, strict=True) for begin, end in spans]
    flags = iter(scorer.flagged(pieces, f"toxic-spans, {what}").tolist())
    return [{place for span in spans if next(flags) for place in range(*span)} for spans in cuts]


def _offsets(cell: object, length: int) -> list[int] | None:
    """The offsets of a cell; None if it is something else."""
    try:
        offsets = parse_strictly(str(cell))
    except (ValueError, RecursionError):
        return None
    fine = isinstance(offsets, list) and all(type(place) is int and 0 <= place < length for place in offsets)
    return offsets if fine else None
