"""Bad input through the command line: a clear error on one screen, the right exit code, nothing half-written.

Every comment holds a marker that must never come out again: no message and no log line holds a user's text.
"""

import gzip
import io
import json
import logging
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moderation import cli
from moderation.artifacts import sha256

LABELS = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
SECRET = "ZQXSECRET"
ROOT = Path(__file__).parents[2]
Run = Callable[..., "Said"]

pytestmark = pytest.mark.usefixtures("unpainted")


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str
    log: str

    @property
    def message(self) -> str:
        """The error at the end of stderr, from the line that names the program."""
        begins = [part for part in (self.err.find(f"moderation {verb}: ") for verb in cli.VERBS) if part >= 0]
        return self.err[min(begins) :] if begins else ""


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Run:
    """Run a command in this process. Whatever comes of it, the marker stays inside and errors are calm."""

    def run(*words: str | Path) -> Said:
        capfd.readouterr()
        caplog.clear()
        with caplog.at_level(logging.DEBUG):
            code = cli.main([str(word) for word in words])
        said = Said(code, *capfd.readouterr(), caplog.text)
        assert SECRET.lower() not in (said.out + said.err + said.log).lower()
        if code:
            assert not said.out or words[0] == "check", "a report of what could be read, before the complaint"
            assert "Traceback" not in said.err
            lines = [part for line in said.message.splitlines() for part in textwrap.wrap(line, 100) or [""]]
            assert 0 < len(lines) <= 25, "more than one screen"
        return said

    return run


def comments(n_rows: int = 120, seed: int = 0) -> pd.DataFrame:
    """Rows of which every label is on in a fifth, each text with the marker."""
    rng = np.random.default_rng(seed)
    words = ["kind", "bread", "river", "idiot", "fine"]
    texts = [f"{' '.join(rng.choice(words, 6))} {SECRET} {row}" for row in range(n_rows)]
    targets = {label: rng.permutation(np.arange(n_rows) % 5 == 0).astype(int) for label in LABELS}
    return pd.DataFrame({"comment_text": texts, **targets})


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    """Give back the threads that `--threads 1` takes from this process; one is the best for so small a model."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A sound table of 120 comments."""
    comments().to_csv(tmp_path / "comments.csv", index=False)
    return tmp_path / "comments.csv"


@pytest.fixture(scope="session")
def small(tiny_backbone: Path) -> list[str]:
    """The words that make a training small."""
    return f"--backbone {tiny_backbone} --max-length 32 --epochs 1 --bootstrap 10 --threads 1".split()


@pytest.fixture(scope="session")
def finished(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `comments.csv` and the finished run `run`, to be copied and not touched."""
    folder = tmp_path_factory.mktemp("finished")
    comments().to_csv(folder / "comments.csv", index=False)
    words = ["train", "--data-path", folder / "comments.csv", "--output-dir", folder / "run", *small]
    assert cli.main([str(word) for word in words]) == 0
    return folder


@pytest.fixture
def trained(finished: Path, tmp_path: Path) -> Path:
    """A run folder of one's own; its data stand in the folder of `finished`."""
    shutil.copytree(finished / "run", tmp_path / "run")
    return tmp_path / "run"


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def evaluate(run: Run, folder: Path, *words: str | Path) -> Said:
    return run("evaluate", "--checkpoint", folder / "checkpoint_best.pt", "--bootstrap", "5", "--threads", "1", *words)


# --- tables that cannot be used -------------------------------------------------------------------------------------


def as_csv(frame: pd.DataFrame, **options: object) -> bytes:
    return frame.to_csv(index=False, **options).encode()  # type: ignore[call-overload, no-any-return]


def with_cells(column: str, value: object, rows: list[int]) -> pd.DataFrame:
    frame = comments().astype({column: object})
    frame.loc[rows, column] = value
    return frame


def ragged() -> bytes:
    lines = as_csv(comments()).splitlines()
    return b"\n".join(line + b",1,1" if row in (3, 8) else line for row, line in enumerate(lines)) + b"\n"


BAD_TABLES: dict[str, tuple[str, bytes, list[str]]] = {
    "empty file": ("a.csv", b"", ["the file is empty"]),
    "header alone": ("a.csv", as_csv(comments()[:0]), ["no rows"]),
    "wrong delimiter": ("a.csv", as_csv(comments(), sep=";"), ["--delimiter ';'"]),
    "latin-1": ("a.csv", as_csv(comments()).replace(b"kind", b"kn\xefd", 1), ["not UTF-8", "0xef", "iconv"]),
    "ragged rows": ("a.csv", ragged(), ["2 rows with 9 fields", "expected 7", "rows: 3, 8", "double quotes"]),
    "a column twice": (
        "a.csv",
        as_csv(comments().rename(columns={"insult": "threat"})),
        ["repeated column names: threat", "Rename or remove"],
    ),
    "labels as strings": (
        "a.csv",
        as_csv(with_cells("insult", f"yes {SECRET}", [4, 9])),
        ["label 'insult': 2 values are not numeric", "expected 0 or 1", "rows 5, 10"],
    ),
    "fractions": ("a.csv", as_csv(with_cells("threat", 0.4, [0])), ["label 'threat'", "--label-cut", "row 1"]),
    "a label missing": ("a.csv", as_csv(with_cells("threat", None, [7])), ["label 'threat': 1 value is missing"]),
    "a label without positives": (
        "a.csv",
        as_csv(comments().assign(threat=0)),
        ["label 'threat': no positives", "--label-columns"],
    ),
    "a label without negatives": ("a.csv", as_csv(comments().assign(threat=1)), ["label 'threat': no negatives"]),
    "no text column": (
        "a.csv",
        as_csv(comments().rename(columns={"comment_text": "words"})),
        ["no column 'comment_text'", "words", "--text-column"],
    ),
    "no header": ("a.csv", as_csv(comments(), header=False), ["is the header missing?"]),
    "no label columns": ("a.csv", as_csv(comments()[["comment_text"]]), ["no label columns", "--label-columns"]),
    "no texts": ("a.csv", as_csv(comments().assign(comment_text="  ")), ["no rows left", "120 without text"]),
    "an open quote": (
        "a.csv",
        as_csv(comments()) + f'"{SECRET},0,1,0,0,0,0\nmore {SECRET},0,0,0,0,0,0\n'.encode(),
        ["quote"],
    ),
    "another ending": ("a.xlsx", b"PK", ["unknown ending", ".csv"]),
    "cut gzip": ("a.csv.gz", gzip.compress(as_csv(comments()))[:200], ["not a complete .gz file"]),
    "not parquet": ("a.parquet", as_csv(comments()), ["not a complete Parquet file"]),
    "broken json": ("a.jsonl", f'{{"comment_text": "{SECRET}", "toxic": 1}}\n{{"x'.encode(), ["JSON", "row 2"]),
    "two problems": (
        "a.csv",
        as_csv(with_cells("insult", "x", [0]).assign(threat=0)),
        ["label 'insult': 1 value is not numeric", "label 'threat': no positives"],
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_table_that_cannot_be_used_is_refused_by_every_verb(
    case: str, run: Run, small: list[str], tmp_path: Path
) -> None:
    name, content, parts = BAD_TABLES[case]
    path = tmp_path / name
    path.write_bytes(content)
    for words in (["train", "--data-path", path, "--output-dir", tmp_path / "run", *small], ["check", path]):
        said = run(*words)
        assert said.code == 1
        assert str(path) in said.message
        for part in parts:
            assert part in said.message, said.message
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("flag", ["--data-path", "--val-path", "--test-path"])
def test_a_missing_table_is_named(flag: str, run: Run, data: Path, small: list[str], tmp_path: Path) -> None:
    words = ["--data-path", data, flag, tmp_path / "gone.csv"]
    said = run("train", *words, "--output-dir", tmp_path / "run", *small)
    assert said.code == 1
    assert f"{tmp_path / 'gone.csv'}: no such file" in said.message
    assert not (tmp_path / "run").exists()


def test_a_folder_in_place_of_a_table_is_named(run: Run, small: list[str], tmp_path: Path) -> None:
    said = run("train", "--data-path", tmp_path, "--output-dir", tmp_path / "run", *small)
    assert said.code == 1
    assert f"{tmp_path}: this is a folder" in said.message
    assert not (tmp_path / "run").exists()


# --- tables that look bad and are fine ------------------------------------------------------------------------------


def test_rows_without_text_are_left_out_and_counted(run: Run, small: list[str], tmp_path: Path) -> None:
    frame = comments(130)
    frame.loc[[1, 2, 3, 4], "comment_text"] = [None, "", "  ", float("nan")]
    frame.to_parquet(tmp_path / "a.parquet")
    said = run("train", "--data-path", tmp_path / "a.parquet", "--output-dir", tmp_path / "run", *small)
    assert said.code == 0, said.err
    assert "left out: 4 without text" in said.log
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["data"]["left_out"]["without_text"] == 4
    assert sum(record["splits"].values()) == 126


def test_one_label_is_enough(run: Run, small: list[str], tmp_path: Path) -> None:
    """Also for a head on a frozen encoder, and for batches chosen by label."""
    comments()[["comment_text", "toxic"]].to_csv(tmp_path / "a.csv", index=False)
    words = ["--output-dir", tmp_path / "run", *small, "--freeze-layers", "2", "--balanced-sampler"]
    said = run("train", "--data-path", tmp_path / "a.csv", *words)
    assert said.code == 0, said.err
    training = json.loads((tmp_path / "run" / "run.json").read_text())["training"]
    assert training["trainable"] < training["parameters"] / 2
    assert np.load(tmp_path / "run" / "preds_val.npy").shape == (12, 1)
    assert list(json.loads((tmp_path / "run" / "thresholds.json").read_text())["thresholds"]) == ["toxic"]
    assert evaluate(run, tmp_path / "run").code == 0


# --- arrays for tuning ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (lambda p, t: (p[:-2], t), ["Shapes differ", "(58, 2)", "(60, 2)", "same run and split"]),
        (lambda p, t: (p, t[:, :1]), ["Shapes differ"]),
        (lambda p, t: (p[:, 0], t[:, 0]), ["(60,)", "reshape"]),
        (lambda p, t: (np.where(p > 0.9, np.nan, p), t), ["NaN", "rows from 0"]),
        (lambda p, t: (p * 8 - 4, t), ["logits", "sigmoid"]),
        (lambda p, t: (p, t * 2), ["neither 0 nor 1"]),
        (lambda p, t: (p, t * np.nan), ["NaN"]),
        (lambda p, t: (p[:0], t[:0]), ["(0, 2)"]),
    ],
    ids=["rows", "columns", "one dimension", "NaN", "logits", "targets", "NaN targets", "empty"],
)
def test_arrays_that_cannot_be_tuned_on_are_refused(
    spoil: Callable[..., tuple[np.ndarray, np.ndarray]], parts: list[str], run: Run, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 2)) < 0.4).astype(np.float32)
    probabilities, targets = spoil(np.clip(targets * 0.4 + rng.random((60, 2)) * 0.6, 0, 1), targets)
    np.save(tmp_path / "p.npy", probabilities.astype(np.float32))
    np.save(tmp_path / "l.npy", targets)
    (tmp_path / "thresholds.json").write_text("old", encoding="utf-8")
    said = run("tune", "--preds", tmp_path / "p.npy", "--labels", tmp_path / "l.npy", "--label-columns", "a", "b")
    assert said.code == 1
    assert str(tmp_path) in said.message
    for part in parts:
        assert part in said.message, said.message
    assert (tmp_path / "thresholds.json").read_text(encoding="utf-8") == "old"
    assert len(list(tmp_path.iterdir())) == 3


def test_thresholds_are_not_tuned_on_the_test_split_or_a_missing_array(run: Run, trained: Path) -> None:
    before = files_in(trained)
    said = run("tune", "--preds", trained / "preds_test.npy", "--labels", trained / "labels_test.npy")
    assert (said.code, "test split" in said.message) == (1, True)
    said = run("tune", "--preds", trained / "preds_val.npy", "--labels", trained / "gone.npy")
    assert (said.code, f"{trained / 'gone.npy'}: no such file" in said.message) == (1, True)
    said = run("tune", "--preds", trained / "preds_val.npy", "--labels", trained / "preds_val.npy")
    assert (said.code, "expected targets" in said.message) == (1, True)
    assert files_in(trained) == before


# --- checkpoints, thresholds and run.json ---------------------------------------------------------------------------


def foreign_weights() -> bytes:
    import torch

    file = io.BytesIO()
    torch.save({"state_dict": {"w": torch.zeros(2)}}, file)
    return file.getvalue()


def record_anew(path: Path) -> None:
    """Say in run.json that a file is what the training wrote, as whoever changes a run folder can."""
    record = path.parent / "run.json"
    edit(record, lambda content: content["files"].update({path.name: sha256(path)}))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda whole: whole[: len(whole) // 2], "not a readable checkpoint"),
        (lambda whole: whole[:10], "not a readable checkpoint"),
        (lambda whole: b"", "not a readable checkpoint"),
        (lambda whole: b"toxic,threat\n", "not a readable checkpoint"),
        (lambda whole: b"version https://git-lfs.github.com/spec/v1\n", "not a readable checkpoint"),
        (lambda whole: b"\x80\x04cos\nsystem\n(S'true'\ntR.", "not a readable checkpoint"),
        (lambda whole: foreign_weights(), "a checkpoint of another program"),
        (lambda whole: None, "no such file"),
    ],
    ids=["half", "beginning", "empty", "text", "pointer", "pickle", "foreign", "missing"],
)
def test_a_checkpoint_that_cannot_be_used_is_refused(
    spoil: Callable[[bytes], bytes | None], part: str, run: Run, trained: Path
) -> None:
    path = trained / "checkpoint_best.pt"
    content = spoil(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
        record_anew(path)
    before = files_in(trained)
    said = evaluate(run, trained)
    assert said.code == 1
    assert f"{path}: " in said.message
    assert part in said.message
    assert "expected checkpoint_best.pt" in said.message
    assert files_in(trained) == before


@pytest.mark.hostile("auto_map with y on standard input")
@pytest.mark.parametrize("key", ["auto_map", "tokenizer_class", "checkpoint"])
def test_a_run_folder_from_elsewhere_runs_no_code(
    key: str, run: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto_map` and a class that transformers does not know, where somebody says yes to all that is asked."""
    import torch

    said_yes = io.StringIO("y\n" * 50)
    monkeypatch.setattr(sys, "stdin", said_yes)
    (trained / "tokenizer" / "evil.py").write_text(f"open({str(tmp_path / 'code was run')!r}, 'w')\nclass Evil: pass\n")
    path, word = trained / "tokenizer" / "tokenizer_config.json", f"({key})"
    auto_map = {"AutoTokenizer": [None, "evil.Evil"], "AutoModelForSequenceClassification": "evil.Evil"}
    if key == "checkpoint":
        path, word = trained / "checkpoint_best.pt", "(config): names code to run (auto_map)"
        content = torch.load(path, weights_only=True)
        content["config"] |= {"model_type": "clip", "auto_map": auto_map, "_name_or_path": str(trained / "tokenizer")}
        torch.save(content, path)
        record_anew(path)
    else:
        changes = {"tokenizer_class": "Evil"} | ({"auto_map": auto_map} if key == "auto_map" else {})
        edit(path, lambda content: content.update(changes))
    before = files_in(trained)
    for said in (evaluate(run, trained), run("export", trained, "--to", tmp_path / "bundle", "--threads", "1")):
        assert said.code == 1
        assert f"{path}" in said.message
        assert word in said.message
    assert files_in(trained) == before
    assert not (tmp_path / "code was run").exists()
    assert not (tmp_path / "bundle").exists()
    assert said_yes.tell() == 0


def edit(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def rename_label(content: dict[str, object]) -> None:
    content["labels"] = ["rude", *LABELS[1:]]
    content["thresholds"]["rude"] = content["thresholds"].pop("toxic")  # type: ignore[index, attr-defined]


THRESHOLDS: dict[str, tuple[Callable[[dict[str, object]], object], list[str]]] = {
    "other labels": (rename_label, ["made for other labels", "rude", "same run"]),
    "another order": (lambda content: content.update(labels=LABELS[::-1]), ["another order"]),
    "another format": (lambda content: content.update(format="x"), ["not in the format"]),
    "a newer version": (lambda content: content.update(version=99), ["version 99"]),
    "a label gone": (
        lambda content: content["thresholds"].pop("threat"),  # type: ignore[attr-defined]
        ["expected one threshold for each label", "tune again"],
    ),
}


@pytest.mark.parametrize("case", THRESHOLDS)
def test_thresholds_that_do_not_fit_the_checkpoint_are_refused(case: str, run: Run, trained: Path) -> None:
    change, parts = THRESHOLDS[case]
    edit(trained / "thresholds.json", change)
    before = files_in(trained)
    said = evaluate(run, trained)
    assert said.code == 1
    assert f"{trained / 'thresholds.json'}: " in said.message
    for part in parts:
        assert part in said.message
    assert files_in(trained) == before


def damaged_records(run_json: Path) -> Iterator[str]:
    """Damage run.json in one way after the other."""
    whole = run_json.read_bytes()
    for change in (
        lambda content: content.clear(),
        lambda content: content.pop("settings"),
        lambda content: content["settings"].update(colour="red"),
        lambda content: content["settings"].update(seed="x"),
        lambda content: content["settings"].update(epochs=-1),
        lambda content: content.pop("data"),
        lambda content: content["data"].pop("sha256"),
    ):
        edit(run_json, change)
        yield run_json.read_text(encoding="utf-8")
        run_json.write_bytes(whole)
    run_json.write_bytes(whole[:100])
    yield "cut"
    run_json.unlink()
    yield "gone"


def test_a_damaged_run_json_is_named(run: Run, trained: Path) -> None:
    for state in damaged_records(trained / "run.json"):
        before = files_in(trained)
        said = evaluate(run, trained)
        assert said.code == 1, state
        assert str(trained / "run.json") in said.message, state
        assert files_in(trained) == before


def test_data_that_changed_or_disappeared_cannot_give_the_test_split_again(
    run: Run, trained: Path, tmp_path: Path, data: Path
) -> None:
    edit(trained / "run.json", lambda content: content["settings"].update(data_path=str(data)))  # type: ignore[attr-defined]
    assert evaluate(run, trained).code == 0
    comments(seed=1).to_csv(data, index=False)
    before = files_in(trained)
    said = evaluate(run, trained)
    assert (said.code, "changed since the run" in said.message, "--data-path" in said.message) == (1, True, True)
    data.unlink()
    said = evaluate(run, trained)
    assert (said.code, str(data) in said.message) == (1, True)
    assert files_in(trained) == before


def test_a_missing_tokenizer_is_named(run: Run, trained: Path) -> None:
    shutil.rmtree(trained / "tokenizer")
    said = evaluate(run, trained)
    assert (said.code, str(trained / "tokenizer") in said.message) == (1, True)


def test_another_table_without_the_labels_is_refused(run: Run, trained: Path, tmp_path: Path) -> None:
    comments()[["comment_text", "toxic"]].to_csv(tmp_path / "b.csv", index=False)
    before = files_in(trained)
    said = evaluate(run, trained, "--data-path", tmp_path / "b.csv")
    assert (said.code, "no column 'severe_toxic'" in said.message) == (1, True)
    assert files_in(trained) == before


# --- the output folder ----------------------------------------------------------------------------------------------


def test_a_folder_that_holds_a_run_is_kept_unless_overwrite_is_set(
    run: Run, trained: Path, data: Path, small: list[str]
) -> None:
    (trained / "notes.txt").write_text("mine", encoding="utf-8")
    before = files_in(trained)
    words = ["train", "--data-path", data, "--output-dir", trained, *small]
    said = run(*words)
    assert said.code == 1
    assert f"{trained}: already contains a run (done)" in said.message
    assert "--overwrite" in said.message
    assert files_in(trained) == before

    assert run(*words, "--overwrite", "--seed", "7").code == 0
    after = files_in(trained)
    assert json.loads(after["run.json"])["settings"]["seed"] == 7
    assert after["preds_val.npy"] != before["preds_val.npy"]
    assert after["notes.txt"] == b"mine"


def test_a_run_that_is_done_or_was_never_begun_cannot_be_resumed(
    run: Run, trained: Path, data: Path, small: list[str], tmp_path: Path
) -> None:
    before = files_in(trained)
    said = run("train", "--data-path", data, "--output-dir", trained, *small, "--resume")
    assert (said.code, "complete" in said.message) == (1, True)
    said = run("train", "--data-path", data, "--output-dir", tmp_path / "new", *small, "--resume")
    assert (said.code, "no interrupted run" in said.message) == (1, True)
    assert files_in(trained) == before
    assert not (tmp_path / "new").exists()


def test_a_file_in_place_of_the_folder_is_refused(run: Run, data: Path, small: list[str], tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine", encoding="utf-8")
    said = run("train", "--data-path", data, "--output-dir", tmp_path / "run", *small)
    assert said.code == 1
    assert str(tmp_path / "run") in said.message
    assert (tmp_path / "run").read_text(encoding="utf-8") == "mine"


def test_folders_of_other_programs_are_not_cleared(run: Run, data: Path, small: list[str], tmp_path: Path) -> None:
    """A project folder may well have a folder named plots."""
    (tmp_path / "mine" / "plots").mkdir(parents=True)
    (tmp_path / "mine" / "plots" / "holiday.png").write_bytes(b"mine")
    said = run("train", "--data-path", data, "--output-dir", tmp_path / "mine", *small)
    assert said.code == 1
    assert f"{tmp_path / 'mine'}: contains plots, which a run would replace" in said.message
    assert (tmp_path / "mine" / "plots" / "holiday.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["--backbone", "no/such/folder"], 1, "no/such/folder"),
        (["--backbone", "{empty}"], 1, "{empty}"),
        (["--freeze-layers", "9"], 2, "layers"),
        (["--objective", "accuracy"], 2, "accuracy"),
        (["--objective", "precision>=2"], 2, "precision>=2"),
        (["--label-columns", "toxic", "toxic"], 2, "more than once"),
        (["--label-cut", "2.5"], 2, "--label-cut is 2.5"),
        (["--delimiter", "ab"], 2, "--delimiter"),
        (["--text-column", "body"], 1, "no column 'body'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_training_that_cannot_start_leaves_no_folder(
    words: list[str], code: int, part: str, run: Run, data: Path, small: list[str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    filled = [word.replace("{empty}", str(tmp_path / "empty")) for word in words]
    said = run("train", "--data-path", data, "--output-dir", tmp_path / "run", *small, *filled)
    assert said.code == code, said.message
    assert part.replace("{empty}", str(tmp_path / "empty")) in said.message
    assert not (tmp_path / "run").exists()


# --- a full disk and an interrupt -----------------------------------------------------------------------------------


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a full disk would; Python turns the signal into an error of the write."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("n_bytes", [1_000, 3_000, 20_000, 200_000])
def test_a_full_disk_is_named_and_leaves_no_partial_file(
    n_bytes: int, run: Run, data: Path, small: list[str], tmp_path: Path
) -> None:
    with largest_file(n_bytes):
        said = run("train", "--data-path", data, "--output-dir", tmp_path / "run", *small)
    assert said.code == 1
    if n_bytes < 10_000:  # not even the backbone's tokenizer can be copied
        assert "cannot be copied to the temporary folder" in said.message
    else:
        assert str(tmp_path) in said.message
        assert "could not be written" in said.message
    assert not (tmp_path / "run").exists(), "nothing half-written"


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_leaves_the_old_results_of_tuning_and_evaluating(run: Run, trained: Path) -> None:
    before = files_in(trained)
    words = ["--preds", trained / "preds_val.npy", "--labels", trained / "labels_val.npy", "--bootstrap", "5"]
    with largest_file(500):
        said = run("tune", *words)
        assert (said.code, str(trained / "thresholds.json") in said.message) == (1, True)
        said = evaluate(run, trained)
        assert (said.code, str(trained) in said.message) == (1, True)
    assert files_in(trained) == before


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupted_training_can_be_resumed(run: Run, data: Path, small: list[str], tmp_path: Path) -> None:
    words = ["train", "--data-path", str(data), "--output-dir", str(tmp_path / "run"), *small]
    words += ["--epochs", "6"]
    process = subprocess.Popen(
        [sys.executable, "-m", "moderation", *words, "--save-every", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        while not list(tmp_path.glob("run/resume/checkpoint-*/trainer_state.json")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert not out
    assert "Traceback" not in err
    assert "--resume" in err
    assert err.rstrip().splitlines()[-1] == "moderation train: interrupted."
    assert f"--output-dir {tmp_path / 'run'} --resume" in err
    assert SECRET.lower() not in err.lower()
    left = files_in(tmp_path / "run")
    assert json.loads(left["run.json"])["status"] == "running"
    assert not [name for name in left if name.endswith(".tmp")]

    assert run(*words, "--resume").code == 0
    assert json.loads(files_in(tmp_path / "run")["run.json"])["status"] == "done"
