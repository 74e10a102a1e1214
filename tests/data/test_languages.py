"""Which language a text is in, for those who answer in its name."""

import pytest

from moderation.data.languages import Languages
from moderation.inference.classifier import Classifier


@pytest.fixture(scope="module")
def languages() -> Languages:
    return Languages("A test", "languages")


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
def test_what_is_clear_is_named(text: str, code: str, languages: Languages) -> None:
    assert languages.detect(text) == code


def test_what_is_in_no_language_is_undetermined(languages: Languages) -> None:
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
        "y\u00f2\u00fa \u00e0r\u00e9 \u00e0 d\u00ecsg\u00fast\u00edng \u00edd\u00ed\u00f2t \u00e0nd n\u00f3b\u00f3dy w\u00e0nts y\u00f2\u00fa h\u00e9r\u00e9",
        "y\u00f6u \u00e4re \u00e4 disg\u00fcsting idi\u00f6t and nobody wants you here",
        "y\u043eu \u0430r\u0435 \u0430 stu\u0440id idi\u043et, go die now",
        "dem fools dont kno nuttin bout dis",
        "\u028f\u1d0f\u1d1c \u1d00\u0280\u1d07 \u1d00 \ua731\u1d1b\u1d1c\u1d18\u026a\u1d05 \u026a\u1d05\u026a\u1d0f\u1d1b and nobody wants you",
    ],
)
def test_disguised_english_is_english(text: str, reading: Languages) -> None:
    assert reading.describe(text, ["en"]) == {"code": "en", "supported": True}
    assert reading.foreign(text, ["en"]) is None


def test_only_a_long_clear_text_is_surely_foreign(reading: Languages) -> None:
    text = "Me gusta mucho pasear por la playa con mis amigos cuando hace buen tiempo en verano."
    assert reading.foreign(text, ["en"]) == "es"
    assert reading.foreign(text[:45], ["en"]) is None
    assert reading.foreign(text, ["es"]) is None
    assert reading.foreign(text, []) is None
    assert (
        reading.foreign(
            "\u0421\u043f\u0430\u0441\u0438\u0431\u043e \u0437\u0430 \u043f\u043e\u043c\u043e\u0449\u044c, " * 5, ["en"]
        )
        == "ru"
    )
