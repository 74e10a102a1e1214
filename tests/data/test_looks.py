"""Letters and pictures by their looks, as the included model's tokenizer reads them."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers

from moderation.bundles import SHIPPED, TOKENIZER
from moderation.charsmap import compile_table
from moderation.data.disguises import STYLES, edit_text
from moderation.data.styles import ALPHABETS
from moderation.inference.classifier import Classifier

PLAIN = "you are a stupid idiot, nobody wants your foolish comments here"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(SHIPPED / TOKENIZER))


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load(threads=1)


@pytest.mark.parametrize("style", STYLES)
def test_a_styled_text_is_read_as_the_plain_one(style: str, tokenizer: Tokenizer) -> None:
    assert tokenizer.normalizer.normalize_str(edit_text(style, PLAIN, 1)) == PLAIN


@pytest.mark.parametrize("style", ALPHABETS)
def test_every_letter_of_a_style_is_read_within_words(style: str, tokenizer: Tokenizer) -> None:
    for letter, shape in ALPHABETS[style].items():
        assert tokenizer.normalizer.normalize_str(f"ab{shape}cd") == f"ab{letter}cd", shape


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("\u0493\u1d1c\u1d04\u1d0b", "fuck"),  # small capitals with the other F
        ("you \U0001f178\U0001f173\U0001f178\U0001f17e\U0001f183", "you idiot"),
        ("\u24b4\u24aa\u24b0", "you"),
        ("\u03b1\u0432\u00a2\u2202 \u0455\u0442\u03c5\u03c1\u03b9\u2202", "abcd stupid"),
        ("\u20a3\u0244\u20b5\u20ad", "fuck"),
        ("\u5343\u3129\u531a\u049c", "fuck"),
        ("\U0001f1eb\U0001f1fa\U0001f1e8\U0001f1f0", "fuck"),
        ("\U0001f1eb \U0001f1fa \U0001f1e8 \U0001f1f0", "fuck"),
        ("\u028eo\u028c", "yov"),
        ("fu\U0001f191k, \U0001f196er, \U0001f197", "fuclk, nger, ok"),  # words in squares
        ("f\u2b55\u2b55l, sh\u2b55w, \u274c no", "fool, show,  \u274c  no"),  # pictures for letters, and not
        ("y\u03c3\u03c5, \u10e7\u03c3\u03c5", "you, you"),  # one letter of each of three scripts
        ("\u1455\u156e\u15c5\u15de", "cead"),  # syllabics alone
        ("\u13b0\u13ac\u13a9", "fey"),  # Cherokee alone
        ("/f\u0254\u02d0k/", "/fo\u02d0k/"),  # a transcription of fork
        *((f"f{nothing}uck", "fuck") for nothing in "\u0600\u08e2\ufffc\U000110cd\U00013430\u1ac5\u1df7\u0859"),
        *((f"f{nothing}uck", "fuck") for nothing in "\u3164\uffa0\u115f\u1160\u2800\u17b5\u2063\ufe0f\U000e0061\u202e"),
    ],
)
def test_a_text_is_read_as_a_person_sees_it(written: str, read: str, tokenizer: Tokenizer) -> None:
    assert tokenizer.normalizer.normalize_str(written) == read


@pytest.mark.parametrize(
    "text",
    [
        "\u20ac50, \u00a33, \u00a5500, a \u00a3bn deal, \u20a9500, \u20a6200",
        "5 \u03bcm, 20 \u03bcs, \u03c3 = 2, \u03c0 r, \u2211 x, \u03b4x, \u03bb",
        "gro\u00df, stra\u00dfe",
        "\u0444\u0438\u0446\u044f",
        "python\u00a9 2020, acme\u00ae",
    ],
)
def test_names_prices_and_units_stay(text: str, tokenizer: Tokenizer) -> None:
    assert tokenizer.normalizer.normalize_str(text) == text


def test_a_single_flag_is_not_a_word(tokenizer: Tokenizer) -> None:
    read = tokenizer.normalizer.normalize_str
    assert "de" not in read("Berlin \U0001f1e9\U0001f1ea")
    assert read("\U0001f1f8\U0001f1ed\U0001f1ee\U0001f1f9") == "shit"


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f595\U0001f595\U0001f595 you",
        "go \U0001f595\U0001f3ff yourself",
        "you are such a \U0001f4a9",
        "you're a \U0001f921",
        "I'm gonna \U0001f52a you",
        "you \U0001f437",
    ],
)
def test_emoji_of_abuse_are_flagged(text: str, classifier: Classifier) -> None:
    assert classifier.classify([text])[0].flagged


@pytest.mark.parametrize(
    "text",
    [
        "Chop the onions \U0001f52a and fry them \U0001f373",
        "Happy birthday \U0001f389\u2764\ufe0f\U0001f602\U0001f44d",
        "Have a great day \U0001f437",
        "you are such a \U0001f98b",
        "this is \U0001f525\U0001f525",
    ],
)
def test_ornaments_are_not_flagged(text: str, classifier: Classifier) -> None:
    assert not classifier.classify([text])[0].flagged


def test_offsets_point_into_the_text_as_it_was_written(tokenizer: Tokenizer) -> None:
    text = "so \U0001f595\U0001f3ff \U0001f178\U0001f173\U0001f178\U0001f17e\U0001f183, \u3164really"
    encoding = tokenizer.encode(text, add_special_tokens=False)
    spans = {text[start:end].strip("\u3164") for start, end in encoding.offsets}
    assert {"so", "\U0001f595", text[6:11], "really"} <= spans


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_nothing_grows_much_and_offsets_stay_within(text: str) -> None:
    tokenizer = _TOKENIZER
    assert len(tokenizer.normalizer.normalize_str(text)) <= 8 * len(text)
    assert all(0 <= start <= end <= len(text) for start, end in tokenizer.encode(text).offsets)


_TOKENIZER = Tokenizer.from_file(str(SHIPPED / TOKENIZER))


def test_time_grows_with_length(tokenizer: Tokenizer) -> None:
    read = tokenizer.normalizer.normalize_str

    def seconds(text: str) -> float:
        begin = time.process_time()
        read(text)
        return time.process_time() - begin

    for piece in (
        "\u0e04",
        "a\u0e04",
        "\u20b5",
        "a\u20b5",
        "\u044f",
        "\u044fa",
        "\U0001f1eb ",
        "you \U0001f437",
        "\u0301",
    ):
        short, long = (min(seconds(piece * n) for _ in range(3)) for n in (2_000, 20_000))
        assert long < 60 * short + 0.05, ascii(piece)


def test_a_compiled_table_replaces_each_of_its_characters_and_no_other() -> None:
    table = {chr(place): f"<{place}>" for place in range(0xA1, 0x3000, 7)} | {"\U0001f595": "x", "\uffff": "y"}
    normaliser = normalizers.Precompiled(compile_table(table))
    for place in [*range(0xA1, 0x3100), 0x1F595, 0xFFFF]:
        character = chr(place)
        assert normaliser.normalize_str(f"a {character}") == f"a {table.get(character, character)}", hex(place)


@pytest.mark.parametrize("table", [{"ab": "c"}, {"\u00e4": ""}, {"": "c"}, {"\u00e4": "\0"}])
def test_a_table_that_the_reader_would_misread_is_refused(table: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected one character"):
        compile_table(table)
