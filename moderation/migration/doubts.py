"""What makes thresholds doubtful: few flags, decisions that hardly agree, a language unknown to the model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moderation.data.languages import Languages
from moderation.language_codes import UNDETERMINED, same_language
from moderation.migration.attributes import Attribute
from moderation.migration.matching import Match
from moderation.migration.old_scores import OldScores

_FEW = 30  # with fewer flags an interval means little
_POOR = 0.4  # kappa; Landis & Koch 1977 call higher values "moderate"
_FOREIGN = 0.2  # share of the comments
_LOOKED_AT = 2_000  # comments whose language is detected: enough to notice 20 % in another one
_FALSE_ALARMS = 0.1  # share of the comments without a label; flagging a tenth of those is too much


def find_doubts(old: OldScores, attributes: Sequence[Attribute], rates: Mapping[str, Match]) -> list[str]:
    """Warnings about thresholds: too few flags, old and new decisions that hardly agree, rows without a score."""
    doubts = []
    for one in attributes:
        if one.n_old < _FEW:
            doubts.append(
                f"{one.name}: only {one.n_old} comments were flagged before, so its threshold is a guess. {_FEW} or "
                "more are enough; the interval shows how far off the threshold may be."
            )
        kappa = one.by_agreement.kappa or 0.0
        if kappa < _POOR:
            doubts.append(
                f"{one.name}: old and new decisions hardly agree (kappa {kappa:.2f} at best). Do the scores belong to "
                "these comments, and are the texts in the model's language?"
            )
        n_without = len(old.texts) - one.n
        if n_without:
            doubts.append(
                f"{one.name}: {n_without:,} of {len(old.texts):,} comments have no old score and are left out."
            )
    doubts += [
        f"{label}: only {match.n_flagged} comments reach its threshold, so it is a guess."
        for label, match in rates.items()
        if match.n_flagged < _FEW
    ]
    return doubts


def find_foreign(texts: Sequence[str], languages: Languages, trained_on: Sequence[str], seed: int) -> list[str]:
    """A warning if a fifth or more of the comments are in languages that the model was not trained on.

    Args:
        texts: Of all comments; of many, a sample is examined.
        languages: Detects the language of a text, as `moderation score` does.
        trained_on: Languages of the model; empty: not known, so there is no warning.
        seed: Of the sample.
    """
    if not trained_on or not texts:
        return []
    n = min(len(texts), _LOOKED_AT)
    sample = np.random.default_rng(seed).choice(len(texts), n, replace=False)
    found = Counter(map(languages.detect, (texts[place] for place in sample)))
    foreign = Counter(
        {
            code: count
            for code, count in found.items()
            if code != UNDETERMINED and not any(same_language(code, known) for known in trained_on)
        }
    )
    if foreign.total() < _FOREIGN * n:
        return []
    most = ", ".join(f"{code} {count:,}" for code, count in foreign.most_common(4))
    return [
        f"{foreign.total():,} of {n:,} sampled comments are in languages that the model was not trained on ({most}); "
        f"it was trained on {', '.join(trained_on)}. Thresholds found on such comments mean almost nothing. Leave them "
        "out, or use a model for their language."
    ]


def find_low(thresholds: Mapping[str, float], curves: Any) -> list[str]:
    """Warnings about thresholds that would flag a tenth or more of the model's harmless validation comments.

    Args:
        thresholds: Label -> the threshold that was found.
        curves: The bundle's precision and recall over thresholds on its validation split; without them, or without a
            label's, there is no warning.
    """
    doubts = []
    for label, threshold in thresholds.items():
        share = _false_alarms(threshold, label, curves)
        if share is not None and share >= _FALSE_ALARMS:
            doubts.append(
                f"{label}: a threshold of {threshold:.2g} is very low for this model. It would flag {share:.0%} of its "
                "validation comments without that label, and about as many of your harmless ones if they are similar."
            )
    return doubts


def _false_alarms(threshold: float, label: str, curves: Any) -> float | None:
    """Lower bound of the share of the validation comments without a label that a threshold flags."""
    try:
        curve = curves["labels"][label]
        share_without = 1 - curve["n_positives"] / curves["n_examples"]
        points = zip(curve["threshold"], curve["precision"], curve["flagged"], strict=True)
        precision, flagged = next((precision, flagged) for at, precision, flagged in points if at >= threshold)
        return None if precision is None else float(flagged * (1 - precision) / share_without)
    except (KeyError, TypeError, ValueError, StopIteration, ZeroDivisionError):  # in a bundle that somebody else made
        return None
