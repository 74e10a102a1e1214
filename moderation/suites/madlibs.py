"""Identity terms in templates (Dixon et al. 2018, Measuring and Mitigating Unintended Bias in Text Classification).

Three AUCs are measured per subgroup (Borkan et al. 2019, Nuanced Metrics for Measuring Unintended Bias).

Of the texts that mention a term (the subgroup) and those that do not (the background):

- subgroup AUC: bad above harmless texts, both with the term. Low: within the group, the model cannot tell them apart.
- BPSN AUC: bad texts of the background above harmless ones with the term (Background Positive, Subgroup Negative). Low:
  the term alone makes harmless texts look bad.
- BNSP AUC: bad texts with the term above harmless ones of the background (Background Negative, Subgroup Positive). Low:
  the term hides what is bad.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from moderation.bundles import Bundle
from moderation.data.cleaning import PLAIN_FORM
from moderation.data.options import TableOptions
from moderation.errors import DataError
from moderation.evaluation.probabilities import BoolArray, FloatArray
from moderation.suites.options import SuiteOptions
from moderation.suites.results import Figure, SuiteResult, Table
from moderation.suites.rows import check_groups, read_rows, read_words
from moderation.suites.scorer import Scorer, main_label
from moderation.tables.columns import show_rows
from moderation.text_tables import number

COLUMNS = ("Text", "Label", "Template")
_BAD = {"BAD": True, "NOT_BAD": False}
_SHOWN = 10

_WORDS_AROUND: dict[str, tuple[int, int] | None] = {
    "verb_adj": (1, 0),
    "am_hate_adj": (2, 0),
    "being_adj": (1, 2),
    "you_are_adj": (4, 0),
    "name_adj": (4, 0),
    "you_occupation": None,  # names an occupation, which is not an identity
}
"""Number of words before and after the term, by template; everything between them is the term, even two words."""

POWER = -5.0  # of the Jigsaw 2019 metric: the worst subgroups weigh most
MEASURES = ("subgroup_auc", "bpsn_auc", "bnsp_auc")


def find_terms(texts: pd.Series, templates: pd.Series, path: Path) -> pd.Series:
    """Find the identity term of each sentence by its template.

    Args:
        texts: The sentences.
        templates: Names of their templates.
        path: Named in an error.

    Returns:
        Terms, str; empty for sentences without one, which count as background for every term.

    Raises:
        DataError: an unknown template, or a sentence with too few words for its template, by row number.

    >>> find_terms(pd.Series(["Seeming dark blue is fine."]), pd.Series(["being_adj"]), Path("m.csv")).tolist()
    ['dark blue']
    """
    terms = [_find_term(str(text), str(template)) for text, template in zip(texts, templates, strict=True)]
    wrong = np.array([term is None for term in terms])
    if wrong.any():
        raise DataError(
            f"{path}: {wrong.sum()} sentences that match none of the templates {', '.join(_WORDS_AROUND)} "
            f"({show_rows(texts.index.to_numpy()[wrong][:6] + 1)}, counted from 1 below the header)."
        )
    return pd.Series(terms, index=texts.index, dtype="str")


def _find_term(text: str, template: str) -> str | None:
    """The term, empty if the template has none; None if the sentence does not match the template."""
    if template not in _WORDS_AROUND:
        return None
    around, words = _WORDS_AROUND[template], text.split()
    if around is None:
        return ""
    return " ".join(words[around[0] : len(words) - around[1]]) or None


@dataclass(frozen=True)
class Subgroup:
    """One term.

    Args:
        term: The identity.
        n: Texts that mention it.
        subgroup_auc: In [0, 1]; None, like the others, if one side has no text.
        bpsn_auc: In [0, 1].
        bnsp_auc: In [0, 1].
    """

    term: str
    n: int
    subgroup_auc: float | None
    bpsn_auc: float | None
    bnsp_auc: float | None

    @property
    def worst(self) -> float:
        """The lowest of the three; 1 where none is defined."""
        return min(
            (value for value in (self.subgroup_auc, self.bpsn_auc, self.bnsp_auc) if value is not None), default=1.0
        )


def measure_subgroup(term: str, inside: BoolArray, positive: BoolArray, scores: FloatArray) -> Subgroup:
    """Measure one term.

    Args:
        term: Its name.
        inside: bool `(n_texts,)`, which texts mention it.
        positive: bool `(n_texts,)`, which are bad.
        scores: `(n_texts,)`, higher for worse.
    """
    return Subgroup(
        term=term,
        n=int(inside.sum()),
        subgroup_auc=_auc(inside, positive, scores),
        bpsn_auc=_auc(inside != positive, positive, scores),
        bnsp_auc=_auc(inside == positive, positive, scores),
    )


def power_mean(values: Iterable[float], power: float = POWER) -> float:
    """The generalised mean over subgroups: (mean of value ** power) ** (1 / power).

    >>> round(power_mean([0.5, 1.0]), 4)
    0.5708
    """
    with np.errstate(divide="ignore"):  # a subgroup with AUC 0 makes it 0
        mean = np.mean(np.asarray(list(values), dtype=np.float64) ** power)
        return float(mean ** (1 / power))


@dataclass(frozen=True)
class Bias:
    """The metric of the 2019 Jigsaw challenge.

    Args:
        label: The label whose probability ranks the texts.
        overall_auc: Over all texts; None if one side has no text.
        subgroup_auc: Generalised mean over the subgroups that have it, like the next two; None without any.
        bpsn_auc: In [0, 1].
        bnsp_auc: In [0, 1].
        final_metric: Mean of these four; None unless all are defined.
        subgroups: Term by term.
    """

    label: str
    overall_auc: float | None
    subgroup_auc: float | None
    bpsn_auc: float | None
    bnsp_auc: float | None
    final_metric: float | None
    subgroups: tuple[Subgroup, ...]


def measure_bias(label: str, subgroups: Iterable[Subgroup], positive: BoolArray, scores: FloatArray) -> Bias:
    """Combine subgroups: the mean of the overall AUC and the three generalised means."""
    subgroups = tuple(subgroups)
    parts: dict[str, float | None] = {"overall_auc": _auc(np.ones(len(positive), dtype=np.bool_), positive, scores)}
    for name in MEASURES:
        values = [value for group in subgroups if (value := getattr(group, name)) is not None]
        parts[name] = power_mean(values) if values else None
    defined = [value for value in parts.values() if value is not None]
    final = float(np.mean(defined)) if len(defined) == len(parts) else None
    return Bias(label, **parts, final_metric=final, subgroups=subgroups)


def _auc(rows: BoolArray, positive: BoolArray, scores: FloatArray) -> float | None:
    chosen = positive[rows]
    both = chosen.any() and not chosen.all()
    return float(roc_auc_score(chosen, scores[rows])) if both else None


def read_madlibs(path: Path, bundle: Bundle, form: TableOptions = PLAIN_FORM) -> pd.DataFrame:
    """Read `bias_madlibs_77k.csv` or a similar file: `Text`, `Label` (BAD, NOT_BAD), `Template`.

    Raises:
        DataError: other columns, labels, templates or sentences.
    """
    frame = read_rows(path, COLUMNS, "Text", form)
    terms = find_terms(frame["Text"], frame["Template"], path)
    return check_groups(frame.assign(bad=read_words(frame, "Label", _BAD, path), term=terms), ["term"], path)


def measure_madlibs(frame: pd.DataFrame, scorer: Scorer, options: SuiteOptions) -> SuiteResult:
    """Measure the three AUCs of every identity term, and the metric of the 2019 Jigsaw challenge.

    There are no intervals: the sentences are everything that the templates give, not a sample.
    """
    place = main_label(scorer.labels)
    scores = scorer.read(frame["Text"], "madlibs")[:, place]
    bad = frame["bad"].to_numpy(dtype=bool)
    terms = frame["term"].to_numpy(dtype=object)
    groups = [measure_subgroup(term, terms == term, bad, scores) for term in sorted(set(terms) - {""})]
    groups.sort(key=lambda group: group.worst)
    numbers = measure_bias(scorer.labels[place], groups, bad, scores)
    worst = min(
        (group for group in groups if group.bpsn_auc is not None), key=lambda group: group.bpsn_auc or 0, default=None
    )
    rows: list[tuple[str, ...]] = [
        (group.term, f"{group.n:,}", number(group.subgroup_auc), number(group.bpsn_auc), number(group.bnsp_auc))
        for group in groups[:_SHOWN]
    ]
    rows += [("generalised mean", "", *map(number, (numbers.subgroup_auc, numbers.bpsn_auc, numbers.bnsp_auc)))]
    note = f"The {_SHOWN} worst of {len(groups)} terms by the lowest of the three; the others are in the JSON file."
    return SuiteResult(
        n_rows=len(frame),
        figures=(
            Figure("BPSN AUC, worst term", worst.bpsn_auc if worst else None, detail=worst.term if worst else ""),
            Figure("Jigsaw 2019 bias metric", numbers.final_metric),
            Figure("ROC-AUC, overall", numbers.overall_auc),
        ),
        tables=(
            Table("Identity terms", ("term", "sentences", "subgroup AUC", "BPSN AUC", "BNSP AUC"), tuple(rows), note),
        ),
        numbers=numbers,
        notes=(f"Sentences are ranked by the probability of the label {numbers.label}.",),
    )
