import gzip
import json
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moderation.errors import ConfigError, DataError
from moderation.scoring.readers import open_table
from moderation.tables.columns import show_names
from moderation.tables.reading import read_table

SECRET = "zanzibar"  # stands for a user's words: no message may hold it
CSV = b"comment_text,toxic\nfirst,0\nsecond,1\n"


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refuse(path: Path, *expected: str, delimiter: str | None = None) -> str:
    """Read, expect a DataError that names the file and all of `expected`, quotes no cell, and fits on a screen."""
    with pytest.raises(DataError) as caught:
        read_table(path, delimiter=delimiter)
    message = str(caught.value)
    assert str(path) in message
    for part in expected:
        assert part in message
    assert SECRET not in message
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__  # no traceback quotes a cell either
    assert message.count("\n") < 20
    return message


def compress(ending: str, name: str, content: bytes, folder: Path) -> Path:
    path = folder / (name + ending)
    if ending == ".gz":
        path.write_bytes(gzip.compress(content))
    elif ending == ".zst":
        path.write_bytes(pa.Codec("zstd").compress(content, asbytes=True))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
            archive.writestr(f"__MACOSX/._{name}", b"\0\1")
    return path


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"comment_text": ["a, b", 'say "x"\nand go', "null", "ünï 🙂"], "toxic": [0, 1, 0, 1]})


@pytest.mark.parametrize("ending", ["", ".gz", ".zst", ".zip"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet", "t.jsonl", "t.ndjson", "T.CSV"])
def test_every_format_and_compression_gives_the_same_table(
    tmp_path: Path, frame: pd.DataFrame, name: str, ending: str
) -> None:
    plain = tmp_path / name
    if name.endswith("parquet"):
        frame.to_parquet(plain)
    elif name.endswith(("json", "jsonl")):
        frame.to_json(plain, orient="records", lines=True)
    else:
        frame.to_csv(plain, index=False, sep="\t" if name.endswith("tsv") else ",")
    path = compress(ending, name, plain.read_bytes(), tmp_path) if ending else plain

    found = read_table(path)

    assert found["comment_text"].tolist() == frame["comment_text"].tolist()
    assert [int(value) for value in found["toxic"]] == [0, 1, 0, 1]
    assert found.index.tolist() == [0, 1, 2, 3]


def test_no_comment_is_mistaken_for_a_missing_value(tmp_path: Path) -> None:
    words = ["null", "NA", "NaN", "None", "", "1.0", "true", "2009-01-01", " x "]
    path = write(tmp_path, "t.csv", ("comment_text,toxic\n" + "".join(f"{word},0\n" for word in words)).encode())
    assert read_table(path)["comment_text"].tolist() == words


def test_dates_in_json_lines_stay_texts(tmp_path: Path) -> None:
    path = write(
        tmp_path, "t.jsonl", b'{"comment_text":"2009-01-01","toxic":0}\n{"comment_text":"2010-01-01","toxic":1}'
    )
    found = read_table(path)
    assert found["comment_text"].tolist() == ["2009-01-01", "2010-01-01"]
    assert found["toxic"].tolist() == [0, 1]


def test_dictionary_encoded_texts_become_plain_texts(tmp_path: Path) -> None:
    table = pa.table({"comment_text": pa.array(["a", "b", "a"]).dictionary_encode(), "toxic": [0, 1, 0]})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet")
    assert isinstance(found["comment_text"].dtype, pd.StringDtype)


def test_only_packed_parquet_takes_a_temporary_file(
    tmp_path: Path,
    frame: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    full_disk: Callable[[int], AbstractContextManager[None]],
) -> None:
    frame.to_parquet(tmp_path / "t.parquet")
    packed = compress(".gz", "t.parquet", (tmp_path / "t.parquet").read_bytes(), tmp_path)
    with full_disk(1_000):
        refuse(packed, "could not be unpacked into the folder for temporary files (File too large)")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert len(read_table(tmp_path / "t.parquet")) == len(frame)
    refuse(packed, "could not be unpacked into the folder for temporary files (No such file", "TMPDIR")


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    found = read_table(write(tmp_path, "t.csv", b"\xef\xbb\xbf" + CSV.replace(b"\n", b"\r\n")))
    assert found.columns.tolist() == ["comment_text", "toxic"]
    assert found["toxic"].tolist() == ["0", "1"]


def test_a_comment_longer_than_a_default_block_is_read(tmp_path: Path) -> None:
    long = "word\n" * 600_000  # 3 MB; pyarrow reads blocks of 1 MB unless told
    found = read_table(write(tmp_path, "t.csv", f'comment_text,toxic\nx,0\n"{long}",1\ny,0\n'.encode()))
    assert found["comment_text"].str.len().tolist() == [1, len(long), 1]


@pytest.mark.parametrize(("typed", "byte"), [(";", b";"), ("\\t", b"\t"), ("\t", b"\t"), ("|", b"|")])
def test_a_named_delimiter_is_used(tmp_path: Path, typed: str, byte: bytes) -> None:
    found = read_table(write(tmp_path, "t.csv", CSV.replace(b",", byte)), delimiter=typed)
    assert found.columns.tolist() == ["comment_text", "toxic"]


@pytest.mark.parametrize("typed", ["", ";;", '"', "\n", "é"])
def test_an_impossible_delimiter_is_refused(tmp_path: Path, typed: str) -> None:
    with pytest.raises(ConfigError, match="--delimiter"):
        read_table(write(tmp_path, "t.csv", CSV), delimiter=typed)


@pytest.mark.parametrize("byte", [b";", b"\t", b"|"])
def test_wrong_delimiter_names_the_cure(tmp_path: Path, byte: bytes) -> None:
    cure = "'\\t'" if byte == b"\t" else f"'{byte.decode()}'"
    refuse(write(tmp_path, "t.csv", CSV.replace(b",", byte)), f"--delimiter {cure}")


def test_a_missing_folder_and_empty_and_unknown_files_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path / "no.csv", "no such file")
    refuse(tmp_path, "folder")
    refuse(write(tmp_path, "empty.csv", b""), "empty")
    refuse(write(tmp_path, "empty.parquet", b""), "empty")
    refuse(write(tmp_path, "empty.csv.zst", b""), ".zst")
    refuse(compress(".gz", "none.csv", b"", tmp_path), "empty")
    refuse(write(tmp_path, "table.xlsx", b"PK"), "unknown ending", ".parquet")
    refuse(write(tmp_path, "table", CSV), "unknown ending")
    refuse(write(tmp_path, "header.csv", b"comment_text,toxic\n"), "no rows")
    refuse(write(tmp_path, "blank.csv", b"\n\n\n"), "header")


def test_a_file_without_read_permission_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", CSV)
    path.chmod(0)
    try:
        path.read_bytes()
    except PermissionError:
        refuse(path, "rights")
    else:
        pytest.skip("this user may read every file")


def test_latin1_is_named_with_offset_and_line(tmp_path: Path) -> None:
    content = b"comment_text,toxic\nplain,0\n" + f"{SECRET} caf\xe9,1\n".encode("latin-1")
    refuse(write(tmp_path, "t.csv", content), "UTF-8", f"offset {content.index(0xE9)}", "line 3", "iconv")
    refuse(write(tmp_path, "t.jsonl", b'{"comment_text": "caf\xe9"}\n'), "UTF-8", "line 1")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_read(tmp_path: Path, encoding: str) -> None:
    lines = '{"comment_text": "first", "toxic": "0"}\n{"comment_text": "second", "toxic": "1"}\n'
    for name, content in (("u.csv", CSV.decode()), ("u.jsonl", lines)):
        found = read_table(write(tmp_path, name, content.encode(encoding)))
        assert found.to_dict("list") == {"comment_text": ["first", "second"], "toxic": ["0", "1"]}


def test_all_ragged_rows_are_named_by_number(tmp_path: Path) -> None:
    rows = [f"{SECRET},0", f'"{SECRET}\n\n{SECRET}",1', SECRET, f"{SECRET},0,{SECRET}", "", f"{SECRET},1"]
    rows += [f"a {SECRET}, with a comma,0"] * 3
    path = write(tmp_path, "t.csv", ("comment_text,toxic\n" + "\n".join(rows) + "\n").encode())
    refuse(path, "5 rows with 1 to 3 fields", "expected 2", "rows: 3, 4, 6, 7, 8 ")


def test_many_ragged_rows_stay_on_a_screen(tmp_path: Path) -> None:
    message = refuse(write(tmp_path, "t.csv", b"comment_text,toxic\n" + b"a,0,1\n" * 1000), "1000 rows", "and 800 more")
    assert len(message) < 2000


def test_a_quote_that_stays_open_is_not_a_long_comment(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", f'toxic,comment_text\n0,fine\n1,"{SECRET}\n0,b\n0,c\n'.encode())
    refuse(path, "1 row: a quote is opened and never closed", "rows: 2", "--quoting none")
    closed = read_table(write(tmp_path, "u.csv", b'toxic,comment_text\n0,5" nails\n1,"two\nlines"\n'))
    assert closed["comment_text"].tolist() == ['5" nails', "two\nlines"]


def test_duplicate_column_names_are_refused(tmp_path: Path) -> None:
    refuse(write(tmp_path, "t.csv", b"comment_text,toxic,toxic\nx,0,1\n"), "toxic", "once")
    table = pa.table([pa.array(["x"]), pa.array([0]), pa.array([1])], names=["comment_text", "toxic", "toxic"])
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    refuse(tmp_path / "t.parquet", "toxic", "once")
    headless = write(tmp_path, "headless.csv", f"you {SECRET},you {SECRET}\nx,0\n".encode())
    refuse(headless, "a name of")


@pytest.mark.parametrize("ending", [".gz", ".zst", ".zip"])
def test_broken_compression_is_refused(tmp_path: Path, ending: str) -> None:
    whole = compress(ending, "t.csv", CSV * 1000, tmp_path).read_bytes()
    refuse(write(tmp_path, "short.csv" + ending, whole[: len(whole) // 2]), ending, "truncated")
    refuse(write(tmp_path, "other.csv" + ending, CSV), ending)


def test_an_archive_holds_one_table(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refuse(path, "0 tables")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("sub/train.csv", CSV)
    assert len(read_table(path)) == 2
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("test.csv", CSV)
    refuse(path, "2 tables")


def test_broken_parquet_is_refused(tmp_path: Path, frame: pd.DataFrame) -> None:
    frame.to_parquet(tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    refuse(write(tmp_path, "short.parquet", whole[:-20]), "Parquet")
    refuse(write(tmp_path, "csv.parquet", CSV), "Parquet")


def test_columns_that_pandas_does_not_know_do_not_crash(tmp_path: Path) -> None:
    times = pa.array([0, None], pa.timestamp("s", "Nowhere/Land"))
    pa.parquet.write_table(pa.table({"comment_text": ["a", "b"], "time": times}), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet")["comment_text"].tolist() == ["a", "b"]
    nested = pa.array([{"at": 0}, None], pa.struct([("at", times.type)]))
    pa.parquet.write_table(pa.table({"comment_text": [SECRET, "b"], "times": nested}), tmp_path / "n.parquet")
    refuse(tmp_path / "n.parquet", "without that column")
    texts = pa.Array.from_buffers(pa.string(), 2, pa.array([SECRET.encode() + b"\xff", b"b"]).buffers())
    pa.parquet.write_table(pa.table({"comment_text": texts}), tmp_path / "u.parquet")
    refuse(tmp_path / "u.parquet", "texts that are not UTF-8")


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.csv.gz"])
@pytest.mark.parametrize(
    "first", [b"PK\3\4\x14\0", gzip.compress(CSV, mtime=0), b"PAR1\x15\4", b"\xd0\xcf\x11\xe0\xa1\xb1", b"%PDF-1.7"]
)
def test_another_format_under_the_name_of_a_text_is_named(tmp_path: Path, name: str, first: bytes) -> None:
    content = first + SECRET.encode() * 3
    path = write(tmp_path, name, gzip.compress(content) if name.endswith(".gz") else content)
    message = refuse(path, "the name says text, but the file is ")
    with pytest.raises(DataError) as caught:
        open_table(path, text_column="comment_text")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "line",
    [
        "null",  # on which pyarrow crashes, and takes the process with it
        "{} null",
        '{"comment_text": "a", "toxic": 0} {"comment_text": "b", "toxic": 1}',  # two rows to pyarrow
        '{"comment_text": "a",\n"toxic": 0}',  # one row to pyarrow
        '{"comment_text": "a", "toxic": NaN}',
        '{"comment_text": "a", "toxic": 0, "toxic": 1}',
        '{"comment_text": "a", "toxic": 0, "more": {"a": 0, "a": 1}}',
    ],
)
def test_a_line_is_an_object_of_its_own_in_training_as_in_scoring(tmp_path: Path, line: str) -> None:
    good = json.dumps({"comment_text": SECRET, "toxic": 0})
    path = write(tmp_path, "t.jsonl", f"{good}\n{line}\n{good}\n".encode())
    refuse(path, "not one JSON object per line: ", " (row")
    table = open_table(path, text_column="comment_text")
    errors = [error for chunk in table.chunks(10) for error in chunk.errors.to_pylist()]
    assert errors[0] is None and errors[-1] is None and set(errors[1:-1]) == {"not a JSON object"}


def test_broken_json_lines_are_named(tmp_path: Path) -> None:
    good = json.dumps({"comment_text": SECRET, "toxic": 0})
    lines = [good, "", good[:-4], good, "[1]", '{"comment_text": "\\ud800"}', '{"toxic": 0, "toxic": 1}']
    refuse(
        write(tmp_path, "t.jsonl", "\n".join(lines).encode()),
        "per line: 3 lines (rows 2, 4, 6)",
        "which is not text: 1 line (row 5)",
    )
    mixed = [good, json.dumps({"comment_text": SECRET, "toxic": SECRET})]
    refuse(write(tmp_path, "m.jsonl", "\n".join(mixed).encode()), "toxic (number in row 1, text in row 2)")
    refuse(write(tmp_path, "a.jsonl", json.dumps([{"comment_text": SECRET}], indent=1).encode()), "JSON lines")


def test_binary_content_under_a_table_name_is_refused(tmp_path: Path) -> None:
    refuse(write(tmp_path, "t.csv", bytes(range(256)) * 10), "UTF-8")
    refuse(write(tmp_path, "t.jsonl", b"\0" * 100))


def test_names_that_may_be_comments_are_not_shown() -> None:
    assert show_names(["toxic", f"{SECRET} you", "x" * 41]) == (
        "toxic, (a name of 12 characters), (a name of 41 characters)"
    )
    assert show_names([f"c{i}" for i in range(40)]).endswith("c29 and 10 more")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(texts.filter(lambda text: text != ""), min_size=1, max_size=8))
def test_whatever_csv_quotes_comes_back(tmp_path: Path, rows: list[str]) -> None:
    quoted = "".join('"' + text.replace('"', '""') + '",1\n' for text in rows)
    found = read_table(write(tmp_path, "law.csv", ("comment_text,toxic\n" + quoted).encode()))
    assert found["comment_text"].tolist() == rows


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=120), name=st.sampled_from(["h.csv", "h.tsv", "h.jsonl", "h.parquet", "h.csv.gz"]))
def test_any_bytes_give_a_table_or_a_clear_error(tmp_path: Path, content: bytes, name: str) -> None:
    path = write(tmp_path, name, content)
    try:
        found = read_table(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert len(found)


@pytest.mark.parametrize(
    "first_row", [["你这个白痴滚出去", "flag"], ["https://example.org/u/name", "x y z"], [SECRET, "0"]]
)
def test_a_first_row_that_is_not_a_header_is_not_shown(first_row: list[str]) -> None:
    shown = show_names(first_row)
    assert first_row[0] not in shown
    assert "names" in shown or "characters" in shown
