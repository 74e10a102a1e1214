"""The one rule for CSV: every row is right or carries an error, for training and for scoring alike."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moderation.errors import ConfigError, DataError
from moderation.scoring.readers import open_table
from moderation.tables import bounds, csv_rows
from moderation.tables.csv_dialects import CsvDialect
from moderation.tables.csv_rows import open_csv
from moderation.tables.reading import read_table

OPEN, BEHIND, BLANK, BACKSLASH = (
    "a quote is opened and never closed",
    "text after a closing quote",
    "a blank before a quote",
    "a backslash before a quote",
)


def read(content: bytes | str, ending: str = ".csv", **dialect: str) -> list[tuple[list[str], str | None]]:
    """Rows with errors cut at the semicolon, behind which the cure stands."""
    raw = content.encode() if isinstance(content, str) else content
    table = open_csv(io.BytesIO(raw), "t", ending, CsvDialect(**dialect))  # type: ignore[arg-type]
    return [(fields, error and error.split(";")[0]) for fields, error in table.rows]


def errors(content: bytes | str, ending: str = ".csv", **dialect: str) -> dict[int, str]:
    return {number: error for number, (_, error) in enumerate(read(content, ending, **dialect), start=1) if error}


def remarks(first: int, last: int, form: str = "{n},ordinary remark number {n}\n") -> str:
    return "".join(form.format(n=n) for n in range(first, last + 1))


SWALLOWED = (
    "id,comment_text\n"
    + remarks(1, 4)
    + '5,"lol never closed\n'
    + remarks(6, 59)
    + '60,he "quoted" me\n'
    + remarks(61, 64)
)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_quote_that_swallows_rows_costs_only_its_own_row(end: str) -> None:
    rows = read(SWALLOWED.replace("\n", end))
    assert len(rows) == 64
    assert {number: error for number, (_, error) in enumerate(rows, start=1) if error} == {5: OPEN}
    assert rows[4][0] == ["5", '"lol never closed']
    assert rows[59][0] == ["60", 'he "quoted" me']
    assert rows[5][0] == ["6", "ordinary remark number 6"]


@pytest.mark.parametrize(
    "broken",
    ['3,tv 55",","d" x\n', '3,tv 55","open\n', '3,"\n4,tv 55", "blank"\n', '3,tv 55","a\n4,b","two" x\n'],
)
def test_rows_that_a_quote_swallowed_are_read_if_a_later_field_is_broken(broken: str) -> None:
    head = "id,text,note\n90,fine,x\n"
    found = read(f'{head}1,"he,n\n2,good,n\n{broken}8,ok,n\n')
    assert found[1] == (["1", '"he', "n"], OPEN)
    assert found[2] == (["2", "good", "n"], None)
    assert found[-1] == (["8", "ok", "n"], None)
    assert len(read(head + '1,"a poem\nof, two\nlines","d" x\n2,y,n\n')) == 3  # no row, but a text of three lines


def test_with_plain_quotes_every_row_is_right() -> None:
    rows = read(SWALLOWED, quoting="none")
    assert [error for _, error in rows] == [None] * 64
    assert rows[4][0] == ["5", '"lol never closed']


@pytest.mark.parametrize(
    ("content", "ending", "n_rows", "expected"),
    [
        (
            'id\ttext\n1\tfine\n2\t"two begin\n' + remarks(3, 59, "{n}\tx {n}\n") + '60\t"so\n61\tx\n',
            ".tsv",
            61,
            {2: OPEN, 60: OPEN},
        ),
        (
            'text,id\nx,1\n"lol,2\n' + remarks(3, 30, "x {n},{n}\n") + 'he "said" it,31\n"no" way,32\nx,33\n',
            ".csv",
            33,
            {2: OPEN, 32: BEHIND},
        ),
        ('text,x\n"5 inch" nail,1\n"6 inch nail,2\n' + remarks(3, 29), ".csv", 29, {1: BEHIND, 2: OPEN}),
        ("id,text\n" + remarks(1, 9) + '10,"open\n' + remarks(11, 64), ".csv", 64, {10: OPEN}),
        ('id,text\n1,"quoted" then more\n2,x\n', ".csv", 2, {1: BEHIND}),
        ('id,text\n1,"he said \\"no\\" to me"\n2,x\n', ".csv", 2, {1: BACKSLASH}),
        ('id,text\n1,"he said \\"no\\""\n2,x\n', ".csv", 2, {1: BACKSLASH}),
        ('id,text\n1, "x, y"\n2,x\n', ".csv", 2, {1: BLANK}),
        ('id;text\n1;"a" b\n2;x\n', ".csv", 2, {1: BEHIND}),
        ('id,text,n\n1,"two\nlines, ""one"" text",0\n2,"open,0\n3,x,0\n', ".csv", 3, {2: OPEN}),
        ('id,a,b\n1,"two\nlines","stray" x\n2,x,y\n', ".csv", 2, {1: BEHIND}),
        (
            "id,text\n1,x\n\ufeff2,y\n3,\ufeffz\n",
            ".csv",
            3,
            {2: "begins with a byte order mark, which belongs at the start of a file"},
        ),
        (b"id,text\n1,caf\xe9\n2,x\n", ".csv", 2, {1: "not UTF-8"}),
        ("id,text\n1\n\n2,x,y\n3,z\n", ".csv", 3, {1: "1 field, expected 2", 2: "3 fields, expected 2"}),
    ],
)
def test_whatever_is_wrong_is_an_error_of_its_row(
    content: str | bytes, ending: str, n_rows: int, expected: dict[int, str]
) -> None:
    dialect = {"delimiter": ";"} if b";" in (content if isinstance(content, bytes) else content.encode())[:4] else {}
    assert len(read(content, ending, **dialect)) == n_rows
    found = errors(content, ending, **dialect)
    assert found.keys() == expected.keys()
    assert all(found[row].startswith(expected[row]) for row in found)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('id,text\n1,5" nails\n2,"a ""b"""\n3,""\n', [["1", '5" nails'], ["2", 'a "b"'], ["3", ""]]),
        ("id,text\n1,you are\ran idiot\n2,plain\n", [["1", "you are\ran idiot"], ["2", "plain"]]),
        ("id,text\r\n1,you are\ran idiot\r\n2,plain\r\n", [["1", "you are\ran idiot"], ["2", "plain"]]),
        ("text\r\nyou are\ran idiot\r\nplain\r\n", [["you are\ran idiot"], ["plain"]]),
        ('id,text\r1,x\r2,"y\nz"\r', [["1", "x"], ["2", "y\nz"]]),
        ('id,text\n1,x\r\n2,"y\r\nz"\n3,"a\rb"\r\n', [["1", "x"], ["2", "y\r\nz"], ["3", "a\rb"]]),
        ("id,text\n1,a\u2028b\x0bc\x0cd\u0085e\x1ef\n", [["1", "a\u2028b\x0bc\x0cd\u0085e\x1ef"]]),
        ('sep=;\nid;text\n1;"a;b"\n', [["1", "a;b"]]),
        ('"sep=\t"\r\nid\ttext\r\n1\tb\r\n', [["1", "b"]]),
        ("id,text\n1,x", [["1", "x"]]),
        ("id,text\n1,\n", [["1", ""]]),
        ("\ufeff\ufeffid,text\n1,x\n", [["1", "x"]]),
    ],
)
def test_whatever_is_right_is_read_as_it_is(content: str, expected: list[list[str]]) -> None:
    assert read(content) == [(row, None) for row in expected]


@pytest.mark.parametrize(
    ("content", "row"),
    [
        (
            "id,text\n"
            + remarks(1, 4)
            + '5,"lol never closed\n'
            + remarks(6, 59)
            + '60,a nail of 5"\n'
            + remarks(61, 64),
            5,
        ),
        ("text,toxic\nx,0\n" + '"lol,1\n' + "x,0\ny,1\n" * 9 + 'said ",1\n' + "z,0\n", 2),
        ("id,text,toxic\n1,x,0\n" + '2,"lol,1\n3,y,0\n4,5",1\n' + "5,z,0\n", 2),
        ("id,text\r\n1,x\r\n" + '2,"lol\r\n3,5"\r\n4,y\r\n', 2),
    ],
)
def test_rows_within_a_text_are_noticed_although_its_quote_is_closed(content: str, row: int) -> None:
    assert errors(content)[row].startswith("a text whose lines look like further rows")


@pytest.mark.parametrize(
    "content",
    [
        'id,text\n1,x\n2,"1, stop it\n2, go away\n3, leave"\n',
        'id,text,toxic\n1,x,0\n2,"one, two, three\nfour, five, six",1\n',
        'id,text\n1,"2,x\n3,y"\n',
        'text,more\na,b\n"c,d\ne,f\ng,h",i\n',
    ],
)
def test_texts_of_several_lines_stay_texts(content: str) -> None:
    assert not errors(content)


def test_backslashes_are_read_if_requested() -> None:
    content = 'id,text\n1,"he said \\"no\\" to me, \\\\o/"\n2,a\\,b\n3,C:\\new\n4,two\\\nlines\n'
    expected = [["1", 'he said "no" to me, \\o/'], ["2", "a,b"], ["3", "C:\\new"], ["4", "two\nlines"]]
    assert read(content, escape="\\") == [(row, None) for row in expected]
    assert errors("id,text\n1,x\\", escape="\\") == {1: "the file ends after an escape character"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_encodings_are_distinguished(encoding: str) -> None:
    assert read("id,text\r\n1,żółć 😀\r\n".encode(encoding)) == [(["1", "żółć 😀"], None)]


@pytest.mark.hostile("table: zero bytes in a cell")
@pytest.mark.parametrize("cell", [b"a\0" * 700, b"\0a" * 700, "hi".encode("utf-16-be") * 9])
def test_a_cell_does_not_choose_the_encoding_of_the_file(cell: bytes) -> None:
    rows = read(b"id,text\n1,fine\n2," + cell + b"\n3,good\n")
    assert [rows[0], *rows[2:]] == [(["1", "fine"], None), (["3", "good"], None)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('"id,text\n1,x\n', "the header cannot be read: a quote is opened"),
        ("id,text\r1,x\n", "the header contains a carriage return"),
        (b"id,text\xe9\n1,x\n", "the header is not UTF-8"),
        (b"id,te\0xt\n1,x\n", "the header contains zero bytes"),
        ("", "no header"),
        ("\n\r\n", "no header"),
    ],
)
def test_a_header_that_cannot_be_read_is_refused(content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(content)


def test_spaces_around_names_are_removed_and_equal_names_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "t.csv"
    path.write_text("comment_text, toxic\t,\u00a0spam\nx, 0,1\n", encoding="utf-8")
    assert read_table(path).columns.tolist() == ["comment_text", "toxic", "spam"]
    assert open_table(path, text_column="comment_text").names == ("comment_text", "toxic", "spam")
    assert caplog.text.count("blanks removed around 2 of the column names") == 2
    path.write_text("comment_text,toxic, toxic\nx,0,1\n", encoding="utf-8")
    for attempt in (lambda: read_table(path), lambda: open_table(path, text_column="comment_text")):
        with pytest.raises(DataError, match="repeated column names: toxic"):
            attempt()


def test_a_separator_line_must_not_contradict_the_flag() -> None:
    assert read("sep=;\na;b\n1;2\n", delimiter=";") == [(["1", "2"], None)]
    with pytest.raises(DataError, match=r"names the delimiter ';', and --delimiter is ','"):
        read("sep=;\na;b\n1;2\n", delimiter=",")


@pytest.mark.parametrize(("line", "delimiter"), [("sep=\t", "\t"), ("sep= ", " "), ("sep=; ", ";"), ('"SEP=|"', "|")])
def test_a_separator_line_may_name_any_character(line: str, delimiter: str) -> None:
    assert read(f"{line}\na{delimiter}b\n1{delimiter}2\n") == [(["1", "2"], None)]


@pytest.mark.parametrize(
    ("line", "message"), [("sep=||", "2 characters"), ("sep=;;;;", "4 characters"), ("sep=\\", "as --escape")]
)
def test_a_separator_line_that_names_no_delimiter_is_refused(line: str, message: str) -> None:
    with pytest.raises(DataError, match=f"{message}.* Remove that line"):
        read(f"{line}\na;b\n1;2\n", escape="\\")


@pytest.mark.parametrize(
    "dialect",
    [
        {"escape": "ab"},
        {"escape": '"'},
        {"escape": "x"},
        {"escape": ",", "delimiter": ","},
        {"quoting": "all"},
        {"delimiter": "\n"},
    ],
)
def test_an_impossible_dialect_is_refused(dialect: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="--"):
        CsvDialect(**dialect)  # type: ignore[arg-type]


def test_training_refuses_with_all_rows_named_and_no_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(SWALLOWED.replace("64,", '"x" zanzibar,64,').encode()))
    with pytest.raises(DataError) as caught:
        read_table(path)
    message = str(caught.value)
    assert "1 row: a quote is opened and never closed" in message and "rows: 5 (" in message
    assert "1 row: text after a closing quote" in message and "rows: 64 (" in message
    assert "--quoting none" in message and "zanzibar" not in message


@pytest.mark.parametrize("field", ['""', "x", " ", '"x"', "\\,"])
def test_a_line_of_very_many_fields_ends(field: str) -> None:
    """Were each field looked for up to the line's end, this would take minutes."""
    header = ",".join(["a"] * 2)
    (row,) = read(f'{header}\n{",".join([field] * 300_000)},"x"\n', escape="\\")
    assert row[1] is not None
    assert "fields, expected 2" in row[1]


@pytest.mark.parametrize("dialect", [{}, {"escape": "\\"}])
@pytest.mark.parametrize(
    "row",
    [
        '1,"x\n',
        '1,"x\n2,y\n3,y\n',
        '1,"x\n2,""\n2,""\n',
        '"\n"x\n',
        "1,x\\\n",
        '1,"x\\\n',
        '1,"\\"x\n',
        'a","b\n',
        '1,"x\n2,b"\n3,","d" x\n',
    ],
)
def test_no_line_is_read_very_often(row: str, dialect: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    taken, take = [], csv_rows._Lines.take
    monkeypatch.setattr(csv_rows._Lines, "take", lambda lines: taken.append(None) or take(lines))
    content = "id,text\n7,x\n" + row * 300
    read(content, **dialect)
    assert len(taken) <= 3 * content.count("\n") + 10


@pytest.mark.parametrize(
    "content", ['text\n"' + "open\n" * 5000, "text\n" + "x\\\n" * 5000, 'text\n"' + "x" * 20_000 + "\ny\n"]
)
def test_no_more_than_the_longest_field_is_held_in_memory(content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "CELL_BYTES", 1000)
    monkeypatch.setattr(bounds, "ROW_BYTES", 1000)
    found = errors(content, escape="\\")
    assert found and set(found.values()) <= {OPEN, csv_rows.TOO_LONG, csv_rows.NO_END}


DELIMITERS, ESCAPES = ",;\t|", "\\~"
STYLES = [
    {"quoting": csv.QUOTE_MINIMAL},
    {"quoting": csv.QUOTE_ALL},
    {"quoting": csv.QUOTE_MINIMAL, "escapechar": True},
    {"quoting": csv.QUOTE_ALL, "escapechar": True, "doublequote": False},
    {"quoting": csv.QUOTE_MINIMAL, "escapechar": True, "doublequote": False},
    {"quoting": csv.QUOTE_NONE, "escapechar": True},
]
cells = st.text(st.sampled_from([*"ab\",;\t|\\~ '0\n\r", "é", "😀", "\u2028", "\u0085", "\ufeff"]), max_size=8)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=6),
    delimiter=st.sampled_from(DELIMITERS),
    escape=st.sampled_from(ESCAPES),
    style=st.sampled_from(STYLES),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_tables_that_python_writes_come_back_from_both_readers(
    tmp_path: Path,
    rows: list[tuple[str, str]],
    delimiter: str,
    escape: str,
    style: dict[str, object],
    line_end: str,
    encoding: str,
) -> None:
    """An LF that Python leaves unquoted in a file of CRs is left out: nobody can tell it from a line end."""
    if line_end == "\r" and style["quoting"] != csv.QUOTE_ALL:
        rows = [tuple(cell.replace("\n", " ") for cell in row) for row in rows]  # type: ignore[misc]
    keywords = style | ({"escapechar": escape} if style.get("escapechar") else {})
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_end, **keywords)  # type: ignore[arg-type]
    expected = [["x", *row, "y"] for row in rows]
    writer.writerows([["first", "text", "more", "last"], *expected])
    path = tmp_path / "law.csv"
    path.write_bytes(out.getvalue().encode(encoding))
    options = {"delimiter": delimiter, "quoting": "none" if style["quoting"] == csv.QUOTE_NONE else "standard"}
    if "escapechar" in keywords:
        options["escape"] = escape
    assert read_table(path, **options).to_numpy().tolist() == expected  # type: ignore[arg-type]
    table = open_table(path, text_column="text", dialect=CsvDialect(**options))  # type: ignore[arg-type]
    found = [
        (list(row.values()), error)
        for chunk in table.chunks(2)
        for row, error in zip(chunk.batch.to_pylist(), chunk.errors.to_pylist(), strict=True)
    ]
    assert found == [(row, None) for row in expected]


pieces = st.sampled_from(['"', '""', ",", "\n", "\r\n", "\r", "a", "\\", "text", " ", "\0", "\ufeff", "1"])


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(st.lists(pieces, max_size=25).map(lambda words: "".join(words).encode()), st.binary(max_size=60))
)
@pytest.mark.parametrize("dialect", [{}, {"quoting": "none"}, {"escape": "\\"}])
def test_both_readers_agree_on_any_bytes(tmp_path: Path, content: bytes, dialect: dict[str, str]) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(b"text,n\n" + content)
    table = open_table(path, text_column="text", dialect=CsvDialect(**dialect))  # type: ignore[arg-type]
    rows = [row for chunk in table.chunks(2) for row in chunk.batch.to_pylist()]
    wrong = [number for chunk in table.chunks(100) for number, error in enumerate(chunk.errors.to_pylist(), 1) if error]
    assert all(error is None or error for chunk in table.chunks(2) for error in chunk.errors.to_pylist())
    if wrong or not rows:
        with pytest.raises(DataError) as caught:
            read_table(path, **dialect)  # type: ignore[arg-type]
        if wrong and "not UTF-8; the first" not in str(caught.value):
            named = [
                int(word)
                for line in str(caught.value).split("\n    rows: ")[1:]
                for word in line.split(" (")[0].split(", ")
            ]
            assert sorted(named) == wrong
    else:
        assert read_table(path, **dialect).to_dict("records") == rows  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(st.text(st.sampled_from('a", \n'), max_size=6), min_size=2, max_size=2), min_size=1, max_size=6)
)
def test_no_line_of_a_broken_table_is_lost(rows: list[list[str]]) -> None:
    """Whatever the quotes do, each character of the file but quotes, delimiters and line ends stands in some row."""
    content = "a,b\n" + "".join(",".join(row) + "\n" for row in rows)
    found = read(content)
    assert sum(field.count("a") for fields, _ in found for field in fields) == content.count("a") - 1
