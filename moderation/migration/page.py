"""A migration as one self-contained page: no script, no request, no text of a comment."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from moderation.evaluation.probabilities import predict
from moderation.migration.attributes import Attribute
from moderation.migration.summary import Migration
from moderation.report.pages import embed_png, render
from moderation.report.style import BLUE, GREY, ORANGE, new_grid, to_png

_TEMPLATE = Path(__file__).with_name("page.html")
_MOST_POINTS = 3000  # of each colour in a panel; more would only make it darker


def render_page(migration: Migration) -> str:
    """Write the page."""
    picture = embed_png(draw_scores(migration.attributes)) if migration.attributes else None
    return render(_TEMPLATE, {"migration": migration, "picture": picture})


def draw_scores(attributes: Sequence[Attribute]) -> bytes:
    """One panel per attribute: a dot for each comment, with old score (x), probability (y) and both thresholds.

    Returns:
        A PNG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    titles = [f"{one.name} → {one.label}" for one in attributes]
    figure, panels = new_grid(titles, "Old score", "Probability", height=2.45)
    for one, panel in zip(attributes, panels, strict=True):
        same = (one.old_scores >= one.old_threshold) == predict(one.probabilities, one.taken.threshold)
        for mask, colour in ((same, BLUE), (~same, ORANGE)):
            places = np.flatnonzero(mask)
            shown = places[:: max(1, -(-len(places) // _MOST_POINTS))]
            x, y = one.old_scores[shown], one.probabilities[shown]
            panel.plot(x, y, ".", color=colour, markersize=4, alpha=0.5, markeredgewidth=0)
        panel.axvline(one.old_threshold, color=GREY, linewidth=1, linestyle=":")
        panel.axhline(one.taken.threshold, color=GREY, linewidth=1, linestyle=":")
    return to_png(figure)
