"""What makes thresholds doubtful: few flags, decisions that hardly agree, a language that the model does not read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moderation.data.languages import UNDETERMINED, Languages, same_language
from moderation.migration.attributes import Attribute
from moderation.migration.matching import Match
from moderation.migration.old_scores import OldScores

_FEW = 30  # flags below which an interval is hardly worth its name
_POOR = 0.4  # kappa; Landis & Koch 1977 call what is above "moderate"
_FOREIGN = 0.2  # share of the comments
_LOOKED_AT = 2_000  # comments whose language is asked for; of 20 % in another one, chance would hide few
_FALSE_ALARMS = 0.1  # share of the comments without a label; a tenth of all that is harmless is no threshold to serve


def find_doubts(old: OldScores, attributes: Sequence[Attribute], rates: Mapping[str, Match]) -> list[str]:
    """What makes thresholds doubtful: too few flags, old and new that hardly agree, rows without a score."""
    doubts = []
    for one in attributes:
        if one.n_old < _FEW:
            doubts.append(
                f"{one.name}: only {one.n_old} comments were flagged before, so that its threshold is a guess. "
                f"{_FEW} or more would do; its interval says how much it may be off."
            )
        kappa = one.by_agreement.kappa or 0.0
        if kappa < _POOR:
            doubts.append(
                f"{one.name}: old and new decisions hardly agree (kappa {kappa:.2f} at best). Are "
                "the scores those of these comments, and is the text in the language of the model?"
            )
        n_without = len(old.texts) - one.n
        if n_without:
            doubts.append(
                f"{one.name}: {n_without:,} of {len(old.texts):,} comments have no old score and are left out."
            )
    doubts += [
        f"{label}: {match.n_flagged} comments reach its threshold, so that it is a guess."
        for label, match in rates.items()
        if match.n_flagged < _FEW
    ]
    return doubts


def find_foreign(texts: Sequence[str], languages: Languages, trained_on: Sequence[str], seed: int) -> list[str]:
    """Say it where a fifth of the comments, or more, are in languages that the model was not trained on.

    Args:
        texts: Of all comments; of many a sample is looked at.
        languages: Tells the language of one, by the rule of `moderation score`.
        trained_on: Languages of the model; none: nothing is known of them, and nothing is said.
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
        f"{foreign.total():,} of {n:,} comments looked at are in languages that the model was not trained on ({most}); "
        f"it reads {', '.join(trained_on)}. Thresholds found on such comments mean next to nothing. Leave them out, or "
        "take a model of their language."
    ]


def find_low(thresholds: Mapping[str, float], curves: Any) -> list[str]:
    """Say it where a threshold would flag a tenth, or more, of the model's harmless validation comments.

    Args:
        thresholds: Label -> the threshold that was found.
        curves: What the bundle says of other thresholds on its validation split; None, or none of a label: nothing is
            known, and nothing is said.
    """
    doubts = []
    for label, threshold in thresholds.items():
        share = _false_alarms(threshold, label, curves)
        if share is not None and share >= _FALSE_ALARMS:
            doubts.append(
                f"{label}: a threshold of {threshold:.2g} is very low for this model. Of its validation comments "
                f"without that label it would flag {share:.0%}, and of your harmless ones as many if they are alike."
            )
    return doubts


def _false_alarms(threshold: float, label: str, curves: Any) -> float | None:
    """At least so large a share of the validation comments without a label is flagged at a threshold."""
    try:
        curve = curves["labels"][label]
        share_without = 1 - curve["n_positives"] / curves["n_examples"]
        points = zip(curve["threshold"], curve["precision"], curve["flagged"], strict=True)
        precision, flagged = next((precision, flagged) for at, precision, flagged in points if at >= threshold)
        return None if precision is None else float(flagged * (1 - precision) / share_without)
    except (KeyError, TypeError, ValueError, StopIteration, ZeroDivisionError):  # of a bundle that somebody else made
        return None
