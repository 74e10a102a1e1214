"""Files made to fill a memory: each is refused, or read, within little time and memory, by training and by scoring."""

import dataclasses
import io
import json
import os
import random
import resource
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet
import pytest

from moderation import memory
from moderation.errors import DataError
from moderation.scoring.lines import TOO_LONG, pipe_lines
from moderation.scoring.readers import open_table
from moderation.scoring.writers import row_bytes
from moderation.tables import bounds, parquet_pages, whole_files
from moderation.tables.compression import open_unpacked
from moderation.tables.fixed_sizes import expanded_bytes, holds_list_views, slot_bytes
from moderation.tables.json_objects import parse_object, read_lines
from moderation.tables.parquet_files import _without_fixed_sizes, open_parquet
from moderation.tables.reading import read_table
from moderation.tables.whole_files import read_lines_whole
from tests import bombs
from tests.attack_table import Attack

MOST_MB = 850  # beside what the process holds before it reads, some 150 MB where nothing else was loaded
SEED = 20


def scored(path: Path) -> int:
    """Rows that scoring would get."""
    table = open_table(path, text_column="comment_text")
    return sum(chunk.batch.num_rows for chunk in table.chunks(2000))


def trained(path: Path) -> int:
    return len(read_table(path))


READERS: tuple[Callable[[Path], int], ...] = (trained, scored)


def peak_mb(work: Callable[[], object]) -> tuple[float, str]:
    """Run in a process of its own; the memory it took at most beside its parent's, and the message at its end."""
    held = psutil.Process().memory_info().rss
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            try:
                said = str(work())
            except DataError as error:
                said = f"DataError {error}"
            except BaseException as error:
                said = f"FAULT {error!r}"
            os.write(writer, said.encode(errors="replace")[:4000])
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:  # noqa: PTH123 - a descriptor
        said = pipe.read().decode()
    _, status, usage = os.wait4(child, 0)
    assert status == 0, f"ended by {status}"
    return max(0.0, usage.ru_maxrss / 1024 - held / 2**20), said


def make(work: Callable[[], object]) -> str:
    """Make a file in a process of its own, so that this one does not grow."""
    _, said = peak_mb(work)
    assert not said.startswith(("FAULT", "DataError")), said
    return said


def try_both(path: Path, attack: Attack, expected: str | None = None, most_mb: int = MOST_MB) -> None:
    """Both readers read the file, or refuse it with a message that names it, in bounded memory.

    In the long form a file may also be too large for the memory that a busy machine has left.
    """
    for read in READERS:
        peak, said = peak_mb(lambda read=read: read(path))  # type: ignore[misc]
        packed = path.stat().st_size / 1e3
        print(f"{path.name}, {packed:,.0f} KB, {read.__name__}: {peak:,.0f} MB, {said[:200]}")  # noqa: T201 - with -s
        assert not said.startswith("FAULT"), said
        assert peak < most_mb, said
        assert not said.startswith("DataError") or str(path) in said
        if expected is not None:
            assert expected in said or (attack.long and TOO_LARGE in said), said
        attack.tried()
    path.unlink()


def written(folder: Path, name: str, packing: str, n_bytes: int) -> Path:
    """A text of `bombs.CONTENTS`."""
    return Path(make(lambda: bombs.write(folder, name, packing, n_bytes)))


def try_here(path: Path, attack: Attack) -> None:
    """Both readers read the file, or refuse it with a message that names it."""
    for read in READERS:
        try:
            read(path)
        except DataError as error:
            assert str(path) in str(error)
        attack.tried()
    path.unlink()


@pytest.fixture(autouse=True)
def small_bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the short form the bounds are smaller, and so are the bombs."""
    if request.config.getoption("--long"):
        return
    for name, value in {
        "CELL_BYTES": 1 << 18,
        "ROW_BYTES": 1 << 20,
        "SKIPPED_BYTES": 1 << 22,
        "EMPTY_LINES": 10_000,
        "UNPACKED_STRETCH": 1 << 22,
        "PAGE_BYTES": 1 << 20,
        "PAGE_VALUES": 1 << 18,
        "DECODED_BYTES": 1 << 20,
    }.items():
        monkeypatch.setattr(bounds, name, value)


PACKED = "are packed to less than"
TOO_LARGE = "too large for the memory here"


@pytest.mark.hostile("bombs: packed tables")
def test_files_that_unpack_to_very_much_are_refused_before_they_are_read(tmp_path: Path, attack: Attack) -> None:
    n_bytes = attack.cases(6 << 20, 2 << 30)
    packings = (".zst", ".gz", ".zip") if attack.long else (".zst",)
    names = list(bombs.CONTENTS) if attack.long else ["one cell", "empty lines", "blanks", "UTF-16, one line"]
    for name in names:
        for packing in packings:
            try_both(written(tmp_path, name, packing, n_bytes), attack, PACKED)
    for packing in (".gz", ".zip"):
        try_both(written(tmp_path, "one line", packing, n_bytes), attack, PACKED)


ENDLESS, EMPTY = "does not end within", "empty lines in a row"
PLAIN = [
    *((name, ENDLESS) for name in ("one cell", "one line", "quotes", "a row of commas", "a row of empty quotes")),
    *((name, ENDLESS) for name in ("a header of commas", "zero bytes", "tabs", "one line of JSON", "blanks")),
    *((name, ENDLESS) for name in ("brackets", "pairs of brackets", "an astral letter and a long line")),
    *((name, EMPTY) for name in ("empty lines", "empty lines with carriage returns", "lines of blanks")),
    ("UTF-16, empty lines", EMPTY),
    *((name, None) for name in ("ragged rows", "a quote that stays open", "UTF-16, one line")),  # rows with errors
]


@pytest.mark.hostile("bombs: plain tables")
@pytest.mark.parametrize(("name", "expected"), PLAIN)
def test_an_endless_table_costs_little_memory(name: str, expected: str | None, tmp_path: Path, attack: Attack) -> None:
    slow = name in ("ragged rows", "a quote that stays open")  # each line is a row with an error
    n_bytes = attack.cases(1 << 14 if slow else 6 << 20, 1 << 23 if slow else 3 << 29)
    try_both(written(tmp_path, name, "", n_bytes), attack, expected)


@pytest.mark.hostile("bombs: plain tables")
def test_endless_columns_and_names_are_refused(tmp_path: Path, attack: Attack) -> None:
    n_columns = attack.cases(5000, 1_000_000)
    make(lambda: bombs.many_names_in_a_header(tmp_path / "t.csv", n_columns))
    try_both(tmp_path / "t.csv", attack, "columns or more; expected 4,096 or fewer")
    make(lambda: bombs.many_columns(tmp_path / "t.parquet", 5000))
    try_both(tmp_path / "t.parquet", attack, "5,001 columns; expected 4,096 or fewer")
    make(lambda: bombs.many_names(tmp_path / "t.jsonl", n_columns, nested=False))
    try_both(tmp_path / "t.jsonl", attack, "more than 4,096 different names")
    make(lambda: bombs.many_names(tmp_path / "t.jsonl", 5000, nested=True))
    try_both(tmp_path / "t.jsonl", attack)


@pytest.mark.hostile("bombs: nesting")
@pytest.mark.parametrize("sign", "[{")
def test_json_may_be_nested_up_to_the_limit(sign: str, tmp_path: Path, attack: Attack) -> None:
    for depth in (98, 99, 100, 101, 500, 950, 990, 5000, 10_000, attack.cases(10**5, 10**6)):
        path = tmp_path / "t.jsonl"
        bombs.deep(path, depth, sign)
        line = path.read_text(encoding="utf-8").splitlines()[1]
        assert (parse_object(line) is None) == (depth >= bounds.NESTING)
        try_here(path, attack)
    assert parse_object('{"a": "' + "[" * 200 + '\\"' + "{" * 200 + '"}') is not None


@pytest.mark.hostile("bombs: archives")
def test_odd_archives_are_read_or_refused(tmp_path: Path, attack: Attack) -> None:
    n_bytes = attack.cases(6 << 20, 2 << 30)
    path = tmp_path / "t.csv.zip"
    make(lambda: bombs.wrong_size(path, n_bytes, claimed=20))
    try_both(path, attack, "not a complete .zip file")
    make(lambda: bombs.wrong_size(path, n_bytes, claimed=2**32 - 2))
    try_both(path, attack, PACKED)
    bombs.nested(path, 20)
    try_both(path, attack, "0 tables")
    make(lambda: bombs.many_members(path, attack.cases(1, 200_000)))
    try_both(path, attack, "not a complete .zip file" if attack.long else None)
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        make(lambda method=method: bombs.other_methods(path, method, 1 << 20))  # type: ignore[misc]
        try_both(path, attack, "not compressed with deflate")
    for name in ("../../t.csv", "/etc/t.csv", "..\\t.csv", "a\0.csv", "t.csv/", "t.csv\n", "C:t.csv", "\u202etxt.csv"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, bombs.HEADER)
        try_here(path, attack)
    for ending in (".bz2", ".xz", ".zip.001", ".7z", ".rar", ".tar.gz", ".lz4"):
        odd = tmp_path / f"t.csv{ending}"
        odd.write_bytes(b"x" * 100)
        try_here(odd, attack)
    make(lambda: bombs.huge_window(tmp_path / "t.csv.zst"))
    try_both(tmp_path / "t.csv.zst", attack, "more than 128 MiB of memory")
    make(lambda: bombs.many_gz_members(tmp_path / "t.csv.gz", attack.cases(2000, 2_000_000)))
    try_both(tmp_path / "t.csv.gz", attack)
    make(lambda: bombs.many_gz_members(tmp_path / "t.csv.gz", 100, b"\n" * attack.cases(100_000, 10_000_000)))
    try_both(tmp_path / "t.csv.gz", attack, PACKED)


@pytest.mark.hostile("bombs: archives")
def test_a_directory_of_very_many_files_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.zip"
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 60_000) + bytes(16) + b"x" * 60_000
    n_entries = 80
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, n_entries, n_entries, n_entries * len(entry), 0, 0)
    path.write_bytes(entry * n_entries + end)
    with pytest.raises(DataError, match=r"not a complete \.zip file"), open_unpacked(path):
        pass


PARQUET: dict[str, tuple[Callable[[Path, int], None], str | None]] = {
    # the second argument: 1 in the short form, 64 in the long one
    "cell": (lambda path, n: bombs.parquet_cell(path, n * 3_000_000), "has a page of"),
    "cell in a dictionary": (lambda path, n: bombs.parquet_cell(path, n * 3_000_000, dictionary=True), "has a page of"),
    "cell, a little too long": (lambda path, n: bombs.parquet_cell(path, 300_000 if n == 1 else 1 << 25), None),
    "one value very often": (lambda path, n: bombs.parquet_repeats(path, n * 1000, 20_000), "times the file"),
    "no value very often": (lambda path, n: bombs.parquet_constant(path, n * 3_000_000), "values; expected"),
    "a list without end": (lambda path, n: bombs.parquet_lists(path, n * 3_000_000), "values; expected"),
    "a list of long texts": (lambda path, n: bombs.parquet_lists(path, n * 50_000, "x" * 1000), None),
    "each text repeats the last": (lambda path, n: bombs.parquet_delta(path, n * 100, 200_000), "times the file"),
}


@pytest.mark.hostile("bombs: Parquet")
@pytest.mark.parametrize("name", PARQUET)
def test_parquet_is_measured_before_it_is_unpacked(name: str, tmp_path: Path, attack: Attack) -> None:
    bomb, expected = PARQUET[name]
    path = tmp_path / "t.parquet"
    make(lambda: bomb(path, attack.cases(1, 64)))
    try_both(path, attack, expected)


def lists(values: pa.Array, n_rows: int) -> pa.Array:
    """As many values in each row."""
    offsets = np.linspace(0, len(values), n_rows + 1).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def ordinary_columns(n_rows: int, width: int) -> dict[str, pa.Array]:
    """Columns that stand beside comments, of every kind that Arrow has."""
    numbers = np.random.default_rng(SEED)
    n = n_rows * width
    tokens, real = numbers.integers(0, 30_000, n), numbers.random(n, dtype=np.float32)
    words = pa.array([f"tag {number}" for number in range(20)])
    few = pa.DictionaryArray.from_arrays(pa.array(tokens.astype(np.int32) % 20), words)
    days = pa.array(tokens)
    nested = lists(pa.array(tokens, pa.int32()), n // 4)
    pairs = pa.MapArray.from_arrays(lists(days, n_rows).offsets, few.cast(pa.string()), pa.array(real))
    return {
        "int32": lists(pa.array(tokens, pa.int32()), n_rows),
        "int64": lists(pa.array(tokens), n_rows),
        "mask": lists(pa.array(np.ones(n, dtype=np.int64)), n_rows),
        "int8": lists(pa.array(tokens % 100, pa.int8()), n_rows),
        "float32": lists(pa.array(real), n_rows),
        "float64": lists(pa.array(real.astype(np.float64)), n_rows),
        "few floats": lists(pa.array(np.round(real, 1)), n_rows),
        "fixed size": pa.FixedSizeListArray.from_arrays(pa.array(real), width),
        "fixed size, some missing": pa.array(
            [[1.0, 2.0] if row % 3 else None for row in range(n_rows)], pa.list_(pa.float64(), 2)
        ),
        "nested": lists(nested, n_rows),
        "structs": lists(pa.StructArray.from_arrays([pa.array(tokens), few.cast(pa.string())], ["id", "tag"]), n_rows),
        "struct": pa.array([{"id": row, "tags": ["a", "b"], "none": None} for row in range(n_rows)]),
        "map": pairs,
        "texts": lists(few.cast(pa.string()), n_rows),
        "texts stored once": lists(few, n_rows),
        "decimals": lists(pa.array(tokens).cast(pa.decimal128(21, 2)), n_rows),
        "timestamps": lists(days.cast(pa.timestamp("us", "UTC")), n_rows),
        "dates": lists(pa.array(tokens, pa.int32()).cast(pa.date32()), n_rows),
        "durations": lists(days.cast(pa.duration("us")), n_rows),
        "truth": lists(pa.array(real < 0.5), n_rows),
        "false": lists(pa.array(real < 0), n_rows),
        "bytes": lists(pa.array([b"0123456789abcdef"] * n), n_rows),
        "bytes of one length": pa.array([b"0123456789abcdef"] * n_rows, pa.binary(16)),
        "nothing": lists(pa.nulls(n, pa.float32()), n_rows),
    }


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False, "data_page_version": "2.0"}])
def test_ordinary_columns_next_to_the_comments_are_read(
    options: dict[str, Any], tmp_path: Path, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the short form all bounds but that of a page are smaller, and so are the columns."""
    monkeypatch.setattr(bounds, "PAGE_BYTES", 1 << 26)
    n_rows = attack.cases(300, 20_000)

    def read_all() -> None:
        texts = [f"comment {number}, {random.Random(number).getrandbits(800):x}" for number in range(n_rows)]
        for name, column in ordinary_columns(n_rows, 384).items():
            table = pa.table({"comment_text": texts, "toxic": [0] * n_rows, name: column})
            pa.parquet.write_table(table, tmp_path / f"{name}.parquet", **options)
            for read in READERS:
                assert read(tmp_path / f"{name}.parquet") == n_rows

    make(read_all)


def test_files_that_pandas_writes_are_read(tmp_path: Path) -> None:
    frame = pd.DataFrame({"comment_text": [f"comment {number}" for number in range(300)]})
    frame["ids"] = [np.arange(number, number + 384) for number in range(300)]
    frame["embedding"] = [np.linspace(0, number, 384, dtype=np.float32) for number in range(300)]
    frame["tags"] = [["kind", "short"]] * 300
    frame["about"] = [{"likes": number, "when": pd.Timestamp("2024-01-01")} for number in range(300)]
    frame["kind"] = pd.Categorical(["a", "b"] * 150)
    frame.to_parquet(tmp_path / "t.parquet")
    for read in READERS:
        assert read(tmp_path / "t.parquet") == 300


@pytest.mark.hostile("bombs: Parquet")
@pytest.mark.parametrize("value", [0, 0.5, True])
def test_lists_of_very_many_equal_numbers_are_refused(value: float, tmp_path: Path, attack: Attack) -> None:
    path, n_in_row = tmp_path / "t.parquet", attack.cases(1 << 17, 1 << 23)
    for n_rows, expected in ((3, None), (24, "contains lists of")):
        make(lambda n=n_rows: bombs.parquet_numbers(path, value, n, n_in_row))  # type: ignore[misc]
        try_both(path, attack, expected)


@pytest.mark.hostile("bombs: Parquet")
@pytest.mark.parametrize("where", bombs.MISSING_LISTS)
def test_lists_of_a_fixed_size_that_are_missing_take_little_memory(where: str, tmp_path: Path, attack: Attack) -> None:
    path, n_rows = tmp_path / "t.parquet", attack.cases(400, 3000)
    make(lambda: bombs.parquet_missing_lists(path, n_rows, attack.cases(10_000, 100_000), where))
    try_both(path, attack, "views of lists" if where == "in a view" else "times the file")
    make(lambda: bombs.parquet_missing_lists(path, 1, attack.cases(70_000, 20_000_000), where))
    try_both(path, attack, "views of lists" if where == "in a view" else "contains lists of")


@pytest.mark.hostile("bombs: Parquet")
def test_sizes_of_fixed_size_lists_agree_with_arrow(
    tmp_path: Path, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Types that nest three deep, in any order: what is measured before is never less than what Arrow then takes."""
    path, n_rows = tmp_path / "t.parquet", 16
    monkeypatch.setattr(bounds, "DECODED_BYTES", 1 << 24)
    monkeypatch.setattr(bounds, "UNPACKED_STRETCH", 1 << 28)
    for case in range(attack.cases(60, 5000)):
        drawn = bombs.NestedTypes(random.Random(SEED + case))
        kind = drawn.kind(3)
        missing = pa.nulls(n_rows, kind)
        assert missing.nbytes <= n_rows * slot_bytes(kind) + 1000, (SEED + case, kind)
        column = drawn.column(kind, n_rows)
        pa.parquet.write_table(pa.table({"comment_text": ["a"] * n_rows, "many": column}), path)
        if holds_list_views(kind):
            with pytest.raises(DataError, match="views of lists"), open_parquet(path):
                pass
            continue
        with open_parquet(path) as table:
            read = pa.Table.from_batches(table.batches())["many"]
            assert read.to_pylist() == column.to_pylist(), (SEED + case, kind)
            plain = pa.parquet.ParquetFile(path, metadata=_without_fixed_sizes(table.file.metadata)).read()["many"]
        measured = sum(expanded_bytes(read.type, chunk) for chunk in plain.chunks)
        assert read.nbytes <= measured + 4 * plain.nbytes + 1000, (SEED + case, kind)
        counted = row_bytes(pa.record_batch([column], ["many"])).sum()
        assert read.nbytes <= counted + 4 * plain.nbytes + 1000, (SEED + case, kind)
        attack.tried()


@pytest.mark.hostile("bombs: Parquet")
def test_a_directory_of_very_many_row_groups_is_distinguished_from_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"comment_text": ["fine"] * 100, "toxic": [0] * 100})
    pa.parquet.write_table(table, path, row_group_size=1)
    size = pa.parquet.read_metadata(path).serialized_size
    monkeypatch.setattr(bounds, "DIRECTORY_BYTES", size)
    assert len(read_table(path)) == 100
    monkeypatch.setattr(bounds, "DIRECTORY_BYTES", size - 1)
    with pytest.raises(DataError, match=r"a directory \(footer\) of .* fewer and larger row groups"):
        read_table(path)


@pytest.mark.hostile("bombs: Parquet")
def test_a_page_that_is_large_before_it_is_unpacked_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    texts = [random.Random(SEED + n).randbytes(30).hex() for n in range(100)]
    pa.parquet.write_table(pa.table({"comment_text": texts}), path, compression="none")
    read_header = parquet_pages._read_header

    def lie(file: IO[bytes], at: int) -> object:
        return dataclasses.replace(read_header(file, at), packed_bytes=1 << 30)

    monkeypatch.setattr(parquet_pages, "_read_header", lie)
    with pytest.raises(DataError, match=r"has a page of 1,074 MB"):
        read_table(path)


@pytest.mark.hostile("bombs: Parquet")
def test_parquet_with_wrong_numbers_is_refused(tmp_path: Path, attack: Attack) -> None:
    """Every byte of the headers, and of the directory, may lie; nobody takes much memory, and nothing crashes."""
    whole = tmp_path / "whole.parquet"
    bombs.small_parquet(whole)
    content = whole.read_bytes()
    numbers = random.Random(SEED)
    path = tmp_path / "t.parquet"

    def read_all() -> str:
        for case in range(attack.cases(100, 20_000)):
            changed = bytearray(content)
            at = numbers.randrange(4, len(content))
            n = numbers.choice((1, 1, 5, 10))
            changed[at : at + n] = numbers.choice((b"\xff" * n, b"\xff" * (n - 1) + b"\x01", numbers.randbytes(n)))
            path.write_bytes(changed)
            for read in READERS:
                try:
                    read(path)
                except (DataError, MemoryError):
                    pass
                except BaseException as error:
                    return f"FAULT seed {SEED}, case {case}: {error!r}"
        return "held"

    peak, said = peak_mb(read_all)
    assert said == "held"
    assert peak < MOST_MB
    attack.tried(2 * attack.cases(100, 20_000))


class Endless(io.RawIOBase):
    """A pipe that gives the same piece very often."""

    def __init__(self, piece: bytes, n_pieces: int) -> None:
        self.piece, self.n_left = piece, n_pieces

    def read(self, size: int = -1) -> bytes:
        self.n_left -= 1
        return self.piece if self.n_left >= 0 else b""


@pytest.mark.hostile("bombs: standard input")
def test_an_endless_line_of_a_pipe_is_reported_at_once_and_ends(attack: Attack) -> None:
    lines = pipe_lines(Endless(b"x" * (1 << 16), 1 << 20))
    assert next(lines) == [(None, TOO_LONG)]
    with pytest.raises(DataError, match="standard input: line 1 does not end within"):
        next(lines)
    empty = pipe_lines(Endless(b"\n" * 100, 100))
    assert sum(map(len, empty)) == 100 * 100
    attack.tried(2)


@pytest.mark.hostile("bombs: standard input")
@pytest.mark.parametrize("piece", [1, 7, 100, 1000])
def test_lines_and_rows_of_a_pipe_stay_in_step_around_one_that_is_too_long(
    piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "CELL_BYTES", 50)
    content = b"a\n" + b"x" * 50 + b"\n" + b"y" * 51 + b"\n\n" + b"z" * 500 + b"\nlast"
    pieces = [content[start : start + piece] for start in range(0, len(content), piece)]

    class Pieces(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return pieces.pop(0) if pieces else b""

    found = [line for some in pipe_lines(Pieces()) for line in some]
    assert found == [("a", None), ("x" * 50, None), (None, TOO_LONG), ("", None), (None, TOO_LONG), ("last", None)]


def test_a_pipe_or_a_device_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for name in ("t.csv", "zero.csv"):
        for read in READERS:
            with pytest.raises(DataError, match="a pipe or a device; expected a file"):
                read(tmp_path / name)


def test_lines_are_named_by_their_number() -> None:
    with pytest.raises(DataError, match=f"up to line {bounds.EMPTY_LINES + 2:,} more than"):
        list(read_lines(io.BytesIO(b"{}\n" + b"\n" * (bounds.EMPTY_LINES + 5)), "t.jsonl"))
    lines = read_lines(io.BytesIO(b"{}\n" + b"x" * (bounds.SKIPPED_BYTES + 2 * bounds.CELL_BYTES)), "t.jsonl")
    assert next(lines) == "{}"
    with pytest.raises(DataError, match=r"t\.jsonl: line 2 does not end within"):
        next(lines)


# Little memory


def test_a_table_that_does_not_fit_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_files, "free_bytes", lambda: 100_000)
    rows = {"comment_text": ["you are kind"] * 2000, "toxic": [0] * 2000}
    pa.parquet.write_table(pa.table(rows), tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("comment_text,toxic\n" + "you are kind,0\n" * 2000, encoding="utf-8")
    (tmp_path / "t.jsonl").write_text('{"comment_text": "you", "toxic": 0}\n' * 2000, encoding="utf-8")
    for name in ("t.parquet", "t.csv", "t.jsonl"):
        with pytest.raises(DataError, match=TOO_LARGE):
            read_table(tmp_path / name)
        assert scored(tmp_path / name) == 2000
    monkeypatch.setattr(whole_files, "free_bytes", lambda: None)  # nobody knows
    assert len(read_table(tmp_path / "t.csv")) == 2000


def test_free_memory_is_the_smallest_of_all_limits(tmp_path: Path) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    assert memory.free_bytes(proc, cgroup) is None
    proc.mkdir()
    (cgroup / "memory").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:   64 kB\n")
    assert memory.free_bytes(proc, cgroup) == 64 << 10
    for name, content in {"max": "50000\n", "current": "30000\n", "stat": "anon 5\ninactive_file 10000\n"}.items():
        (cgroup / f"memory.{name}").write_text(content)
    assert memory.free_bytes(proc, cgroup) == 30_000
    (cgroup / "memory.max").write_text("max\n")
    assert memory.free_bytes(proc, cgroup) == 64 << 10
    (cgroup / "memory" / "memory.limit_in_bytes").write_text("1000\n")
    (cgroup / "memory" / "memory.usage_in_bytes").write_text("2000\n")
    assert memory.free_bytes(proc, cgroup) == 0


def write_rows(path: Path, n_rows: int) -> None:
    """A sound table."""
    text = f"you are {random.Random(SEED).getrandbits(1000):x}"
    if path.suffix == ".parquet":
        table = {"comment_text": [f"{number} {text}" for number in range(n_rows)], "toxic": [0, 1] * (n_rows // 2)}
        pa.parquet.write_table(pa.table(table), path)
        return
    row = '{"comment_text": "%d %s", "toxic": 0}\n' if ".jsonl" in path.name else "%d %s,0\n"
    begin = "" if ".jsonl" in path.name else "comment_text,toxic\n"
    content = (begin + "".join(row % (number, text) for number in range(n_rows))).encode()
    if path.suffix == ".zst":
        bombs.write_zst(path, iter([content]))
    else:
        path.write_bytes(content)


@pytest.mark.hostile("bombs: little memory")
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory as Linux has them")
@pytest.mark.parametrize("name", ["t.csv", "t.csv.zst", "t.jsonl", "t.parquet"])
def test_too_little_memory_is_reported(
    name: str, tmp_path: Path, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the real bounds
    n_rows = attack.cases(40_000, 300_000)
    path = tmp_path / name
    make(lambda: write_rows(path, n_rows))

    def limited(room: int) -> int:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - the memory is short
            taken = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + room, taken + room))
        return trained(path)

    for room in range(0, 300 << 20, attack.cases(100 << 20, 10 << 20)):
        _, said = peak_mb(lambda room=room: limited(room))  # type: ignore[misc]
        fine = ("FAULT MemoryError", "FAULT ArrowMemoryError", "DataError", str(n_rows))
        assert said.startswith(fine), (room, said)
        assert not said.startswith("DataError") or TOO_LARGE in said, (room, said)
        attack.tried()


def errors_of(path: Path) -> list[str | None]:
    """What is wrong with each row, when it is scored."""
    table = open_table(path, text_column="comment_text")
    return [error for chunk in table.chunks(9) for error in chunk.errors.to_pylist()]


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_the_limit_of_a_line_is_the_same_everywhere(end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has exactly so many bytes is taken, with one more it is refused: in CSV, JSON lines, Parquet, of a pipe."""
    monkeypatch.setattr(bounds, "CELL_BYTES", 50)
    for n, is_taken in ((50, True), (51, False)):
        assert next(pipe_lines(io.BytesIO(("x" * n + end).encode())))[0][1] == (None if is_taken else TOO_LONG)
        line = json.dumps({"t": "x" * (n - 9)}) + end
        assert ([*read_lines(io.BytesIO(line.encode()), "t.jsonl")] != [None]) == is_taken
        (tmp_path / "t.csv").write_bytes(f"comment_text\n{'x' * n}{end}".encode())
        kinds = (pa.string(), pa.large_string(), pa.string_view())
        tables = [tmp_path / f"t{number}.parquet" for number in range(len(kinds))]
        for path, kind in zip(tables, kinds, strict=True):
            pa.parquet.write_table(pa.table({"comment_text": pa.array(["x" * n], kind)}), path)
        for path in (tmp_path / "t.csv", *tables):
            assert (errors_of(path) == [None]) == is_taken
            if is_taken:
                assert len(read_table(path)) == 1
            else:
                with pytest.raises(DataError, match="a field or line of more than"):
                    read_table(path)


def test_a_line_within_quotes_is_not_cut_unnoticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "CELL_BYTES", 50)
    path = tmp_path / "t.csv"
    for within in ('""' * 40, "x" + '""' * 40, 'y",0\n' + "z" * 60):
        path.write_text('comment_text,toxic\n"a\n' + within + '",0\nfine,0\n')
        errors = errors_of(path)
        assert errors[-1] is None
        assert any(errors)


@pytest.mark.hostile("tables: headers read in two ways")
@pytest.mark.parametrize(
    "content",
    [
        b"\x15\x80\x80\x80\x80\x20\x00",  # 2**33 as a number of 32 bits
        b"\x15\x82\x00\x00",  # more bytes than it needs
        b"\x15\x82\x80\x80\x00\x00",
        b"\x15\x02\x05\x02\x04\x00",  # the first field twice
        b"\x15\x02\x06\x02\x04\x00",  # and as another type
        b"\x05\x82\x80\x08\x02\x00",  # a field's number beyond 16 bits
        b"\x05\x00\x02\x00",  # field nought
        b"\x05\x01\x02\x00",  # a negative one
    ],
)
def test_headers_that_readers_understand_differently_are_refused(content):
    assert parquet_pages._Compact(b"\x15\x04\x26\x80\x01\x00").read_struct() == {(1, 5): 2, (3, 6): 64}
    with pytest.raises(ValueError, match=r"cut off|than necessary|is repeated"):
        parquet_pages._Compact(content).read_struct()


@pytest.mark.hostile("bombs: plain tables")
@pytest.mark.parametrize("n_pieces", [1, 3, 40])
def test_the_tail_of_a_long_json_line_is_not_held_in_memory(n_pieces: int, tmp_path: Path, monkeypatch) -> None:
    """And the lines around it are what they were, with their numbers."""
    monkeypatch.setattr(bounds, "CELL_BYTES", 1 << 20)
    monkeypatch.setattr(bounds, "SKIPPED_BYTES", 30 << 20)
    path, sound = tmp_path / "t.jsonl", b'{"comment_text": "a", "toxic": 0}\n'
    path.write_bytes(
        sound * 2 + b'{"comment_text": "' + b"x" * (n_pieces << 20) + b'"}\n' + sound + b"nonsense\n" + sound
    )
    if n_pieces == 40:
        with pytest.raises(DataError, match="line 3 does not end within"):
            read_lines_whole(path)
        return
    lines = read_lines_whole(path).splitlines(keepends=True)
    assert lines[:2] + lines[3:] == [sound, sound, sound, b"nonsense\n", sound]
    assert bounds.is_too_long(len(lines[2]) - 1)
    assert len(lines[2]) < 3 << 20
    with pytest.raises(DataError, match=r"(?s)3.*5"):
        read_table(path)
