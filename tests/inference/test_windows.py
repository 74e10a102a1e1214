"""Windows: nothing is lost, nothing is cut inside a word, the tokenizer's own special tokens stand around each."""

import random
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from moderation.bundles import SHIPPED, TOKENIZER, read_bundle
from moderation.errors import ArtifactError, DataError
from moderation.inference.texts import check_texts
from moderation.inference.windows import Windows, cut_at_words


@pytest.fixture(scope="module")
def tokenizer_path(tiny_backbone):
    return tiny_backbone / "tokenizer.json"


@st.composite
def word_lists(draw):
    """Word ids as a tokenizer gives them: rising, each for one to seven tokens, now and then None."""
    sizes = draw(st.lists(st.integers(1, 7), min_size=1, max_size=60))
    words = [word for word, size in enumerate(sizes) for _ in range(size)]
    holes = draw(st.sets(st.integers(0, len(words) - 1), max_size=3))
    return [None if place in holes else word for place, word in enumerate(words)]


@given(words=word_lists(), room=st.integers(2, 20), overlap=st.integers(0, 19))
@settings(deadline=None, max_examples=300)
def test_ranges_cover_everything_in_order_and_overlap_no_more_than_requested(words, room, overlap):
    overlap = min(overlap, room - 1)
    ranges = cut_at_words(words, room, overlap)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == len(words)
    for (start, end), (next_start, next_end) in pairwise(ranges):
        assert start < next_start <= end < next_end, "a range brings something new and leaves no gap"
        assert end - next_start <= overlap
    assert all(0 < end - start <= room for start, end in ranges)
    assert len(ranges) <= len(words)


@given(words=word_lists(), room=st.integers(8, 20), overlap=st.integers(0, 7))
@settings(deadline=None, max_examples=300)
def test_no_word_that_fits_is_cut(words, room, overlap):
    """Words of at most seven tokens and room for eight: every range begins and ends between words."""
    for start, end in cut_at_words(words, room, overlap):
        for place in (start, end):
            inside = 0 < place < len(words) and words[place] is not None and words[place] == words[place - 1]
            assert not inside


def test_the_work_is_linear_even_without_a_word_boundary():
    ranges = cut_at_words([0] * 100_000, room=254, overlap=64)
    assert len(ranges) <= 100_000 // (254 - 64) + 2


@given(text=st.text(st.characters(exclude_categories=("Cs",)), max_size=80))
@settings(deadline=None, max_examples=200)
def test_a_text_that_fits_is_read_as_the_tokenizer_reads_it(text, tokenizer_path):
    windows = Windows(tokenizer_path, length=512, overlap=64).cut(text)
    expected = Tokenizer.from_file(str(tokenizer_path))
    expected.no_truncation()
    assert [list(window.ids) for window in windows] == [expected.encode(text).ids]
    assert (windows[0].start, windows[0].end) == (0, len(text))


def test_windows_of_a_long_text_hold_every_token_and_its_position(tokenizer_path):
    text = " ".join(["kind river", "stupid idiot", "bread 😀 fine"] * 40)
    cutter = Windows(tokenizer_path, length=32, overlap=8)
    windows = cutter.cut(text)
    assert len(windows) > 5
    assert all(len(window.ids) <= 32 and window.ids[0] == 2 and window.ids[-1] == 3 for window in windows)
    assert windows[0].start == 0 and windows[-1].end == len(text)
    for window in windows:  # read alone, the piece of text gives the same tokens: nothing was cut inside
        again = cutter.cut(text[window.start : window.end])
        assert [other.ids for other in again] == [window.ids]
    for one, two in pairwise(windows):
        assert one.start < two.start <= one.end


def test_a_text_in_pieces_is_read_like_a_whole_one(tokenizer_path, monkeypatch):
    text = " ".join(["kind river", "stupid idiot", "bread 😀 fine", "x" * 70] * 30)
    cutter = Windows(tokenizer_path, length=32, overlap=8)
    expected = cutter.cut(text)
    monkeypatch.setattr("moderation.inference.windows._PIECE", 100)
    assert cutter.cut(text) == expected
    unbroken = cutter.cut("stupid" * 100)  # no white space to cut at: every piece is read all the same
    assert unbroken[-1].end == 600


def test_a_word_longer_than_a_window_is_cut_inside_and_read_to_its_end(tmp_path):
    pieces = {"[UNK]": 0, "a": 1, "##a": 2, "##z": 3}
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]", max_input_chars_per_word=1000))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    windows = Windows(tmp_path / "tokenizer.json", length=10, overlap=3).cut("a" * 99 + "z")
    assert windows[-1].ids[-1] == 3
    assert all(len(window.ids) <= 10 for window in windows)


def test_another_kind_of_tokenizer_keeps_its_own_special_tokens(tmp_path):
    """Byte-level BPE with one token before and two after, as no BERT has them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate(["<s>", "</s>", "<e>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s> <e>", special_tokens=[("<s>", 0), ("</s>", 1), ("<e>", 2)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    windows = Windows(tmp_path / "tokenizer.json", length=64, overlap=8)
    assert (windows.prefix, windows.suffix) == ((0,), (1, 2))
    assert windows.cut("ab")[0].ids == tuple(tokenizer.encode("ab").ids)


def test_a_file_that_is_not_a_tokenizer_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactError, match="tokenizer"):
        Windows(tmp_path / "tokenizer.json", length=64, overlap=8)


def test_a_window_without_room_is_refused(tokenizer_path):
    with pytest.raises(ArtifactError, match="no room"):
        Windows(tokenizer_path, length=10, overlap=8)


@pytest.mark.parametrize(
    ("texts", "words"),
    [("one string", "a list"), (["fine", None], r"texts\[1\]: found NoneType"), (["secret\ud800"], "surrogate")],
)
def test_anything_but_a_list_of_texts_is_named_by_position_and_not_by_text(texts, words):
    with pytest.raises(DataError, match=words) as caught:
        check_texts(texts)
    assert "secret" not in str(caught.value)


@pytest.mark.hostile("tokeniser patterns")
def test_a_text_that_is_watched_is_cut_into_the_same_windows_while_others_run(attack):
    """By the included model's tokenizer; any character, also those that normalisation makes long."""
    bundle = read_bundle(SHIPPED)
    windows = Windows(bundle.path / TOKENIZER, length=bundle.window_length, overlap=bundle.window_overlap)
    long = [chr(code) for code in range(0x110000) if len(unicodedata.normalize("NFKD", chr(code))) > 3]
    chance = random.Random(7)
    for _ in range(attack.cases(20, 10_000)):
        some = [chance.choice(long), chr(chance.choice([*range(0xD800), *range(0xE000, 0x110000)])), "\u200d", "a", " "]
        text = "".join(chance.sample(some, chance.randint(1, 3))) * 300
        seen = []
        assert windows.cut(text, seen.append) == windows.cut(text), ascii(text[:3])
        assert seen[-1] <= 12 * len(text)
        attack.tried()


def test_other_threads_run_while_a_watched_text_is_read(tokenizer_path):
    windows = Windows(tokenizer_path, length=64, overlap=8)
    called, inner = [], windows._tokenizer.tokenizer

    class Recorded:
        def __getattr__(self, name):
            called.append(name)
            return getattr(inner, name)

    windows._tokenizer.tokenizer = Recorded()
    windows.cut("kind river")
    windows.cut("kind river", lambda n_tokens: None)
    assert called == ["encode", "encode_batch"], "of these two, encode alone holds the interpreter"
