"""Make the tables that the multilingual model is trained on: Jigsaw's comments, and open sets in other languages.

    python examples/counterparts.py runs/counterparts.csv
    python examples/open_sets.py data/open --jigsaw train.parquet --more runs/counterparts.csv --to runs/multi

Each set of `data/open` is a file `NAME.csv.gz` with the columns `text`, the labels of its authors, `y` (whether the
text should be moderated; empty: leave the row out) and often `split`. Their labels are translated to the six of Jigsaw.
A label that a set does not ask about stays empty, which `--partial-labels` reads as unknown. What is written, with the
columns `comment_text`, `lang`, `source` and the six labels:

- `train.parquet`: Jigsaw's comments, for `--data-path`;
- `further.parquet`: the sets' rows to train on, for `--extra-train-path`, and those of `--more`;
- `val.parquet` and `test.parquet`: Jigsaw's comments and the sets in other languages. Calibration and thresholds of
  English follow Jigsaw's comments alone; the English sets mean other things by their labels;
- `english.parquet`: the English sets' rows for testing. All tables for testing can be measured as the suite `open`.
"""

import argparse
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from moderation.data.options import SplitOptions
from moderation.data.splits import SPLITS, load_splits
from moderation.errors import DataError
from moderation.labels import JIGSAW_LABELS
from moderation.tables.options import TEXT_COLUMN

Labels = Mapping[str, pd.Series]
TABLES = ("train", "further", "val", "test", "english")
COLUMNS = [TEXT_COLUMN, "lang", "source", *JIGSAW_LABELS]
_VAL_NAMES = ("dev", "val", "valid", "validation")
_VAL_SHARE = _TEST_SHARE = 0.1


@dataclass(frozen=True)
class OpenSet:
    """A labelled set, and what its labels mean.

    Args:
        language: Code of its language.
        labels: Its rows -> label of Jigsaw -> 1, 0 or NaN for each row; labels left out are unknown.
        trained: False: all of it is for evaluation.
    """

    language: str
    labels: Callable[[pd.DataFrame], Labels]
    trained: bool = True


def either(positive: pd.Series, negative: pd.Series) -> pd.Series:
    """1 where positive, 0 where negative, NaN where neither."""
    return pd.Series(np.where(positive, 1.0, np.where(negative, 0.0, np.nan)), index=positive.index)


def only(positive: pd.Series) -> pd.Series:
    """1 where positive, otherwise unknown."""
    return either(positive, positive & False)


def moderated(rows: pd.DataFrame) -> Labels:
    """A set that asks one question: should this be moderated?"""
    return {"toxic": rows["y"]}


def _hatexplain(rows: pd.DataFrame) -> Labels:
    hate, normal = rows["label"] == "hatespeech", rows["label"] == "normal"
    return {"toxic": rows["y"], "identity_hate": either(hate, normal)}


def _edos(rows: pd.DataFrame) -> Labels:
    sexist, threats = rows["y"] == 1, rows["label_category"].str.contains("threats")
    return {"toxic": only(sexist), "identity_hate": rows["y"], "threat": either(threats, sexist & ~threats)}


def _hatemoji(rows: pd.DataFrame) -> Labels:
    hate = rows["y"] == 1
    return {"toxic": only(hate), "identity_hate": rows["y"], "threat": only(rows["type"] == "threateninglanguage")}


def _gab(rows: pd.DataFrame) -> Labels:
    any_kind = rows[["hd", "cv", "vo"]].eq(1).any(axis=1)
    toxic = either(rows["hd"].eq(1) | rows["cv"].eq(1), ~any_kind)
    return {"toxic": toxic, "identity_hate": rows["hd"], "threat": rows["cv"], "obscene": rows["vo"]}


def _told_br(rows: pd.DataFrame) -> Labels:
    def votes(count: pd.Series) -> pd.Series:
        return either(count >= 2, count == 0)  # a single vote of three is no answer

    hate = rows[["homophobia", "racism", "misogyny", "xenophobia"]].max(axis=1)
    return {
        "toxic": rows["y"],
        "obscene": votes(rows["obscene"]),
        "insult": votes(rows["insult"]),
        "identity_hate": votes(hate),
    }


def _germeval(rows: pd.DataFrame) -> Labels:
    def kind(name: str) -> pd.Series:
        return either(rows["fine"] == name, rows["fine"] == "OTHER")

    return {
        "toxic": rows["y"],
        "obscene": kind("PROFANITY"),
        "insult": kind("INSULT"),
        "identity_hate": kind("ABUSE"),
    }


def _gahd(rows: pd.DataFrame) -> Labels:
    return {"toxic": only(rows["y"] == 1), "identity_hate": rows["y"]}


def _kocohub(rows: pd.DataFrame) -> Labels:
    return {"toxic": rows["y"], "insult": either(rows["hate"] == "hate", rows["hate"] == "none")}


def _mpold(rows: pd.DataFrame) -> Labels:
    clean = rows["y"] == 0
    return {
        "toxic": rows["y"],
        "identity_hate": either(rows["fine"] == "HS", clean),
        "obscene": either(rows["fine"] == "V", clean),
    }


def _convabuse(rows: pd.DataFrame) -> Labels:
    return {"toxic": rows["y"], "insult": rows["y"]}


SETS = {
    "hatexplain-text": OpenSet("en", _hatexplain),
    "edos-sexism": OpenSet("en", _edos),
    "hatemoji-build": OpenSet("en", _hatemoji),
    "gab-majority-5k": OpenSet("en", _gab),
    "sbic-dev": OpenSet("en", moderated),
    "convabuse": OpenSet("en", _convabuse),
    "told-br": OpenSet("pt", _told_br),
    "germeval2018-de": OpenSet("de", _germeval),
    "gahd-de": OpenSet("de", _gahd),
    "offenseval2020-tr": OpenSet("tr", moderated),
    "cold-zh": OpenSet("zh", moderated),
    "kocohub-ko": OpenSet("ko", _kocohub),
    "mpold-ar": OpenSet("ar", _mpold),
    "ruhsold-ur-latn": OpenSet("ur-Latn", moderated),
    "implicit-hate-corpus": OpenSet("en", moderated, trained=False),
    "reddit-misogyny": OpenSet("en", moderated, trained=False),
    "wiegand-identity-groups-de": OpenSet("de", moderated, trained=False),
    "japanese-toxic": OpenSet("ja", moderated, trained=False),
}


def read_set(path: Path, about: OpenSet) -> pd.DataFrame:
    """Rows of a set, with the six labels, its language, its name as `source`, and a `split`."""
    rows = pd.read_csv(path, encoding="utf-8")
    rows = rows[rows["y"].notna() & rows["text"].notna()].reset_index(drop=True)
    labels = about.labels(rows)
    columns = {name: labels.get(name, pd.Series(np.nan, index=rows.index)).astype(np.float32) for name in JIGSAW_LABELS}
    texts = rows["text"].astype(str)
    source = path.name.removesuffix(".csv.gz")
    split = choose_splits(texts, rows.get("split")) if about.trained else pd.Series("test", index=rows.index)
    return pd.DataFrame({TEXT_COLUMN: texts, "lang": about.language, "source": source, "split": split, **columns})


def choose_splits(texts: pd.Series, given: pd.Series | None) -> pd.Series:
    """The authors' split as far as there is one; what is missing is taken from train, by a hash of the text.

    >>> choose_splits(pd.Series(["a", "b", "c"]), pd.Series(["train", "dev", "test"])).tolist()
    ['train', 'val', 'test']
    """
    split = pd.Series("train", index=texts.index) if given is None else given.fillna("train")
    split = split.where(~split.isin(_VAL_NAMES), "val")
    named = set(split)
    if unknown := named - set(SPLITS):
        raise DataError(f"split: unknown name {', '.join(map(str, sorted(unknown)))}; expected train, dev or test.")
    if "train" not in named:
        split = split.replace("val", "train")
    elif "test" not in named:
        split = split.replace("val", "test")
    share = texts.map(_hash_share)
    if "test" not in set(split):
        split = split.where(share >= _TEST_SHARE, "test")
    if "val" not in set(split):
        split = split.where((split != "train") | (share < _TEST_SHARE) | (share >= _TEST_SHARE + _VAL_SHARE), "val")
    return split


def _hash_share(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    digest = hashlib.sha256(" ".join(text.casefold().split()).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def jigsaw(path: Path, seed: int) -> pd.DataFrame:
    """Jigsaw's comments in the splits that `moderation train --data-path` makes of them."""
    splits = load_splits(SplitOptions(data_path=path), seed=seed)
    parts = [frame.assign(split=split) for split, frame in splits.frames.items()]
    return pd.concat(parts, ignore_index=True).assign(lang="en", source="jigsaw")


def multilingual(path: Path) -> pd.DataFrame:
    """Jigsaw's comments in other languages: half to train on, a quarter for val, a quarter for test, by a hash."""
    rows = pd.read_csv(path, encoding="utf-8")
    texts = rows["comment_text"].astype(str)
    columns = {name: np.float32("nan") for name in JIGSAW_LABELS} | {"toxic": rows["toxic"].astype(np.float32)}
    share = texts.map(_hash_share)
    split = np.where(share < 0.5, "train", np.where(share < 0.75, "val", "test"))
    known = pd.DataFrame({TEXT_COLUMN: texts, "lang": rows["lang"], "source": "jigsaw-multilingual", "split": split})
    return known.assign(**columns)


def judged(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of val or test, without the labels of a set of which only the positive ones are known.

    Trained on, they help; measured on, they would look as if all texts of the language were toxic.
    """
    rows = rows.copy()
    for _, part in rows.groupby("source"):
        for label in JIGSAW_LABELS:
            if part[label].nunique() < 2:
                rows.loc[part.index, label] = np.nan
    return rows[rows[list(JIGSAW_LABELS)].notna().any(axis=1)]


def main() -> None:
    """Write the tables, and print the rows of each source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with the open sets, NAME.csv.gz")
    parser.add_argument("--jigsaw", type=Path, required=True, help="table of the Jigsaw comments")
    parser.add_argument("--multilingual", type=Path, help="table of Jigsaw's comments in other languages, as CSV")
    parser.add_argument("--more", type=Path, help="further comments with the six labels, as CSV")
    parser.add_argument("--to", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--seed", type=int, default=42, help="seed of the split of Jigsaw's comments; default: 42")
    given = parser.parse_args()
    absent = [name for name in SETS if not (given.folder / f"{name}.csv.gz").is_file()]
    if absent:
        parser.error(f"{given.folder} has no {', '.join(f'{name}.csv.gz' for name in absent)}")
    parts = [read_set(given.folder / f"{name}.csv.gz", about) for name, about in SETS.items()]
    if given.more is not None:
        more = pd.read_csv(given.more, encoding="utf-8")
        lang = more["lang"] if "lang" in more.columns else "en"
        parts.append(more.assign(lang=lang, source=given.more.stem, split="train"))
    if given.multilingual is not None:
        parts.append(multilingual(given.multilingual))
    given.to.mkdir(parents=True, exist_ok=True)
    written = write_tables(jigsaw(given.jigsaw, given.seed), pd.concat(parts, ignore_index=True), given.to)
    print(written.groupby(["source", "table"]).size().unstack(fill_value=0)[list(TABLES)].to_string())


def write_tables(english: pd.DataFrame, others: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Write the tables of `TABLES` and return all that was written, with the name of its `table`.

    Args:
        english: Jigsaw's comments, with their `split`.
        others: Rows of all other sets, likewise.
        folder: An existing one.
    """
    tables = {"train": english[english["split"] == "train"], "further": others[others["split"] == "train"]}
    for split in ("val", "test"):
        both = pd.concat([english, others[others["lang"] != "en"]], ignore_index=True)
        tables[split] = judged(both[both["split"] == split])
    tables["english"] = judged(others[(others["lang"] == "en") & (others["split"] == "test")])
    for name, table in tables.items():
        table[COLUMNS].to_parquet(folder / f"{name}.parquet", index=False)
    return pd.concat([table.assign(table=name) for name, table in tables.items()], ignore_index=True)


if __name__ == "__main__":
    main()
