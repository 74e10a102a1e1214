"""CSV and TSV -> rows, strictly: each row is right, or has an error that says what is wrong and how to read the file.

Training and scoring use the same rule. Nothing is repaired: text after a closing quote, a quote that is never
closed, a backslash before a quote, too few or too many fields, and bytes that are not text are errors of their row. The
lines after a quote that does not end correctly are read as separate rows: one stray quote costs one row. So are
the lines of an earlier field of such a row, and of a row with too few or too many fields, if they look like rows.
Memory is bounded, and so is the number of times that a line is read.
"""

import io
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from moderation.errors import DataError
from moderation.tables import bounds
from moderation.tables.columns import strip_blanks
from moderation.tables.csv_dialects import CsvDialect, read_separator
from moderation.tables.encodings import NO_UTF8, NO_UTF16, UTF8, Utf8Stream, as_utf8, is_unicode
from moderation.tables.row_shapes import RowShape

_PLAIN = "if quotes are plain characters: --quoting none"
OPEN_QUOTE = f"a quote is opened and never closed; double each quote within a text, or, {_PLAIN}"
BEHIND_QUOTE = f"text after a closing quote; double each quote within a text, or, {_PLAIN}"
BLANK_QUOTE = f"a blank before a quote, which must be the field's first character, or, {_PLAIN}"
BACKSLASH = r"a backslash before a quote; read with --escape '\'"
ROWS_WITHIN = f"a text whose lines look like further rows; is a quote opened and not closed in its row? If so, {_PLAIN}"
NO_END = "the file ends after an escape character"
TOO_LONG = f"a field or line of more than {bounds.CELL_BYTES >> 20} MiB"
ORDER_MARK = "begins with a byte order mark, which belongs at the start of a file; were two files joined?"
RAGGED = re.compile(r"(\d+) fields?, expected (\d+)")
"""The error for a row with too few or too many fields."""

_LINE_COST = 64  # bytes that a line takes in addition to its characters

CsvRow = tuple[list[str], str | None]
"""Fields of a row, and what is wrong with it; if there is an error, the fields are a best guess, for people to read."""


@dataclass(frozen=True)
class CsvTable:
    """A CSV or TSV file.

    Args:
        header: Names of its columns, without the blanks around them.
        n_stripped: How many names had blanks around them.
        delimiter: Between the fields.
        rows: Those below the header, in order; empty lines are skipped.
    """

    header: tuple[str, ...]
    n_stripped: int
    delimiter: str
    rows: Iterator[CsvRow]


def open_csv(stream: IO[bytes], where: str, ending: str, dialect: CsvDialect) -> CsvTable:
    r"""Read the header of a CSV or TSV file; the rows are read on demand.

    UTF-8 or UTF-16. Lines end in LF or CRLF, and a single carriage return is text; if no line does, they end in CR.

    Args:
        stream: The bytes, unpacked; the caller closes it, after the last row.
        where: The file's name in messages.
        ending: `.csv` or `.tsv`, which decides the delimiter if none is given.
        dialect: Its dialect.

    Raises:
        DataError: there is no readable header, or a first line `sep=;` contradicts the delimiter.

    >>> table = open_csv(io.BytesIO(b'id,text\n1,"a, b"\n2,"c" d\n3,e\n'), "t.csv", ".csv", CsvDialect())
    >>> [(fields, error and error[:26]) for fields, error in table.rows]
    [(['1', 'a, b'], None), (['2', '"c" d'], 'text after a closing quote'), (['3', 'e'], None)]
    """
    source = as_utf8(stream)
    line_end = _find_line_end(source.beginning, dialect)
    lines = _Lines(source, line_end, where)
    delimiter = dialect.delimiter_for(ending)
    first = lines.take()
    if first is not None:
        first = first.lstrip("\ufeff")  # a second byte order mark
        named = read_separator(_without_end(first, line_end), dialect, where)
        if named is None:
            lines.put_back([first])
        delimiter = named or delimiter
    quote = None if dialect.quoting == "none" else '"'
    records = _Records(lines, delimiter, quote, dialect.escape, where)
    wrong = NO_UTF8 if source.encoding == UTF8 else NO_UTF16
    header, n_stripped = _read_header(next(records, None), where)
    shape = records.shape = RowShape(len(header), delimiter)
    return CsvTable(header, n_stripped, delimiter, _checked(records, len(header), shape, wrong, delimiter))


def _read_header(record: CsvRow | None, where: str) -> tuple[tuple[str, ...], int]:
    if record is None:
        raise DataError(f"{where}: no header; expected column names in the first line.")
    fields, error = record
    if len(fields) > bounds.COLUMNS:
        raise DataError(f"{where}: {len(fields):,} columns or more; expected {bounds.COLUMNS:,} or fewer.")
    if error is not None:
        raise DataError(f"{where}: the header cannot be read: {error}.")
    names = tuple(strip_blanks(name) for name in fields)
    if not all(map(is_unicode, names)):
        raise DataError(f"{where}: the header is not UTF-8. Convert the file: iconv -f LATIN1 -t UTF-8 FILE")
    if any("\0" in name for name in names):
        raise DataError(f"{where}: the header contains zero bytes; expected a table in UTF-8. Is it in another format?")
    if any("\r" in name for name in names):
        raise DataError(
            f"{where}: the header contains a carriage return: some lines end in CR, others in LF; expected one of "
            "them. Convert the file: tr '\\r' '\\n' < FILE"
        )
    return names, sum(name != field for name, field in zip(names, fields, strict=True))


def _checked(
    records: Iterator[CsvRow], n_fields: int, shape: RowShape, wrong_bytes: str, delimiter: str
) -> Iterator[CsvRow]:
    """Rows, each with its error, if any; if there are too many fields, the last ones are joined, so none is lost."""
    for record in records:
        fields, error = _check(record, n_fields, shape, wrong_bytes)
        if len(fields) > n_fields:
            fields = [*fields[: n_fields - 1], delimiter.join(fields[n_fields - 1 :])]
        yield fields, error


def _check(record: CsvRow, n_fields: int, shape: RowShape, wrong_bytes: str) -> CsvRow:
    """Find what is wrong with a row that could be split into fields."""
    fields, error = record
    joined = "".join(fields)
    if len(joined) > bounds.CELL_BYTES // 4 and bounds.is_too_long(len(joined.encode(errors="replace"))):
        return [], TOO_LONG
    if not is_unicode(joined):
        fields = [field.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for field in fields]
        error = error or wrong_bytes
    if error is None and len(fields) != n_fields:
        error = f"{len(fields)} field{'s' if len(fields) > 1 else ''}, expected {n_fields}"
    if error is None and "\n" in joined and shape.holds_rows(fields):
        error = ROWS_WITHIN
    if error is None:
        shape.learn(fields)
    return fields, error


def _find_line_end(beginning: bytes, dialect: CsvDialect) -> str:
    r"""`\r` if outside quotes no line ends in LF and one ends in CR; otherwise `\n`, which a CR may precede."""
    if b"\r" not in beginning:
        return "\n"
    if dialect.quoting != "none":
        within = rb"[^\"]" if dialect.escape is None else rb"[^\"%b]|%b." % ((re.escape(dialect.escape.encode()),) * 2)
        beginning = re.sub(rb'"(?:%b)*+(?:"|$)' % within, b"", beginning, flags=re.DOTALL)
    return "\r" if b"\r" in beginning and b"\n" not in beginning else "\n"


def _without_end(line: str, line_end: str, escape: str | None = None) -> str:
    """A line without its end; a CR before the LF belongs to it, unless it is escaped."""
    if not line.endswith(line_end):
        return line.removesuffix("\r")
    line = line[:-1]
    if line_end == "\n" and line.endswith("\r"):
        before = line[:-1]
        if escape is None or (len(before) - len(before.rstrip(escape))) % 2 == 0:
            return before
    return line


class _Lines:
    """Physical lines with their ends, some of which can be put back; a line that is too long is cut to the limit."""

    def __init__(self, source: Utf8Stream, line_end: str, where: str) -> None:
        self.line_end = line_end
        self._where = where
        self.n_taken = 0
        self._text = io.TextIOWrapper(source.stream, encoding="utf-8", errors="surrogateescape", newline=line_end)
        self._back: deque[str] = deque()

    def take(self) -> str | None:
        """The next line; None after the last one."""
        self.n_taken += 1
        if self._back:
            return self._back.popleft()
        line = self._text.readline(bounds.CELL_BYTES + bounds.LINE_END)
        if len(line) == bounds.CELL_BYTES + bounds.LINE_END and not line.endswith(self.line_end):
            self._skip()
        return line or None

    def _skip(self) -> None:
        n_skipped = 0
        while (rest := self._text.readline(bounds.CELL_BYTES)) and not rest.endswith(self.line_end):
            n_skipped += len(rest)
            if n_skipped > bounds.SKIPPED_BYTES:
                raise bounds.endless_line(self._where, self.n_taken)

    def put_back(self, lines: list[str]) -> None:
        """Put lines back, to be returned next in this order."""
        self.n_taken -= len(lines)
        self._back.extendleft(reversed(lines))


class _Broken(Exception):
    """A field that cannot be read.

    Args:
        reason: For the row's error.
        rest: The rest of its line, from the field on.
    """

    def __init__(self, reason: str, rest: str) -> None:
        super().__init__(reason)
        self.reason, self.rest = reason, rest


class _Records:
    """Lines split into records; an iterator of fields and errors.

    One record is held at a time, of `bounds.ROW_BYTES` at most.
    """

    def __init__(self, lines: _Lines, delimiter: str, quote: str | None, escape: str | None, where: str) -> None:
        self._where = where
        self._lines, self._delimiter, self._quote, self._escape = lines, delimiter, quote, escape
        self._special = {delimiter, '"', escape, "\r", "\n"}
        within = (quote or "") + (escape or "")
        self._ends_quoted = re.compile(f"[{re.escape(within)}]" if within else "(?!)")
        self._ends_plain = re.compile(f"[{re.escape(delimiter + (escape or ''))}]")
        blanks = " \t\u00a0".replace(delimiter, "")
        self._blank_quote = re.compile(f"[{blanks}]+{quote}" if quote else "(?!)")
        self.shape: RowShape | None = None
        self._opened: list[str] | None = None  # the record's first line, if a quote took in the lines after it
        self._behind: list[str] = []  # those lines
        self._n_parted = 0  # lines up to here were once read as one record, then separated again
        self._line = self._body = ""  # the record's last line so far, with and without its end
        self._at = self._size = 0  # position in it, and characters of the record
        self._last = -1  # position of its last quote or escape

    def __iter__(self) -> Iterator[CsvRow]:
        return self

    def __next__(self) -> CsvRow:
        n_empty = 0
        while (line := self._lines.take()) is not None:
            body = self._without_end(line)
            if bounds.is_too_long(len(body)):
                return [], TOO_LONG
            if not body:
                n_empty += 1
                if n_empty > bounds.EMPTY_LINES:
                    raise bounds.too_many_empty_lines(self._where, self._lines.n_taken)
                continue
            if body.startswith("\ufeff"):
                return body.split(self._delimiter), ORDER_MARK
            self._size = len(line)
            self._opened, self._behind = None, []
            self._go_to(line, body, 0)
            fields, error, n_sound = self._cut()
            is_whole = error is None and (self.shape is None or len(fields) == self.shape.n_fields)
            return (None if is_whole else self._part(fields[:n_sound])) or (fields, error)
        raise StopIteration

    def _go_to(self, line: str, body: str, at: int) -> None:
        self._line, self._body, self._at = line, body, at
        self._last = max((body.rfind(sign) for sign in (self._quote, self._escape) if sign is not None), default=-1)

    def _without_end(self, line: str) -> str:
        return _without_end(line, self._lines.line_end, self._escape)

    def _cut(self) -> tuple[list[str], str | None, int]:
        """Fields of a record, what is wrong with it, and how many of its fields could be read."""
        fields: list[str] = []
        while self._at <= self._last and len(fields) <= bounds.COLUMNS:
            quoted = self._quote is not None and self._body.startswith(self._quote, self._at)
            try:
                fields.append(self._read_quoted(fields) if quoted else self._read_plain())
            except _Broken as broken:
                return [*fields, *broken.rest.split(self._delimiter)], broken.reason, len(fields)
            if self._at == len(self._body):
                break
            self._at += 1  # the delimiter
        else:
            fields += self._body[self._at :].split(self._delimiter)
        return fields, None, len(fields)

    def _part(self, fields: list[str]) -> CsvRow | None:
        """The first line of a record that is not a row, if its fields contain other rows; None: they do not."""
        if self._opened is None or self.shape is None or not self.shape.holds_rows(fields):
            return None
        n_taken = self._lines.n_taken
        if n_taken - len(self._behind) <= self._n_parted:  # only once, or the time would be quadratic
            return None
        self._n_parted = n_taken
        self._lines.put_back(self._behind)
        return self._opened, OPEN_QUOTE

    def _read_plain(self) -> str:
        begin = self._at
        if self._blank_quote.match(self._body, begin):
            raise _Broken(BLANK_QUOTE, self._body[begin:])
        parts: list[str] = []
        while found := self._ends_plain.search(self._body, self._at):
            parts.append(self._body[self._at : found.start()])
            self._at = found.start()
            if found[0] == self._delimiter:
                return "".join(parts)
            if found.end() < len(self._body):
                parts.append(self._unescape(self._body[found.end()]))
                self._at = found.end() + 1
            else:
                parts.append(self._go_on_behind_escaped_end(begin))
                begin = 0
        parts.append(self._body[self._at :])
        self._at = len(self._body)
        return "".join(parts)

    def _go_on_behind_escaped_end(self, begin: int) -> str:
        """Treat an escaped line end as text; the next line becomes the record's last one."""
        end = self._line[len(self._body) :]
        line = self._lines.take() if end else None
        if line is None:
            raise _Broken(NO_END, self._body[begin:])
        self._size += len(line) + _LINE_COST
        if self._size >= bounds.ROW_BYTES or bounds.is_too_long(len(self._without_end(line))):
            raise _Broken(TOO_LONG, "")
        if self._opened is not None:
            self._behind.append(line)
        self._go_to(line, self._without_end(line), 0)
        return end

    def _read_quoted(self, fields: list[str]) -> str:
        size, ahead, parts = self._size, list[str](), list[str]()
        line, start = self._line, self._at + 1
        while (closing := self._find_closing(line, start, parts)) is None:
            following = self._lines.take()
            too_much = following is not None and (
                bounds.is_too_long(len(self._without_end(following)))
                or size + len(following) + _LINE_COST >= bounds.ROW_BYTES
            )
            if following is None or too_much:
                self._lines.put_back([*ahead, *([] if following is None else [following])])
                raise self._broken(OPEN_QUOTE)
            ahead.append(following)
            size += len(following) + _LINE_COST
            line, start = following, 0
        body = self._without_end(line) if ahead else self._body
        if closing + 1 < len(body) and body[closing + 1] != self._delimiter:
            self._lines.put_back(ahead)
            raise self._broken(OPEN_QUOTE if ahead else BEHIND_QUOTE, escaped=line[:closing].endswith("\\"))
        self._size = size
        if ahead:
            self._opened = self._opened or [*fields, *self._body[self._at :].split(self._delimiter)]
            self._behind += ahead
            self._go_to(line, body, closing + 1)
        self._at = closing + 1
        return "".join(parts)

    def _find_closing(self, line: str, start: int, parts: list[str]) -> int | None:
        """Position of the quote that closes a field (its text is added to `parts`); None: the line does not have it."""
        while found := self._ends_quoted.search(line, start):
            here, behind = found.start(), line[found.end() : found.end() + 1]
            parts.append(line[start:here])
            start = found.end() + 1
            if found[0] == self._escape and behind:
                parts.append(self._unescape(behind))
            elif found[0] == self._escape:
                parts.append(found[0])
            elif behind == self._quote:
                parts.append(behind)
            else:
                return here
        parts.append(line[start:])
        return None

    def _unescape(self, character: str) -> str:
        return character if character in self._special else f"{self._escape}{character}"

    def _broken(self, reason: str, *, escaped: bool = False) -> _Broken:
        """The error for the quoted field at the current position; a backslash before it may be the reason."""
        rest = self._body[self._at :]
        return _Broken(BACKSLASH if self._escape is None and (escaped or '\\"' in rest) else reason, rest)
