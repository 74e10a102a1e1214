"""Symbolic links in folders that may come from elsewhere: nothing is written or removed through them."""

import shutil
from contextlib import suppress
from pathlib import Path

from moderation.errors import ArtifactError


def refuse_links_out(path: Path, folder: Path | None = None) -> None:
    """Refuse a file or a folder of ours that is a link out of its folder, or is reached through one.

    Args:
        path: A path with a name that this program chose; it need not exist.
        folder: The folder that the user named, which may be a link itself; None: the parent of `path`.

    Raises:
        ArtifactError: names the link.
    """
    home = path.parent if folder is None else folder
    try:
        if path.resolve().is_relative_to(home.resolve()):
            return
    except (OSError, RuntimeError):  # RuntimeError: raised by Python 3.11 and 3.12 for links in a circle
        pass
    link = next((part for part in (*reversed(path.parents), path) if home in part.parents and part.is_symlink()), path)
    raise ArtifactError(
        f"{link}: a link that leads out of {home}; nothing is written or removed through it. Remove the link, or "
        "choose another folder."
    )


def remove_folder(path: Path) -> None:
    """Remove a folder with everything in it, as far as permitted; if it is a link, remove only the link."""
    with suppress(OSError):
        if path.is_symlink():
            path.unlink()
    shutil.rmtree(path, ignore_errors=True)
