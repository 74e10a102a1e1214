"""Names of columns: how messages show them, and which column has the texts if none is named."""

import logging
import re
from collections.abc import Iterable

from moderation.errors import DataError
from moderation.tables.options import TEXT_COLUMN

logger = logging.getLogger(__name__)

TEXT_NAMES = frozenset(
    {"text", "texts", "comment", "comments", "tweet", "tweets", "post", "message", "messages", "msg", "body", "content"}
    | {f"{name}_{part}" for name in ("comment", "tweet", "post", "message") for part in ("text", "body", "content")}
    | {"full_text", "raw_text", "text_content", "selftext", "sentence", "review", "utterance"}
)
"""Names that other people's tables use for the text column, in lower case, with `_` between words."""


def find_text_column(names: Iterable[object], asked: str, where: str) -> str:
    """The column of the texts: the requested one, or, if the default is missing, the one with a usual name.

    Blanks around a name are ignored unless two names would become the same.

    Args:
        names: The columns of a table.
        asked: Name of the column; `TEXT_COLUMN` if none was requested.
        where: The table's name in the log and in messages.

    Returns:
        A name in the table, or `asked` although it is missing, if no other name is usual or another one was requested.

    Raises:
        DataError: several columns have usual names, so one of them must be requested.

    >>> find_text_column(["id", "Tweet", "toxic"], "comment_text", "a.csv")
    'Tweet'
    >>> find_text_column(["id", "Tweet", "toxic"], "words", "a.csv")
    'words'
    >>> find_text_column(["id", " words "], "words", "a.parquet")
    ' words '
    """
    columns = [name for name in names if isinstance(name, str)]
    if asked in columns:
        return asked
    but_for_blanks = [name for name in columns if strip_blanks(name) == strip_blanks(asked)]
    if len(but_for_blanks) == 1:  # training removes the blanks; a scored Parquet or JSON lines file keeps its names
        return but_for_blanks[0]
    if asked != TEXT_COLUMN:
        return asked
    usual = [name for name in columns if _is_usual(name)]
    if len(usual) > 1:
        raise DataError(
            f"{where}: no column {asked!r}; several columns may contain the texts: {show_names(usual)}. Choose one "
            "with --text-column."
        )
    if not usual:
        return asked
    logger.info("%s: using the texts in column %s.", where, show_names(usual))
    return usual[0]


def may_hold_texts(name: str, asked: str) -> bool:
    """Whether `find_text_column` would consider a name.

    >>> [may_hold_texts(name, "comment_text") for name in ("TEXT", " comment_text", "toxic")]
    [True, True, False]
    """
    return strip_blanks(name) == strip_blanks(asked) or (asked == TEXT_COLUMN and _is_usual(name))


def _is_usual(name: str) -> bool:
    return re.sub(r"[\s.-]+", "_", name.strip().lower()) in TEXT_NAMES


def strip_blanks(name: str) -> str:
    r"""A name without invisible characters around it: white space, and characters without a width.

    >>> strip_blanks("\u00a0toxic\ufeff ")
    'toxic'
    """
    stripped = name.strip().strip("\u200b\ufeff")
    return stripped if stripped == name else strip_blanks(stripped)


def show_names(names: Iterable[object]) -> str:
    """Join column names for a message; a name that may be a comment (if the header is missing) is shown only by length.

    A name that begins or ends with blanks is quoted.

    >>> show_names(["id", "comment_text", "You never told me that."])
    'id, comment_text, (a name of 23 characters)'
    >>> show_names(["text", " toxic"])
    "text, ' toxic'"
    """
    shown = [str(name) for name in names]
    if any(re.fullmatch(r"[\d.+-]+", name) for name in shown):
        return f"({len(shown)} names that look like a row of data: is the header missing?)"
    return ", ".join(map(_show_name, shown[:30])) + (f" and {len(shown) - 30} more" if len(shown) > 30 else "")


def _show_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.-]{0,39}", name.strip(), re.ASCII):
        return f"(a name of {len(name)} characters)"
    return name if name == name.strip() else repr(name)


def show_rows(rows: Iterable[int]) -> str:
    """Write the first five of some row numbers, which count from 1.

    >>> show_rows([3, 4, 9, 12, 40, 77])
    'rows 3, 4, 9, 12, 40, …'
    >>> show_rows([3])
    'row 3'
    """
    numbers = [str(int(row)) for row in rows]
    return f"row{'s' if len(numbers) > 1 else ''} {', '.join(numbers[:5])}{', …' if len(numbers) > 5 else ''}"


def check_column_names(names: Iterable[object], where: str) -> None:
    """Refuse a table with two columns of the same name.

    Raises:
        DataError: names the repeated columns.
    """
    names = list(names)
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{where}: repeated column names: {show_names(twice)}. Expected each name once. "
            "Rename or remove the others."
        )
