"""How well are languages recognised, by language and by length? And what is called English without being English?

It prints how many texts get their own language's code; how many English texts get the code of another language; how
many other texts are called English, or get another wrong code; and which codes texts in two languages get, names and
emoji, disguised English, and sentences in languages that no data set here has. A text is recognised as the server
recognises it, with the normaliser of the included model.

    python benchmarks/language_recognition.py --data ../shared/data

The word lists of `moderation.data.vocabulary` were chosen on one half of each data set; this reads the other half.
"""

import argparse
import logging
import random
import re
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
_USER = re.compile(r"@\w+:?|<user>|\bRT\b")  # at the start of many posts: cut texts would hold nothing else
_OPEN_SETS: Mapping[str, Sequence[str]] = {
    "en": (
        *("hatexplain-text", "edos-sexism", "implicit-hate-corpus", "hatemoji-build", "gab-majority-5k", "sbic-dev"),
        *("convabuse", "reddit-misogyny"),
    ),
    "de": ("germeval2018-de", "gahd-de", "wiegand-identity-groups-de"),
    "pt": ("told-br",),
    "tr": ("offenseval2020-tr",),
    "ur-Latn": ("ruhsold-ur-latn",),
    "ar": ("mpold-ar",),
    "zh": ("cold-zh",),
    "ja": ("japanese-toxic",),
    "ko": ("kocohub-ko",),
}
_HATECHECKS = {"de": "german", "es": "spanish", "fr": "french", "it": "italian", "pt": "portuguese"}
_HATECHECK = "multilingual-hatecheck/hatecheck_cases_final_{}.csv.gz"
_JIGSAW = "jigsaw/multilingual_validation.csv.gz"
# Name -> language, file, column of the texts.
SETS: Mapping[str, tuple[str, str, str]] = {
    "Jigsaw": ("en", "jigsaw/train.parquet", "comment_text"),
    "HateCheck": ("en", "hatecheck/test_suite_cases.csv", "test_case"),
    **{f"HateCheck, {code}": (code, _HATECHECK.format(name), "test_case") for code, name in _HATECHECKS.items()},
    **{f"Jigsaw, {code}": (code, _JIGSAW, "comment_text") for code in ("es", "it", "tr")},
    **{name: (code, f"open/{name}.csv.gz", "text") for code, names in _OPEN_SETS.items() for name in names},
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
    if file == _JIGSAW:
        frame = frame[frame["lang"] == language]
    texts = [_USER.sub("", text).strip() for text in frame[column].dropna().astype(str)]
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
        rows.append(
            {
                "texts of nothing but": what,
                "of": len(texts),
                "codes": ", ".join(f"{c} {n}" for c, n in codes.most_common()),
            }
        )
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
    print("Everyday sentences")
    for language, sentences in SENTENCES.items():
        codes = Counter(map(detect, sentences))
        counts = {"right": codes[language], "en": codes["en"], UNDETERMINED: codes[UNDETERMINED]}
        rows.append(
            {"language": language, "of": len(sentences), **counts, "another": codes.total() - sum(counts.values())}
        )
    print_table(rows)


if __name__ == "__main__":
    running.run(main)
