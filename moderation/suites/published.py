"""Figures that others published for the same suites, each with its source, and why it may not be compared."""

from dataclasses import dataclass

from moderation.suites.results import MeasuredSuite

_HATECHECK = "Röttger et al. 2021, HateCheck: Functional Tests for Hate Speech Detection Models"
_SPANS = "Zhu et al. 2021, HITSZ-HLT at SemEval-2021 Task 5; of 91 entries the first"
_OFFICIAL = "measured on the challenge's official test set, here on another split"


@dataclass(frozen=True)
class Published:
    """A published figure.

    Args:
        kind: Of the suite.
        measure: Name of the figure, as in `results.Figure`.
        system: The system that reached it.
        value: In the figure's unit.
        source: Where it was published.
        obstacle: Why it is not comparable; empty if it is.
        n_rows: Number of rows on which it was measured; with another number it is not comparable. None: not checked.
    """

    kind: str
    measure: str
    system: str
    value: float
    source: str
    obstacle: str = ""
    n_rows: int | None = None

    def why_not(self, suite: MeasuredSuite) -> str:
        """Why this figure cannot be compared with the measured one; empty if it can."""
        if self.obstacle:
            return self.obstacle
        if self.n_rows is not None and suite.result.n_rows != self.n_rows:
            return f"measured on {self.n_rows:,} rows, here {suite.result.n_rows:,}"
        return ""


PUBLISHED: tuple[Published, ...] = (
    Published("hatecheck", "accuracy, hateful cases", "Perspective", 0.895, _HATECHECK, n_rows=3728),
    Published("hatecheck", "accuracy, non-hateful cases", "Perspective", 0.482, _HATECHECK, n_rows=3728),
    Published("hatecheck", "macro-F1", "Perspective", 0.702, _HATECHECK, n_rows=3728),
    Published(
        "toxic-spans",
        "character F1, flagged words",
        "first of the task",
        0.7083,
        _SPANS,
        "trained on marked words, measured on the 2,000 posts of the test file",
    ),
    Published(
        "jigsaw", "mean ROC-AUC", "first of the challenge", 0.9886, "Kaggle, private leaderboard, 2018", _OFFICIAL
    ),
    Published("jigsaw", "mean ROC-AUC", "Detoxify original", 0.9864, "Detoxify's README", _OFFICIAL),
    Published(
        "jigsaw-multilingual",
        "ROC-AUC, all languages",
        "first of the challenge",
        0.9536,
        "Kaggle, private leaderboard, 2020",
        "measured on the official test set, in six languages, with training data in them",
    ),
)


def published_beside(suite: MeasuredSuite, measure: str) -> list[tuple[Published, str]]:
    """The published figures for one of a suite's, each with why it is not comparable (empty if it is).

    Empty for a table that is not by the suite's authors: figures for other data say nothing about it.
    """
    if not suite.of_authors:
        return []
    return [
        (entry, entry.why_not(suite)) for entry in PUBLISHED if (entry.kind, entry.measure) == (suite.kind, measure)
    ]
