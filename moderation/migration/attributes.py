"""Each attribute with old scores and a label -> its matches, and the comments that change most."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from moderation.errors import ConfigError, DataError
from moderation.evaluation.probabilities import FloatArray, predict
from moderation.migration.matching import FloatValues, Match, match_agreement, match_rate
from moderation.migration.old_scores import OldScores
from moderation.migration.options import Basis, MatchOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """A comment whose decision changes.

    Args:
        row: Its row number in the table, from 1.
        old_score: Perspective's.
        probability: This model's.
        flagged: Whether it is flagged now; before, the decision was the opposite.
    """

    row: int
    old_score: float
    probability: float
    flagged: bool


@dataclass(frozen=True)
class Attribute:
    """The new threshold for one attribute.

    Args:
        name: Perspective's.
        label: The model's label that replaces it.
        old_threshold: Flagged before if `old score >= old_threshold`.
        n: Comments with an old score.
        n_old: Of those, how many were flagged.
        rank_correlation: Spearman's, of old scores and probabilities; None if one of them is constant.
        by_rate: The threshold that flags as many comments.
        by_agreement: The threshold that agrees best.
        basis: Which of the two is used.
        changes: The comments whose decision `taken` changes, those whose rank moves most first.
        old_scores: float64 `(n,)`.
        probabilities: float32 `(n,)`.
    """

    name: str
    label: str
    old_threshold: float
    n: int
    n_old: int
    rank_correlation: float | None
    by_rate: Match
    by_agreement: Match
    basis: Basis
    changes: tuple[Change, ...]
    old_scores: FloatValues
    probabilities: FloatArray

    @property
    def taken(self) -> Match:
        """The match whose threshold goes into the file."""
        return self.by_rate if self.basis == "rate" else self.by_agreement


def match_attributes(
    old: OldScores,
    probabilities: FloatArray,
    labels: Sequence[str],
    attributes: Mapping[str, str],
    options: MatchOptions,
) -> list[Attribute]:
    """Match every attribute for which the model has a label.

    Args:
        old: Comments with their old scores.
        probabilities: float32 `(n, n_labels)`, of the same comments.
        labels: Order of the columns.
        attributes: Attribute -> label.
        options: How to match.

    Returns:
        One for each attribute, in the order of the table. An attribute is left out, with a warning, if it has no label
        here, or if its old threshold flagged no comment or every comment.

    Raises:
        ConfigError: an old threshold for an attribute that has no old scores.
        DataError: no attribute can be matched.
    """
    thresholds = options.old_thresholds
    unknown = [name for name in thresholds if name and name not in old.scores]
    if unknown:
        raise ConfigError(
            f"--old-threshold: no old scores for {', '.join(unknown)}; there are {', '.join(old.scores)}."
        )
    matched: list[Attribute] = []
    for name, scores in old.scores.items():
        taken = next((one.name for one in matched if one.label == attributes.get(name)), None)
        if taken is not None:
            logger.warning("%s: has the same label as %s, whose threshold is used.", name, taken)
            continue
        if name not in attributes:
            logger.warning("%s: the model has no label for it, so nothing replaces it.", name)
            continue
        threshold = thresholds.get(name, thresholds[""])
        here = ~np.isnan(scores)
        n_old = int((scores[here] >= threshold).sum())
        if not 0 < n_old < int(here.sum()):
            logger.warning(
                "%s: the old threshold %g flagged %s of its %d comments, so it cannot be matched. Add comments, or set "
                "the threshold that you used for this attribute: --old-threshold %s=NUMBER",
                *(name, threshold, "all" if n_old else "none", here.sum(), name),
            )
            continue
        label = attributes[name]
        column = probabilities[here, list(labels).index(label)]
        matched.append(_match(name, label, threshold, old.rows[here], scores[here], column, options))
    if not matched:
        raise DataError(
            "No attribute could be matched. An attribute needs a matching label of this model, and comments both below "
            "its old threshold and at or above it."
        )
    return matched


def _match(
    name: str,
    label: str,
    threshold: float,
    rows: npt.NDArray[np.int64],
    scores: FloatValues,
    probabilities: FloatArray,
    options: MatchOptions,
) -> Attribute:
    flagged = scores >= threshold
    by_rate = match_rate(probabilities, flagged, samples=options.bootstrap, seed=options.seed)
    by_agreement = match_agreement(probabilities, flagged, samples=options.bootstrap, seed=options.seed)
    taken = by_rate if options.match == "rate" else by_agreement
    new = predict(probabilities, taken.threshold)
    ranks = [pd.Series(values).rank(pct=True).to_numpy() for values in (scores, probabilities)]
    moved = np.abs(ranks[0] - ranks[1])
    changed = np.flatnonzero(new != flagged)
    order = changed[np.argsort(-moved[changed], kind="stable")][: options.changes]
    return Attribute(
        name=name,
        label=label,
        old_threshold=threshold,
        n=len(scores),
        n_old=int(flagged.sum()),
        rank_correlation=_correlation(ranks[0], ranks[1]),
        by_rate=by_rate,
        by_agreement=by_agreement,
        basis=options.match,
        changes=tuple(Change(int(rows[i]), float(scores[i]), float(probabilities[i]), bool(new[i])) for i in order),
        old_scores=scores,
        probabilities=probabilities,
    )


def _correlation(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> float | None:
    """Pearson's correlation of ranks, which is Spearman's."""
    if not (one.std() and other.std()):
        return None
    return float(np.corrcoef(one, other)[0, 1])
