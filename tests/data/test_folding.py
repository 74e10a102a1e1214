import os
import subprocess
import sys
import time
import unicodedata

import pytest
from tokenizers import Tokenizer

from moderation.backbones.registry import load_tokenizer
from moderation.data.disguises import DISGUISES, STUBBORN, edit_text
from moderation.data.folding import fold_disguises
from moderation.data.looks import LOOKALIKES


@pytest.fixture
def folded(tiny_backbone):
    return fold_disguises(load_tokenizer(tiny_backbone))


def test_a_disguised_text_is_read_as_the_plain_one(folded, tiny_backbone):
    plain = "You are an absolutely harmless sentence about Expensive Cookies."
    own = load_tokenizer(tiny_backbone)(plain)["input_ids"]
    assert folded(plain)["input_ids"] == own
    for name in ("homoglyphs", "zero-width characters", "diacritics"):
        disguised = edit_text(name, plain, seed=4)
        assert disguised != plain
        assert folded(disguised)["input_ids"] == own, name
    assert folded("\uff39\uff4f\uff55 are")["input_ids"] == folded("You are")["input_ids"]


def test_the_step_survives_saving_and_every_reader_takes_it(folded, tmp_path):
    text = edit_text("homoglyphs", "nobody reads this sentence", seed=1)
    folded.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again(text)["input_ids"] == folded(text)["input_ids"] == folded("nobody reads this sentence")["input_ids"]
    assert again.model_max_length == folded.model_max_length
    assert again.pad_token_id == folded.pad_token_id
    raw = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert raw.encode(text).ids == folded(text)["input_ids"]


def test_offsets_point_into_the_text_as_it_was_written(folded):
    text = "so \u0455\u0442u\u0440id, really"
    encoded = folded(text, return_offsets_mapping=True)
    start = min(a for a, b in encoded["offset_mapping"] if a == 3)
    ends = [b for a, b in encoded["offset_mapping"] if 3 <= a < 9]
    assert text[start : max(ends)] == "\u0455\u0442u\u0440id"


def test_letters_of_other_alphabets_become_one_latin_letter_of_the_same_case():
    for letter, latin in LOOKALIKES.items():
        assert len(letter) == 1
        assert not letter.isascii()
        assert latin.isascii() and latin.isalpha() and len(latin) == 1
        assert unicodedata.category(letter) == unicodedata.category(latin) or letter in "\u04cf\u029f\u0274\u0280"


def test_every_homoglyph_edit_is_undone():
    text = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert "homoglyphs" in DISGUISES
    for seed in range(20):
        disguised = edit_text("homoglyphs", text, seed)
        assert "".join(LOOKALIKES.get(letter, letter) for letter in disguised) == text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a 1d10t, an 1d!ot, 8itch", "a idiot, an idiot, bitch"),
        ("$tupid a$$hole a$$ $h1t", "stupid asshole ass shit"),
        ("5TUP1D SH1T", "stupid shit"),
        ("k1ll, ki11, wi1l, 1oser, hel1o, he11o", "kill, kill, will, loser, hello, hello"),
        ("@ss b@stard @$$hole", "ass bastard asshole"),
        ("h\u200be11o", "hello"),
        ("st\u00fap\u00efd", "stupid"),
        ("an i d i o t, an i.d.i.o.t!", "an idiot, an idiot!"),
        ("f u c k y o u, a f o o l", "fuckyou, afool"),  # where one word ends is not to be seen
        ("f|u|c|k it, f_o_o_l s~t~u~p~i~d f\u2022o\u2022o\u2022l", "fuck it, fool stupid fool"),
        ("f \u2013 o \u2013 o \u2013 l, f | o | o | l", "fool, fool"),
        ("[f][o][o][l] (a)(s)(s), f..o..o..l", "[fool] (ass), fool"),
        ("m|o|r|o|n a fool", "moron a fool"),
        ("stuuuupid, soooo, asssshole, niiice, killlll", "stupid, so, asshole, nice, kill"),
    ],
)
def test_disguised_words_are_read_as_plain_ones(folded, written, read):
    assert folded.backend_tokenizer.normalizer.normalize_str(written) == read


@pytest.mark.parametrize(
    "text",
    [
        "the 5th, 21st, 10am, 50cent, $5, 100, 3 d, 5min, 7days, 4chan",
        "galaxy A55, the A55 road, G4Y, SH17, mp3, A380, covid19, v1.0, windows10",
        "US$500, C$20, A$1,200, $PATH",
        "bob@example.com, @user, @everyone",
        "Stop!You, wow!That, e.g. this! Wow!",
        "I'm a C student, it's a T-shirt, /a/b/c, vitamin C I need",
        "KKK, www.example.com, AAA, xxx, World War III, Henry VIII",
        "so sad, good book, all",
        "p(a|b), a|b|c, x = y, f(x, y), a? b, (a) (b) (c), a, b, c, d, q&a, \\n\\n\\n\\n\\n",
        "/a?b=c&d=e, a_b, 5|6|7|8, \u0436,\u0434,\u0444,\u044f",
    ],
)
def test_names_numbers_and_addresses_stay(folded, text):
    assert folded.backend_tokenizer.normalizer.normalize_str(text) == text.lower()


def test_a_long_text_takes_time_in_proportion(folded):
    normalize = folded.backend_tokenizer.normalizer.normalize_str

    def seconds(text):
        begin = time.process_time()
        normalize(text)
        return time.process_time() - begin

    for piece in ("a", "a ", "a1", "aaab", "1", "aA", "a000", "e!", "$", "o0", "l1", "@", "AA1", " "):
        short, long = (min(seconds(piece * n) for _ in range(3)) for n in (2_000, 20_000))
        assert long < 60 * short + 0.05, piece


def test_edits_that_training_copies_lack_are_undone(folded):
    normalize = folded.backend_tokenizer.normalizer.normalize_str
    text = "nobody kills these stupid remarkable assholes about bullshit and faggots tonight"
    for name in set(DISGUISES) - set(STUBBORN):
        words = [
            (before, after)
            for seed in range(20)
            for before, after in zip(text.split(), normalize(edit_text(name, text, seed)).split(), strict=True)
        ]
        same = sum(before == after for before, after in words) / len(words)
        assert same > 0.9, (name, same)


def test_offsets_of_joined_and_shortened_words_span_what_was_written(folded):
    text = "you i d i o t, soooo 5tup\u200b1d"
    encoded = folded(text, return_offsets_mapping=True, add_special_tokens=False)
    spans = encoded["offset_mapping"]
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert spans == sorted(spans)
    starts, ends = {start for start, _ in spans}, {end for _, end in spans}
    assert {0, 4, 15, 21} <= starts and {3, 13, 20, 28} <= ends, "words begin and end where they were written"


def test_the_steps_are_the_same_in_every_process():
    """Sets have another order in each; a tokenizer made twice must have one hash."""
    code = (
        "from tokenizers import normalizers; from moderation.data.folding import reading_steps; import hashlib;"
        "steps = normalizers.Sequence(reading_steps()); print(hashlib.sha256(steps.__getstate__()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(found) == 1
