"""Names of strangers through real commands: what reaches a terminal is shown, what reaches a file is data."""

import csv
import io
import json
import logging
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from moderation import cli
from moderation.bundles import SHIPPED
from moderation.errors import DataError
from moderation.manifests import MANIFEST, manifest_version
from moderation.scoring.cells import as_plain_cell
from moderation.suites.hatecheck import read_hatecheck
from tests.attack_table import Attack
from tests.hostile_names import OBEYED, SHOWN, TOO_MUCH, compose, obeyed_in

TERMINAL = pytest.mark.hostile("terminal")
HOSTILE = (*OBEYED, *SHOWN, *TOO_MUCH)
ALL = "".join(name for name in (*OBEYED, *SHOWN) if not {"\0", "\ud83d"} & set(name))
UNICODE = [name for name in HOSTILE if not any(0xD800 <= ord(character) < 0xE000 for character in name)]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run a command with its log on standard error, as in a process of its own; nothing of it is obeyed."""
    kept = logging.root.handlers[:]

    def run(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        logging.root.handlers[:] = []
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as error:
            code = int(error.code or 0)
        finally:
            logging.root.handlers[:] = kept
        out, err = capfd.readouterr()
        assert not obeyed_in(out), ascii(out)
        assert not obeyed_in(err), ascii(err)
        assert "Traceback" not in err, err
        return code, out, err

    yield run
    logging.root.handlers[:] = kept


def write(path: Path, columns: dict[str, list[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def read(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def some(attack: Attack, short: int, names: Sequence[str] = HOSTILE, made: int = 0) -> list[str]:
    """Some of the names, or all of them and so many that are made of their pieces."""
    rng = random.Random(2)
    found = rng.sample(names, attack.cases(short, len(names))) + [compose(rng) for _ in range(attack.cases(0, made))]
    attack.tried(len(found))
    return found


@TERMINAL
def test_a_table_is_checked_whatever_its_columns_are_called(command: Command, tmp_path: Path, attack: Attack) -> None:
    every = {"comment_text": ["a", "b", "c"]} | {
        name: [0, 1, 0] for name in UNICODE if name and not {"\0", "\r"} & set(name)
    }
    code, _, err = command("check", write(tmp_path / "t.csv", every))
    assert code == 1 and "U+001B" in err
    for name in some(attack, 6, made=300):
        table = write(tmp_path / "t.csv", {"comment_text": ["a", "b", "c"], name: [0, 1, 0], "id\x1b[2J": [7, 8, 9]})
        code, out, err = command("check", table)
        assert code == 1 or name.strip().isprintable(), ascii(name)
        assert name not in err or name.isprintable()
        assert command("check", table, "--label-columns", name)[0] in (0, 1, 2), ascii(name)
        _, out, _ = command("check", table, "--json", "-")
        assert not out or json.loads(out)["version"] == 1


@TERMINAL
def test_words_of_the_command_line_are_shown(command: Command, tmp_path: Path, attack: Attack) -> None:
    """Paths, settings, flags and files of settings; what a shell cannot hand over is left to those."""
    names = [name for name in HOSTILE if "\0" not in name and name and len(name) < 200 and "\ud83d" not in name]
    for name in (ALL, *some(attack, 1, names)):
        for words in (
            ["check", name],
            ["check", f"./{name}.csv", name],
            ["check", f"--{name}", "x.csv"],
            ["score", f"{name}.csv", "-o", "x.csv"],
            ["score", "-", "-o", f"x.{name}"],
            ["score", "-", "--threshold", f"{name}=0.5"],
            ["evaluate", "--suite", f"{name}=x.csv"],
            ["verify", name],
            ["tune", "--preds", name, "--labels", name],
            ["serve", "--model", f"./{name}"],
            ["keys", "add", "--name", name, "--keys", str(tmp_path / "k.json")],
            ["keys", "remove", "--name", name, "--keys", str(tmp_path / f"none-{len(name)}.json")],
            [name],
        ):
            code, _, err = command(*words)
            assert (code and err) or words[0] == "keys", words
        (tmp_path / "c.toml").write_text(f"{json.dumps(name)} = 1\nbackbone = {json.dumps(name)}\n", encoding="utf-8")
        assert command("check", "x.csv", "--config", tmp_path / "c.toml")[0] in (1, 2)


@TERMINAL
def test_a_path_in_a_file_of_settings_may_hold_anything(command: Command, tmp_path: Path) -> None:
    for name in UNICODE:
        (tmp_path / "c.toml").write_text(
            f"preds = {json.dumps(name)}\nlabels = 'x'\nout = {json.dumps(name)}\n".replace("\x7f", "\\u007f"),
            encoding="utf-8",
        )
        code, _, err = command("tune", "--config", tmp_path / "c.toml", "--label-columns", "a")
        assert code in (1, 2) and err, ascii(name)


@TERMINAL
def test_names_of_keys_are_shown(command: Command, tmp_path: Path) -> None:
    keys = {name: {"sha256": "0" * 64, "created": name} for name in HOSTILE}
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"format": "content-moderation keys", "keys": keys}), encoding="utf-8")
    for words in (("list",), ("remove", "--name", "none")):
        code, out, err = command("keys", *words, "--keys", path)
        assert (code, out, len(err.splitlines())) == (1, "", 12), "the first ten are named, each in a line of its own"


@TERMINAL
def test_thresholds_and_sidecars_of_arrays_are_shown(command: Command, tmp_path: Path, attack: Attack) -> None:
    rng = np.random.default_rng(0)
    for name in ("p", "l"):
        np.save(tmp_path / f"{name}.npy", (rng.random((40, 1)) < 0.5).astype(np.float32))
    for name in some(attack, 12):
        for stem, kind in (("p", "probabilities"), ("l", "targets")):
            about = {"labels": [name], "split": "val", "kind": kind}
            (tmp_path / f"{stem}.json").write_text(json.dumps(about), encoding="utf-8")
        words = ("tune", "--preds", tmp_path / "p.npy", "--labels", tmp_path / "l.npy", "--bootstrap", 0)
        code, out, _ = command(*words)
        assert bool(code) == (name in OBEYED + TOO_MUCH), ascii(name)
        assert code or name[:150] in out
        (tmp_path / "t.json").write_text(json.dumps({name: 0.5}), encoding="utf-8")
        assert command("score", "--text", "a", "--thresholds", tmp_path / "t.json")[0]


def resealed(folder: Path, **changes: object) -> Path:
    """A copy of the shipped bundle's manifest, changed and sealed again; its files are not copied."""
    folder.mkdir(exist_ok=True)
    content = json.loads((SHIPPED / MANIFEST).read_text(encoding="utf-8")) | changes
    content["version"] = manifest_version(content)
    (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8")
    shutil.copy(SHIPPED / "config.json", folder)
    return folder


@TERMINAL
@pytest.mark.parametrize("verb", ["score", "serve", "verify", "evaluate"])
def test_a_bundle_with_such_names_is_refused(verb: str, command: Command, tmp_path: Path, attack: Attack) -> None:
    content = json.loads((SHIPPED / MANIFEST).read_text(encoding="utf-8"))
    words = {
        "score": ["score", "--text", "a", "--model"],
        "serve": ["serve", "--port", "0", "--model"],
        "verify": ["verify"],
        "evaluate": ["evaluate", "--suite", "binary=x.csv", "--threads", "1"],
    }[verb]
    for name in some(attack, 2, [*OBEYED, *TOO_MUCH, "\u00e9", "a b"]):
        for changes in (
            {"name": name},
            {"languages": [name]},
            {"labels": [name, *content["labels"][1:]]},
            {"forms": {name: {"files": [name]}}},
            {"thresholds": {name: 0.5}},
            {"format_version": name},
            {"calibration": {"method": name}},
        ):
            if "labels" in changes and (name.strip() and name not in OBEYED and len(name) < 200):
                continue  # "\u00e9" and "a b" are fine labels
            assert command(*words, resealed(tmp_path / "b", **changes))[0] == 1, (changes, "refused")


@TERMINAL
def test_a_checkpoint_with_such_labels_is_refused(command: Command, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    for name in OBEYED:
        content = {"format": "content-moderation checkpoint", "version": 1, "labels": [name], "config": {}}
        torch.save(content, tmp_path / "checkpoint_best.pt")
        assert command("evaluate", "--checkpoint", tmp_path / "checkpoint_best.pt")[0] == 1


@TERMINAL
def test_groups_of_suites_are_refused_by_row(command: Command, tmp_path: Path) -> None:
    for name in OBEYED:
        columns = {"functionality": ["a", name], "test_case": ["x", "y"], "label_gold": ["hateful"] * 2}
        table = write(tmp_path / "s.csv", columns | {"target_ident": ["b", "b"]})
        with pytest.raises(DataError) as caught:
            read_hatecheck(table, None)
        assert not obeyed_in(str(caught.value)), ascii(name)
        assert "row 2" in str(caught.value) or ord(name[0]) >= 0xD800 or "\0" in name
    code, out, _ = command("evaluate", "--suite", f"hatecheck={table}", "--bootstrap", 0)
    assert (code, out) == (1, "")


@TERMINAL
def test_a_table_is_scored_whatever_it_contains(command: Command, tmp_path: Path) -> None:
    """Data stay data: in the file as they are, on standard output as JSON of the same content."""
    names = [name for name in UNICODE if not {"\0", "\r"} & set(name)]
    table = write(tmp_path / "t.csv", {"comment_text": names} | {name: ["x"] * len(names) for name in names if name})
    code, out, _ = command("score", table, "-o", "-")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["comment_text"] for line in lines] == names
    assert len(lines[0]) > len(names)
    code, _, _ = command("score", table, "-o", tmp_path / "o.csv")
    assert code in (0, 3)
    plain = read(tmp_path / "o.csv")
    assert [row[0] for row in plain[1:]] == names
    code, _, _ = command("score", table, "-o", tmp_path / "safe.csv", "--csv-safe")
    safe = read(tmp_path / "safe.csv")
    assert safe == [[as_plain_cell(cell) for cell in row] for row in plain]
    assert safe != plain
    assert json.loads((tmp_path / "safe.csv.meta.json").read_text(encoding="utf-8"))["settings"]["csv_safe"]
