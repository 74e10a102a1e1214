"""Whatever a text is made of, a terminal shows it, and JSON says the same as before."""

import io
import json
import random
import sys
import unicodedata

import pytest

from moderation.escapes import EscapingStream, escape, escape_json, escape_name, escape_output, escaped_output
from tests.attack_table import Attack
from tests.hostile_names import OBEYED, SHOWN, TOO_MUCH, compose, obeyed_in


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_every_character_is_shown_or_harmless() -> None:
    every = "".join(map(chr, [*range(0x11000), *range(0x1B000, 0x1F000), *range(0xE0000, 0xE1000)]))
    assert not obeyed_in(escape(every))
    changed = set(every) - set(escape(every))
    kinds = {unicodedata.category(character) for character in changed}
    assert kinds <= {"Cc", "Cf", "Cs", "Zl", "Zp", "Cn"}, "nothing that can be seen is changed"
    assert not changed & set("\n\t\u200c\u200d"), "lines, and the joiners of scripts and emoji"


@pytest.mark.hostile("terminal: escapes")
def test_escapes_are_those_of_json(attack: Attack) -> None:
    rng = random.Random(1)
    names = [*OBEYED, *SHOWN, *TOO_MUCH, *(compose(rng) for _ in range(attack.cases(500, 200_000)))]
    for name in names:
        shown = escape(name)
        assert not obeyed_in(shown), ascii(name)
        assert escape(shown) == shown, ascii(name)
        assert not {"\n", "\t"} & set(escape_name(name)), ascii(name)
        whole = name.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")  # two halves are one
        assert json.loads(escape(json.dumps({name: name}, ensure_ascii=False))) == {whole: whole}, ascii(name)
        if name.isprintable():
            assert shown == name
    attack.tried(len(names))


def test_json_in_bytes_keeps_its_content() -> None:
    lines = b'{"text": "\xc2\x9b2J \xf3\xa0\x81\x81"}\n{"text": "\xc3\xa9"}\n'
    shown = escape_json(lines)
    assert [json.loads(line) for line in shown.splitlines()] == [json.loads(line) for line in lines.splitlines()]
    assert shown.splitlines()[1] == lines.splitlines()[1]
    assert not obeyed_in(shown.decode())


def test_a_stream_escapes_and_is_otherwise_unchanged() -> None:
    inner = io.StringIO()
    stream = EscapingStream(inner)
    assert stream.write("a\x1b[2J\n") == 6
    stream.writelines(["\rb", "\x9bc\n"])
    assert inner.getvalue() == "a\\u001b[2J\n\\u000db\\u009bc\n"
    assert stream.getvalue() == inner.getvalue()
    assert not stream.isatty()


def test_a_progress_bar_may_go_back_to_its_place_on_a_terminal_and_nothing_else_may() -> None:
    inner = Terminal()
    stream = EscapingStream(inner)
    for written in ("\rTrain: 10%", "\x1b[A\x1b[A", "a\rb", "\x1b[Ab", "\x1b[2J", "\r\x1b[2J\rc"):
        stream.write(written)
        stream.write("\n")
    lines = inner.getvalue().split("\n")
    assert lines[:2] == ["\rTrain: 10%", "\x1b[A\x1b[A"]
    assert lines[2:6] == ["a\\u000db", "\\u001b[Ab", "\\u001b[2J", "\r\\u001b[2J\\u000dc"]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_characters_that_an_encoding_lacks_are_no_error(encoding: str) -> None:
    raw = io.BytesIO()
    stream = EscapingStream(io.TextIOWrapper(raw, encoding=encoding))
    stream.write("caf\u00e9 \u4f60\u597d \udc9b\n")
    stream.flush()
    assert raw.getvalue().decode(encoding).startswith("caf")


def test_streams_come_back_but_where_a_traceback_is_to_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with escaped_output():
        sys.stdout.write("\x1b[2J\n")
        escape_output()
        sys.stderr.write("\x1b[2J\n")
    assert (sys.stdout, sys.stderr) == (out, err)
    assert out.getvalue() == err.getvalue() == "\\u001b[2J\n", "escaped once"
    with pytest.raises(SystemExit), escaped_output():
        sys.exit(0)
    assert sys.stderr is err
    with pytest.raises(RuntimeError), escaped_output():
        raise RuntimeError("\x1b[2J")
    assert isinstance(sys.stderr, EscapingStream)
