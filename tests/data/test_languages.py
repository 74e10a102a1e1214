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


@pytest.mark.parametrize("phrase", ["Спасибо ", "Всё хорошо, спасибо. ", "Благодаря ", "شكرا جزيلا ", "धन्यवाद "])
def test_a_script_shows_that_a_text_is_foreign_if_its_words_do_not(phrase: str, reading: Languages) -> None:
    """One phrase again and again is of several languages to py3langid, and of none surely."""
    text = phrase * 20
    assert reading.detect(text) == "und"
    assert reading.foreign(text, ["en"]) == "und"
    assert reading.describe(text, ["en"]) == {"code": "und", "supported": False}
    assert reading.foreign(phrase, ["en"]) is None
    assert reading.foreign(f"you are an idiot {phrase}and nobody likes you, {phrase}", ["en"]) is None
