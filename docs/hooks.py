"""What mkdocs does in addition to copying.

Notebooks and the help of the commands become pages; links to files outside this folder lead to the repository.
"""

import json
import re
import sys
import tomllib
from pathlib import Path
from posixpath import dirname, normpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FILES = f"{PROJECT['urls']['Repository']}/blob/main/"
LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)#\s]+)")
FOREIGN = re.compile(r"<(?:link|script|img|iframe|source)\b(?![^>]*rel=.?canonical)[^>]*(?:src|href)=.?https?:[^>]*>")
FENCED = re.compile(r"^(```.*?^```\n?)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add generated pages: one for every notebook, next to the notebook itself, and one for the commands."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            notebook = json.loads(Path(str(file.abs_src_path)).read_text(encoding="utf-8"))
            text = "\n\n".join(map(show_cell, notebook["cells"]))
            files.append(File.generated(config, file.src_uri.replace(".ipynb", ".md"), content=text))
    files.append(File.generated(config, "commands.md", content=show_commands()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files that have no page lead to the repository, and links to notebooks to their pages."""
    folder = dirname(page.file.src_uri)

    def find(match: re.Match[str]) -> str:
        start, target = match.groups()
        if target.endswith(".ipynb"):
            return start + target.replace(".ipynb", ".md")
        path = normpath(f"docs/{folder}/{target}")
        if path.startswith("docs/") or not (ROOT / path).exists():
            return start + target  # mkdocs checks these
        return start + FILES + path

    parts = FENCED.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(find, part) for part in parts)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a page that loads anything from another host."""
    for path in Path(config.site_dir).rglob("*.html"):
        if found := FOREIGN.search(path.read_text(encoding="utf-8")):
            raise PluginError(f"{path}: loads something from elsewhere: {found.group()}")


def show_cell(cell: dict[str, Any]) -> str:
    """A cell of a notebook as Markdown, with what it printed."""
    text = "".join(cell["source"])
    if cell["cell_type"] != "code":
        return text
    language = "python"
    if text.startswith("%%bash\n"):
        language, text = "sh", text.removeprefix("%%bash\n")
    printed = "".join("".join(output.get("text", [])) for output in cell["outputs"])
    shown = f"```{language}\n{text}\n```"
    return shown if not printed else f"{shown}\n\n```text\n{printed.rstrip()}\n```"


def show_commands() -> str:
    """The help of every command, as the parser gives it."""
    sys.path.insert(0, str(ROOT))
    from moderation import cli

    parser = cli.build_parser()
    verbs = next(action.choices for action in parser._actions if isinstance(action.choices, dict))
    lines = [
        "# Commands",
        f"What `--help` prints. `moderation` without a command lists them all:\n\n```text\n{parser.format_help()}```",
    ]
    lines += [f"## moderation {verb}\n\n```text\n{sub.format_help()}```" for verb, sub in verbs.items()]
    return "\n\n".join(lines)
