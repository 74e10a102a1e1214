"""The battery as one self-contained page: no script, no request, no text of a suite."""

from pathlib import Path

from moderation.battery.results import Battery
from moderation.battery.summary import HEADER, describe, summarise, title

_TEMPLATE = Path(__file__).with_name("page.html")


def render_page(battery: Battery) -> str:
    """Write the page."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        battery=battery, header=HEADER, summary=summarise(battery), description=describe(battery), title=title
    )
