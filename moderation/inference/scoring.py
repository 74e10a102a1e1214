"""Score tables: one function over Arrow record batches with no state but the classifier.

Rows are independent of each other, so that any batch of any table may be scored anywhere: `moderation score` calls the
function chunk by chunk, and a cluster may map it over its partitions.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moderation.errors import DataError
from moderation.evaluation.probabilities import predict

NO_TEXT = "no text"
NO_STRING = "the text is not a string"
NO_UNICODE = "the text is not valid Unicode"
NO_NUMBER = "the model's answer is not a number"

_Column = list[str | None]


class ReadsTexts(Protocol):
    """What is asked of a classifier here; `moderation.Classifier` is one."""

    labels: tuple[str, ...]
    thresholds: npt.NDArray[np.float32]
    model_version: str

    def read(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Probabilities, float32 `(n_texts, n_labels)`, and windows of each text, int64 `(n_texts,)`."""


class NamesLanguages(Protocol):
    """What tells languages; `moderation.data.languages.Languages` does."""

    def detect(self, text: str) -> str:
        """ISO 639-1 code, `und` where it cannot be told."""


def score_batch(
    classifier: ReadsTexts,
    batch: pa.RecordBatch,
    *,
    text_column: str,
    errors: pa.Array | None = None,
    languages: NamesLanguages | None = None,
) -> pa.RecordBatch:
    """Score the texts of a record batch.

    Equal texts of the batch are computed once. A row without a usable text (null, blank, not a string, not valid
    Unicode, which half a surrogate pair is not) gets an `error` and no results.

    Args:
        classifier: What to ask; its answers depend on the text alone, and so do those of this function.
        batch: Any columns, `text_column` among them.
        text_column: Name of the column that holds the texts.
        errors: string, one per row: what is already known to be wrong with a row, which is then not scored; null: fine.
        languages: Fills the column `detected_language`; None: leave it null.

    Returns:
        The columns of `batch`, then those of `result_fields`. `flagged` is one string, the names joined by commas and
        empty where none is flagged, so that the column is the same in every format, CSV included.

    Raises:
        DataError: no such column, or a column of the batch has the name of a result.

    Example:
        scored = score_batch(classifier, pa.RecordBatch.from_pydict({"text": ["You are kind."]}), text_column="text")
    """
    schema = scored_schema(batch.schema, classifier.labels, text_column)
    texts, problems = _texts(batch.column(batch.schema.get_field_index(text_column)))
    for row, problem in enumerate(errors.to_pylist() if errors is not None else ()):
        problems[row] = problem or problems[row]
    unique: dict[str, int] = {}
    places = [
        unique.setdefault(text, len(unique)) if text is not None and problem is None else None
        for text, problem in zip(texts, problems, strict=True)
    ]
    probabilities, n_windows = _ask(classifier, list(unique))
    sound: list[bool] = np.isfinite(probabilities).min(axis=1, initial=True).tolist()
    problems = [
        NO_NUMBER if place is not None and not sound[place] else problem
        for place, problem in zip(places, problems, strict=True)
    ]
    rows = pa.array([place if place is not None and sound[place] else None for place in places], pa.int64())
    flagged = [
        ",".join(label for label, positive in zip(classifier.labels, flags, strict=True) if positive)
        for flags in predict(probabilities, classifier.thresholds).tolist()
    ]
    codes = [languages.detect(text) if languages is not None else None for text in unique]
    results = [
        *(pa.array(np.ascontiguousarray(column)) for column in probabilities.T),
        pa.array(flagged, pa.string()),
        pa.array(n_windows.astype(np.int32)),
        pa.array(codes, pa.string()),
        pa.array([classifier.model_version] * len(unique), pa.string()),
    ]
    columns = [*batch.columns, *(result.take(rows) for result in results), pa.array(problems, pa.string())]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def result_fields(labels: Sequence[str]) -> list[pa.Field]:
    """The columns that scoring adds: `p_<label>` float32 for each label, `flagged`, `n_windows`, ...

    >>> [field.name for field in result_fields(["toxic"])]
    ['p_toxic', 'flagged', 'n_windows', 'detected_language', 'model_version', 'error']
    """
    return [
        *(pa.field(f"p_{label}", pa.float32()) for label in labels),
        pa.field("flagged", pa.string()),
        pa.field("n_windows", pa.int32()),
        pa.field("detected_language", pa.string()),
        pa.field("model_version", pa.string()),
        pa.field("error", pa.string()),
    ]


def scored_schema(schema: pa.Schema, labels: Sequence[str], text_column: str, where: str = "the table") -> pa.Schema:
    """Schema of a scored table: the input's columns, then the results.

    Args:
        schema: The input's.
        labels: The classifier's.
        text_column: Must stand in `schema` once.
        where: Names the table in a message.

    Raises:
        DataError: the text column is absent, or a column has the name of a result.
    """
    check_free_names(schema.names, labels, where)
    if schema.names.count(text_column) != 1:
        raise DataError(f"{where}: {schema.names.count(text_column)} columns named {text_column!r}; expected one.")
    return pa.schema([*schema, *result_fields(labels)])


def check_free_names(names: Sequence[str], labels: Sequence[str], where: str) -> None:
    """Refuse a table in which a column has the name of a result.

    Raises:
        DataError: names them all.
    """
    taken = [field.name for field in result_fields(labels) if field.name in names]
    if taken:
        raise DataError(
            f"{where}: columns with the names of results: {', '.join(taken)}. Rename or remove them; a table that was "
            "scored before has them."
        )


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold texts; one that is null throughout can, in other parts of its table."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return any(
        test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    )


def _texts(column: pa.Array) -> tuple[_Column, _Column]:
    """The texts of a column, and what is wrong with each of them."""
    if not is_text(column.type):
        missing = column.is_null().to_pylist()
        return [None] * len(column), [NO_TEXT if null else NO_STRING for null in missing]
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        texts = column.to_pylist()
        broken = [False] * len(texts)
    except UnicodeDecodeError:
        values = column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
        texts = [_decode(value) for value in values]
        broken = [text is None and value is not None for text, value in zip(texts, values, strict=True)]
    problems = [
        NO_UNICODE if odd else NO_TEXT if text is None or not text.strip() else None
        for text, odd in zip(texts, broken, strict=True)
    ]
    return texts, problems


def _decode(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _ask(classifier: ReadsTexts, texts: list[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    if not texts:
        return np.empty((0, len(classifier.labels)), dtype=np.float32), np.empty(0, dtype=np.int64)
    return classifier.read(texts)
