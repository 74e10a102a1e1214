"""Self-contained pages for people: no script, no request, every value escaped."""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moderation.evaluation.tables import interval, number


def render(template: Path, values: Mapping[str, Any], filters: Mapping[str, Callable[..., str]] | None = None) -> str:
    r"""Fill in a template; it may include `tables.css`, the style of pages that are mostly tables.

    Of a file's name that is not UTF-8 the page shows each foreign byte as its escape, as in `\udce9`.

    Args:
        template: A file of jinja2, which must find every value that it names.
        values: For it.
        filters: Beside, or in place of, `number` and `interval`.

    Raises:
        ImportError: jinja2 is not installed.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "interval": interval, **(filters or {})}
    page = environment.get_template(template.name).render(values)
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def embed_png(picture: bytes) -> str:
    """A picture as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"
