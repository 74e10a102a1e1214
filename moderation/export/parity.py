"""Parity: the answers of a form compared with torch's on the same texts, and how much they may differ."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from moderation.artifacts import read_json, write_json
from moderation.errors import ArtifactError
from moderation.evaluation.probabilities import predict
from moderation.export.odd_texts import ODD_TEXTS
from moderation.forms import FORMS
from moderation.text_tables import align, number

FloatArray = npt.NDArray[np.float32]

PARITY_FILE = "parity.json"
_FORMAT = "content-moderation parity"
_ENOUGH_TEXTS = 200  # of one language, so that one flipped decision stays within the limits
HEADER = ["form", "texts", "largest difference", "mean difference", "decisions flipped", "ROC-AUC falls by", "verdict"]


@dataclass(frozen=True)
class Difference:
    """How the answers of a form differ from torch's on some texts.

    Args:
        n_texts: Number of texts.
        max_difference: Largest difference of a probability.
        mean_difference: Mean over texts and labels.
        flips: Share of the decisions that flip.
        flips_by_label: Label -> its share of decisions that flip.
        auc_drop: Largest drop of a label's ROC-AUC; None: no label has both classes.
        auc_drop_by_label: Label -> its drop; None: a class is missing.
    """

    n_texts: int
    max_difference: float
    mean_difference: float
    flips: float
    flips_by_label: dict[str, float]
    auc_drop: float | None
    auc_drop_by_label: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class ParityRow(Difference):
    """A row of the parity table: a form compared with torch.

    Args:
        form: Its name.
        languages: Language -> the differences on its texts, if there are several languages.
        limits: As in `forms.Form`.
        passed: Whether all differences are within them.
        allowed: Whether the bundle keeps the form even though it failed.
    """

    form: str
    languages: Mapping[str, Difference] = field(default_factory=dict)
    limits: Mapping[str, float]
    passed: bool
    allowed: bool = False

    def to_plain(self) -> dict[str, object]:
        """The row for the manifest."""
        row = {"form": self.form} | {name.name: getattr(self, name.name) for name in fields(Difference)}
        if self.languages:
            row["languages"] = {language: asdict(found) for language, found in self.languages.items()}
        row |= {"limits": dict(self.limits), "passed": self.passed}
        return row | ({"allowed": True} if self.allowed else {})

    @classmethod
    def from_plain(cls, row: Mapping[str, Any]) -> Self:
        """The row from the output of `to_plain`; fields that later versions add are ignored.

        Raises:
            ArtifactError: it is not such a row.
        """
        known = {name.name for name in fields(cls)}
        try:
            languages = {language: Difference(**found) for language, found in row.get("languages", {}).items()}
            return cls(**{name: value for name, value in row.items() if name in known} | {"languages": languages})
        except (TypeError, AttributeError) as error:
            raise ArtifactError("parity: not a row that `moderation export` writes.") from error


def compare(
    form: str,
    found: FloatArray,
    reference: FloatArray,
    targets: npt.NDArray[Any],
    thresholds: FloatArray,
    labels: Sequence[str],
    languages: Sequence[str] | None = None,
) -> ParityRow:
    """Compare the answers of a form with torch's.

    Args:
        form: Its name, which decides the limits.
        found: Its probabilities, float32 `(n_texts, n_labels)`.
        reference: torch's probabilities.
        targets: 0 or 1, NaN where unknown, for the first texts, `(n_with_targets, n_labels)`; the odd texts come last
            and have none.
        thresholds: float32 `(n_labels,)`, or `(n_texts, n_labels)` where they depend on the text.
        labels: Order of the columns.
        languages: Of the first texts; the limits then apply to each language with enough texts, too.
    """
    whole = _measure(found, reference, targets, thresholds, labels)
    parts = {}
    if languages is not None and len(set(languages)) > 1:
        of_text = np.asarray(languages)
        for language in sorted(set(languages)):
            rows = np.flatnonzero(of_text == language)
            cuts = thresholds if thresholds.ndim == 1 else thresholds[rows]
            parts[language] = _measure(found[rows], reference[rows], np.asarray(targets)[rows], cuts, labels)
    limits = FORMS[form].limits
    judged = [part for language, part in parts.items() if languages and languages.count(language) >= _ENOUGH_TEXTS]
    passed = all(_is_within(part, limits) for part in (whole, *judged))
    measured = {name.name: getattr(whole, name.name) for name in fields(Difference)}
    return ParityRow(form=form, languages=parts, limits=limits, passed=passed, **measured)


def _is_within(found: Difference, limits: Mapping[str, float]) -> bool:
    values = ((getattr(found, name), limit) for name, limit in limits.items())
    return all(value is None or value <= limit for value, limit in values)


def _measure(
    found: FloatArray,
    reference: FloatArray,
    targets: npt.NDArray[Any],
    thresholds: FloatArray,
    labels: Sequence[str],
) -> Difference:
    difference = np.abs(found.astype(np.float64) - reference)
    flipped = predict(found, thresholds) != predict(reference, thresholds)
    drops = {
        label: _drop(truth, reference[: len(targets), column], found[: len(targets), column])
        for column, (label, truth) in enumerate(zip(labels, np.asarray(targets).T, strict=True))
    }
    return Difference(
        n_texts=len(found),
        max_difference=float(difference.max(initial=0)),
        mean_difference=float(difference.mean()) if difference.size else 0.0,
        flips=float(flipped.mean()) if flipped.size else 0.0,
        flips_by_label={label: float(flips.mean()) for label, flips in zip(labels, flipped.T, strict=True)},
        auc_drop=max((drop for drop in drops.values() if drop is not None), default=None),
        auc_drop_by_label=drops,
    )


def _drop(truth: npt.NDArray[Any], before: FloatArray, after: FloatArray) -> float | None:
    """By how much ROC-AUC falls; None if a class is missing."""
    known = ~np.isnan(truth)
    truth, before, after = truth[known], before[known], after[known]
    if len(np.unique(truth)) < 2:
        return None
    from sklearn.metrics import roc_auc_score  # imported here because `verify` does not need it

    return float(roc_auc_score(truth, before) - roc_auc_score(truth, after))


def format_parity(rows: Sequence[ParityRow]) -> str:
    """The parity table for the terminal and the model card."""
    return align([HEADER, *map(parity_cells, rows)])


def parity_cells(row: ParityRow) -> list[str]:
    """The cells of one row of the parity table, under `HEADER`."""
    return [
        row.form,
        f"{row.n_texts:,}",
        f"{row.max_difference:.1e}",
        f"{row.mean_difference:.1e}",
        f"{row.flips:.3%}",
        number(row.auc_drop, 4),
        "passed" if row.passed else "FAILED, allowed" if row.allowed else "FAILED",
    ]


def write_odd_answers(folder: Path, labels: Sequence[str], answers: Mapping[str, FloatArray]) -> None:
    """Store each form's answers to the odd texts, for `moderation verify` on machines without torch.

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
    """Read the odd texts that this version and the bundle have in common, and each form's answers at export.

    Raises:
        ArtifactError: the file is missing or was not written by the export.
    """
    content = read_json(folder / PARITY_FILE, "the answers that `moderation export` stores")
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
        raise ArtifactError(f"{folder / PARITY_FILE}: not the answers that `moderation export` stores.") from error
    return [ODD_TEXTS[names[place]] for place in kept], {form: array[kept] for form, array in answers.items()}


@dataclass(frozen=True)
class Recheck:
    """A form's answers to the odd texts, compared with those stored at export.

    Args:
        form: Its name.
        n_texts: Texts compared.
        from_torch: Largest difference of a probability from torch's answer.
        from_export: Largest difference from the form's own answer.
        judged: Which of the two counts.
        limit: Maximum of that one.
    """

    form: str
    n_texts: int
    from_torch: float
    from_export: float
    judged: Literal["from torch", "from export"]
    limit: float

    @property
    def passed(self) -> bool:
        """Whether it is within the limit; False if no text was compared."""
        difference = self.from_export if self.judged == "from export" else self.from_torch
        return bool(self.n_texts and difference <= self.limit)


def check_again(form: str, found: FloatArray, kept: Mapping[str, FloatArray]) -> Recheck:
    """Compare a form's answers to the odd texts with those stored at export.

    Args:
        form: Its name.
        found: Its probabilities now, float32 `(n_odd, n_labels)`.
        kept: From `read_odd_answers`.

    Raises:
        ArtifactError: torch's or the form's answers were not stored.
    """
    if missing := [name for name in ("hf", form) if name not in kept]:
        raise ArtifactError(f"{PARITY_FILE}: holds no answers of {missing[0]}; {form} cannot be compared with them.")
    with np.errstate(invalid="ignore"):  # for answers that are not numbers: NaN is not within any limit
        from_torch = float(np.abs(found - kept["hf"]).max(initial=0))
        from_export = float(np.abs(found - kept[form]).max(initial=0))
    judged: Literal["from torch", "from export"] = "from export" if FORMS[form].kind == "int8" else "from torch"
    return Recheck(form, len(found), from_torch, from_export, judged, FORMS[form].limit_elsewhere)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
