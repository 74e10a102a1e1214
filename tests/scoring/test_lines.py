"""Lines of a pipe: whatever their encoding and however they come, each is a text or an error, and none is lost."""

import io
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.scoring.lines import pipe_lines
from moderation.tables import bounds


class Trickle(io.RawIOBase):
    """A pipe that gives what was put into it piece by piece."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    def read(self, size=-1):
        return self.pieces.pop(0) if self.pieces else b""


def test_lines_of_a_pipe_are_yielded_as_they_arrive():
    found = list(pipe_lines(Trickle(b"one\r\ntwo", b" more\n\n\xff\n", b"last")))
    assert [lines for lines in found if lines] == [
        [("one", None)],
        [("two more", None), ("", None), (r"\xff", "not UTF-8")],
        [("last", None)],
    ]


def test_the_byte_order_mark_of_a_pipe_is_not_part_of_a_text():
    def texts(*pieces):
        return [text for found in pipe_lines(Trickle(*pieces)) for text, _ in found]

    assert texts(b"\xef", b"\xbb\xbfone\n\xef\xbb\xbftwo\n") == ["one", "\ufefftwo"]
    assert texts(b"\xef\xbb\xbflast") == ["last"]
    assert texts(b"\xef\xbb\xbf") == []


@pytest.mark.parametrize("end", [b"", b"\n", b"\nnext"])
def test_an_endless_line_is_a_row_with_an_error(end, monkeypatch):
    monkeypatch.setattr(bounds, "CELL_BYTES", 100)
    pieces = [b"one\n", *[b"x" * 60] * 9, end, b"\n", b"y" * 100]
    texts, errors = zip(*(line for found in pipe_lines(Trickle(*pieces)) for line in found), strict=True)
    between = {b"": [], b"\n": [""], b"\nnext": ["next"]}[end]
    # A read that gives nothing is the end of a pipe.
    assert list(texts) == (["one", None] if not end else ["one", None, *between, "y" * 100])
    assert errors[:2] == (None, "a line of more than 16 MiB")
    assert not any(errors[2:])


def read(content, piece=7):
    pieces = [content[start : start + piece] for start in range(0, len(content), piece)]
    return [line for found in pipe_lines(Trickle(*pieces)) for line in found]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("piece", [1, 3, 100])
def test_utf8_and_utf16_are_distinguished(encoding, piece):
    text = "you are\r\nkind \N{GRINNING FACE}\n\nlast \xe9"
    expected = [("you are", None), ("kind \N{GRINNING FACE}", None), ("", None), ("last \xe9", None)]
    assert read(text.encode(encoding), piece) == expected


@pytest.mark.hostile("pipe: first line with zero bytes")
@pytest.mark.parametrize(
    "first", [b"x\0", b"a\0b\0", b"\0x\0y", b"\xc3\xa9\0a\0", b"a\0" * 20, "hi ".encode("utf-16-be")]
)
def test_the_first_line_does_not_choose_the_encoding_of_the_others(first):
    found = read(first + b"\n" + b"kind river\n" * 50, len(first) + 1)
    assert found[0][1] == "holds a NUL character"
    assert found[1:] == [("kind river", None)] * 50


def test_utf16_with_an_order_mark_needs_no_latin_letter():
    assert read("\ufeff\u4e2d\u6587\n\u4f60".encode("utf-16-be")) == [("\u4e2d\u6587", None), ("\u4f60", None)]


@pytest.mark.parametrize(
    ("content", "errors"),
    [
        (b"plain\nwith a \0 in it\n", [None, "holds a NUL character"]),
        (
            "\u4e2d\u6587\n\u4f60\u597d\n".encode("utf-16-le"),
            ["not UTF-8", "holds a NUL character", "holds a NUL character"],
        ),
        ("\ufeffone\nhalf \ud83d\n".encode("utf-16-le", "surrogatepass"), [None, "not UTF-16"]),
        ("\ufeffone\ntwo".encode("utf-16-le") + b"x", [None, "not UTF-16"]),
        (b"\0\0\0\0", ["holds a NUL character"]),
    ],
)
def test_binary_content_is_an_error_and_never_a_text_with_zero_bytes(content, errors):
    assert [error for _, error in read(content)] == errors


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0\ufeff")), min_size=1),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.integers(1, 20),
)
def test_texts_written_as_lines_come_back(texts, encoding, piece):
    assert read("".join(f"{text}\n" for text in texts).encode(encoding), piece) == [(text, None) for text in texts]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(1, 20))
def test_no_text_of_any_bytes_holds_a_zero_byte_without_an_error(content, piece):
    assert not [text for text, error in read(content, piece) if error is None and "\0" in (text or "")]


def test_lines_need_no_other_package():
    code = "import sys, moderation.scoring.lines; print({'numpy', 'pandas', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
