"""Symbolic links in folders that may come from elsewhere: nothing is written or removed through them."""

import shutil
from contextlib import suppress
from pathlib import Path

from moderation.errors import ArtifactError


def refuse_links_out(path: Path, folder: Path | None = None) -> None:
    """Refuse a file or a folder of ours that is, or lies behind, a link out of the folder that it belongs to.

    Args:
        path: With a name that this program chose; it need not exist.
        folder: With a name that the user chose, itself a link perhaps; None: the one that `path` names.

    Raises:
        ArtifactError: names the link.
    """
    home = path.parent if folder is None else folder
    try:
        if path.resolve().is_relative_to(home.resolve()):
            return
    except (OSError, RuntimeError):  # RuntimeError: Python 3.11 and 3.12 say so of links in a circle
        pass
    link = next((part for part in (*reversed(path.parents), path) if home in part.parents and part.is_symlink()), path)
    raise ArtifactError(
        f"{link}: a link that leads out of {home}; nothing is written, or removed, through it. Remove the link, or "
        "choose another folder."
    )


def remove_folder(path: Path) -> None:
    """Remove a folder with all that it holds, as far as that may be; of a link only the link."""
    with suppress(OSError):
        if path.is_symlink():
            path.unlink()
    shutil.rmtree(path, ignore_errors=True)
