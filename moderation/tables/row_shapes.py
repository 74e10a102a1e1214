"""Learns what the rows of a table look like, by their numbers, to notice rows that were read as part of a text.

If a quote is opened in one row and closed in a later one, at the end of a field, every CSV reader sees one text of
several lines. But those lines look like rows: they have as many fields, and numbers where the table has numbers.
"""

from itertools import pairwise

_ROWS_LEARNT = 1000
_TWO_VALUES = ("0", "1")


class RowShape:
    """The columns of a table that have only whole numbers, learnt from its first rows.

    Args:
        n_fields: Fields of a row.
        delimiter: The delimiter between them.
    """

    def __init__(self, n_fields: int, delimiter: str) -> None:
        self.n_fields, self._delimiter, self._n_learnt = n_fields, delimiter, 0
        self._numeric = list(range(n_fields))
        self._two_valued = set(self._numeric)

    def learn(self, fields: list[str]) -> None:
        """Learn from a valid row."""
        if self._n_learnt >= _ROWS_LEARNT or not self._numeric:
            return
        self._n_learnt += 1
        self._numeric = [place for place in self._numeric if _is_number(fields[place])]
        self._two_valued = {
            place for place in self._numeric if place in self._two_valued and fields[place] in _TWO_VALUES
        }

    def holds_rows(self, fields: list[str]) -> bool:
        r"""Whether the lines of one of these fields, except its first, all look like the rows after this one.

        Such lines have as many fields (the last one, those up to the closing quote); 0 or 1 in columns that have only
        these; and increasing numbers in other columns of numbers, as in a column of row numbers.

        Args:
            fields: Fields of a row, or as many as could be read.

        >>> shape = RowShape(2, ",")
        >>> shape.learn(["1", "fine"])
        >>> shape.holds_rows(["5", "lol\n6,fine\n7,a nail of 5"]), shape.holds_rows(["5", "1, do this\n2, do that"])
        (True, False)
        """
        return any(
            "\n" in field
            and self._may_follow(place, field)
            and self._follow(fields, place, field.replace("\r", "").split("\n")[1:])
            for place, field in enumerate(fields)
        )

    def _may_follow(self, place: int, field: str) -> bool:
        """Whether the second line has as many fields as a row; this rules out most texts, whatever their length."""
        begin = field.index("\n") + 1
        end = field.find("\n", begin)
        n_delimiters = field.count(self._delimiter, begin, len(field) if end < 0 else end)
        return n_delimiters == (place if end < 0 else self.n_fields - 1)

    def _follow(self, fields: list[str], place: int, lines: list[str]) -> bool:
        if not self._n_learnt or self.n_fields < 2:
            return False
        rows = [line.split(self._delimiter) for line in lines]
        if len(rows[-1]) != place + 1 or any(len(row) != self.n_fields for row in rows[:-1]):
            return False
        known = [column for column in self._numeric if column <= place or len(rows) > 1]
        return bool(known) and all(self._goes_on(column, fields, rows) for column in known)

    def _goes_on(self, column: int, fields: list[str], rows: list[list[str]]) -> bool:
        values = [row[column] for row in (fields, *rows) if column < len(row)]
        if column in self._two_valued and values[0] in _TWO_VALUES:
            return all(value in _TWO_VALUES for value in values)
        if not all(map(_is_number, values)):
            return False
        numbers = list(map(int, values))
        return all(one < other for one, other in pairwise(numbers))


def _is_number(field: str) -> bool:
    return field.isascii() and field.isdecimal() and len(field) < 20
