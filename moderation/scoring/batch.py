"""Score tables: one function over Arrow record batches, with no state other than the classifier.

Rows are independent of each other, so any batch of any table may be scored anywhere: `moderation score` calls the
function slice by slice, and a cluster may map it over its partitions.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from moderation.errors import DataError
from moderation.scoring.records import (
    FLAGGED,
    NO_STRING,
    NO_TEXT,
    NO_UNICODE,
    NamesLanguages,
    ReadsTexts,
    result_names,
    score_texts,
)

_Column = list[str | None]
_TYPES = {
    FLAGGED: pa.list_(pa.string()),
    "n_windows": pa.int32(),
    "detected_language": pa.string(),
    "model_version": pa.string(),
    "error": pa.string(),
}


def score_batch(
    classifier: ReadsTexts,
    batch: pa.RecordBatch,
    *,
    text_column: str,
    errors: pa.Array | None = None,
    languages: NamesLanguages | None = None,
    flag_columns: bool = False,
) -> pa.RecordBatch:
    """Score the texts of a record batch.

    Equal texts in the batch are computed once. A row without a usable text (null, blank, not a string, or not valid
    Unicode, such as half of a surrogate pair) gets an `error` and no results.

    Args:
        classifier: The classifier; its results depend only on the text, and so do those of this function.
        batch: Any columns, `text_column` among them.
        text_column: Name of the column that holds the texts.
        errors: string, one per row: a known problem with the row, which is then not scored; null: no problem.
        languages: Fills the column `detected_language`; None: leave it null.
        flag_columns: Add a boolean `flag_<label>` for each label.

    Returns:
        The columns of `batch`, then those of `result_fields`. `flagged` is a list of names, empty if no label is
        flagged, null if the row was not scored.

    Raises:
        DataError: no such column, or a column of the batch has the name of a result.

    Example:
        scored = score_batch(classifier, pa.RecordBatch.from_pydict({"text": ["You are kind."]}), text_column="text")
    """
    schema = scored_schema(batch.schema, classifier.labels, text_column, flag_columns=flag_columns)
    texts, problems = _texts(batch.column(batch.schema.get_field_index(text_column)))
    for row, problem in enumerate(errors.to_pylist() if errors is not None else ()):
        problems[row] = problem or problems[row]
    found = score_texts(classifier, texts, problems, languages)
    by_text = [
        *(pa.array(np.ascontiguousarray(column)) for column in found.probabilities.T),
        pa.array(found.flagged, _TYPES[FLAGGED]),
        *(pa.array(np.ascontiguousarray(column)) for column in (found.flags.T if flag_columns else ())),
        pa.array(found.n_windows.astype(np.int32)),
        pa.array(found.languages, pa.string()),
        pa.array(found.model_versions, pa.string()),
    ]
    rows = pa.array(found.places, pa.int64())
    columns = [*batch.columns, *(column.take(rows) for column in by_text), pa.array(found.errors, pa.string())]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def result_fields(labels: Sequence[str], *, flag_columns: bool = False) -> list[pa.Field]:
    """The columns that scoring adds: `p_<label>` float32 for each label, `flagged`, `n_windows`, ...

    >>> [str(field.type) for field in result_fields(["toxic"], flag_columns=True)][:4]
    ['float', 'list<item: string>', 'bool', 'int32']
    """
    kinds = {"p_": pa.float32(), "flag_": pa.bool_()}
    names = result_names(labels, flag_columns=flag_columns)
    return [pa.field(name, _TYPES[name] if name in _TYPES else kinds[name[: name.index("_") + 1]]) for name in names]


def scored_schema(
    schema: pa.Schema, labels: Sequence[str], text_column: str, where: str = "the table", *, flag_columns: bool = False
) -> pa.Schema:
    """Schema of a scored table: the input's columns, then the results.

    Args:
        schema: The input's.
        labels: The classifier's.
        text_column: Must be in `schema` exactly once.
        where: Names the table in a message.
        flag_columns: Add a boolean `flag_<label>` for each label.

    Raises:
        DataError: the text column is missing, or a column has the name of a result.
    """
    check_free_names(schema.names, labels, where, flag_columns=flag_columns)
    if schema.names.count(text_column) != 1:
        raise DataError(f"{where}: {schema.names.count(text_column)} columns named {text_column!r}; expected one.")
    return pa.schema([*schema, *result_fields(labels, flag_columns=flag_columns)])


def check_free_names(names: Sequence[str], labels: Sequence[str], where: str, *, flag_columns: bool = False) -> None:
    """Refuse a table that has a column with the name of a result.

    Raises:
        DataError: lists all such columns.
    """
    taken = [name for name in result_names(labels, flag_columns=flag_columns) if name in names]
    if taken:
        raise DataError(
            f"{where}: these columns have the names of result columns: {', '.join(taken)}. Rename or remove them. "
            "A table that was scored before has such columns."
        )


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold texts; a null column can, in other parts of its table."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return any(
        test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    )


def _texts(column: pa.Array) -> tuple[_Column, _Column]:
    """The texts of a column, and what is wrong with each of them other than being blank."""
    if not is_text(column.type):
        missing = column.is_null().to_pylist()
        return [None] * len(column), [NO_TEXT if null else NO_STRING for null in missing]
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        texts = column.to_pylist()
        return texts, [None] * len(texts)
    except UnicodeDecodeError:
        values = column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
        texts = [_decode(value) for value in values]
        odd = [text is None and value is not None for text, value in zip(texts, values, strict=True)]
        return texts, [NO_UNICODE if broken else None for broken in odd]


def _decode(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return None
