"""A bundle grows in a folder of its own and takes its place when it is whole.

A folder cannot be replaced at once: the old bundle is moved aside first. A kill between the two leaves it there, under
a name that ends in `.old`, and the next export puts it back. Whoever exports holds the claim on the target meanwhile.
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
    """Yield a new folder beside `target`; it becomes `target` when the block ends without an error.

    Args:
        target: Where the bundle shall stand.
        overwrite: Replace the bundle that stands there.

    Raises:
        ArtifactError: something stands there that may not be replaced, or the folder cannot be written; whatever stood
            there before is unchanged.
    """
    check_target(target, overwrite=overwrite)
    target = Path(os.path.realpath(target))  # of a link what it points to, so that the link itself stays
    mark = uuid.uuid4().hex[:12]  # process ids are not unique on a volume of several machines
    staging = target.with_name(f".{target.name}.{mark}{_GROWING}")
    former = target.with_name(f".{target.name}.{mark}{_FORMER}")
    try:
        staging.mkdir(parents=True)
        yield staging
        for path in (*staging.rglob("*"), staging):
            if os.name == "posix" or path.is_file():  # elsewhere a folder cannot be opened
                sync(path)
        if target.exists():
            target.rename(former)
        staging.rename(target)
        if os.name == "posix":
            sync(target.parent)
    except OSError as error:
        raise ArtifactError(
            f"{target}: could not be written ({error.strerror or type(error).__name__}). What stood there before is "
            "unchanged. Free some space, or choose a folder that may be written."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if former.exists() and not target.exists():  # it broke off between the two renames
            former.rename(target)
        if target.exists():
            shutil.rmtree(former, ignore_errors=True)


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a folder that a bundle may not take the place of.

    Raises:
        ArtifactError: it holds something else, beside a bundle perhaps, or a bundle that is not to be replaced.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / MANIFEST).is_file():
        raise ArtifactError(
            f"{target}: holds something that is no bundle, which export will not replace. Choose another --to."
        )
    if not overwrite:
        raise ArtifactError(f"{target}: already holds a bundle. Choose another --to, or pass --overwrite.")
    try:
        foreign = find_foreign(read_bundle(target))
    except ArtifactError as error:
        raise ArtifactError(
            f"{error}\nSo it is not known which files are the bundle's, and export will replace none. Move the folder "
            "away, or choose another --to."
        ) from error
    if foreign:
        named = ", ".join(map(escape_name, foreign[:10])) + (f" and {len(foreign) - 10} more" if foreign[10:] else "")
        raise ArtifactError(
            f"{target}: holds what is no part of the bundle, and --overwrite would remove: {named}. Move it away, or "
            "choose another --to."
        )


def recover_target(target: Path) -> None:
    """Put a bundle back that a killed export moved aside, and remove what else killed exports left.

    Args:
        target: Claimed by the caller: to an export that is under way it would do harm.

    Raises:
        ArtifactError: the bundle could not be put back.
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
    """Folders that an export made beside the target."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{12}}{re.escape(ending)}", re.DOTALL)
    found = (path for path in target.parent.iterdir() if name.fullmatch(path.name))
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def _put_back(target: Path) -> None:
    """Give the bundle that a killed export left aside its name again, where nothing stands there now."""
    left = [path for path in _left_behind(target, _FORMER) if (path / MANIFEST).is_file()]
    if target.exists() or not left:
        return
    newest = max(left, key=lambda path: path.stat().st_ctime)
    try:
        newest.rename(target)
    except OSError as error:
        raise ArtifactError(
            f"{newest}: the bundle that an export moved aside before it was killed; it could not be put back "
            f"({error.strerror}). Move it to {target.name} by hand."
        ) from error
    logger.warning("%s: an export was killed while it replaced this bundle, which was put back.", target)
