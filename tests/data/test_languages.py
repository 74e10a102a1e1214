"""Which language a text is in, for those who answer in its name."""

import pytest

from moderation.data.languages import Languages


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
