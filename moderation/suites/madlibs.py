"""Identity terms in templates (Dixon et al. 2018, Measuring and Mitigating Unintended Bias in Text Classification)."""

from pathlib import Path

import numpy as np
import pandas as pd

from moderation.bundles import Bundle
from moderation.data.cleaning import PLAIN_FORM
from moderation.data.options import TableOptions
from moderation.errors import DataError
from moderation.suites.results import Figure, Options, SuiteResult, Table
from moderation.suites.rows import check_groups, read_rows, read_words
from moderation.suites.rules import main_label
from moderation.suites.scorer import Scorer
from moderation.suites.subgroups import measure_subgroup, summarise
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
    "you_occupation": None,  # names an occupation, which is no identity
}
"""Words in front of the term and behind it, by template; all that stands between them is the term, also two words."""


def find_terms(texts: pd.Series, templates: pd.Series, path: Path) -> pd.Series:
    """Find the identity term of each sentence by its template.

    Args:
        texts: The sentences.
        templates: Names of their templates.
        path: Named in an error.

    Returns:
        Terms, str; empty for sentences without one, which count as background for every term.

    Raises:
        DataError: a template that is not known, or a sentence with too few words for it, by row number.

    >>> find_terms(pd.Series(["Seeming dark blue is fine."]), pd.Series(["being_adj"]), Path("m.csv")).tolist()
    ['dark blue']
    """
    terms = [_find_term(str(text), str(template)) for text, template in zip(texts, templates, strict=True)]
    wrong = np.array([term is None for term in terms])
    if wrong.any():
        raise DataError(
            f"{path}: {wrong.sum()} sentences that are of none of the templates {', '.join(_WORDS_AROUND)} "
            f"({show_rows(texts.index.to_numpy()[wrong][:6] + 1)}, counted from 1 below the header)."
        )
    return pd.Series(terms, index=texts.index, dtype="str")


def _find_term(text: str, template: str) -> str | None:
    """The term, empty where the template has none; None where the sentence is not of it."""
    if template not in _WORDS_AROUND:
        return None
    around, words = _WORDS_AROUND[template], text.split()
    if around is None:
        return ""
    return " ".join(words[around[0] : len(words) - around[1]]) or None


def read_madlibs(path: Path, bundle: Bundle, form: TableOptions = PLAIN_FORM) -> pd.DataFrame:
    """Read `bias_madlibs_77k.csv` or its like: `Text`, `Label` (BAD, NOT_BAD), `Template`.

    Raises:
        DataError: other columns, labels, templates or sentences.
    """
    frame = read_rows(path, COLUMNS, "Text", form)
    terms = find_terms(frame["Text"], frame["Template"], path)
    return check_groups(frame.assign(bad=read_words(frame, "Label", _BAD, path), term=terms), ["term"], path)


def measure_madlibs(frame: pd.DataFrame, scorer: Scorer, options: Options) -> SuiteResult:
    """Measure the three AUCs of every identity term, and the metric of the Jigsaw challenge of 2019.

    There are no intervals: the sentences are all that the templates give, and no sample of anything.
    """
    place = main_label(scorer.labels)
    scores = scorer.read(frame["Text"], "madlibs")[:, place]
    bad = frame["bad"].to_numpy(dtype=bool)
    terms = frame["term"].to_numpy(dtype=object)
    groups = [measure_subgroup(term, terms == term, bad, scores) for term in sorted(set(terms) - {""})]
    groups.sort(key=lambda group: group.worst)
    numbers = {"label": scorer.labels[place]} | summarise(groups, bad, scores)
    worst = min(
        (group for group in groups if group.bpsn_auc is not None), key=lambda group: group.bpsn_auc or 0, default=None
    )
    rows: list[tuple[str, ...]] = [
        (group.term, f"{group.n:,}", number(group.subgroup_auc), number(group.bpsn_auc), number(group.bnsp_auc))
        for group in groups[:_SHOWN]
    ]
    rows += [("generalised mean", "", *(number(numbers[name]) for name in ("subgroup_auc", "bpsn_auc", "bnsp_auc")))]
    note = f"The {_SHOWN} worst of {len(groups)} terms by the lowest of the three; the others are in the JSON file."
    return SuiteResult(
        n_rows=len(frame),
        figures=(
            Figure("BPSN AUC, worst term", worst.bpsn_auc if worst else None, detail=worst.term if worst else ""),
            Figure("Jigsaw 2019 bias metric", numbers["final_metric"]),
            Figure("ROC-AUC, overall", numbers["overall_auc"]),
        ),
        tables=(
            Table("Identity terms", ("term", "sentences", "subgroup AUC", "BPSN AUC", "BNSP AUC"), tuple(rows), note),
        ),
        numbers=numbers,
        notes=(f"Sentences are ranked by the probability of the label {numbers['label']}.",),
    )
