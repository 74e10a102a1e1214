"""Parity: what a form of the model answers, compared with torch on the same texts, and how much may differ."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moderation.artifacts import read_json, write_json
from moderation.errors import ArtifactError
from moderation.evaluation.probabilities import predict
from moderation.forms import FORMS
from moderation.text_tables import align, number

# ruff: noqa: RUF001 - look-alike letters are the point

ODD_TEXTS: dict[str, str] = {
    "empty": "",
    "one blank": " ",
    "blanks": "    \t   ",
    "line ends": "\n\r\n\n",
    "no-break space": "\u00a0\u2007\u202f",
    "zero-width space": "\u200b\u200b",
    "byte order mark": "\ufeffhello there",
    "null character": "be\x00fore and after",
    "control characters": "\x01\x02\x03 bell \x07 escape \x1b[31mred\x1b[0m \x7f",
    "c1 controls": "\x80\x85\x9f and then words",
    "private use": "\ue000\uf8ff some words",
    "noncharacters": "\ufdd0\ufffe\uffff still a text",
    "replacement character": "caf\ufffd na\ufffdve",
    "one letter": "a",
    "one digit": "7",
    "one full stop": ".",
    "punctuation": "?!?!?! ... --- *** ((( ))) ### @@@",
    "math": "∑ x² ≤ ∞ ⇒ ∀ε>0 ∃δ",
    "currency": "€5 £6 ¥7 ₹8 ₿0.1",
    "number": "1234567890" * 8,
    "decimals": "3.14159, -2.71828, 1e-300, 0x1F, 1,000,000.00",
    "date and time": "2024-02-29T23:59:60Z",
    "emoji": "😀😡🤬👍🔥",
    "emoji with words": "you 🤡 are 🗑️ to me",
    "joined emoji": "👨‍👩‍👧‍👦 🏳️‍🌈 👩🏽‍🚀",
    "flags": "🇩🇪🇯🇵🇧🇷",
    "skin tones": "👍🏻👍🏼👍🏽👍🏾👍🏿",
    "keycaps": "1️⃣2️⃣3️⃣",
    "combining marks": "e\u0301 a\u0308 n\u0303 o\u0302",
    "stacked marks": "h" + "\u0301\u0327\u0334" * 20 + "e" + "\u0316" * 30 + "y",
    "composed and decomposed": "é e\u0301 Å A\u030a ﬁ fi",
    "full width": "ＹＯＵ ＡＲＥ ＦＩＮＥ",
    "mathematical letters": "𝖞𝖔𝖚 𝓪𝓻𝓮 𝕒 𝙛𝙤𝙤𝙡",
    "look-alikes": "уоu аrе ѕtuріd",
    "leet": "y0u 4r3 4n 1d10t",
    "spaced out": "i d i o t",
    "dotted out": "i.d.i.o.t s-t-u-p-i-d",
    "repeated letters": "stuuuuuuuuupiiiiiiiid" * 3,
    "shouting": "LEAVE ME ALONE RIGHT NOW",
    "mixed case": "yOu ArE nOt WeLcOmE hErE",
    "german": "Das ist ein schöner Tag für einen Spaziergang, du Dummkopf.",
    "french": "Quelle journée magnifique, n'est-ce pas, espèce d'idiot ?",
    "spanish": "¿Por qué no te callas de una vez?",
    "turkish": "İstanbul'da ılık bir akşam, ığdır",
    "vietnamese": "Hôm nay trời đẹp quá, bạn ơi",
    "russian": "Какой прекрасный день, дурак",
    "greek": "Τι όμορφη μέρα, ανόητε",
    "arabic": "يا له من يوم جميل أيها الأحمق",
    "hebrew": "איזה יום יפה, טיפש",
    "persian with joiner": "می‌خواهم بروم",
    "direction overrides": "abc \u202edef\u202c ghi \u2067jkl\u2069",
    "mixed directions": "He said שלום and then مرحبا twice",
    "hindi": "आज का दिन कितना सुंदर है, मूर्ख",
    "tamil": "இன்று ஒரு அழகான நாள்",
    "thai": "วันนี้อากาศดีมากเลยนะ",
    "chinese": "今天天气真好，你这个笨蛋",
    "japanese": "今日はとてもいい天気ですね、バカ",
    "korean": "오늘 날씨가 정말 좋네요, 바보야",
    "georgian and armenian": "რა ლამაზი დღეა Ինչ գեղեցիկ օր",
    "amharic": "ዛሬ ጥሩ ቀን ነው",
    "old scripts": "𐎀𐎁𐎂 𓀀𓀁𓀂 𒀀𒀁𒀂",
    "many scripts": "one два τρία أربعة חמש 六 일곱 आठ",
    "long address": "https://example.org/" + "/".join(f"part{i}?q=%20{i}&r=a+b" for i in range(60)),
    "mail and handles": "write to someone@example.org or @somebody #topic",
    "markup": "<p onclick=\"x('y')\">hello <b>you</b> &amp; &lt;them&gt;</p>",
    "json": '{"text": "you \\"are\\" fine", "n": [1, 2, null]}',
    "code": "for (int i = 0; i < n; ++i) { a[i] ^= b[i] & 0xff; }",
    "sql": "'; DROP TABLE comments; --",
    "special tokens": "[CLS] hello [SEP] [PAD] [MASK] <s> </s> <|endoftext|>",
    "template": "{{ user }} ${name} %s %(x)d {0}",
    "windows lines": "first line\r\nsecond line\r\n\r\nthird line\r\n",
    "quoted reply": "> you said this\n>> and you this\nbut I never did",
    "one long word": "a" * 50_000,
    "long text": ("The river was calm and the bread was fine. " * 1200)[:50_000],
    "insult at the end": "The river was calm and the bread was fine. " * 150 + "You are a stupid idiot.",
    "long without blanks": "河水很平静" * 1000,
    "many line ends": "word\n" * 1500,
}


FloatArray = npt.NDArray[np.float32]

PARITY_FILE = "parity.json"
_FORMAT = "content-moderation parity"


def compare(
    form: str,
    found: FloatArray,
    reference: FloatArray,
    targets: npt.NDArray[Any],
    thresholds: FloatArray,
    labels: Sequence[str],
    languages: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Compare the answers of a form with those of torch.

    Args:
        form: Its name, which decides the limits.
        found: Its probabilities, float32 `(n_texts, n_labels)`.
        reference: Those of torch.
        targets: 0 or 1, of the first texts, `(n_with_targets, n_labels)`; the odd texts come last and have none.
        thresholds: float32 `(n_labels,)`.
        labels: Order of the columns.
        languages: Of the first texts; the limits then hold for each language too.

    Returns:
        A row of the parity table: differences, share of flipped decisions, fall of ROC-AUC, `limits`, `passed`.
    """
    row = _measure(found, reference, targets, thresholds, labels)
    parts = [row]
    if languages is not None and len(set(languages)) > 1:
        of_text = np.asarray(languages)
        row["languages"] = {
            language: _measure(
                found[: len(of_text)][of_text == language],
                reference[: len(of_text)][of_text == language],
                targets[of_text == language],
                thresholds,
                labels,
            )
            for language in sorted(set(languages))
        }
        parts += row["languages"].values()
    limits = FORMS[form].limits
    passed = all(part[name] is None or part[name] <= limit for part in parts for name, limit in limits.items())
    return {"form": form, **row, "limits": dict(limits), "passed": passed}


def _measure(
    found: FloatArray,
    reference: FloatArray,
    targets: npt.NDArray[Any],
    thresholds: FloatArray,
    labels: Sequence[str],
) -> dict[str, Any]:
    difference = np.abs(found.astype(np.float64) - reference)
    flipped = predict(found, thresholds) != predict(reference, thresholds)
    drops = {
        label: _drop(truth, reference[: len(targets), column], found[: len(targets), column])
        for column, (label, truth) in enumerate(zip(labels, np.asarray(targets).T, strict=True))
    }
    known = [drop for drop in drops.values() if drop is not None]
    return {
        "n_texts": len(found),
        "max_difference": float(difference.max(initial=0)),
        "mean_difference": float(difference.mean()) if difference.size else 0.0,
        "flips": float(flipped.mean()) if flipped.size else 0.0,
        "flips_by_label": {label: float(flips.mean()) for label, flips in zip(labels, flipped.T, strict=True)},
        "auc_drop": max(known, default=None),
        "auc_drop_by_label": drops,
    }


def _drop(truth: npt.NDArray[Any], before: FloatArray, after: FloatArray) -> float | None:
    """By how much ROC-AUC falls; None where a class is missing."""
    if len(np.unique(truth)) < 2:
        return None
    from sklearn.metrics import roc_auc_score  # here, for `verify` needs none of it

    return float(roc_auc_score(truth, before) - roc_auc_score(truth, after))


def format_parity(rows: Sequence[Mapping[str, Any]]) -> str:
    """The parity table for the terminal and the model card."""
    return align([HEADER, *map(parity_cells, rows)])


HEADER = ["form", "texts", "largest difference", "mean difference", "decisions flipped", "ROC-AUC falls by", "verdict"]


def parity_cells(row: Mapping[str, Any]) -> list[str]:
    """The cells of one row of the parity table, under `HEADER`."""
    verdict = "passed" if row["passed"] else "FAILED, allowed" if row.get("allowed") else "FAILED"
    return [
        row["form"],
        f"{row['n_texts']:,}",
        f"{row['max_difference']:.1e}",
        f"{row['mean_difference']:.1e}",
        f"{row['flips']:.3%}",
        number(row["auc_drop"], 4),
        verdict,
    ]


def write_odd_answers(folder: Path, labels: Sequence[str], answers: Mapping[str, FloatArray]) -> None:
    """Keep what each form answered on the odd texts, for `moderation verify` on machines without torch.

    Args:
        folder: Of the bundle.
        labels: Order of the columns.
        answers: Form -> probabilities of `ODD_TEXTS`, float32 `(n_odd, n_labels)`; `hf` is the reference.
    """
    content = {
        "format": _FORMAT,
        "labels": list(labels),
        "texts": {name: _hash(text) for name, text in ODD_TEXTS.items()},
        "answers": {form: array.tolist() for form, array in answers.items()},
    }
    write_json(folder / PARITY_FILE, content)


def read_odd_answers(folder: Path, labels: Sequence[str]) -> tuple[list[str], dict[str, FloatArray]]:
    """Read the odd texts that this version shares with the bundle's, and what each form answered on them at export.

    Raises:
        ArtifactError: the file is missing or not what the export wrote.
    """
    content = read_json(folder / PARITY_FILE, "the answers that `moderation export` keeps")
    try:
        hashes = {name: _hash(text) for name, text in ODD_TEXTS.items()}
        kept = [place for place, (name, value) in enumerate(content["texts"].items()) if hashes.get(name) == value]
        names = list(content["texts"])
        answers = {form: np.array(rows, dtype=np.float32) for form, rows in content["answers"].items()}
        if content["format"] != _FORMAT or content["labels"] != list(labels):
            raise ValueError("of other labels")
        if any(array.shape != (len(names), len(labels)) for array in answers.values()):
            raise ValueError("of another shape")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ArtifactError(f"{folder / PARITY_FILE}: not the answers that `moderation export` keeps.") from error
    return [ODD_TEXTS[names[place]] for place in kept], {form: array[kept] for form, array in answers.items()}


def check_again(form: str, found: FloatArray, kept: Mapping[str, FloatArray]) -> dict[str, Any]:
    """Compare a form's answers on the odd texts with those kept at export.

    Args:
        form: Its name.
        found: Its probabilities now.
        kept: From `read_odd_answers`.

    Returns:
        `form`, `n_texts`, `from_torch` and `from_export` (largest differences), `limit`, `passed`, which nothing is
        where no text was compared.

    Raises:
        ArtifactError: the answers of torch or of the form were not kept.
    """
    if missing := [name for name in ("hf", form) if name not in kept]:
        raise ArtifactError(f"{PARITY_FILE}: holds no answers of {missing[0]}; {form} cannot be compared with them.")
    with np.errstate(invalid="ignore"):  # of answers that are no numbers: no difference is within any limit
        from_torch = float(np.abs(found - kept["hf"]).max(initial=0))
        from_export = float(np.abs(found - kept[form]).max(initial=0))
    is_int8, limit = FORMS[form].kind == "int8", FORMS[form].limit_elsewhere
    judged = from_export if is_int8 else from_torch
    return {
        "form": form,
        "n_texts": len(found),
        "from_torch": from_torch,
        "from_export": from_export,
        "limit": limit,
        "judged": "from export" if is_int8 else "from torch",
        "passed": bool(len(found) and judged <= limit),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
