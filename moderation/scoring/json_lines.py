"""JSON lines as Arrow columns. A line may also be kept as it is, so that nothing in it changes."""

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

# Type of a column, by the kinds of its values; other combinations become JSON text.
_TYPES = {
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
    """The result of a first pass over JSON lines.

    Args:
        types: Column -> type, in the order in which the names first occur.
        names: Column -> its name in the objects, if it differs: a table cannot hold half of a surrogate pair.
        text_column: Which of them holds the texts.
        mixed: Text columns that hold JSON, because their values are objects, lists, or of several kinds.
        n_rows: Lines, broken ones included.
    """

    types: dict[str, pa.DataType]
    names: dict[str, str]
    text_column: str
    mixed: frozenset[str]
    n_rows: int

    def schema(self, text_column: str, keep_objects: bool) -> pa.Schema:
        """Schema of the batches: all columns, or the unchanged objects and the text column."""
        return pa.schema([(OBJECT, pa.string()), (text_column, pa.string())] if keep_objects else [*self.types.items()])


def scan_objects(
    lines: Iterable[str | None], text_column: str, where: str, *, keep_objects: bool, results: Collection[str] = ()
) -> ObjectColumns:
    """Learn the columns of JSON lines and count the rows.

    Args:
        lines: From `tables.json_objects.read_lines`.
        text_column: Always treated as a column of texts, whatever else some of its rows hold; found by
            `tables.columns.find_text_column`.
        where: Names the file in a message.
        keep_objects: Allow more names than a table may have columns; of the excess, keep possible names of the text
            column and those in `results`.
        results: Names that are added to the objects later, and that they must not have yet.

    Raises:
        DataError: no line is an object, there are too many names, or two names become one in a table.
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
                        f"{where}: more than {bounds.COLUMNS:,} different names in its objects, too many columns for a "
                        "table. Choose an output that ends in .jsonl, which keeps the objects as they are."
                    )
                counts = name in kept or (len(kinds) < 2 * bounds.COLUMNS and may_hold_texts(name, text_column))
                if len(kinds) >= bounds.COLUMNS and not counts:
                    continue
                kinds[name] = set()
            if value is not None:
                kinds[name].add(_kind(value))
    if not kinds:
        raise DataError(f'{where}: no line is a JSON object; expected one per line, such as {{"{text_column}": "…"}}.')
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

    Half of a surrogate pair, which a table cannot hold, becomes its escape, such as `\ud83d`, even in a column name; in
    a text it is also an error.

    Args:
        lines: From `tables.json_objects.read_lines`.
        columns: From `scan_objects`.
        text_column: The column in which a value that is not a text is an error.
        where: Names the file in a message.
        keep_objects: The batch has only the columns `OBJECT` and `text_column`.

    Returns:
        The rows, and a string array of errors, null for rows without one.

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
        except (pa.ArrowException, OverflowError):  # their messages would quote the value
            raise DataError(f"{where}: changed while it was read. Start again when it is complete.") from None
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
    """What is wrong with a text; missing texts are found later, when texts are scored."""
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
