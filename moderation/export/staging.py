"""Builds a bundle in a temporary folder, and moves it into place when it is complete.

A folder cannot be replaced in one step: the old bundle is moved aside first. A kill between the two steps leaves it
there, under a name that ends in `.old`, and the next export restores it. An export holds the target's lock meanwhile.
"""

import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moderation.artifacts import sync
from moderation.bundles import find_foreign, read_bundle
from moderation.errors import ArtifactError
from moderation.escapes import escape_name
from moderation.manifests import MANIFEST

logger = logging.getLogger(__name__)

_GROWING, _FORMER = ".tmp", ".old"


@contextmanager
def staged_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a new folder next to `target`; it becomes `target` when the block ends without an error.

    Args:
        target: Folder of the bundle.
        overwrite: Replace an existing bundle.

    Raises:
        ArtifactError: something exists there that may not be replaced, or the folder cannot be written; what was there
            before is unchanged.
    """
    check_target(target, overwrite=overwrite)
    target = Path(os.path.realpath(target))  # a link's target, so that the link itself stays
    mark = uuid.uuid4().hex[:12]  # process ids are not unique on a volume shared by several machines
    staging = target.with_name(f".{target.name}.{mark}{_GROWING}")
    former = target.with_name(f".{target.name}.{mark}{_FORMER}")
    try:
        staging.mkdir(parents=True)
        yield staging
        for path in (*staging.rglob("*"), staging):
            if os.name == "posix" or path.is_file():  # elsewhere a folder cannot be opened
                sync(path)
        check_target(target, overwrite=overwrite)  # again: files may have been added during the export
        if target.exists():
            target.rename(former)
        staging.rename(target)
        if os.name == "posix":
            sync(target.parent)
    except OSError as error:
        raise ArtifactError(
            f"{target}: could not be written ({error.strerror or type(error).__name__}). What was there before is "
            "unchanged. Free some space, or choose a writable folder."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if former.exists() and not target.exists():  # it failed between the two renames
            former.rename(target)
        if target.exists():
            shutil.rmtree(former, ignore_errors=True)


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a folder that a bundle may not replace.

    Raises:
        ArtifactError: it holds something else (perhaps next to a bundle), or a bundle that must not be replaced.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / MANIFEST).is_file():
        raise ArtifactError(
            f"{target}: holds something that is not a bundle, so export will not replace it. Choose another --to."
        )
    if not overwrite:
        raise ArtifactError(f"{target}: already holds a bundle. Choose another --to, or pass --overwrite.")
    try:
        foreign = find_foreign(read_bundle(target))
    except ArtifactError as error:
        raise ArtifactError(
            f"{error}\nSo it is not known which files are the bundle's, and export will not replace any. Move the "
            "folder away, or choose another --to."
        ) from error
    if foreign:
        named = ", ".join(map(escape_name, foreign[:10])) + (f" and {len(foreign) - 10} more" if foreign[10:] else "")
        raise ArtifactError(
            f"{target}: holds files that are not part of the bundle, and --overwrite would remove them: {named}. Move "
            "them away, or choose another --to."
        )


def recover_target(target: Path) -> None:
    """Restore a bundle that a killed export moved aside, and remove other leftovers of killed exports.

    Args:
        target: Locked by the caller: this would harm an export in progress.

    Raises:
        ArtifactError: the bundle could not be restored.
    """
    target = Path(os.path.realpath(target))
    if not target.parent.is_dir():
        return
    _put_back(target)
    endings = (_GROWING, _FORMER) if (target / MANIFEST).is_file() else (_GROWING,)
    for ending in endings:
        for path in _left_behind(target, ending):
            shutil.rmtree(path, ignore_errors=True)


def _left_behind(target: Path, ending: str) -> list[Path]:
    """Folders that an export made next to the target."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{12}}{re.escape(ending)}", re.DOTALL)
    found = (path for path in target.parent.iterdir() if name.fullmatch(path.name))
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def _put_back(target: Path) -> None:
    """Rename the bundle that a killed export moved aside back to the target, if nothing is there now."""
    left = [path for path in _left_behind(target, _FORMER) if (path / MANIFEST).is_file()]
    if target.exists() or not left:
        return
    newest = max(left, key=lambda path: path.stat().st_ctime)
    try:
        newest.rename(target)
    except OSError as error:
        raise ArtifactError(
            f"{newest}: an export moved this bundle aside before it was killed; it could not be restored "
            f"({error.strerror}). Move it to {target.name} manually."
        ) from error
    logger.warning("%s: an export was killed while it replaced this bundle; the bundle was restored.", target)
