"""Which language a text is in, for those who answer in its name."""

# ruff: noqa: RUF001 -- disguises and other scripts are the point

import tempfile
from pathlib import Path

import pytest

from moderation.data.disguises import edit_text
from moderation.data.languages import Languages
from moderation.inference.classifier import Classifier


@pytest.fixture(scope="module")
def languages() -> Languages:
    return Languages("A test", "languages")


def test_the_table_needs_no_room_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError), tempfile.TemporaryFile():
        pass
    assert Languages("A test", "languages").detect("An ordinary English sentence about the weather.") == "en"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("An ordinary English sentence about the weather, is it not?", "en"),
        ("Ein ganz gewöhnlicher deutscher Satz über das Wetter von gestern.", "de"),
        ("ok", "und"),
        ("12345 67890 %%% !!! ---", "und"),
        ("", "und"),
    ],
)
def test_a_clear_language_is_named(text: str, code: str, languages: Languages) -> None:
    assert languages.detect(text) == code


def test_a_text_in_no_language_is_undetermined(languages: Languages) -> None:
    """Signs of many scripts are `zxx` to py3langid, and would be refused as a language that no model knows."""
    text = "".join(chr(code) for code in range(0x1D400, 0x1D480))
    assert languages._identifier.classify(text)[0] == "zxx"
    assert languages.detect(text) == "und"


@pytest.fixture(scope="module")
def reading() -> Languages:
    return Languages("A test", "languages", Classifier.load(threads=1).normalise)


@pytest.mark.parametrize(
    "text",
    [
        "yòú àré à dìsgústíng ídíòt ànd nóbódy wànts yòú héré",
        "yöu äre ä disgüsting idiöt and nobody wants you here",
        "yоu аrе а stuрid idiоt, go die now",
        "dem fools dont kno nuttin bout dis",
        edit_text("small capitals", "you are a stupid idiot and nobody wants you here", 1),
    ],
)
def test_disguised_english_is_english(text: str, reading: Languages) -> None:
    assert reading.describe(text, ["en"]) == {"code": "en", "supported": True}
    assert reading.foreign(text, ["en"]) is None


def test_only_a_long_clear_text_is_certainly_foreign(reading: Languages) -> None:
    text = "Me gusta mucho pasear por la playa con mis amigos cuando hace buen tiempo en verano."
    assert reading.foreign(text, ["en"]) == "es"
    assert reading.foreign(text[:45], ["en"]) is None
    assert reading.foreign(text, ["es"]) is None
    assert reading.foreign(text, []) is None
    russian = "Все люди рождаются свободными и равными"
    assert reading.foreign(f"{russian}. {russian}.", ["en"]) == "ru"


@pytest.mark.parametrize(
    ("phrase", "code"),
    [
        ("Спасибо ", "und"),
        ("Всё хорошо, спасибо. ", "ru"),
        ("Благодаря ", "und"),
        ("شكرا جزيلا ", "ar"),
        ("धन्यवाद ", "hi"),
    ],
)
def test_a_script_shows_that_a_text_is_foreign_if_its_words_do_not(phrase: str, code: str, reading: Languages) -> None:
    """One phrase again and again is of several languages to py3langid, and of none surely."""
    text = phrase * 20
    assert reading.detect(text) == code
    assert reading.foreign(text, ["en"]) == code
    assert reading.describe(text, ["en"]) == {"code": code, "supported": False}
    assert reading.foreign(phrase, ["en"]) is None
    assert reading.foreign(f"you are an idiot {phrase}and nobody likes you, {phrase}", ["en"]) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ㅋㅋㅋ", "ko"),
        ("네 맞아", "ko"),
        ("いいね", "ja"),
        ("東京に行く", "ja"),
        ("你好", "zh"),
        ("我の iPhone 坏了怎么办呢今天真的不行", "zh"),  # one kana is decoration
        ("شكرا", "ar"),
        ("خفه شو", "fa"),
        ("چپ کرو", "ur"),
        ("अच्छा", "hi"),
        ("Σκάσε", "el"),  # every letter looks Latin to the normaliser
        ("shut up you idiot", "en"),
        ("Yes, really?", "en"),
        ("@someone https://example.com/hola/amigos shut your mouth", "en"),
        ("tum kya kar rahe ho", "ur-Latn"),
        ("bhai yeh log pagal hain", "ur-Latn"),
        # Too little, or of no language.
        ("merci", "und"),
        ("ಠ_ಠ", "und"),
        ("¯\\_(ツ)_/¯", "und"),
        ("🇺🇸 🇬🇧 👍🏽", "und"),
        ("Angela Merkel", "und"),
        ("@someone https://example.com/the/other/thing", "und"),
    ],
)
def test_a_few_letters_show_a_script_and_a_few_words_show_english(text: str, code: str, reading: Languages) -> None:
    assert reading.detect(text) == code


@pytest.mark.parametrize(
    "text",
    [
        "Hij had in mei op me moeten wachten",
        "Is dat van hem of van mij?",
        "My hand is in warm water",
        "Han er for dum til det her",
        "Mahal ko ang pamilya ko",
        "Dia main ke rumah saya kemarin",
        "Me gusta the Office, es muy divertida",
        "yeh log kya bol rahe hain, so funny",
        "you are 笨蛋",
    ],
)
def test_another_language_is_not_called_english(text: str, reading: Languages) -> None:
    assert reading.detect(text) != "en"


ENGLISH = "The train was late again, so we waited at the station for an hour and read the news. "


@pytest.mark.parametrize(
    "other",
    [
        "Y ahora sigo en español porque me da la gana, y nadie puede impedirlo. ",
        "Und jetzt schreibe ich auf Deutsch weiter, weil es mir so gefällt. ",
        "tum log kya kar rahe ho, mujhe to kuch bhi pata nahi hai yaar ",
        "我现在改用中文写，因为我喜欢这样写，谁也管不着我。",
    ],
)
@pytest.mark.parametrize("n_english", [2, 5])
def test_a_text_that_changes_its_language_is_not_english(other: str, n_english: int, reading: Languages) -> None:
    """Its rest would be read by a model that does not know the language."""
    assert reading.detect(ENGLISH * n_english) == "en"
    assert reading.detect(ENGLISH * n_english + other * 2) != "en"
    assert reading.detect(other * 2 + ENGLISH * n_english) != "en"


@pytest.mark.parametrize("edit", ["leetspeak", "spaced letters", "diacritics", "Greek letters", "flag letters"])
def test_disguised_english_is_no_other_language(edit: str, reading: Languages) -> None:
    texts = ("yes, i am a terrible person", "the whole team is a bunch of worthless cowards", "have you seen that man?")
    assert {reading.detect(edit_text(edit, text, 1)) for text in texts} <= {"en", "und"}
