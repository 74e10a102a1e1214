"""The battery as one self-contained page: no script, no request, no text of a suite."""

from pathlib import Path

from moderation.battery.results import Battery
from moderation.battery.summary import HEADER, describe, summarise, title
from moderation.evaluation.pages import render

_TEMPLATE = Path(__file__).with_name("page.html")


def render_page(battery: Battery) -> str:
    """Write the page."""
    values = {"header": HEADER, "summary": summarise(battery), "description": describe(battery), "title": title}
    return render(_TEMPLATE, {"battery": battery} | values)
