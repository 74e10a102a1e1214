"""JSON lines as Arrow columns. A line may also travel as it stands, so that nothing in it changes on the way."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from moderation.errors import DataError
from moderation.scoring.records import NO_STRING, NO_UNICODE
from moderation.tables import bounds
from moderation.tables.columns import check_column_names, find_text_column, may_hold_texts
from moderation.tables.encodings import is_unicode
from moderation.tables.json_objects import parse_object

OBJECT = "\0object"  # column that holds whole objects, as the text of their lines
BROKEN = "not a JSON object"

_TYPES = {  # of a column, by the kinds of its values; what is not among them becomes JSON text
    frozenset({"text"}): pa.string(),
    frozenset({"truth"}): pa.bool_(),
    frozenset({"whole"}): pa.int64(),
    frozenset({"long"}): pa.int64(),
    frozenset({"whole", "long"}): pa.int64(),
    frozenset({"fraction"}): pa.float64(),
    frozenset({"fraction", "whole"}): pa.float64(),
}


@dataclass(frozen=True)
class ObjectColumns:
    """What a first pass over JSON lines found.

    Args:
        types: Column -> type, in the order in which the names first occur.
        names: Column -> its name in the objects, where that is another one: a table holds no half of a surrogate pair.
        text_column: Which of them holds the texts.
        mixed: Columns of text that hold JSON, since their values are objects, lists, or of several kinds.
        n_rows: Lines, broken ones included.
    """

    types: dict[str, pa.DataType]
    names: dict[str, str]
    text_column: str
    mixed: frozenset[str]
    n_rows: int

    def schema(self, text_column: str, keep_objects: bool) -> pa.Schema:
        """Schema of the batches: all columns, or the objects as they stand and the text column."""
        return pa.schema([(OBJECT, pa.string()), (text_column, pa.string())] if keep_objects else [*self.types.items()])


def scan_objects(
    lines: Iterable[str | None], text_column: str, where: str, *, keep_objects: bool, results: Collection[str] = ()
) -> ObjectColumns:
    """Learn the columns of JSON lines and count the rows.

    Args:
        lines: As of `data.json_objects.read_lines`.
        text_column: Always a column of texts, whatever else stands in some of its rows; found by
            `data.columns.find_text_column`.
        where: Names the file in a message.
        keep_objects: More names than a table has columns are no fault; of those beyond, the ones that may be the text
            column's and `results` are kept.
        results: Names that are added to the objects later, and must not stand there yet.

    Raises:
        DataError: no line is an object, there are too many names, or two that would be one in a table.
    """
    kinds: dict[str, set[str]] = {}
    kept = frozenset(results)
    n_rows = 0
    for line in lines:
        n_rows += 1
        for name, value in (parse_object(line) or {}).items():
            if name not in kinds:
                if len(kinds) >= bounds.COLUMNS and not keep_objects:
                    raise DataError(
                        f"{where}: more than {bounds.COLUMNS:,} different names in its objects, too many for columns "
                        "of a table. Choose an output that ends in .jsonl, which keeps the objects as they are."
                    )
                counts = name in kept or (len(kinds) < 2 * bounds.COLUMNS and may_hold_texts(name, text_column))
                if len(kinds) >= bounds.COLUMNS and not counts:
                    continue
                kinds[name] = set()
            if value is not None:
                kinds[name].add(_kind(value))
    if not kinds:
        raise DataError(f'{where}: no line is a JSON object; expected one a line, such as {{"{text_column}": "…"}}.')
    columns = {name: _as_unicode(name) for name in kinds}
    if not keep_objects:
        check_column_names(columns.values(), where)
    text_column = _as_unicode(find_text_column(kinds, text_column, where))
    mixed = {columns[name] for name, found in kinds.items() if found and frozenset(found) not in _TYPES}
    types = {columns[name]: _TYPES.get(frozenset(found), pa.string()) for name, found in kinds.items()}
    if text_column in types:
        types[text_column], mixed = pa.string(), mixed - {text_column}
    names = {column: name for name, column in columns.items() if name != column}
    return ObjectColumns(types, names, text_column, frozenset(mixed), n_rows)


def object_batch(
    lines: Sequence[str | None], columns: ObjectColumns, text_column: str, where: str, *, keep_objects: bool
) -> tuple[pa.RecordBatch, pa.Array]:
    r"""Rows of JSON lines, and what is wrong with each.

    Half a surrogate pair, which no table can hold, becomes its escape, as in `\ud83d`, also in the name of a column; in
    a text it is an error as well.

    Args:
        lines: As of `data.json_objects.read_lines`.
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
    text_name = columns.names.get(text_column, text_column)
    errors = [BROKEN if found is None else _text_error(found.get(text_name)) for found in objects]
    schema = columns.schema(text_column, keep_objects)
    arrays = []
    for field in schema:
        if field.name == OBJECT:
            values = [line if found is not None else None for line, found in zip(lines, objects, strict=True)]
        else:
            as_json = field.name in columns.mixed
            name = columns.names.get(field.name, field.name)
            cells = [found.get(name) if found is not None else None for found in objects]
            values = [_as_text(cell, as_json) for cell in cells] if pa.types.is_string(field.type) else cells
        try:
            arrays.append(pa.array(values, field.type))
        except (pa.ArrowException, OverflowError):  # whose message would quote the value
            raise DataError(f"{where}: changed while it was read. Start anew when it is complete.") from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema), pa.array(errors, pa.string())


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
    return _as_unicode(value)


def _as_unicode(text: str) -> str:
    return text if is_unicode(text) else text.encode("utf-8", "backslashreplace").decode("utf-8")
