"""Sentences: the right ones, each character once, no character cut in two, and a time that does not run away."""

import time
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.inference import sentences as sentences_module
from moderation.inference.sentences import split_sentences
from tests.attack_table import Attack


def sentences(text: str) -> list[str]:
    return [text[begin:end] for begin, end in split_sentences(text)]


@pytest.mark.parametrize(
    "expected",
    [
        ["You are kind.", "You are a fool!", "Really?", "ok"],
        ["you idiot.", "i hate you.", "go away"],
        ["It costs 3.5 euro at www.example.com.", "Buy it."],
        ["Dr. Fox met Mr. B. Bear, e.g. here.", "Then he left."],
        ["He came at 5 p.m. and left at 6 p.m.", "She stayed."],
        ["It was I.", "You knew."],
        ["1. Go home.", "2. Stay there."],
        ["wait... what… no... ok", "fine"],
        ["Wait...", "What?"],
        ['He said "go away."', "Then he left.", "“Ha!”", "(Yes.)", "No."],
        ['"Go away!" he said.', "Why?"],
        ["What?!?!", "Me."],
        ["你好。", "你是傻瓜\uff01", "真的\uff1f", "「好。」", "走"],
        ["कैसे हो।", "ठीक।"],
        ["كيف؟", "جيد."],
    ],
    ids=lambda expected: expected[0],
)
def test_sentences_end_where_a_reader_would_end_them(expected: list[str]) -> None:
    wide = any(unicodedata.east_asian_width(letter) == "W" for letter in "".join(expected))
    text = ("" if wide else " ").join(expected).replace("fine", "\nfine")
    assert sentences(text) == expected


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\n\n \n", "\u2028", "\u2029", "\v", "\x85"], ids=repr)
def test_a_line_ends_a_sentence(line_end: str) -> None:
    assert sentences(f"no stop{line_end}  another{line_end}") == ["no stop", "another"]


def test_offsets_count_characters_past_emoji_and_combining_marks() -> None:
    text = "\U0001f469\u200d\U0001f469\u200d\U0001f467 family. E\u0301te\u0301 \U0001f44d\U0001f3fd! You fool."
    assert split_sentences(text) == [(0, 13), (14, 23), (24, 33)]
    assert text[24:33] == "You fool."


@pytest.mark.parametrize("text", ["", " ", "\n\r\n\u2029 \t"], ids=repr)
def test_an_empty_text_has_no_sentence(text: str) -> None:
    assert split_sentences(text) == []


def test_a_limit_leaves_the_rest_in_the_last_sentence() -> None:
    text = "One. Two. Three. Four. "
    assert [text[begin:end] for begin, end in split_sentences(text, most=2)] == ["One.", "Two. Three. Four."]
    assert split_sentences(text, most=4) == split_sentences(text)
    assert split_sentences(text, most=1) == [(0, 22)]


PIECES = [
    *".!?…。\uff01\"'”»)]} \n\r\t\u2028ab B1é",
    "\u0301",
    "\u200d",
    "\ufe0f",
    "😀",
    "Dr.",
    "e.g.",
    "3.5",
    "\0",
    "\u202e",
]
texts = st.text() | st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


@settings(max_examples=500, deadline=None)
@given(texts)
def test_each_character_that_is_not_blank_is_in_one_sentence(text: str) -> None:
    behind = 0
    for begin, end in split_sentences(text):
        assert behind <= begin < end <= len(text)
        assert not text[behind:begin].strip()
        assert text[begin:end] == text[begin:end].strip()
        behind = end
    assert not text[behind:].strip()


@settings(max_examples=500, deadline=None)
@given(texts)
def test_no_mark_is_separated_from_its_character(text: str) -> None:
    for begin, _ in split_sentences(text):
        joined = text[begin] == "\u200d" or unicodedata.category(text[begin])[0] == "M"
        assert not joined or begin == 0 or text[begin - 1].isspace()


@pytest.mark.parametrize(
    "piece", ["a", ".", '"', "“", "»", "Dr. ", "1. ", "e.g. ", "! ", '."', ". (", "\n", " ", "。\u0301"]
)
def test_the_time_is_linear_in_the_text(piece: str) -> None:
    def seconds(n_characters: int) -> float:
        text = (piece * n_characters)[:n_characters]
        began = time.process_time()
        split_sentences(text)
        return time.process_time() - began

    assert min(seconds(200_000) for _ in range(2)) < 8 * max(min(seconds(50_000) for _ in range(2)), 0.01)


class Counted(str):
    """A text that counts the characters that are looked at one by one or copied."""

    work = 0

    def __getitem__(self, place: Any) -> str:
        found = super().__getitem__(place)
        Counted.work += len(found)
        return found


def work_of(text: str, most: int | None) -> int:
    Counted.work = 0
    split_sentences(Counted(text), most=most)
    return Counted.work


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(PIECES) | st.text(max_size=3), min_size=1, max_size=12), st.sampled_from([None, 2, 512])
)
def test_the_work_grows_with_the_text_and_no_faster(pieces: list[str], most: int | None) -> None:
    """Counted, not timed: characters looked at, for any mix of marks, closers and letters, four times as long."""
    unit = "".join(pieces)
    short, long = work_of(unit * 250, most), work_of(unit * 1000, most)
    assert long <= 5 * short + 100 * len(unit) + 1000
    assert short <= 40 * 250 * len(unit) + 1000


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=12), st.integers(1, 600))
def test_a_limit_of_sentences_bounds_the_marks_looked_at(pieces: list[str], most: int) -> None:
    text = "".join(pieces) * 5000
    n_marks = 0

    def count(*words: Any) -> bool:
        nonlocal n_marks
        n_marks += 1
        return ends(*words)

    ends = sentences_module._ends_sentence
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences_module, "_ends_sentence", count)
        spans = split_sentences(text, most=most)
    assert n_marks <= max(200, 16 * most)
    assert len(spans) <= most
    assert not spans or spans[-1][1] == len(text.rstrip())


def test_blank_lines_use_up_no_marks() -> None:
    assert split_sentences("\n" * 10_000 + "One. Two.", most=2) == [(10_000, 10_004), (10_005, 10_009)]


@pytest.mark.hostile("sentence splitter")
def test_marks_are_found_wherever_a_stretch_ends(attack: Attack) -> None:
    """A text is searched in stretches; where they begin and end changes nothing."""

    @settings(max_examples=attack.cases(100, 20_000), deadline=None, derandomize=True)
    @given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30).map("".join), st.integers(1, 9))
    def search(text: str, at_once: int) -> None:
        whole = [found.span() for found in sentences_module._END.finditer(text)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sentences_module, "_AT_ONCE", at_once)
            assert [found.span() for found in sentences_module._find_marks(text)] == whole
        attack.tried()

    search()
