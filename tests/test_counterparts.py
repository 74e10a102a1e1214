"""Friendly and hostile sentences of the same words: English as before, and the files of other languages."""

from pathlib import Path

import pandas as pd
import pytest

from examples import counterparts
from examples.counterparts import FOLDER, GROUPS, main, read_language, write_language, write_sentences
from moderation.errors import DataError
from moderation.labels import JIGSAW_LABELS

LANGUAGES = sorted(FOLDER.glob("*.toml"))
SMALL = """
many = ["les uns", "les autres", "les troisièmes"]
friendly = ["{many} chantent.", "J'aime {many}.", "«{many}?» Oui.", "Ah. {many} rient."]
hostile = [["{many} mentent.", "toxic insult identity_hate"], ["va-t'en. {many} puent", "toxic identity_hate"]]
things = ["le froid"]
about_things = ["Je déteste {}."]
insults = ["un idiot", "un âne"]
no_insult = ["Tu n'es pas {}."]
insult = [["Tu es {}.", "toxic insult"]]
vulgar = [["Merde, quel but !", "obscene"]]
ways = ["demain", "ce soir"]
threats = [["Je te frappe {}.", "toxic threat"]]
no_threat = ["Je te vois {}."]
"""


def write(folder: Path, text: str, name: str = "fr.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_english_stays_as_it_is_and_languages_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    english, several = tmp_path / "new" / "english.csv", tmp_path / "several.csv"
    path = write(tmp_path, SMALL)
    monkeypatch.setattr(counterparts, "FOLDER", tmp_path)
    assert main([str(english)]) == main([str(several), "--languages", "fr", "fr"]) == 0
    assert "8,259 comments" in capsys.readouterr().out
    plain, more = pd.read_csv(english), pd.read_csv(several)
    assert list(plain) == ["comment_text", *JIGSAW_LABELS]
    assert list(more) == ["comment_text", "lang", *JIGSAW_LABELS]
    pd.testing.assert_frame_equal(more[more["lang"] == "en"].drop(columns="lang"), plain)
    french = more[more["lang"] == "fr"].reset_index(drop=True)
    assert french["comment_text"].tolist() == write_language(path)["comment_text"].tolist()
    assert set(more["lang"]) == {"en", "fr"}


def test_english_puts_every_group_into_every_frame() -> None:
    texts = set(write_sentences()["comment_text"])
    expected = {
        text.format(many=many) for _, _, many in GROUPS for text in ("I like {many}.", "All {many} should be killed.")
    }
    assert expected <= texts


def test_a_frame_gets_a_third_of_the_groups_and_upper_case_where_a_sentence_starts(tmp_path: Path) -> None:
    found = write_language(write(tmp_path, SMALL)).set_index("comment_text")
    friendly = ["Les uns chantent.", "J'aime les troisièmes.", "«Les autres?» Oui.", "Ah. Les uns rient."]
    hostile = ["Les uns mentent.", "va-t'en. les troisièmes puent"]
    others = ["Je déteste le froid.", "Tu n'es pas un idiot.", "Tu es un idiot.", "Je te frappe demain."]
    assert set(found.index) == {"Merde, quel but !", "Je te vois demain.", *friendly, *hostile, *others}
    assert found.loc["Les uns mentent.", list(JIGSAW_LABELS)].tolist() == [1, 0, 0, 0, 1, 1]
    assert not found.loc[friendly, list(JIGSAW_LABELS)].to_numpy().any()


def test_turkish_has_an_object_form_and_a_dotted_capital(tmp_path: Path) -> None:
    text = SMALL.replace("les uns", "ihtiyarlar").replace("J'aime {many}", "Herkes {many_object} sever")
    text += 'many_object = ["eskileri", "gençleri", "yenileri"]\n'
    found = set(write_language(write(tmp_path, text, "tr.toml"))["comment_text"])
    assert {"İhtiyarlar chantent.", "Herkes yenileri sever."} <= found


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ways =", "way =", "ways is missing; way is not a known key"),
        ('["le froid"]', "[]", "things is not a list of texts"),
        ('["le froid"]', '"le froid"', "things is not a list of texts"),
        ('["le froid"]', '["le {} froid"]', "things number 1 has a brace"),
        ('["le froid"]', "[3]", "things number 1 is not a text"),
        ("Merde, quel but !", " ", "vulgar number 1 is not a pair of text and labels"),
        ('["Merde, quel but !", "obscene"]', '"Merde"', "vulgar number 1 is not a pair"),
        ('"obscene"', '"obscene rude"', r"vulgar number 1 has 1 unknown label\(s\); expected toxic, severe_toxic"),
        ('"toxic threat"', '"threat"', "threats number 1 needs the label toxic"),
        ('"toxic threat"', '""', "threats number 1 needs the label toxic"),
        ('"obscene"', '"insult"', "vulgar number 1 needs the label toxic"),
        ("J'aime {many}", "J'aime {}", r"friendly number 2 needs exactly one placeholder, \{many\} or"),
        ("J'aime {many}", "{many} et {many}", "friendly number 2 needs exactly one placeholder"),
        ("J'aime {many}", "J'aime {many} }", "friendly number 2 needs exactly one placeholder"),
        ("Tu n'es pas {}", "Tu n'es pas bête", r"no_insult number 1 needs exactly one placeholder, \{\}"),
        ("J'aime {many}", "J'aime {many_object}", "friendly number 2 needs the key many_object"),
        ("J'aime {many}.", "{many} chantent.", "friendly number 2 repeats friendly number 1"),
        ("{many} mentent.", "{many} chantent.", "hostile number 1 repeats friendly number 1"),
        ("many =", 'many_object = ["eux"]\nmany =', "many_object needs as many groups as many"),
        ("many =", "many", r"fr\.toml is not a readable TOML file in UTF-8 \(TOMLDecodeError\)"),
    ],
)
def test_a_mistake_in_a_file_is_reported_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SMALL
    with pytest.raises(DataError, match=message):
        read_language(write(tmp_path, SMALL.replace(old, new, 1)))


def test_a_missing_or_unreadable_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "la.toml").write_bytes(b'many = ["\xff"]')
    with pytest.raises(DataError, match=r"la\.toml is not a readable TOML file in UTF-8 \(UnicodeDecodeError\)"):
        read_language(tmp_path / "la.toml")
    with pytest.raises(DataError, match=r"no .*xx\.toml. Choose from the languages la, or add the file"):
        read_language(tmp_path / "xx.toml")
    target = tmp_path / "table.csv"
    with pytest.raises(DataError, match="Choose from the languages"):
        main([str(target), "--languages", "xx"])
    assert not target.exists()


@pytest.mark.parametrize("path", LANGUAGES, ids=lambda path: path.stem)
def test_every_group_of_a_language_is_met_in_friendly_and_hostile_sentences(path: Path) -> None:
    lists, found = read_language(path), write_language(path)
    assert 1200 <= len(found) <= 1800
    assert set(found["lang"]) == {path.stem}
    assert found["comment_text"].is_unique
    assert not found["comment_text"].str.contains(r"[{}]|\s{2}|^\s|\s$").any()
    assert all({"toxic", "identity_hate"} <= set(labels.split()) for _, labels in lists["hostile"])
    assert all({"toxic", "insult"} <= set(labels.split()) for _, labels in lists["insult"])
    assert all({"toxic", "threat"} <= set(labels.split()) for _, labels in lists["threats"])
    harmless = found.loc[found["toxic"] == 0, list(JIGSAW_LABELS)].drop(columns="obscene")
    assert not harmless.to_numpy().any(), "whatever is hostile is toxic"
    texts = found["comment_text"].str.casefold()
    objects = lists.get("many_object", lists["many"])
    for (many, _), (many_object, _) in zip(lists["many"], objects, strict=True):
        about = texts.str.contains(many.casefold(), regex=False) | texts.str.contains(
            many_object.casefold(), regex=False
        )
        assert (about & (found["toxic"] == 0)).sum() >= 10, many
        assert (about & (found["identity_hate"] == 1)).sum() >= 5, many
