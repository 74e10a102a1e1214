"""Dialects of CSV and TSV: the delimiter, and the meaning of quotes and escapes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from moderation.errors import ConfigError, DataError
from moderation.tables.options import Quoting

LIKELY_DELIMITERS = (",", ";", "\t", "|")
_SEPARATOR_LINE = re.compile(r'"?sep=([^\w"]+)"?', re.ASCII | re.IGNORECASE)  # Excel's own first line


@dataclass(frozen=True, kw_only=True)
class CsvDialect:
    """How to read a CSV or TSV file.

    Args:
        delimiter: Between fields, one ASCII character; None: the one in a first line `sep=;`, otherwise a comma, for
            TSV a tab.
        quoting: `standard`: a field that begins with a double quote ends with one, and a quote in it is doubled;
            `none`: quotes are characters like any other.
        escape: The character after which a delimiter, a quote, a line end or the character itself is plain text, such
            as a backslash; None: there is none.

    Raises:
        ConfigError: a value is invalid.
    """

    delimiter: str | None = None
    quoting: Quoting = "standard"
    escape: str | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: lists everything that is wrong.
        """
        problems = []
        if self.delimiter is not None and not _is_delimiter(_typed(self.delimiter)):
            problems.append(
                f"--delimiter is {self.delimiter!r}; expected one ASCII character such as ';', and neither a quote nor "
                "a line end."
            )
        if self.quoting not in get_args(Quoting):
            problems.append(f"--quoting is {self.quoting!r}; expected {' or '.join(get_args(Quoting))}.")
        if self.escape is not None and (not _is_delimiter(self.escape) or self.escape.isalnum()):
            problems.append(
                f"--escape is {self.escape!r}; expected one ASCII character such as '\\', and neither a letter, a "
                "digit, a quote nor a line end."
            )
        if self.escape is not None and self.escape == (self.delimiter and _typed(self.delimiter)):
            problems.append(f"--escape and --delimiter are both {self.escape!r}; expected two different characters.")
        if problems:
            raise ConfigError("\n".join(problems))

    def delimiter_for(self, ending: str) -> str:
        """The delimiter of a file with this ending: the given one, otherwise a comma, for `.tsv` a tab."""
        if self.delimiter is None:
            return "\t" if ending == ".tsv" else ","
        return _typed(self.delimiter)


def read_separator(line: str, dialect: CsvDialect, where: str) -> str | None:
    """The delimiter that a first line such as `sep=;` names; None: it is not such a line.

    Raises:
        DataError: it does not name a single character, or contradicts `--delimiter` or `--escape`.

    >>> read_separator("sep=;", CsvDialect(), "a.csv"), read_separator("id;text", CsvDialect(), "a.csv")
    (';', None)
    >>> read_separator("sep= ", CsvDialect(), "a.csv")
    ' '
    """
    found = _SEPARATOR_LINE.fullmatch(line)
    if found is None:
        return None
    named = found[1].strip(" ") or found[1][:1]
    if not _is_delimiter(named) or named == dialect.escape:
        what = "the same as --escape" if named == dialect.escape else f"of {len(named)} characters, or not ASCII"
        raise DataError(
            f"{where}: its first line names a delimiter that is {what}; expected one ASCII character. Remove that "
            "line, and name the delimiter with --delimiter."
        )
    if dialect.delimiter is not None and _typed(dialect.delimiter) != named:
        raise DataError(
            f"{where}: its first line names the delimiter {named!r}, and --delimiter is {dialect.delimiter!r}. Leave "
            f"--delimiter out, or give it as {show_delimiter(named)}."
        )
    return named


def suggest_delimiter(header: Sequence[str]) -> str | None:
    """The delimiter that a header with one column seems to use, as typed in a shell; None: none is visible.

    >>> suggest_delimiter(["id;text"]), suggest_delimiter(["text"])
    ("';'", None)
    """
    others = [other for other in LIKELY_DELIMITERS if len(header) == 1 and other in header[0]]
    return show_delimiter(max(others, key=header[0].count)) if others else None


def show_delimiter(delimiter: str) -> str:
    """A delimiter as typed in a shell."""
    return "'\\t'" if delimiter == "\t" else f"'{delimiter}'"


def _typed(delimiter: str) -> str:
    return "\t" if delimiter == "\\t" else delimiter  # a shell passes on the two characters that were typed


def _is_delimiter(character: str) -> bool:
    return len(character) == 1 and character.isascii() and character not in '"\r\n\0'
