"""Bias by identity (Borkan et al. 2019, Nuanced Metrics for Measuring Unintended Bias): three AUCs a subgroup.

Of the texts that mention a term (the subgroup) and those that do not (the background):

- subgroup AUC: bad above harmless texts, both with the term. Low: within the group, the model cannot tell them apart.
- BPSN AUC: bad texts of the background above harmless ones with the term (Background Positive, Subgroup Negative). Low:
  the term alone makes harmless texts look bad.
- BNSP AUC: bad texts with the term above harmless ones of the background (Background Negative, Subgroup Positive). Low:
  the term hides what is bad.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from moderation.evaluation.probabilities import BoolArray, FloatArray

POWER = -5.0  # of the Jigsaw 2019 metric: the worst subgroups weigh most
MEASURES = ("subgroup_auc", "bpsn_auc", "bnsp_auc")


@dataclass(frozen=True)
class Subgroup:
    """One term.

    Args:
        term: The identity.
        n: Texts that mention it.
        subgroup_auc: In [0, 1]; None, as the others, where one side has no text.
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


def summarise(subgroups: Iterable[Subgroup], positive: BoolArray, scores: FloatArray) -> dict[str, Any]:
    """The metric of the Jigsaw challenge of 2019: a quarter each of overall AUC and the three generalised means.

    Returns:
        `overall_auc`, the mean of each of `MEASURES` (None where no subgroup defines it), `final_metric` (None unless
        all four are defined), `subgroups`.
    """
    subgroups = list(subgroups)
    parts: dict[str, float | None] = {"overall_auc": _auc(np.ones(len(positive), dtype=np.bool_), positive, scores)}
    for name in MEASURES:
        values = [value for group in subgroups if (value := getattr(group, name)) is not None]
        parts[name] = power_mean(values) if values else None
    defined = [value for value in parts.values() if value is not None]
    final = float(np.mean(defined)) if len(defined) == len(parts) else None
    return parts | {"final_metric": final, "subgroups": [asdict(group) for group in subgroups]}


def _auc(rows: BoolArray, positive: BoolArray, scores: npt.NDArray[Any]) -> float | None:
    chosen = positive[rows]
    both = chosen.any() and not chosen.all()
    return float(roc_auc_score(chosen, scores[rows])) if both else None
