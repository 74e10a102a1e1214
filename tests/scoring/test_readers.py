"""Files as chunks and chunks as files: nothing changes on the way, and a broken row does not stop the others."""

import csv
import gzip
import json
import random
import zipfile
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moderation.data.cleaning import load_english_only
from moderation.errors import ConfigError, DataError
from moderation.scoring import readers
from moderation.scoring.json_lines import OBJECT
from moderation.scoring.readers import open_table
from moderation.scoring.writers import OutputFormat, encode_csv, encode_json_lines, open_output, output_format
from moderation.tables import bounds, parquet_files
from moderation.tables.reading import read_table

ENDINGS = [
    f"{table}{packing}" for table in (".csv", ".tsv", ".parquet", ".jsonl") for packing in ("", ".gz", ".zip", ".zst")
]
ROWS = [
    {"id": 1, "text": 'a,b "quoted"\tx', "more": "NA"},
    {"id": 2, "text": "two\r\nlines\rhere", "more": ""},
    {"id": 3, "text": "żółć 🙂", "more": "null"},
]


def rows_of(table, chunk_rows=2):
    return [row for chunk in table.chunks(chunk_rows) for row in chunk.batch.to_pylist()]


def errors_of(table, chunk_rows=2):
    return [error for chunk in table.chunks(chunk_rows) for error in chunk.errors.to_pylist()]


def write(path, batches, schema=None):
    with path.open("wb") as file, open_output(file, output_format(path), schema or batches[0].schema) as put:
        for batch in batches:
            put(batch)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_table_comes_back_from_every_format_as_it_was(ending, tmp_path):
    path = tmp_path / f"t{ending}"
    batch = pa.RecordBatch.from_pylist(ROWS)
    write(path, [batch.slice(0, 1), batch.slice(1)])
    table = open_table(path, text_column="text")
    numbers = ending.startswith((".parquet", ".jsonl"))
    expected = [row | {"id": row["id"] if numbers else str(row["id"])} for row in ROWS]
    for _ in range(2):
        assert rows_of(table) == expected
    assert errors_of(table) == [None] * 3
    assert [chunk.batch.num_rows for chunk in table.chunks(2)] == [2, 1]
    assert [*table.chunks(2)][-1].share == 1.0
    assert table.n_rows in (3, None)
    first = path.read_bytes()
    write(path, [batch])
    if not ending.endswith(".zst"):
        assert path.read_bytes() == first or ending.startswith(".parquet"), "bytes do not depend on time or chunks"


def test_other_programs_read_what_is_written(tmp_path):
    batch = pa.RecordBatch.from_pylist(ROWS)
    write(tmp_path / "t.csv", [batch])
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == [row["text"] for row in ROWS]
    write(tmp_path / "t.tsv.gz", [batch])
    frame = pd.read_csv(tmp_path / "t.tsv.gz", sep="\t", keep_default_na=False, lineterminator="\n")
    assert frame["more"].tolist() == ["NA", "", "null"]
    write(tmp_path / "t.jsonl.zip", [batch])
    with zipfile.ZipFile(tmp_path / "t.jsonl.zip") as archive:
        assert [json.loads(line) for line in archive.read("t.jsonl").splitlines()] == ROWS
    write(tmp_path / "t.parquet", [batch])
    assert pq.read_table(tmp_path / "t.parquet").to_pylist() == ROWS


def test_rows_with_too_few_or_too_many_fields_carry_an_error(tmp_path):
    (tmp_path / "t.csv").write_text("id,text,x\n1,fine,a\n\n2,short\n3,a,b,c,d\n4,fine,b\n", encoding="utf-8")
    table = open_table(tmp_path / "t.csv", text_column="text")
    assert errors_of(table) == [None, "2 fields, expected 3", "5 fields, expected 3", None]
    assert rows_of(table)[1:3] == [{"id": "2", "text": "short", "x": None}, {"id": "3", "text": "a", "x": "b,c,d"}]


def test_bytes_that_are_not_utf8_are_an_error_of_their_row(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"text,x\nfine,1\ncaf\xe9,2\nfine,3\n")
    table = open_table(tmp_path / "t.csv", text_column="text")
    assert errors_of(table, 10) == [None, "not UTF-8", None]
    assert rows_of(table)[1]["text"] == r"caf\xe9"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_files_in_utf16_are_read(encoding, tmp_path):
    (tmp_path / "t.csv").write_bytes('id,text\r\n1,"a\r\n\u4e2d"\r\n'.encode(encoding))
    (tmp_path / "t.jsonl").write_bytes('{"id": "1", "text": "a\\r\\n\u4e2d"}\n'.encode(encoding))
    for name in ("t.csv", "t.jsonl"):
        assert rows_of(open_table(tmp_path / name, text_column="text")) == [{"id": "1", "text": "a\r\n\u4e2d"}]


@pytest.mark.parametrize(("end", "n_rows"), [('"open', 2), ('"open\nand on\n', 3)])
def test_a_quote_that_is_never_closed_is_found(end, n_rows, tmp_path):
    (tmp_path / "t.csv").write_text(f'id,text\n1,"a""b"\n2,{end}', encoding="utf-8")
    errors = errors_of(open_table(tmp_path / "t.csv", text_column="text"))
    assert (errors[0], errors[1].split(";")[0], len(errors)) == (None, "a quote is opened and never closed", n_rows)
    assert "--quoting none" in errors[1]
    (tmp_path / "t.csv").write_text('id,text\n1,a\n2,"b\n"', encoding="utf-8")
    assert errors_of(open_table(tmp_path / "t.csv", text_column="text")) == [None, None]


def test_a_field_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "CELL_BYTES", 1000)
    monkeypatch.setattr(bounds, "ROW_BYTES", 1000)
    (tmp_path / "t.csv").write_text('text\nfine\n"' + "open\n" * 1000 + "x" * 5000 + "\nfine\n", encoding="utf-8")
    errors = errors_of(open_table(tmp_path / "t.csv", text_column="text"))
    assert [number for number, error in enumerate(errors, start=1) if error] == [2, 1002]
    assert errors[1].startswith("a quote is opened and never closed")
    assert errors[1001].startswith("a field or line of more than")
    assert len(errors) == 1003
    (tmp_path / "t.jsonl").write_text(
        '{"text": "a"}\n{"text": "' + "b" * 5000 + '"}\n{"text": "c"}\n', encoding="utf-8"
    )
    assert errors_of(open_table(tmp_path / "t.jsonl", text_column="text")) == [None, "not a JSON object", None]


def test_a_chunk_with_much_text_ends_early(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "CHUNK_BYTES", 100)
    frame = pd.DataFrame({"text": ["a" * 60, "b", "c" * 60, "d"]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    for name in ("t.csv", "t.jsonl"):
        table = open_table(tmp_path / name, text_column="text")
        assert sum(chunk.batch.num_rows for chunk in table.chunks(2000)) == 4
        assert next(chunk.batch.num_rows for chunk in table.chunks(2000)) < 4


def test_parquet_is_cut_alike_whatever_its_row_groups(tmp_path):
    table = pa.table({"text": [str(n) for n in range(1000)], "n": range(1000)})
    for size in (7, 130, 1000):
        pq.write_table(table, tmp_path / "t.parquet", row_group_size=size)
        opened = open_table(tmp_path / "t.parquet", text_column="text")
        chunks = [*opened.chunks(300)]
        assert [chunk.batch.num_rows for chunk in chunks] == [300, 300, 300, 100]
        assert pa.Table.from_batches([chunk.batch for chunk in chunks]).equals(table)


def test_parquet_keeps_types_and_categories_become_their_values(tmp_path):
    frame = pd.DataFrame({"text": pd.Categorical(["a", "b"]), "when": pd.to_datetime(["2026-01-01", None])})
    frame["many"] = [[1, 2], None]
    frame.to_parquet(tmp_path / "t.parquet")
    table = open_table(tmp_path / "t.parquet", text_column="text")
    (chunk,) = table.chunks(10)
    assert pa.types.is_timestamp(table.schema.field("when").type)
    assert chunk.batch["text"].to_pylist() == ["a", "b"]
    lines = [json.loads(line) for line in encode_json_lines(chunk.batch).splitlines()]
    assert lines[0] == {"text": "a", "when": "2026-01-01 00:00:00", "many": [1, 2]}
    assert lines[1] == {"text": "b", "when": None, "many": None}
    assert encode_csv(chunk.batch, ",") == b'a,2026-01-01 00:00:00,"[1, 2]"\nb,,\n'


LINES = [
    '{"text": "a", "n": 1.50, "big": 12345678901234567890, "mixed": [1], "text2": "\\u00e9"}',
    "broken",
    '{"text": 5, "mixed": "x"}',
    '{"text": "\\ud83d half", "n": 2}',
    "[1]",
    '{"text": "b", "text": "c"}',
    "{}",
]
LINE_ERRORS = [
    *(None, "not a JSON object", "the text is not a string", "the text is not valid Unicode"),
    *("not a JSON object", "not a JSON object", None),
]


def test_json_lines_become_columns_and_broken_ones_errors(tmp_path):
    (tmp_path / "t.jsonl").write_text("\n\n".join(LINES), encoding="utf-8")
    table = open_table(tmp_path / "t.jsonl", text_column="text")
    assert table.n_rows == 7
    assert {field.name: str(field.type) for field in table.schema} == {
        "text": "string",
        "n": "double",
        "big": "string",
        "mixed": "string",
        "text2": "string",
    }
    assert errors_of(table) == LINE_ERRORS
    rows = rows_of(table)
    assert rows[0] == {"text": "a", "n": 1.5, "big": "12345678901234567890", "mixed": "[1]", "text2": "é"}
    assert rows[2]["mixed"] == '"x"'
    assert rows[3]["text"] == r"\ud83d half"


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl", ".tsv.gz"])
def test_half_a_character_in_a_name_becomes_its_escape(ending, tmp_path):
    names = ["a\ud83d", "\udc00", "p_\udfff", "q"]
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": "b"} | dict.fromkeys(names, 1)) + "\n", encoding="utf-8")
    table = open_table(tmp_path / "t.jsonl", text_column="text")
    assert table.names == ("text", r"a\ud83d", r"\udc00", r"p_\udfff", "q")
    assert rows_of(table) == [{"text": "b"} | dict.fromkeys(table.names[1:], 1)]
    out = tmp_path / f"o{ending}"
    with out.open("wb") as file, open_output(file, output_format(out), table.schema) as write:
        for chunk in table.chunks(10):
            write(chunk.batch)
    assert open_table(out, text_column="text").names == table.names


def test_names_that_would_be_the_same_in_a_table_are_refused(tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": "b", "\ud83d": 1, r"\ud83d": 2}), encoding="utf-8")
    with pytest.raises(DataError, match="repeated column names"):
        open_table(tmp_path / "t.jsonl", text_column="text")
    assert rows_of(open_table(tmp_path / "t.jsonl", text_column="text", keep_objects=True))[0]["text"] == "b"


def test_the_text_column_may_have_such_a_name(tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps({"\udcff": "b"}) + '\n{"\\udcff": 1}', encoding="utf-8")
    for keep in (False, True):
        table = open_table(tmp_path / "t.jsonl", text_column="\udcff", keep_objects=keep)
        assert table.text_column == r"\udcff"
        assert [row[r"\udcff"] for row in rows_of(table)] == ["b", "1"]
        assert errors_of(table) == [None, "the text is not a string"]


def test_no_column_is_mistaken_for_objects(tmp_path):
    """Such a column would be written as if each of its cells were a whole line."""
    pq.write_table(pa.table({"text": ["a"], OBJECT: ['{"error": null}']}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="Rename it"):
        open_table(tmp_path / "t.parquet", text_column="text")


def test_objects_are_kept_unchanged(tmp_path):
    (tmp_path / "t.jsonl").write_text("\n".join(LINES), encoding="utf-8")
    table = open_table(tmp_path / "t.jsonl", text_column="text", keep_objects=True)
    assert table.schema.names == [OBJECT, "text"]
    assert table.names == ("text", "n", "big", "mixed", "text2")
    (chunk,) = table.chunks(10)
    batch = chunk.batch.append_column("p", pa.array([0.5] * 7, pa.float32()))
    lines = encode_json_lines(batch).decode().splitlines()
    assert lines[0] == LINES[0][:-1] + ', "p": 0.5}'
    assert lines[1] == '{"p": 0.5}'
    assert lines[3] == LINES[3][:-1] + ', "p": 0.5}'
    assert lines[6] == '{"p": 0.5}'


def test_the_needed_ones_of_very_many_names_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "COLUMNS", 3)
    others = {f"{start}{number}": 1 for start in ("", "p_", "flag_") for number in range(9)}
    for text_column in ("words", "comment_text", "body", "TEXT", " Comment Text"):
        row = others | {"p_toxic": 0.5, text_column: "a", "flagged": True}
        (tmp_path / "t.jsonl").write_text(json.dumps(row), encoding="utf-8")
        asked = "words" if text_column == "words" else "comment_text"
        results = ["p_toxic", "flagged", "error"]
        table = open_table(tmp_path / "t.jsonl", text_column=asked, keep_objects=True, results=results)
        assert table.names == ("0", "1", "2", "p_toxic", text_column, "flagged")
        assert rows_of(table) == [{OBJECT: json.dumps(row), text_column: "a"}]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "[1.0e400]", '{"a": 2E308}', "NaN"])
def test_a_number_that_json_does_not_know_is_an_error_of_its_row(number, tmp_path):
    (tmp_path / "t.jsonl").write_text(f'{{"text": "a", "n": {number}}}\n{{"text": "b", "n": 1e300}}', encoding="utf-8")
    assert errors_of(open_table(tmp_path / "t.jsonl", text_column="text")) == ["not a JSON object", None]


def test_json_knows_no_nan():
    batch = pa.RecordBatch.from_pydict(
        {"a": pa.array([float("nan"), 1e-5], pa.float32()), "b": [float("inf"), 0.1], "c": [[float("nan")], None]}
    )
    assert encode_json_lines(batch) == b'{"a": null, "b": null, "c": [null]}\n{"a": 0.00001, "b": 0.1, "c": null}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"x", "unknown ending"),
        ("t.csv", b"", "no header"),
        ("t.csv", b"a,b\n1,2\n", r"no column 'text'; the columns are: a, b\. .*--text-column"),
        ("t.csv", b"id;text\n1;a\n", "--delimiter ';'"),
        ("t.csv", b"text,text\n1,2\n", "repeated column names"),
        ("t.csv.gz", gzip.compress(b"text\n" + b"a\n" * 9, mtime=0)[:-9], r"not a complete \.gz file"),
        ("t.csv.gz", b"", r"not a complete \.gz file"),
        ("t.csv.zip", b"no archive", r"not a complete \.zip file"),
        ("t.parquet", b"PAR1 no table", "not a complete Parquet file"),
        ("t.jsonl", b"\n", "no line is a JSON object"),
        ("t.jsonl", b'{"a": 1}', "no column 'text'"),
    ],
)
def test_an_unreadable_file_is_refused(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        rows_of(open_table(tmp_path / name, text_column="text"))


def test_a_column_of_numbers_is_not_a_column_of_texts(tmp_path):
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="contains int64; expected texts"):
        open_table(tmp_path / "t.parquet", text_column="text")


def test_parquet_is_measured_once_unless_it_changes(tmp_path, monkeypatch):
    found = []
    for name in ("measure_pages", "unpacked_pieces"):
        work = getattr(parquet_files, name)
        monkeypatch.setattr(
            parquet_files, name, lambda *args, work=work, name=name, **more: found.append(name) or work(*args, **more)
        )
    plain, path = tmp_path / "t.parquet", tmp_path / "t.parquet.gz"
    for text in ("a", "b"):
        pq.write_table(pa.table({"text": [text]}), plain)
        path.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
        if text == "a":
            table = open_table(path, text_column="text")
        assert rows_of(table) == [{"text": text}]
    assert sorted(found) == ["measure_pages"] * 2 + ["unpacked_pieces"] * 3


def test_an_empty_table_has_no_chunks(tmp_path):
    (tmp_path / "t.csv").write_text("id,text\n", encoding="utf-8")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        assert rows_of(open_table(tmp_path / name, text_column="text")) == []


def test_an_archive_with_an_unknown_method_or_two_names_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("t.csv", "text\na\n")
    content = (tmp_path / "t.zip").read_bytes()
    directory = content.index(b"PK\x01\x02")
    deflate64 = content[: directory + 10] + b"\x09\x00" + content[directory + 12 :]
    two_names = content.replace(b"t.csv", b"u.csv", 1)
    for broken, message in ((deflate64, "not compressed with deflate"), (two_names, r"not a complete \.zip file")):
        (tmp_path / "t.zip").write_bytes(broken)
        with pytest.raises(DataError, match=message):
            open_table(tmp_path / "t.zip", text_column="text")


@pytest.mark.hostile("tables: damaged archives")
def test_a_damaged_archive_is_refused_or_read(attack, tmp_path):
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("\u00e9.csv", "text\na\n")
    sound = path.read_bytes()
    names = [sound.index(b"\xc3\xa9"), sound.rindex(b"\xc3\xa9")]  # beside the file, and in the directory
    for seed in range(attack.cases(150, 20_000)):
        rng, content = random.Random(seed), bytearray(sound)
        for place in [names[seed]] if seed < 2 else rng.sample(range(len(content)), rng.choice([1, 1, 2, 4])):
            content[place] = 0xFF if seed < 2 else rng.choice([0, 1, 0x80, 0xFF, rng.randrange(256)])
        path.write_bytes(content)
        attack.tried()
        with suppress(DataError):
            assert rows_of(open_table(path, text_column="text")), f"seed {seed}"


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        (
            pa.array([0, 2**62], pa.timestamp("us")),
            ["1970-01-01 00:00:00", "<value out of range: 4611686018427387904>"],
        ),
        (pa.array([2**31 - 1, None], pa.date32()), ["<value out of range: 2147483647>", ""]),
        (pa.array([2**62, 1], pa.duration("s")), ["4611686018427387904", "0:00:01"]),
        (pa.array([0, None], pa.timestamp("s", "Mars/Phobos")), ["1970-01-01 00:00:00Z", ""]),
        (pa.array([1, None], pa.time64("ns")), ["00:00:00.000000001", ""]),
        (pa.array([[1], None], pa.list_(pa.time64("ns"))), ['["00:00:00.000000001"]', ""]),
        (
            pa.array([{"a": [1]}, None], pa.struct([("a", pa.list_(pa.time64("ns"), 1))])),
            ['{"a": ["00:00:00.000000001"]}', ""],
        ),
        (pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.time64("ns"))), ['[["a", "00:00:00.000000001"]]', ""]),
        (pa.array([[1], None], pa.list_(pa.timestamp("ns"))), ['["1970-01-01 00:00:00.000000001"]', ""]),
        (pa.array([[2**62], [0]], pa.list_(pa.date64())), ["(not a Python value)", '["1970-01-01"]']),
    ],
)
def test_values_that_python_does_not_know_are_written(values, cells):
    batch = pa.RecordBatch.from_arrays([values], ["t"])
    assert next(csv.reader([encode_csv(batch, ",").decode().splitlines()[0]])) == [cells[0]]
    assert [",".join(row) for row in csv.reader(encode_csv(batch, ",").decode().splitlines())] == cells
    assert len([json.loads(line) for line in encode_json_lines(batch).splitlines()]) == 2


@pytest.mark.parametrize("value", ['"zqxsecret"', "1e300", "123456789012345678901234567890", '{"zqxsecret": 1}'])
def test_json_lines_that_change_while_they_are_read_are_reported_without_a_value(value, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"text": "a", "n": 1}\n', encoding="utf-8")
    table = open_table(tmp_path / "t.jsonl", text_column="text")
    (tmp_path / "t.jsonl").write_text(f'{{"text": "a", "n": {value}}}\n', encoding="utf-8")
    with pytest.raises(DataError, match="changed while it was read") as caught:
        rows_of(table)
    assert "zqxsecret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_the_ending_names_the_format():
    assert output_format(Path("a/b.parquet")) == OutputFormat("parquet", "", "b.parquet")
    assert output_format(Path("b.NDJSON.zst")) == OutputFormat("jsonl", ".zst", "b.NDJSON")
    for name in ("b.txt", "b.gz", "b", "b.xlsx.gz"):
        with pytest.raises(ConfigError, match="unknown ending"):
            output_format(Path(name))


def test_a_parquet_column_that_nests_too_deep_or_holds_nothing_is_named(tmp_path, caplog):
    kind = pa.string()
    for _ in range(60):
        kind = pa.list_(kind)
    table = pa.table({"a": ["x"], "notes\n": pa.array([None], kind), "comment_text": pa.nulls(1), "toxic": [0]})
    pq.write_table(table.select(["a", "notes\n", "comment_text"]), tmp_path / "deep.parquet")
    for read in (read_table, lambda path: open_table(path, text_column="a")):
        with pytest.raises(
            DataError, match=r"deep\.parquet: the column 'notes\\n' contains nested lists .* 100 at most\. Leave"
        ):
            read(tmp_path / "deep.parquet")
    pq.write_table(table.select(["a", "comment_text", "toxic"]), tmp_path / "null.parquet")
    opened = open_table(tmp_path / "null.parquet", text_column="comment_text")
    assert [chunk.batch.num_rows for chunk in opened.chunks(9)] == [1]
    assert "the column 'comment_text' has the type null and holds no values; expected texts" in caplog.text
    with pytest.raises(DataError, match=r"column 'comment_text' has no value in any of 1 rows .* with --text-col"):
        load_english_only(tmp_path / "null.parquet", label_columns=["toxic"])
