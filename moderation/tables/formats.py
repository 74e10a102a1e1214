"""Formats of tables, by the endings of their files."""

from pathlib import PurePath

FORMATS = ".csv, .tsv, .parquet, .jsonl or .ndjson, each also with .gz, .zip or .zst"
TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
COMPRESSIONS = (".gz", ".zip", ".zst")


def is_named_as_table(path: PurePath) -> bool:
    """Whether the last ending of a path is one that tables have.

    >>> is_named_as_table(PurePath("a.CSV.gz")), is_named_as_table(PurePath("you are kind."))
    (True, False)
    """
    return path.suffix.lower() in (*TABLES, *COMPRESSIONS)
