"""A bundle grows in a folder of its own and takes its place when it is whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moderation.bundles import MANIFEST
from moderation.errors import ArtifactError


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
    staging = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    former = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        staging.mkdir(parents=True)
        yield staging
        if target.exists():
            target.rename(former)
        staging.rename(target)
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
        ArtifactError: it holds something else, or a bundle that is not to be replaced.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / MANIFEST).is_file():
        raise ArtifactError(
            f"{target}: holds something that is no bundle, which export will not replace. Choose another --to."
        )
    if not overwrite:
        raise ArtifactError(f"{target}: already holds a bundle. Choose another --to, or pass --overwrite.")
