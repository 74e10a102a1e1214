"""Self-contained HTML pages from templates: no script, no request, every value escaped."""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path

from moderation.text_tables import interval, number


def render(
    template: Path, values: Mapping[str, object], filters: Mapping[str, Callable[..., str]] | None = None
) -> str:
    r"""Fill in a template; it may include `tables.css`, the style of pages that are mostly tables.

    If a file's name is not UTF-8, the page shows each invalid byte as its escape, such as `\udce9`.

    Args:
        template: A jinja2 file; every value that it names must exist.
        values: The values for it.
        filters: In addition to, or instead of, `number` and `interval`.

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
    """A picture as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"
