"""A second name for a file: the same bytes where the file system can, a copy where it cannot."""

import os
import shutil
from pathlib import Path

from moderation.artifacts import write_atomically


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name by a hard link; copy it where links are not to be had.

    Files of a bundle are replaced and never rewritten in place, so that two names may share their bytes.

    Args:
        source: The file.
        target: Its second name; a file that stands there is replaced, missing folders are made.

    Raises:
        ArtifactError: the target cannot be written.
    """
    with write_atomically(target) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:  # another disk, a file system without links
            shutil.copyfile(source, temporary)
