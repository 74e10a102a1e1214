"""JSON lines as Arrow columns. A line may also travel as it stands, so that nothing in it changes on the way."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa

from moderation.data.columns import find_text_column
from moderation.data.encodings import is_unicode
from moderation.errors import DataError
from moderation.inference.scoring import NO_STRING, NO_UNICODE, result_fields

OBJECT = "\0object"  # column that holds whole objects, as the text of their lines
BROKEN = "not a JSON object"

_MOST_COLUMNS = 1000
_TYPES = {  # of a column, by the kinds of its values; what is not among them becomes JSON text
    frozenset({"text"}): pa.string(),
    frozenset({"truth"}): pa.bool_(),
    frozenset({"whole"}): pa.int64(),
    frozenset({"long"}): pa.int64(),
    frozenset({"whole", "long"}): pa.int64(),
    frozenset({"fraction"}): pa.float64(),
    frozenset({"fraction", "whole"}): pa.float64(),
}
_RESULTS = {field.name for field in result_fields(())}


@dataclass(frozen=True)
class ObjectColumns:
    """What a first pass over JSON lines found.

    Args:
        types: Column -> type, in the order in which the names first occur.
        text_column: Which of them holds the texts.
        mixed: Columns of text that hold JSON, since their values are objects, lists, or of several kinds.
        n_rows: Lines, broken ones included.
    """

    types: dict[str, pa.DataType]
    text_column: str
    mixed: frozenset[str]
    n_rows: int

    def schema(self, text_column: str, keep_objects: bool) -> pa.Schema:
        """Schema of the batches: all columns, or the objects as they stand and the text column."""
        return pa.schema([(OBJECT, pa.string()), (text_column, pa.string())] if keep_objects else [*self.types.items()])


def read_lines(stream: IO[bytes], longest: int) -> Iterator[str | None]:
    """Lines that are not blank, without white space around them; None: not UTF-8, or longer than `longest` bytes."""
    encoding = "utf-8-sig"
    while line := stream.readline(longest):
        fits = len(line) < longest or line.endswith(b"\n")
        rest = line
        while not fits and rest and not rest.endswith(b"\n"):
            rest = stream.readline(longest)
        try:
            text = line.decode(encoding).strip() if fits else None
        except UnicodeDecodeError:
            text = None
        encoding = "utf-8"
        if text != "":
            yield text


def scan_objects(lines: Iterable[str | None], text_column: str, where: str, *, keep_objects: bool) -> ObjectColumns:
    """Learn the columns of JSON lines and count the rows.

    Args:
        lines: As of `read_lines`.
        text_column: Always a column of texts, whatever else stands in some of its rows; found by
            `data.columns.find_text_column`.
        where: Names the file in a message.
        keep_objects: More names than a table has columns are no fault; only such as may be a result's are kept then.

    Raises:
        DataError: no line is an object, or there are too many names.
    """
    kinds: dict[str, set[str]] = {}
    n_rows = 0
    for line in lines:
        n_rows += 1
        for name, value in (parse_object(line) or {}).items():
            if name not in kinds:
                if len(kinds) >= _MOST_COLUMNS and not keep_objects:
                    raise DataError(
                        f"{where}: more than {_MOST_COLUMNS:,} different names in its objects, too many for columns "
                        "of a table. Choose an output that ends in .jsonl, which keeps the objects as they are."
                    )
                if len(kinds) >= _MOST_COLUMNS and not (name in _RESULTS or name.startswith(("p_", "flag_"))):
                    continue
                kinds[name] = set()
            if value is not None:
                kinds[name].add(_kind(value))
    if not kinds:
        raise DataError(f'{where}: no line is a JSON object; expected one a line, such as {{"{text_column}": "…"}}.')
    text_column = find_text_column(kinds, text_column, where)
    mixed = frozenset(name for name, found in kinds.items() if found and frozenset(found) not in _TYPES)
    types = {name: _TYPES.get(frozenset(found), pa.string()) for name, found in kinds.items()}
    if text_column in types:
        types[text_column], mixed = pa.string(), mixed - {text_column}
    return ObjectColumns(types, text_column, mixed, n_rows)


def object_batch(
    lines: Sequence[str | None], columns: ObjectColumns, text_column: str, where: str, *, keep_objects: bool
) -> tuple[pa.RecordBatch, pa.Array]:
    r"""Rows of JSON lines, and what is wrong with each.

    Half a surrogate pair, which no table can hold, becomes its escape, as in `\ud83d`; in the text column it is an
    error as well.

    Args:
        lines: As of `read_lines`.
        columns: What `scan_objects` found.
        text_column: Where a value that is no text is an error.
        where: Names the file in a message.
        keep_objects: The batch has the columns `OBJECT` and `text_column` alone.

    Returns:
        The rows, and a string array, null where nothing is wrong.

    Raises:
        DataError: a value is not of the kind that `scan_objects` found.
    """
    objects = [parse_object(line) for line in lines]
    errors = [BROKEN if found is None else _text_error(found.get(text_column)) for found in objects]
    schema = columns.schema(text_column, keep_objects)
    arrays = []
    for field in schema:
        if field.name == OBJECT:
            values = [line if found is not None else None for line, found in zip(lines, objects, strict=True)]
        else:
            as_json = field.name in columns.mixed
            cells = [found.get(field.name) if found is not None else None for found in objects]
            values = [_as_text(cell, as_json) for cell in cells] if pa.types.is_string(field.type) else cells
        try:
            arrays.append(pa.array(values, field.type))
        except (pa.ArrowException, OverflowError):  # whose message would quote the value
            raise DataError(f"{where}: changed while it was read. Start anew when it is complete.") from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema), pa.array(errors, pa.string())


def parse_object(line: str | None) -> dict[str, Any] | None:
    """The object of a line; None: the line holds none, or one in which a name stands twice."""
    if line is None:
        return None
    try:
        found = json.loads(line, object_pairs_hook=_object, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int):
        if abs(value) <= 2**53:
            return "whole"  # a float64 could hold it too
        return "long" if -(2**63) <= value < 2**63 else "endless"
    return {str: "text", float: "fraction"}.get(type(value), "nested")


def _text_error(value: object) -> str | None:
    """What is wrong with a text; a missing one is found where texts are read."""
    if value is None:
        return None
    if not isinstance(value, str):
        return NO_STRING
    return None if is_unicode(value) else NO_UNICODE


def _as_text(value: object, as_json: bool) -> str | None:
    if value is None:
        return None
    if as_json or not isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return text if is_unicode(text) else json.dumps(value)
    return value if is_unicode(value) else value.encode("utf-8", "backslashreplace").decode("utf-8")
