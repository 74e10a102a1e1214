"""Edits: seeded, never empty, and each changes what it says it changes and nothing else."""

import re
import subprocess
import sys
import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.data import disguises
from moderation.data.disguises import EVASIONS, INSERTIONS, edit_text
from moderation.data.styles import ALPHABETS

TEXTS = st.text(min_size=1, max_size=80) | st.lists(
    st.sampled_from(["you", "are", "a", "wonderful", "baker,", "really!", "42", "\u00e9t\u00e9", "AND", "\n"]),
    min_size=1,
).map(" ".join)
ENGLISH = st.lists(st.text("abcdefghijklmnopqrstuvwxyzABCT", min_size=1, max_size=9), min_size=1, max_size=8).map(
    " ".join
)
NAMES = (*EVASIONS, *INSERTIONS)
SAME = (*ALPHABETS, "struck-through letters", "keycaps")  # nothing is left to chance


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS, seed=st.integers(0, 2**32 - 1))
def test_an_edit_is_repeatable_and_leaves_something(name: str, text: str, seed: int) -> None:
    edited = edit_text(name, text, seed)
    assert edited == edit_text(name, text, seed)
    assert edited
    assert edited.strip() or not text.strip()
    edited.encode("utf-8")


@pytest.mark.parametrize("name", EVASIONS)
def test_every_evasion_changes_an_ordinary_sentence(name: str) -> None:
    text = "The baker from Athens sells excellent bread."
    assert edit_text(name, text, 0) != text
    assert len({edit_text(name, text, seed) for seed in range(20)}) > 1 or name in ("spaced letters", *SAME)


@settings(max_examples=100, deadline=None)
@given(text=ENGLISH, seed=st.integers(0, 1000))
def test_each_edit_can_be_undone_as_documented(text: str, seed: int) -> None:
    def edit(name: str) -> str:
        return edit_text(name, text, seed)

    def squeeze(words: str) -> str:
        return re.sub(r"(.)\1+", r"\1", words)

    bare = text.replace(" ", "")
    assert edit("zero-width characters").translate(dict.fromkeys(map(ord, disguises._ZERO_WIDTH))) == text
    assert edit("spaced letters").replace(" ", "") == bare
    assert edit("missing spaces").replace(" ", "") == bare
    assert Counter(edit("swapped letters")) == Counter(text)
    assert squeeze(edit("repeated letters")) == squeeze(text)
    plain = unicodedata.normalize("NFD", edit("diacritics"))
    assert "".join(letter for letter in plain if unicodedata.category(letter) != "Mn") == text
    looks = {twin: letter for letter, twin in disguises._HOMOGLYPHS.items()}
    assert "".join(looks.get(letter, letter) for letter in edit("homoglyphs")) == text
    for sign, letter in zip(edit("leetspeak"), text, strict=True):
        assert sign == letter or sign in disguises._LEET[letter.lower()]


@pytest.mark.parametrize("name", [*INSERTIONS, "friendly sentences"])
@settings(max_examples=30, deadline=None)
@given(text=ENGLISH, seed=st.integers(0, 1000))
def test_an_insertion_keeps_every_word(name: str, text: str, seed: int) -> None:
    assert not Counter(text.split()) - Counter(edit_text(name, text, seed).split())
    assert len(edit_text(name, text, seed)) > len(text)


def test_short_words_and_first_and_last_letters_stay() -> None:
    for seed in range(20):
        for name in ("leetspeak", "homoglyphs", "zero-width characters", "repeated letters", "diacritics"):
            assert edit_text(name, "it is so we go", seed) == "it is so we go"
        swapped = edit_text("swapped letters", "bread", seed)
        assert (swapped[0], swapped[-1]) == ("b", "d")
        assert swapped != "bread"


def test_another_process_makes_the_same_edits() -> None:
    code = "from moderation.data.disguises import *\n"
    code += "print([edit_text(name, 'a fine day', 3) for name in (*EVASIONS, *INSERTIONS)])"
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", code], capture_output=True, text=True, encoding="utf-8")
    assert done.stdout.strip() == str([edit_text(name, "a fine day", 3) for name in NAMES]), done.stderr
