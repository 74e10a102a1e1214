"""How well are languages recognised, by language and by length? And what is called English without being English?

It prints seven tables: how many texts get their own language's code; how many English texts are called something else;
how many other texts are called English, or get another wrong code; what texts in two languages are called; texts that
are in no language; disguised English; and sentences in languages that no data set here has. A text is recognised as the
server recognises it, with the normaliser of the included model.

    python benchmarks/language_recognition.py --data ../shared/data

The word lists and limits of `moderation.data.languages` were chosen on one half of each data set; this reads the other
half.
"""

import argparse
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import running
from other_languages import NAMES, SENTENCES
from tables import print_table

from moderation.data.disguises import EVASIONS, edit_text
from moderation.data.languages import UNDETERMINED, Languages
from moderation.inference.classifier import Classifier

LENGTHS: Mapping[str, int | None] = {"10": 10, "20": 20, "40": 40, "80": 80, "whole": None}
FEWEST = 30  # a cell with fewer texts is n/a
_OPEN = "open/{}.csv.gz"
_HATECHECK = "multilingual-hatecheck/hatecheck_cases_final_{}.csv.gz"
# Name -> language, file, column of the texts.
SETS: Mapping[str, tuple[str, str, str]] = {
    "Jigsaw": ("en", "jigsaw/train.parquet", "comment_text"),
    "HateCheck": ("en", "hatecheck/test_suite_cases.csv", "test_case"),
    **{
        name: ("en", _OPEN.format(name), "text")
        for name in ("hatexplain-text", "edos-sexism", "implicit-hate-corpus", "hatemoji-build", "gab-majority-5k")
    },
    **{name: ("en", _OPEN.format(name), "text") for name in ("sbic-dev", "convabuse", "reddit-misogyny")},
    **{
        f"HateCheck, {language}": (language, _HATECHECK.format(name), "test_case")
        for language, name in (("de", "german"), ("es", "spanish"), ("fr", "french"), ("it", "italian"))
    },
    "HateCheck, pt": ("pt", _HATECHECK.format("portuguese"), "test_case"),
    **{
        f"Jigsaw, {language}": (language, "jigsaw/multilingual_validation.csv.gz", "")
        for language in ("es", "it", "tr")
    },
    "germeval2018-de": ("de", _OPEN.format("germeval2018-de"), "text"),
    "gahd-de": ("de", _OPEN.format("gahd-de"), "text"),
    "told-br": ("pt", _OPEN.format("told-br"), "text"),
    "offenseval2020-tr": ("tr", _OPEN.format("offenseval2020-tr"), "text"),
    "ruhsold-ur-latn": ("ur-Latn", _OPEN.format("ruhsold-ur-latn"), "text"),
    "mpold-ar": ("ar", _OPEN.format("mpold-ar"), "text"),
    "cold-zh": ("zh", _OPEN.format("cold-zh"), "text"),
    "japanese-toxic": ("ja", _OPEN.format("japanese-toxic"), "text"),
    "kocohub-ko": ("ko", _OPEN.format("kocohub-ko"), "text"),
}
EMOJI = (
    "\U0001f602",
    "\U0001f44d\U0001f44d",
    "\u2764\ufe0f",
    "\U0001f1fa\U0001f1f8 \U0001f1ec\U0001f1e7",
    "\U0001f621",
)


def main() -> None:
    """Read the sets, recognise every text, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with jigsaw/, hatecheck/ and open/")
    parser.add_argument("--sample", type=int, default=300, metavar="N", help="texts of a cell (default: %(default)s)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    classifier = Classifier.load(threads=1)
    detect = Languages("This benchmark", "languages", classifier.normalise).detect
    sets = {name: (SETS[name][0], read_half(options.data, name)) for name in SETS}
    print_lengths(sets, detect, options.sample)
    print_mixed(sets, detect, options.sample)
    english = [text for language, texts in sets.values() if language == "en" for text in texts[: options.sample // 10]]
    print_without_language(detect)
    print_disguised(english, detect)
    print_others(detect)


def read_half(folder: Path, name: str) -> list[str]:
    """The half of a set's texts that was not used to choose word lists and limits, in random order."""
    language, file, column = SETS[name]
    path = folder / file
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    if not column:
        frame, column = frame[frame["lang"] == language], "comment_text"
    texts = frame[column].dropna().astype(str).tolist()
    return random.Random(0).sample(texts, len(texts))[len(texts) // 2 :]  # nosec B311 # the same sample every time


def cut(text: str, most: int | None) -> str:
    """The beginning of a text, of whole words where it has any.

    >>> cut("one two three", 9), cut("one", None)
    ('one two', 'one')
    """
    if most is None or len(text) <= most:
        return text
    beginning = text[: most + 1]
    return beginning.rsplit(" ", 1)[0] if " " in beginning.strip() else text[:most]


def print_lengths(sets: Mapping[str, tuple[str, Sequence[str]]], detect: Callable[[str], str], n_sample: int) -> None:
    """Print the shares of texts that are named correctly, and of those that are named wrongly, by length."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, (_, texts) in sets.items():
        found[name] = {}
        for length, most in LENGTHS.items():
            longer = [text for text in texts if most is None or len(text) > most][:n_sample]
            found[name][length] = [detect(cut(text, most)) for text in longer]
    english = {name: cells for name, cells in found.items() if sets[name][0] == "en"}
    others = {name: cells for name, cells in found.items() if sets[name][0] != "en"}
    print("Share of texts that get the code of their language; most others are und")
    print_shares(found, sets, lambda code, language: code == language)
    print("English texts with the code of another language")
    print_shares(english, sets, lambda code, language: code not in (language, UNDETERMINED))
    print("Other texts called English")
    print_shares(others, sets, lambda code, language: code == "en")
    print("Other texts with the code of a third language")
    print_shares(others, sets, lambda code, language: code not in (language, "en", UNDETERMINED))


def print_shares(
    found: Mapping[str, Mapping[str, Sequence[str]]],
    sets: Mapping[str, tuple[str, Sequence[str]]],
    counts: Callable[[str, str], bool],
) -> None:
    rows = []
    for name, cells in found.items():
        language = sets[name][0]
        shares = {
            length: sum(counts(code, language) for code in codes) / len(codes) if len(codes) >= FEWEST else None
            for length, codes in cells.items()
        }
        rows.append({"set": name, "language": language, "of": len(cells["whole"]), **shares})
    print_table(rows)


def print_mixed(sets: Mapping[str, tuple[str, Sequence[str]]], detect: Callable[[str], str], n_sample: int) -> None:
    """Print what texts are called whose halves are in two languages, English last."""
    english = sets["Jigsaw"][1]
    rows = []
    for name, (language, texts) in sets.items():
        if language == "en":
            continue
        for most in (40, 150):
            pairs = list(zip(texts, english, strict=False))[:n_sample]
            first = [detect(f"{cut(other, most)} {cut(text, most)}") for other, text in pairs]
            last = [detect(f"{cut(text, most)} {cut(other, most)}") for other, text in pairs]
            codes = Counter(first + last)
            rows.append(
                {
                    "with English": name,
                    "halves of": most,
                    "of": codes.total(),
                    "en": codes["en"] / codes.total(),
                    "the other": codes[language] / codes.total(),
                    UNDETERMINED: codes[UNDETERMINED] / codes.total(),
                }
            )
    print("Texts in two languages: half English, half another")
    print_table(rows)


def print_without_language(detect: Callable[[str], str]) -> None:
    """Print what names and emoji are called."""
    rows = []
    for what, texts in (("names of persons and places", NAMES), ("emoji", EMOJI)):
        codes = Counter(map(detect, texts))
        rows.append({"only": what, "of": len(texts), "codes": ", ".join(f"{c} {n}" for c, n in codes.most_common())})
    print_table(rows)


def print_disguised(english: Sequence[str], detect: Callable[[str], str]) -> None:
    """Print how many English texts are still called English after each edit."""
    rows = []
    for name in ("none", *EVASIONS):
        codes = Counter(detect(text if name == "none" else edit_text(name, text, 1)) for text in english)
        n_other = len(english) - codes["en"] - codes[UNDETERMINED]
        shares = (codes["en"], codes[UNDETERMINED], n_other)
        rows.append(
            {"edit": name, "of": len(english)}
            | {what: n / len(english) for what, n in zip(("en", UNDETERMINED, "another"), shares, strict=True)}
        )
    print("English texts, disguised")
    print_table(rows)


def print_others(detect: Callable[[str], str]) -> None:
    """Print what everyday sentences in further languages are called."""
    rows = []
    for language, sentences in SENTENCES.items():
        codes = Counter(map(detect, sentences))
        counts = {"right": codes[language], "en": codes["en"], UNDETERMINED: codes[UNDETERMINED]}
        rows.append(
            {"language": language, "of": len(sentences), **counts, "another": codes.total() - sum(counts.values())}
        )
    print_table(rows)


if __name__ == "__main__":
    running.run(main)
