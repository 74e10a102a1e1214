"""`moderation score` as real processes: every interruption ends in the same bytes, every fault in one message."""

import hashlib
import importlib
import importlib.metadata
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from moderation import Classifier, cli
from moderation.artifacts import sha256
from moderation.bundles import read_bundle
from moderation.errors import ArtifactError, DataError
from moderation.manifests import FileFacts
from moderation.scoring import jobs, readers
from moderation.scoring import run as file_scoring
from moderation.scoring.finished import check_finished
from moderation.scoring.lines import pipe_lines
from moderation.scoring.options import ScoreOptions
from moderation.scoring.summary import ScoreSummary
from moderation.scoring.writers import output_format

recipe = importlib.import_module("moderation.commands.score")

ROOT = Path(__file__).parents[2]
SECRET = "zqxsecret"
N_ROWS = 600
RESULTS = ["p_toxic", "p_severe_toxic", "p_obscene", "p_threat", "p_insult", "p_identity_hate"]
RESULTS += ["flagged", "n_windows", "detected_language", "model_version", "error"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes of POSIX")


@pytest.fixture(scope="module")
def comments(table, tmp_path_factory):
    """The shared table with two rows that cannot be scored, as CSV."""
    path = tmp_path_factory.mktemp("score") / "in.csv.gz"
    frame = table[["id", "comment_text"]].assign(comment_text=table["comment_text"] + f" {SECRET}")
    frame.loc[[4, 500], "comment_text"] = ["", "  "]
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def words(comments, tiny_bundle):
    return ["score", comments, "--model", tiny_bundle, "--backend", "onnx", "--threads", "1", "--chunk-rows", "50"]


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory):
    """The output of a run that nothing interrupts, one per format."""
    folder = tmp_path_factory.mktemp("whole")
    for name in ("out.csv.gz", "out.parquet", "out.jsonl"):
        code, _, err = run(*words, "-o", folder / name)
        assert code == 3, err
    written = ["out.csv.gz", "out.csv.gz.meta.json", "out.jsonl", "out.jsonl.meta.json", "out.parquet"]
    assert sorted(path.name for path in folder.iterdir()) == written
    return folder


def start(*arguments, **keywords):
    keywords = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | keywords
    return subprocess.Popen([sys.executable, "-m", "moderation", *map(str, arguments)], cwd=ROOT, text=True, **keywords)


def run(*arguments):
    """Run a command in this process: it is the ones that are interrupted that need one of their own."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:  # of argparse
            code = end.code
    assert SECRET not in out.getvalue() + err.getvalue()
    assert "Traceback" not in err.getvalue()
    return code, out.getvalue(), err.getvalue()


def wait_for_parts(folder, at_least, process):
    """Wait until a running process has finished some parts."""
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.arrow"))) < at_least:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


@pytest.fixture(scope="module")
def killed(words, tmp_path_factory):
    """The folder of a run into out.parquet that was killed when it had finished some parts. Copy it."""
    folder = tmp_path_factory.mktemp("killed")
    process = start(*words, "-o", folder / "out.parquet")
    wait_for_parts(folder / ".out.parquet.parts", 3, process)
    process.kill()
    process.communicate()
    return folder


@pytest.fixture
def stopped(killed, tmp_path):
    """A killed run of the test's own, to go on with."""
    return shutil.copytree(killed, tmp_path / "stopped") / "out.parquet"


def test_a_file_is_scored_and_rows_without_a_text_are_counted(words, comments, whole, tmp_path):
    code, out, _ = run(*words, "-o", tmp_path / "o.csv")
    assert code == 3
    assert "600 rows" in out
    assert "2 no text: rows 5, 501" in out
    assert out.rstrip().endswith(str(tmp_path / "o.csv"))
    frame = pd.read_csv(tmp_path / "o.csv", keep_default_na=False)
    assert list(frame.columns) == ["id", "comment_text", *RESULTS]
    before = pd.read_csv(comments, keep_default_na=False)
    assert frame[["id", "comment_text"]].equals(before)
    assert frame["error"].value_counts().to_dict() == {"": N_ROWS - 2, "no text": 2}
    assert (frame["flagged"] != "").any()
    table = pq.read_table(whole / "out.parquet")
    assert table.schema.field("p_toxic").type == "float"
    assert [",".join(flags or ()) for flags in table["flagged"].to_pylist()] == frame["flagged"].tolist()
    assert table["flagged"].null_count == 2
    lines = [json.loads(line) for line in (whole / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["n_windows"] for line in lines] == table["n_windows"].to_pylist()
    assert [line["flagged"] for line in lines] == table["flagged"].to_pylist()


def test_the_results_are_those_of_the_classifier(whole, tiny_bundle):
    table = pq.read_table(whole / "out.parquet").slice(10, 40).to_pylist()
    with Classifier.load(tiny_bundle, backend="onnx", threads=1) as classifier:
        for row, result in zip(table, classifier.classify([row["comment_text"] for row in table]), strict=True):
            assert [row[name] for name in RESULTS[:6]] == list(result.probabilities.values())
            assert row["flagged"] == list(result.flagged)
            assert (row["n_windows"], row["model_version"]) == (result.n_windows, result.model_version)


NAMES = ["out.csv.gz", "out.parquet", "out.jsonl", "out.tsv", "out.csv.zst", "out.jsonl.zip", "out.parquet.gz"]


def stop_at_random(words, output, rng, number):
    """Start a run, or go on with it, and send it a signal at some moment; gives its exit code."""
    process = start(*words, "-o", output, "--resume")
    folder, n_parts, later = output.with_name(f".{output.name}.parts"), rng.randrange(13), rng.random() * 0.1
    while process.poll() is None and len(list(folder.glob("*.arrow"))) < n_parts:
        time.sleep(0.002)
    time.sleep(later)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert SECRET not in out + err
    assert "Traceback" not in err
    return process.returncode


def is_whole(output):
    return output.exists() and not output.with_name(f".{output.name}.parts").exists()


def finish(words, output, whole):
    """Go on to the end where there is one left, and compare with a run that nothing interrupted."""
    if not is_whole(output):
        code, _, err = run(*words, "-o", output, "--resume")
        assert code == 3, err
    written = {path.name: path.read_bytes() for path in output.parent.iterdir() if not path.name.endswith(".lock")}
    if not (whole / output.name).exists():
        assert run(*words, "-o", whole / output.name)[0] == 3
    names = {output.name, f"{output.name}.meta.json"}
    assert written == {path.name: path.read_bytes() for path in whole.iterdir() if path.name in names}


@pytest.mark.hostile("score: kill -9 then resume")
def test_kills_at_any_moment_and_resume_give_the_same_bytes(words, whole, tmp_path, attack):
    n_runs, n_kills = attack.cases(3, 14), attack.cases(1, 3)
    for number in range(n_runs):
        rng = random.Random(number)
        output = tmp_path / str(number) / NAMES[number % len(NAMES)]
        for _ in range(n_kills):
            code = stop_at_random(words, output, rng, signal.SIGKILL)
            attack.tried()
            assert code in (3, -signal.SIGKILL), f"run {number}"
            if is_whole(output):  # by itself, or the kill came behind the end: there is nothing to go on with
                break
        finish(words, output, whole)


def test_resuming_with_something_else_is_refused_by_name(words, stopped):
    for more, said in (
        (("--flag-columns",), "flag_columns was False, now True"),
        (("--threshold", "toxic=0.9"), "thresholds_from was bundle, now set"),
        (("--text-column", "id"), "text_column was comment_text, now id"),
    ):
        code, _, err = run(*words, "-o", stopped, "--resume", *more)
        assert (code, said in err) == (1, True), err
    code, _, err = run(*words, "-o", stopped, "--overwrite")
    assert code == 3, err
    assert [path.name for path in stopped.parent.iterdir()] == ["out.parquet"]


@pytest.mark.parametrize("rows", [7, 1000])
def test_a_run_may_continue_with_parts_of_another_size(rows, words, whole, stopped):
    code, out, err = run(*words, "-o", stopped, "--resume", "--chunk-rows", rows)
    assert (code, "were kept from earlier runs" in out) == (3, True), err
    assert stopped.read_bytes() == (whole / "out.parquet").read_bytes()


def test_an_output_that_is_finished_is_complete_and_stays_as_it_is(words, whole, tmp_path, capsys):
    def again(name, *more):
        before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
        code = cli.main([str(word) for word in [*words, "-o", tmp_path / name, "--resume", *more]])
        assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
        return code, "".join(capsys.readouterr())

    for path in whole.iterdir():
        shutil.copy(path, tmp_path)
    code, said = again("out.parquet")
    assert (code, "out.parquet: already complete, nothing to do (rows: 600; with an error: 2)." in said) == (
        3,
        True,
    )
    beside = tmp_path / "out.jsonl.meta.json"
    beside.write_text(beside.read_text(encoding="utf-8").replace('"errors": 2', '"errors": 0'), encoding="utf-8")
    assert again("out.jsonl")[0] == 0
    code, said = again("out.csv.gz", "--flag-columns", "--threshold", "toxic=0.9")
    assert (code, "settings.flag_columns was false, now true" in said) == (1, True)
    assert "thresholds.toxic was" in said and 'thresholds_from was "bundle", now "set"' in said


def test_a_changed_or_unknown_output_is_not_complete(whole, tmp_path):
    for path in whole.iterdir():
        shutil.copy(path, tmp_path)
    output, beside = tmp_path / "out.jsonl", tmp_path / "out.jsonl.meta.json"
    about = json.loads(beside.read_text(encoding="utf-8"))
    assert check_finished(output, about, output_format(output)) == (600, 2)
    assert check_finished(tmp_path / "out.parquet", about, output_format(Path("out.parquet"))) == (600, 2)
    about["input"] = about["input"] | {"sha256": "0"}
    with pytest.raises(ArtifactError, match=r'input\.sha256 was "\w+", now "0"'):
        check_finished(output, about, output_format(output))
    output.write_bytes(output.read_bytes() + b"{}\n")
    with pytest.raises(ArtifactError, match="was changed after it was finished"):
        check_finished(output, about, output_format(output))
    beside.unlink()
    pq.write_table(pq.read_table(tmp_path / "out.parquet").replace_schema_metadata(None), tmp_path / "bare.parquet")
    for path in (output, tmp_path / "bare.parquet"):
        with pytest.raises(ArtifactError, match="has no record that this toolkit finished it"):
            check_finished(path, about, output_format(path))


def test_parts_of_an_older_version_are_refused_and_left_alone(words, tmp_path):
    folder = tmp_path / ".o.csv.parts"
    folder.mkdir()
    (folder / "parts.json").write_text('{"format": 1, "chunk_rows": 50}', encoding="utf-8")
    (folder / "00000000.arrow").write_bytes(b"old")
    code, _, err = run(*words, "-o", tmp_path / "o.csv", "--resume")
    assert (code, "another version of the toolkit" in err) == (1, True)
    assert (folder / "00000000.arrow").read_bytes() == b"old"
    assert run(*words, "-o", tmp_path / "o.csv", "--overwrite")[0] == 3
    assert not folder.exists()


def test_the_record_of_a_scored_file_is_in_it_or_next_to_it(words, comments, whole, tiny_bundle):
    beside = json.loads((whole / "out.jsonl.meta.json").read_text(encoding="utf-8"))
    inside = json.loads(pq.read_metadata(whole / "out.parquet").metadata[b"content-moderation"])
    of_csv = json.loads((whole / "out.csv.gz.meta.json").read_text(encoding="utf-8"))
    own = inside.pop("output")["sha256"].encode()
    blank = (whole / "out.parquet").read_bytes().replace(own, b"0" * 64)
    assert hashlib.sha256(blank).hexdigest().encode() == own
    for name, about in (("out.jsonl", beside), ("out.csv.gz", of_csv)):
        made = about.pop("output")
        assert made == {"bytes": (whole / name).stat().st_size, "sha256": sha256(whole / name)}
    assert inside == beside == of_csv
    bundle = read_bundle(tiny_bundle)
    assert inside["model"] == {"name": bundle.name, "version": bundle.version, "backend": "onnx"}
    assert inside["thresholds"] == dict(zip(bundle.labels, bundle.thresholds, strict=True))
    assert inside["input"] == {"name": "in.csv.gz", "bytes": comments.stat().st_size, "sha256": sha256(comments)}
    assert (inside["thresholds_from"], inside["rows"], inside["errors"]) == ("bundle", N_ROWS, 2)
    assert inside["settings"]["text_column"] == "comment_text"
    assert inside["toolkit"].startswith("content-moderation ")


def test_a_file_with_the_name_of_the_sidecar_is_not_overwritten(words, tmp_path):
    (tmp_path / "o.csv.meta.json").write_text('{"mine": 1}', encoding="utf-8")
    code, _, err = run(*words, "-o", tmp_path / "o.csv")
    assert (code, "was not written by this toolkit" in err) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["o.csv.meta.json"]


@pytest.mark.hostile("score: SIGINT, SIGTERM, SIGHUP then resume")
def test_a_signal_keeps_finished_rows(words, whole, tmp_path, attack):
    ends = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: -signal.SIGHUP}
    for turn in range(attack.cases(1, 4)):
        output = tmp_path / str(turn) / NAMES[(turn + 1) % len(NAMES)]
        for n_parts, (number, expected) in enumerate(ends.items(), start=2):
            process = start(*words, "-o", output, "--resume", "--chunk-rows", 50 - turn)
            wait_for_parts(output.with_name(f".{output.name}.parts"), n_parts, process)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
            assert (process.returncode, out) == (expected, "")
            assert number == signal.SIGHUP or "--resume to continue" in err
            assert "Traceback" not in err
            assert not output.exists()
            assert output.with_name(f".{output.name}.lock").exists() == (number == signal.SIGHUP)
            attack.tried()
        finish(words, output, whole)


@pytest.mark.hostile("score: two runs, one output")
def test_a_second_run_with_the_same_output_is_refused_while_the_first_one_runs(
    words, whole, comments, tmp_path, attack, capsys
):
    other = tmp_path / "other.csv"
    other.write_text("comment_text\nkind\n", encoding="utf-8")
    output = tmp_path / "o" / "out.parquet"
    first = start(*words, "-o", output)
    wait_for_parts(output.with_name(".out.parquet.parts"), 1, first)
    first.send_signal(signal.SIGSTOP)  # so that it is there for as long as this takes
    for more in ([], ["--overwrite"], ["--resume"], ["--resume", "--overwrite"]):
        for source in (comments, other):
            assert cli.main([str(word) for word in ["score", source, *words[2:], "-o", output, *more]]) == 1
            said = capsys.readouterr().err
            assert f"moderation score of {comments}" in said
            assert f"process {first.pid} on" in said
            attack.tried()
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=120)
    assert first.returncode == 3
    finish(words, output, whole)


@pytest.mark.hostile("score: two runs, one output")
def test_two_runs_that_start_together_end_as_one(words, whole, tmp_path, attack):
    table = pd.read_csv(io.StringIO("comment_text\n" + "idiot bread\n" * N_ROWS))
    table.to_csv(tmp_path / "b.csv", index=False)
    run("score", tmp_path / "b.csv", *words[2:], "-o", tmp_path / "b.jsonl")
    right = {3: (whole / "out.jsonl").read_bytes(), 0: (tmp_path / "b.jsonl").read_bytes()}
    for number in range(attack.cases(1, 8)):
        output = tmp_path / str(number) / "out.jsonl"
        both = [start(*words, "-o", output), start("score", tmp_path / "b.csv", *words[2:], "-o", output)]
        said = [process.communicate(timeout=120) for process in both]
        codes = [process.returncode for process in both]
        assert sorted(codes) in ([0, 1], [1, 3]), said
        assert output.read_bytes() == right[codes[0] if codes[1] == 1 else codes[1]]
        assert sorted(path.name for path in output.parent.iterdir()) == ["out.jsonl", "out.jsonl.meta.json"]
        attack.tried()


@pytest.mark.parametrize(
    "name", ["-o.csv", "a\nb.parquet", os.fsdecode(b"\xff.jsonl.zip"), "x" * 210 + ".csv", "x" * 240 + ".csv"]
)
def test_an_output_may_have_any_name_that_is_not_too_long(name, tiny_bundle, tmp_path, capsys):
    source = tmp_path / os.fsdecode(b"in\xfe.csv")
    source.write_text("comment_text\nkind\n", encoding="utf-8")
    words = ["score", str(source), "--model", str(tiny_bundle), "--backend", "onnx", f"--output={tmp_path / name}"]
    too_long = len(name) > 220
    assert cli.main(words) == (2 if too_long else 0)
    assert not too_long or "the name is too long; expected up to 220 bytes" in capsys.readouterr().err
    beside = [] if name.endswith(".parquet") else [f"{name}.meta.json"]
    written = [] if too_long else [name, *beside]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, *written])
    if beside and written:
        about = json.loads((tmp_path / beside[0]).read_text(encoding="utf-8"))
        assert about["input"]["name"] == source.name
        assert about["output"]["sha256"] == sha256(tmp_path / name)


def test_a_link_in_place_of_the_output_stays_a_link(tiny_bundle, tmp_path):
    (tmp_path / "in.csv").write_text("comment_text\nkind\n", encoding="utf-8")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "out.csv").write_text("old", encoding="utf-8")
    (tmp_path / "link.csv").symlink_to("there/out.csv")
    words = ["score", tmp_path / "in.csv", "-m", tiny_bundle, "--backend", "onnx", "-o", tmp_path / "link.csv"]
    assert cli.main([str(word) for word in words]) == 1
    assert cli.main([str(word) for word in (*words, "--overwrite")]) == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["out.csv", "out.csv.meta.json"]
    assert "kind" in (tmp_path / "there" / "out.csv").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "link.csv", "there"]


@pytest.mark.hostile("score: links")
@pytest.mark.parametrize("name", ["link.csv", "folder/out.csv"])
def test_a_link_that_is_redirected_meanwhile_overwrites_no_other_file(name, tiny_bundle, tmp_path):
    """The link, or that of the folder, points elsewhere when the parts are begun, at each of them, and at the end."""
    (tmp_path / "in.csv").write_text("comment_text\nkind\nidiot\n", encoding="utf-8")
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "out.csv").write_text(f"old, {folder}", encoding="utf-8")
    link = tmp_path / name.split("/")[0]
    ending = "/out.csv" if name == "link.csv" else ""
    link.symlink_to(f"here{ending}")
    config = ScoreOptions(input_path=tmp_path / "in.csv", output=tmp_path / name, overwrite=True, chunk_rows=1)

    def turn():
        link.unlink()
        link.symlink_to(f"there{ending}")
        return 0.0

    with jobs.claim_output(config) as target, Classifier.load(tiny_bundle, backend="onnx", threads=1) as loaded:
        file_scoring.score_file(jobs.Job(config, loaded, None, ScoreSummary(loaded.labels), target, clock=turn))
    assert (tmp_path / "there/out.csv").read_text(encoding="utf-8") == "old, there"
    assert "idiot" in (tmp_path / "here/out.csv").read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"out.csv"}
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"out.csv", "out.csv.meta.json"}


def test_the_name_of_the_link_decides_the_format(tiny_bundle, tmp_path):
    (tmp_path / "in.csv").write_text("comment_text\nkind\n", encoding="utf-8")
    (tmp_path / "stored").write_text("old", encoding="utf-8")
    (tmp_path / "link.jsonl").symlink_to("stored")
    words = ["score", tmp_path / "in.csv", "-m", tiny_bundle, "--backend", "onnx", "-o", tmp_path / "link.jsonl"]
    assert cli.main([str(word) for word in (*words, "--overwrite")]) == 0
    assert json.loads((tmp_path / "stored").read_text(encoding="utf-8"))["comment_text"] == "kind"


@pytest.mark.parametrize("limit", [2_000, 30_000])
def test_a_full_disk_keeps_finished_rows(limit, words, whole, tmp_path, full_disk):
    """A limit on the size of a file is met in a part, or in the output."""
    with full_disk(limit):
        code, _, err = run(*words, "-o", tmp_path / "out.jsonl")
    assert code == 1
    assert "File too large" in err
    assert "--resume" in err
    assert not (tmp_path / "out.jsonl").exists()
    assert run(*words, "-o", tmp_path / "out.jsonl", "--resume")[0] == 3
    assert (tmp_path / "out.jsonl").read_bytes() == (whole / "out.jsonl").read_bytes()


def test_lines_of_a_pipe_are_answered_while_it_is_open(tiny_bundle):
    process = start("score", "-", "-m", tiny_bundle, "--backend", "onnx", stdin=subprocess.PIPE)
    for text in ("kind bread", "idiot damn"):
        process.stdin.write(text + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert list(answer) == ["text", *RESULTS]
        assert answer["text"] == text
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "2 rows" in err


def test_a_pipe_into_a_file_keeps_at_an_interrupt_what_has_arrived(tiny_bundle, tmp_path):
    words = ["score", "-", "-o", tmp_path / "o.csv", "-m", tiny_bundle, "--backend", "onnx"]
    process = start(*words, stdin=subprocess.PIPE)
    process.stdin.write("kind\n\nidiot\n")
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 200 for path in tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "3 rows that had arrived" in err
    assert pd.read_csv(tmp_path / "o.csv", keep_default_na=False)["text"].tolist() == ["kind", "", "idiot"]
    assert json.loads((tmp_path / "o.csv.meta.json").read_text(encoding="utf-8"))["rows"] == 3


def test_a_pipe_into_a_file_keeps_what_was_scored_before_an_error(tiny_bundle, tmp_path, monkeypatch):
    def failing(*_):
        yield from pipe_lines(io.BytesIO(b"kind\n\nidiot\n"))
        raise DataError("no more")

    monkeypatch.setattr(recipe, "pipe_lines", failing)
    with (tmp_path / "in").open("w+b") as empty:
        monkeypatch.setattr(sys, "stdin", empty)
        words = ["score", "-", "-o", tmp_path / "o.csv.gz", "-m", tiny_bundle, "--backend", "onnx"]
        assert cli.main([*map(str, words)]) == 1
    assert pd.read_csv(tmp_path / "o.csv.gz", keep_default_na=False)["text"].tolist() == ["kind", "", "idiot"]


def test_the_fingerprint_names_engine_and_cores(tiny_bundle, tmp_path):
    (tmp_path / "in.csv").write_text("comment_text\na\n", encoding="utf-8")
    config = ScoreOptions(input_path=tmp_path / "in.csv", output=tmp_path / "o.csv")
    table = readers.open_table(config.input_path, text_column="comment_text")
    with Classifier.load(tiny_bundle, backend="onnx", threads=1) as classifier:
        job = jobs.Job(config, classifier, None, ScoreSummary(classifier.labels), config.output)
        found = jobs.fingerprint(job, table, FileFacts("0", 1))
    assert found["onnxruntime"] == importlib.metadata.version("onnxruntime")
    assert {"tokenizers", "content-moderation", "py3langid"} < set(found)
    assert found["languages"] is False


def test_rows_of_a_file_can_go_to_standard_output(words, whole):
    process = start(*words, "-o", "-")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3
    assert out == (whole / "out.jsonl").read_text(encoding="utf-8")
    assert "600 rows" in err
    assert SECRET not in err


def test_a_reader_that_leaves_and_a_full_device_give_one_message(words):
    reading, writing = os.pipe()
    os.close(reading)
    process = start(*words, "-o", "-", stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == "moderation score: standard output: its reader closed it before everything was written.\n"
    if Path("/dev/full").exists():
        with open("/dev/full", "wb") as full:  # noqa: PTH123
            process = start(*words, "-o", "-", stdout=full)
            _, err = process.communicate(timeout=60)
        assert (process.returncode, "No space left" in err, len(err.splitlines())) == (1, True, 1)


def test_a_summary_that_nobody_reads_is_not_an_error(tiny_bundle, tmp_path):
    (tmp_path / "in.csv").write_text("comment_text\nhave a nice day\n", encoding="utf-8")
    for output, stream in (("o.csv", "stdout"), ("-", "stderr")):
        reading, writing = os.pipe()
        os.close(reading)
        words = ["score", tmp_path / "in.csv", "-o", tmp_path / output if output != "-" else "-"]
        process = start(*words, "-m", tiny_bundle, "--backend", "onnx", **{stream: writing})
        os.close(writing)
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err or "") == (0, "")
    assert (tmp_path / "o.csv").exists()


def test_json_lines_keep_their_objects_and_broken_lines_their_place(tiny_bundle, tmp_path):
    lines = ['{"comment_text": "idiot", "price": 1.50}', "broken", '{"id": 7, "comment_text": 5}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ["score", tmp_path / "in.jsonl", "-m", tiny_bundle, "--backend", "onnx", "-o"]
    code, out, _ = run(*words, tmp_path / "out.jsonl")
    assert code == 3
    assert "1 not a JSON object: row 2" in out
    first, second, third = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert first.startswith(lines[0][:-1] + ', "p_toxic": ')
    assert json.loads(second)["error"] == "not a JSON object"
    assert json.loads(third) | {"id": 7, "error": "the text is not a string"} == json.loads(third)
    assert run(*words, tmp_path / "out.parquet")[0] == 3
    assert pq.read_table(tmp_path / "out.parquet")["price"].to_pylist() == [1.5, None, None]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{in}", "-o", "{in}"], 2, "this is the input file"),
        (["{in}", "-o", "{dir}/linked.csv.gz"], 2, "this is the input file"),
        (["{in}", "-o", "{dir}/o.txt"], 2, "unknown ending"),
        (["{in}", "-o", "{dir}/there.csv"], 1, "--overwrite"),
        (["{in}", "-o", "{dir}/folder.csv"], 1, "it is a folder"),
        (["{in}"], 2, "--output is missing"),
        (["-", "--resume"], 2, "--resume needs a file"),
        (["{in}", "-o", "{dir}/o.csv", "--text-column", "words"], 1, "the columns are: id, comment_text"),
        (["{dir}/none.csv", "-o", "{dir}/o.csv"], 1, "no such file"),
        (["{dir}/scored.csv", "-o", "{dir}/o.csv"], 1, "names of result columns: flagged"),
        (["{in}", "-o", "{dir}/o.csv", "--chunk-rows", "0"], 2, "--chunk-rows is 0"),
        (["{in}", "-o", "{dir}/o.csv", "--model", "{dir}"], 1, "bundle"),
    ],
)
def test_an_error_gives_one_message_and_leaves_nothing(
    arguments, code, message, comments, tiny_bundle, tmp_path, capfd
):
    (tmp_path / "there.csv").write_text("mine", encoding="utf-8")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "scored.csv").write_text("comment_text,flagged\na,\n", encoding="utf-8")
    (tmp_path / "linked.csv.gz").symlink_to(comments)
    before = sorted(tmp_path.iterdir())
    given = [word.replace("{in}", str(comments)).replace("{dir}", str(tmp_path)) for word in arguments]
    model = [] if "--model" in given else ["--model", str(tiny_bundle)]
    assert cli.main(["score", *given, *model, "--backend", "onnx"]) == code
    said = capfd.readouterr()
    assert not said.out
    assert message in said.err
    assert SECRET not in said.err
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there.csv").read_text(encoding="utf-8") == "mine"
