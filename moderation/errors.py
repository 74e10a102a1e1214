"""All errors of the toolkit, on one page.

    ModerationError
    ├── ConfigError        a setting, a flag or a combination of them        exit 2   (also a ValueError)
    ├── MissingExtraError  an optional dependency is not installed           exit 2   (also an ImportError)
    ├── DataError          a table, a column, a row                          exit 1   (also a ValueError)
    └── ArtifactError      a file of a run folder, a checkpoint, a backbone  exit 1   (also a ValueError)

A message says what is wrong, where, what was expected, and how to fix it. It never contains a user's text: only
row numbers, lengths and hashes. Anything that is not a `ModerationError` is a bug and keeps its traceback.
"""

from typing import ClassVar


class ModerationError(Exception):
    """Base of every error that a user can cause and fix."""

    exit_code: ClassVar[int] = 1


class ConfigError(ModerationError, ValueError):
    """A setting is unknown, out of range, or contradicts another one."""

    exit_code = 2


class DataError(ModerationError, ValueError):
    """A table cannot be used as it is; the message lists every problem found."""


class ArtifactError(ModerationError, ValueError):
    """A file that this toolkit wrote, or a pretrained model, is missing, broken or belongs elsewhere."""


class MissingExtraError(ModerationError, ImportError):
    """A feature needs a package that is not installed.

    Args:
        feature: What needs the package, in words that a user knows.
        extra: The extra of this toolkit that installs it, or several with commas; empty: every installation has it.
        package: Its name, if known.
    """

    exit_code = 2

    def __init__(self, feature: str, extra: str, package: str = "") -> None:
        what = f"the package {package}, which is" if package else "a package that is"
        target = f"'.[{extra}]'" if extra else "."
        super().__init__(
            f"{feature} needs {what} not installed. In the folder of this toolkit, run: pip install {target}"
        )
        self.feature = feature
        self.extra = extra
        self.package = package

    def __reduce__(self) -> tuple[type["MissingExtraError"], tuple[str, str, str]]:  # so that a worker can raise it
        return type(self), (self.feature, self.extra, self.package)
