"""Files that are small on a disk and large when they are read, by name; each is made where it is asked for."""

import gzip
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

HEADER = b"id,comment_text,toxic\n1,fine,0\n"
_PIECE = 1 << 20


def repeated(content: bytes, n_bytes: int) -> Iterator[bytes]:
    """Some bytes again and again, at least `n_bytes` of them, in pieces."""
    piece = content * max(1, min(_PIECE, n_bytes) // len(content))
    for _ in range(-(-n_bytes // len(piece))):
        yield piece


def write_zst(path: Path, pieces: Iterator[bytes], begin: bytes = b"", end: bytes = b"") -> None:
    with pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), "zstd") as stream:
        stream.write(begin)
        for piece in pieces:
            stream.write(piece)
        stream.write(end)


def write_gz(path: Path, pieces: Iterator[bytes], begin: bytes = b"", end: bytes = b"") -> None:
    with gzip.open(path, "wb", compresslevel=9) as stream:
        stream.write(begin)
        for piece in pieces:
            stream.write(piece)
        stream.write(end)


def write_zip(path: Path, pieces: Iterator[bytes], begin: bytes = b"", end: bytes = b"", method: int = 8) -> None:
    with (
        zipfile.ZipFile(path, "w", method, compresslevel=9) as archive,
        archive.open(path.name.removesuffix(".zip"), "w", force_zip64=True) as stream,
    ):
        stream.write(begin)
        for piece in pieces:
            stream.write(piece)
        stream.write(end)


def write_plain(path: Path, pieces: Iterator[bytes], begin: bytes = b"", end: bytes = b"") -> None:
    with path.open("wb") as stream:
        stream.write(begin)
        for piece in pieces:
            stream.write(piece)
        stream.write(end)


WRITERS: dict[str, Callable[..., None]] = {"": write_plain, ".zst": write_zst, ".gz": write_gz, ".zip": write_zip}

CONTENTS: dict[str, tuple[str, bytes, bytes, bytes]] = {
    # name: ending, beginning, what is repeated, end
    "one cell": (".csv", HEADER + b'2,"', b"x", b'",0\n'),
    "one line": (".csv", HEADER, b"x", b"\n"),
    "quotes": (".csv", HEADER + b'2,"', b'""', b'",0\n'),
    "a quote that stays open": (".csv", HEADER + b'2,"', b"x\n", b""),
    "a row of commas": (".csv", HEADER, b",", b"\n"),
    "a row of empty quotes": (".csv", HEADER, b'"",', b"\n"),
    "a header of commas": (".csv", b"comment_text,toxic", b",", b"\n1,2\n"),
    "empty lines": (".csv", HEADER, b"\n", b"2,fine,1\n"),
    "empty lines with carriage returns": (".csv", HEADER, b"\r\n", b""),
    "lines of blanks": (".jsonl", b'{"comment_text": "a", "toxic": 0}\n', b" \n", b""),
    "zero bytes": (".csv", HEADER, b"\0", b""),
    "small rows": (".csv", HEADER, b"1,a,0\n", b""),
    "ragged rows": (".csv", HEADER, b"1\n", b""),
    "tabs": (".tsv", b"comment_text\ttoxic\na\t0\n", b"\t", b"\n"),
    "one line of JSON": (".jsonl", b'{"comment_text": "a", "toxic": 0}\n{"comment_text": "', b"x", b'"}\n'),
    "blanks": (".jsonl", b'{"comment_text": "a", "toxic": 0}\n', b" ", b"\n"),
    "brackets": (".jsonl", b'{"comment_text": "a", "toxic": 0}\n{"a": ', b"[", b"\n"),
    "pairs of brackets": (".jsonl", b'{"comment_text": "a", "toxic": 0}\n{"a": [', b"[],", b"[]]}\n"),
    "small objects": (".jsonl", b"", b'{"comment_text": "a", "toxic": 0}\n', b""),
    "UTF-16, one line": (".csv", HEADER.decode().encode("utf-16"), "x".encode("utf-16-le"), b""),
    "UTF-16, empty lines": (".csv", HEADER.decode().encode("utf-16"), "\n".encode("utf-16-le"), b""),
    "an astral letter and a long line": (".csv", HEADER + b"2,\xf0\x9f\x98\x80", b"x", b",0\n"),
}


def write(folder: Path, name: str, packing: str, n_bytes: int) -> Path:
    """A text of `CONTENTS`, about so long, packed as the ending says."""
    ending, begin, content, end = CONTENTS[name]
    path = folder / f"bomb{ending}{packing}"
    WRITERS[packing](path, repeated(content, n_bytes), begin, end)
    return path


# Zip archives that are odd in other ways


def many_members(path: Path, n_members: int) -> None:
    """An archive of many empty files."""
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(n_members):
            archive.writestr(f"{number}.txt", b"")
        archive.writestr("t.csv", HEADER)


def wrong_size(path: Path, n_bytes: int, *, claimed: int) -> None:
    """An archive whose directory names another size than its table has."""
    write_zip(path, repeated(b"x", n_bytes), HEADER)
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<I", claimed)
    path.write_bytes(content)


def nested(path: Path, depth: int) -> None:
    """An archive in an archive in an archive."""
    content = HEADER
    for number in range(depth):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("t.csv" if not number else "t.csv.zip", content)
        content = stream.getvalue()
    path.write_bytes(content)


def other_methods(path: Path, method: int, n_bytes: int) -> None:
    """An archive packed by bzip2 or LZMA."""
    write_zip(path, repeated(b"x", n_bytes), HEADER, method=method)


# Streams with odd headers


def huge_window(path: Path) -> None:
    """A frame of zstd that says it needs a window of 2 GiB."""
    raw = struct.pack("<I", (len(HEADER) << 3) | 1)[:3] + HEADER
    path.write_bytes(b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([(31 - 10) << 3]) + raw)


def many_gz_members(path: Path, n_members: int, content: bytes = b"") -> None:
    """Many gzip streams behind each other."""
    path.write_bytes(gzip.compress(HEADER) + gzip.compress(content, mtime=0) * n_members)


# CSV


def many_names_in_a_header(path: Path, n_columns: int) -> None:
    """A header without rows."""
    header = ",".join(f"c{number}" for number in range(n_columns))
    path.write_text(f"comment_text,{header}\n", encoding="utf-8")


# JSON lines


def many_names(path: Path, n_rows: int, *, nested: bool) -> None:
    """Each object has a name that no other has."""
    with path.open("w", encoding="utf-8") as file:
        file.write('{"comment_text": "a", "toxic": 0}\n')
        for number in range(n_rows):
            inner = {f"k{number}": 1}
            file.write(json.dumps({"comment_text": "b", "toxic": 1, **({"o": inner} if nested else inner)}) + "\n")


def deep(path: Path, depth: int, sign: str = "[") -> None:
    """An object that nests too deep for most readers."""
    opened, closed = ("[", "]") if sign == "[" else ('{"a":', "}")
    line = '{"comment_text": "b", "toxic": 1, "a": ' + opened * depth + "1" + closed * depth + "}\n"
    path.write_text('{"comment_text": "a", "toxic": 0, "a": 1}\n' + line, encoding="utf-8")


# Parquet


def parquet_cell(path: Path, n_bytes: int, *, dictionary: bool = False, encoding: str | None = None) -> None:
    """One cell of so many bytes."""
    texts = pa.array(["fine", "x" * n_bytes], pa.large_string())
    table = pa.table({"comment_text": texts, "toxic": [0, 1]})
    options = {"column_encoding": {"comment_text": encoding}} if encoding else {}
    pa.parquet.write_table(
        table, path, compression="zstd", use_dictionary=dictionary and not encoding, **options, store_schema=False
    )


def parquet_repeats(path: Path, n_rows: int, n_bytes: int) -> None:
    """One text of `n_bytes`, stored once and referred to `n_rows` times."""
    indices = pa.array([0] * n_rows, pa.int32())
    texts = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * n_bytes]))
    table = pa.table({"comment_text": texts, "toxic": pa.array([0] * n_rows, pa.int8())})
    pa.parquet.write_table(table, path, compression="zstd", row_group_size=n_rows)


def parquet_constant(path: Path, n_rows: int) -> None:
    """A column of nothing, in very many rows."""
    table = pa.table({"comment_text": pa.nulls(n_rows, pa.string()), "toxic": pa.nulls(n_rows, pa.int8())})
    pa.parquet.write_table(table, path, compression="zstd", row_group_size=n_rows, max_rows_per_page=n_rows)


def parquet_lists(path: Path, n_values: int, text: str | None = None) -> None:
    """A list of very many values in one row."""
    values = pa.nulls(n_values, pa.string())
    if text is not None:  # of which one copy is enough here, too
        values = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), n_values), pa.array([text]))
    lists = pa.ListArray.from_arrays(pa.array([0, n_values], pa.int32()), values)
    table = pa.table({"comment_text": ["a"], "toxic": [0], "many": lists})
    pa.parquet.write_table(table, path, compression="zstd", max_rows_per_page=n_values, store_schema=False)


def parquet_delta(path: Path, n_rows: int, n_bytes: int) -> None:
    """Texts that each repeat the whole of the one before, by an encoding that stores what differs."""
    table = pa.table({"comment_text": ["x" * n_bytes] * n_rows, "toxic": [0] * n_rows})
    pa.parquet.write_table(
        table, path, use_dictionary=False, column_encoding={"comment_text": "DELTA_BYTE_ARRAY"}, compression="zstd"
    )


def small_parquet(path: Path) -> None:
    """A sound file, to be damaged."""
    table = pa.table({"comment_text": ["fine", "you fool"] * 50, "toxic": [0, 1] * 50})
    pa.parquet.write_table(table, path, use_dictionary=False, compression="zstd")


def parquet_numbers(path: Path, value: float, n_rows: int, n_in_row: int) -> None:
    """Lists of very many numbers that are all the same, each in a page of its own."""
    offsets = pa.array(range(0, n_rows * n_in_row + 1, n_in_row), pa.int32())
    lists = pa.ListArray.from_arrays(offsets, pa.repeat(value, n_rows * n_in_row))
    table = pa.table({"comment_text": ["a"] * n_rows, "toxic": [0] * n_rows, "many": lists})
    pa.parquet.write_table(table, path, compression="zstd", max_rows_per_page=1)


def _one_each(values: pa.Array) -> pa.Array:
    return pa.array(np.arange(len(values) + 1, dtype=np.int32))


MISSING_LISTS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "alone": lambda lists: lists,
    "in an object": lambda lists: pa.StructArray.from_arrays([lists], ["a"]),
    "as a tensor": lambda lists: pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(lists.type.value_type, [lists.type.list_size]), lists
    ),
    "in a list": lambda lists: pa.ListArray.from_arrays(_one_each(lists), lists),
    "in a view": lambda lists: pa.LargeListViewArray.from_arrays(
        np.arange(len(lists)), np.ones(len(lists), dtype=np.int64), lists
    ),
    "in a map": lambda lists: pa.MapArray.from_arrays(_one_each(lists), np.arange(len(lists)), lists),
    "all in one row": lambda lists: pa.ListArray.from_arrays([0, *[len(lists)] * len(lists)], lists),
    "of objects in it": lambda lists: pa.nulls(
        len(lists),
        pa.list_(pa.struct([(str(n), pa.float64()) for n in range(100)]), max(1, lists.type.list_size // 200)),
    ),
}
"""Where lists of a fixed size stand that are missing in all rows."""


def parquet_missing_lists(path: Path, n_rows: int, size: int, where: str) -> None:
    """Lists of a fixed size that are missing in all rows."""
    cells = MISSING_LISTS[where](pa.nulls(n_rows, pa.list_(pa.float32(), size)))
    pa.parquet.write_table(pa.table({"comment_text": ["a"] * n_rows, "toxic": [0] * n_rows, "many": cells}), path)


class NestedTypes:
    """Draws types of Arrow that Parquet files hold, and values of them, of which many are missing.

    Args:
        numbers: Draws.
    """

    def __init__(self, numbers: random.Random) -> None:
        self._numbers = numbers

    def kind(self, depth: int) -> pa.DataType:
        """A type with so many others within it."""
        if not depth:
            words = pa.dictionary(pa.int32(), pa.string())
            plain = (pa.int32(), pa.float64(), pa.string(), pa.large_binary(), pa.binary(40), pa.bool_())
            return self._numbers.choice([*plain, words, pa.duration("s"), pa.decimal128(20, 2)])
        inner, size = self.kind(depth - 1), self._numbers.choice([1, 3, 20])
        kinds = {
            "list": lambda: pa.list_(inner),
            "large": lambda: pa.large_list(inner),
            "view": lambda: pa.list_view(inner),
            "large view": lambda: pa.large_list_view(inner),
            "map": lambda: pa.map_(pa.string(), inner),
            "object": lambda: pa.struct([("a", inner), ("b", pa.int64()), ("c", self.kind(depth - 1))]),
            "extension": lambda: pa.opaque(pa.list_(inner, size), "lists", "tests"),
        }
        return kinds.get(self._numbers.choice([*kinds, "fixed", "fixed", "fixed"]), lambda: pa.list_(inner, size))()

    def column(self, kind: pa.DataType, n_rows: int) -> pa.Array:
        """Values of a type."""
        if isinstance(kind, pa.BaseExtensionType):
            return pa.ExtensionArray.from_storage(kind, self.column(kind.storage_type, n_rows))
        missing = pa.array([self._numbers.random() < 0.6 for _ in range(n_rows)])
        if pa.types.is_struct(kind):
            parts = [self.column(kind.field(place).type, n_rows) for place in range(kind.num_fields)]
            return pa.StructArray.from_arrays(parts, fields=list(kind), mask=missing)
        if pa.types.is_fixed_size_list(kind):
            values = self.column(kind.value_type, n_rows * kind.list_size)
            return pa.FixedSizeListArray.from_arrays(values, type=kind, mask=missing)
        if not pa.types.is_nested(kind):
            return pa.nulls(n_rows, kind)
        counts = np.array([self._numbers.choice([0, 1, 4]) for _ in range(n_rows)])
        ends, n_values = np.cumsum(counts), int(counts.sum())
        if pa.types.is_map(kind):
            keys = pa.array([str(number) for number in range(n_values)])
            offsets = pa.array([0, *ends], pa.int32())
            return pa.MapArray.from_arrays(offsets, keys, self.column(kind.item_type, n_values), type=kind)
        values, starts, sizes = self.column(kind.value_type, n_values), pa.array(ends - counts), pa.array(counts)
        if pa.types.is_large_list_view(kind):
            return pa.LargeListViewArray.from_arrays(starts, sizes, values, type=kind)
        if pa.types.is_list_view(kind):
            return pa.ListViewArray.from_arrays(starts.cast("int32"), sizes.cast("int32"), values, type=kind)
        if pa.types.is_large_list(kind):
            return pa.LargeListArray.from_arrays(pa.array([0, *ends]), values, type=kind)
        return pa.ListArray.from_arrays(pa.array([0, *ends], pa.int32()), values, type=kind)


def many_columns(path: Path, n_columns: int) -> None:
    """A table of very many columns."""
    pa.parquet.write_table(pa.table({f"c{number}": [0] for number in range(n_columns)} | {"comment_text": ["a"]}), path)
