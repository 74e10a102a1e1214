"""Windows and tokens of texts that are meant to be slow: bounded work, counted; by time only where asked for."""

import itertools
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.bundles import SHIPPED, TOKENIZER, read_bundle
from moderation.inference import windows
from moderation.inference.windows import Windows, _pieces, cut_at_words

PARTS = [
    *"a .!?\n\t-_*'\"@1$",
    "\u00e9",
    "e\u0301",
    "\u0301",
    "\u200b",
    "\u200d",
    "\ufdfa",
    "\u3300",
    "\uac00",
    "\u4f60",
    "\u0430",
    "\U0001f595",
    "\U0001f469\u200d\U0001f469",
    "\U0001d400",
    "\U0001f170",
    "idiot",
    "i d i o t ",
    "i.d.i.o.t ",
    "1d10t ",
    "aaaa",
    "http://a.b/c?d=e&",
    "\u202e",
    "\0",
]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(2, 30), st.data())
def test_windows_repeat_no_more_than_they_may(lengths: list[int], room: int, data: st.DataObject) -> None:
    """However the words lie, no token is computed again and again."""
    overlap = data.draw(st.integers(0, room - 1))
    words = [word for word, length in enumerate(lengths) for _ in range(length)]
    ranges = cut_at_words(words, room, overlap)
    assert ranges[0][0] == 0 and ranges[-1][1] == len(words)
    assert all(0 < end - start <= room for start, end in ranges)
    assert all(one[1] >= two[0] > one[0] for one, two in itertools.pairwise(ranges))
    inside = any(length > room for length in lengths)
    repeated = sum(end - start for start, end in ranges) - len(words)
    assert repeated <= overlap * (len(ranges) - 1)
    assert inside or repeated <= 2 * len(words)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=12))
def test_pieces_hold_everything_and_are_short(parts: list[str]) -> None:
    text = "".join(parts) * 2000
    pieces = list(_pieces(text))
    assert "".join(piece for _, piece in pieces) == text
    assert [first for first, _ in pieces] == [0, *itertools.accumulate(len(piece) for _, piece in pieces)][:-1]
    assert all(len(piece) <= (50_000 if piece.isascii() else 2_000) for _, piece in pieces)


def test_pieces_end_between_words_rather_than_between_spaced_letters() -> None:
    text = ("A quite ordinary sentence. " * 70)[:1880] + " i d i o t " * 20 + "and more of it. " * 200
    ends = [first for first, _ in _pieces(text)][1:]
    assert ends and all(len(text[:end].split()[-1]) > 1 and len(text[end:].split()[0]) > 1 for end in ends)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_included_tokenizer_takes_time_in_proportion() -> None:
    """By time, and so only where it is asked for: the folding's patterns and the model of words run in a library."""
    bundle = read_bundle(SHIPPED)
    windows = Windows(Path(bundle.path) / TOKENIZER, length=bundle.window_length, overlap=bundle.window_overlap)

    def seconds(text: str) -> float:
        began = time.process_time()
        windows.cut(text)
        return time.process_time() - began

    slow = {}
    for parts in itertools.chain(((part,) for part in PARTS), itertools.product(PARTS, repeat=2)):
        unit = "".join(parts)
        short, long = (unit * (n // len(unit)) for n in (2_000, 8_000))
        took, took_long = (min(seconds(text) for _ in range(3)) for text in (short, long))
        if took_long > max(0.02, 10 * took):
            slow[ascii(unit)] = (took, took_long)
    assert not slow


@pytest.mark.parametrize("sign", ["[", "{", "a]", "\N{PILE OF POO}", "-a"])
def test_a_text_of_signs_goes_to_the_tokenizer_in_short_pieces(sign: str) -> None:
    """Each is a token; no other thread runs while a piece is read."""
    text = sign * 100_000
    pieces = list(windows._pieces(text))
    assert "".join(piece for _, piece in pieces) == text
    assert max(len(piece) for _, piece in pieces) <= 2 * windows._PIECE
