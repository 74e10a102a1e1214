"""Files: the same rows are the same bytes, however they are cut into batches."""

import csv
import gzip
import io
import itertools
import json
import random
import re
import string
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moderation import cli
from moderation.errors import ConfigError
from moderation.scoring import writers
from moderation.scoring.cells import as_plain_cell, encode_csv, encode_header, encode_json_lines
from moderation.scoring.writers import open_output, output_format, row_bytes
from moderation.tables.csv_dialects import CsvDialect
from moderation.tables.csv_rows import ROWS_WITHIN, open_csv

NAMES = ["o.csv", "o.csv.gz", "o.tsv.zip", "o.jsonl", "o.jsonl.zst", "o.parquet", "o.parquet.gz"]


def make_batch(n_rows, seed=0):
    rng = random.Random(seed)

    def words():
        return "".join(rng.choices(string.ascii_letters + " ,\n", k=rng.randrange(60)))

    return pa.RecordBatch.from_pydict(
        {
            "text": [None if rng.random() < 0.1 else words() for _ in range(n_rows)],
            "p": pa.array([rng.random() for _ in range(n_rows)], pa.float32()),
            "flagged": pa.array(
                [rng.choice([None, [], ["a"], ["a", "b,c"]]) for _ in range(n_rows)], pa.list_(pa.string())
            ),
            "flag_a": [rng.choice([True, False, None]) for _ in range(n_rows)],
        }
    )


def write(folder, name, batches, schema):
    path = folder / name
    with path.open("wb") as file, open_output(file, output_format(path), schema, lambda: {"k": "v"}) as put:
        for batch in batches:
            put(batch)
    return path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_bytes_do_not_depend_on_how_rows_are_cut(name, tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "_GROUP_ROWS", 500)
    monkeypatch.setattr(writers, "_GROUP_BYTES", 9_000)
    monkeypatch.setattr(writers, "_PIECE_BYTES", 700)
    batch = make_batch(1200)
    expected = write(tmp_path, name, [batch], batch.schema)
    for seed in range(4):
        rng = random.Random(seed)
        cuts = sorted({0, 1200, *(rng.randrange(1200) for _ in range(seed * 9))})
        parts = [batch.slice(start, stop - start) for start, stop in itertools.pairwise(cuts)]
        if seed == 3:  # as they come from the disk
            table = pa.Table.from_batches(parts)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
            parts = pa.ipc.open_file(sink.getvalue()).read_all().to_batches()
        assert write(tmp_path, name, parts, batch.schema) == expected


def test_row_groups_end_when_they_have_enough_rows_or_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "_GROUP_ROWS", 4)
    monkeypatch.setattr(writers, "_GROUP_BYTES", 100)
    batch = pa.RecordBatch.from_pydict({"text": ["a"] * 6 + ["b" * 300] * 2 + ["c"] * 5})
    write(tmp_path, "o.parquet", [batch], batch.schema)
    found = pq.ParquetFile(tmp_path / "o.parquet").metadata
    assert [found.row_group(number).num_rows for number in range(found.num_row_groups)] == [4, 3, 1, 4, 1]
    assert found.metadata[b"k"] == b"v"
    assert pq.read_table(tmp_path / "o.parquet")["text"].to_pylist() == batch["text"].to_pylist()


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["a", None, "ccc"], pa.large_string()),
        pa.array(["a", None, "ccc"], pa.string_view()),
        pa.array([b"a", None, b"ccc"]),
        pa.array([["a", "bb"], None, []]),
        pa.array([{"x": "a", "y": [1, 2]}, None, {"x": None, "y": None}]),
        pa.array([[("k", "v")], None, []], pa.map_(pa.string(), pa.string())),
        pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2)),
        pa.array([datetime(2026, 1, 1, tzinfo=UTC), None, None]),
    ],
    ids=lambda values: str(values.type),
)
def test_a_row_has_the_same_size_wherever_it_is(values):
    batch = pa.RecordBatch.from_arrays([values], ["x"])
    sizes = row_bytes(batch).tolist()
    assert len(sizes) == 3
    assert sizes == [row_bytes(batch.slice(row, 1)).item() for row in range(3)]


def test_names_of_labels_are_joined_in_csv_and_a_list_elsewhere():
    flagged = [["toxic", "insult"], ["a,b", 'c "d"'], [], None]
    batch = pa.RecordBatch.from_pydict({"flagged": pa.array(flagged, pa.list_(pa.string())), "other": [["x"]] * 4})
    rows = list(csv.reader(io.StringIO(encode_csv(batch, ",").decode())))
    assert rows[0] == ["toxic,insult", '["x"]']
    assert next(csv.reader([rows[1][0]])) == flagged[1]
    assert [row[0] for row in rows[2:]] == ["", ""]
    lines = [json.loads(line) for line in encode_json_lines(batch).splitlines()]
    assert [line["flagged"] for line in lines] == flagged


FORMULAS = (
    *("=1+1", "+1+1", "-1+1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1", "\r=1", "\n=1", "\tx", " =1", "\u00a0=1"),
    *("\ufeff=1", "\u200b\u2060=1", "\x00=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20A1", "\ufe661", "\u22121+1"),
    *("-", "=", "--1", "+-1", "-1-1", "- 1", '="a"', "-0x1", "+1e5a", "-\u0661"),
)
MIDDLE = (
    *(
        "hi;=1+1",
        "hi;=HYPERLINK(1)",
        "a|@b",
        'a;"=1"',
        "a; =1",
        "a\n=1",
        "a\r\n+1+1",
        "a;\uff1d1",
        "a;-0.5;=x",
        ";\u200b=1",
    ),
    *("a\n\n\n=1", 'say "x;=1"', "a;;=1", 'a;"""=1'),
)
PLAIN = (
    "",
    "a",
    "a=1",
    "1-1",
    "'=1",
    "-0.5",
    "+1",
    "-.5",
    "1e-7",
    "-1E+10",
    "-inf",
    "(-1)",
    "#1",
    "\u2014 a dash",
    "é",
)


@pytest.mark.hostile("spreadsheet")
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz"])
def test_with_csv_safe_no_cell_is_a_formula(ending, tmp_path, attack):
    rng = random.Random(3)
    blanks = ["", " ", "\t", "\r\n", "\u3000", "\u200b", "\ufeff", "\x00", "\u202e"]
    made = [
        "".join(rng.choices(blanks, k=3)) + rng.choice("=+-@\uff1d\uff0b\uff0d\uff20") + rng.choice("aA(1'\"")
        for _ in range(attack.cases(200, 20_000))
    ]
    made = [cell for cell in made if cell[-2:] not in ("+1", "-1") or len(cell) > 2]
    texts = [*FORMULAS, *made, *MIDDLE, *PLAIN]
    numbers = pa.array([-0.5] * len(texts), pa.float32())
    flagged = pa.array([["=1"]] * len(texts), pa.list_(pa.string()))
    columns = {"=HYPERLINK(1)": pa.array(texts), "p_-x": numbers, "n": pa.array([-7] * len(texts)), "flagged": flagged}
    batch = pa.RecordBatch.from_pydict(columns)
    found = {}
    for safe in (False, True):
        path = tmp_path / f"{safe}{ending}"
        with path.open("wb") as file, open_output(file, output_format(path, csv_safe=safe), batch.schema) as put:
            put(batch)
        content = gzip.decompress(path.read_bytes()) if ending.endswith(".gz") else path.read_bytes()
        written = io.StringIO(content.decode(), newline="")
        found[safe] = list(csv.reader(written, delimiter="\t" if ending == ".tsv" else ","))
    assert found[False] == [["=HYPERLINK(1)", "p_-x", "n", "flagged"], *([text, "-0.5", "-7", "=1"] for text in texts)]
    assert found[True][0] == ["'=HYPERLINK(1)", "p_-x", "n", "flagged"]
    sign = re.compile('["\\s\0\u200b\u202e\ufeff]*[=+@\uff1d\uff0b\uff0d\uff20\ufe66\u2212-]')
    foreign = "[;|\\r\\n,]" if ending == ".tsv" else "[;|\\r\\n\\t]"
    for (cell, *others), text in zip(found[True][1:], texts, strict=True):
        assert others == ["-0.5", "-7", "'=1"]
        assert cell.replace("'", "") == text.replace("'", "")
        assert cell.startswith("'") == (text in {*FORMULAS, *made, "'=1"}), ascii(text)
        assert (cell == text) == (text in PLAIN), ascii(text)
        pieces = re.split(foreign, cell)[1:]
        assert not [piece for piece in pieces if sign.match(piece) and piece not in ("-0.5", "+1", "-1")], ascii(cell)
    attack.tried(len(texts))


@pytest.mark.parametrize("name", ["o.parquet", "o.jsonl", "o.csv.parquet", "o.ndjson.gz"])
def test_csv_safe_is_refused_where_no_cell_could_be_a_formula(name, tmp_path):
    assert not output_format(Path(name)).csv_safe
    with pytest.raises(ConfigError, match=f"--csv-safe has no effect on {name}"):
        output_format(Path(name), csv_safe=True)
    for words in (["score", "-"], ["score", "--text", "a"], ["score", "x.csv", "-o", "-"]):
        assert cli.main([*words, "--csv-safe"]) == 2
    assert cli.main(["feedback", "export", "-o", str(tmp_path / name), "--csv-safe"]) == 2


CHARACTERS = st.sampled_from([*'ab",;\\ \t\r\n0', "\ufeff", "\u00a0", "é", "😀"])


@settings(max_examples=300, deadline=None)
@given(rows=st.lists(st.tuples(*[st.text(CHARACTERS, max_size=6)] * 2), min_size=1, max_size=5))
@example(rows=[("\ufeffa", "b")])  # would be a byte order mark in the middle of the file
@pytest.mark.parametrize(("ending", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_a_scored_file_can_be_read_again(rows, ending, delimiter):
    batch = pa.RecordBatch.from_pydict({"text": [row[0] for row in rows], "more": [row[1] for row in rows]})
    content = encode_header(["text", "more"], delimiter) + encode_csv(batch, delimiter)
    found = [(tuple(fields), error) for fields, error in open_csv(io.BytesIO(content), "t", ending, CsvDialect()).rows]
    assert [fields for fields, _ in found] == rows
    assert {error for _, error in found} <= {None, ROWS_WITHIN}


@pytest.mark.parametrize("unseen", ["\u061c", "\u180e", "\U000e0020", "\u200d", "\u00a0", "\ufff9"])
def test_a_formula_after_invisible_characters_is_made_plain(unseen):
    assert as_plain_cell(f"{unseen}=1+1") == f"'{unseen}=1+1"
