"""The whole way on a tiny real encoder: train, tune, evaluate, and what must not happen between them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import model_training
from moderation import cli
from moderation.artifacts import RunFolder
from moderation.commands.train import write_report
from moderation.data.options import SplitOptions
from moderation.data.splits import load_splits
from moderation.errors import ArtifactError
from moderation.evaluation.calibration import load_calibrators
from moderation.evaluation.probabilities import calibrate
from moderation.training.run_record import check_unchanged
from tests.hostile_names import obeyed_in

pytestmark = pytest.mark.usefixtures("unpainted")

SMALL = ["--max-length", "32", "--epochs", "1", "--batch-size", "16", "--lr", "1e-3", "--bootstrap", "20"]


def train(table_path: Path, backbone: Path, folder: Path, *more: str) -> int:
    words = ["--data-path", str(table_path), "--backbone", str(backbone), "--output-dir", str(folder)]
    return model_training.main([*words, *SMALL, *more])


def evaluate(checkpoint: Path, *more: str) -> int:
    return cli.main(["evaluate", "--checkpoint", str(checkpoint), "--bootstrap", "20", *more])


@pytest.fixture(scope="module")
def trained(table_path, tiny_backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "trained"
    assert train(table_path, tiny_backbone, folder) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A run folder of its own for each test."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_the_run_folder_holds_all_that_is_listed(trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {
        *("run.json", "checkpoint_best.pt", "checkpoint_final.pt", "tokenizer", "thresholds.json", "log.jsonl"),
        "calibration.json",
        *(
            f"{kind}_{split}{end}"
            for kind in ("preds", "labels")
            for split in ("val", "test")
            for end in (".npy", ".json")
        ),
        *("metrics_val.json", "metrics_test.json", "plots", "report.html"),
    }
    assert len(list((trained / "plots").glob("*.png"))) == 6
    facts = json.loads((trained / "run.json").read_text())
    assert facts["status"] == "done"
    assert facts["splits"] == {"train": 480, "val": 60, "test": 60}
    assert {"read", "train", "predict"} <= facts["seconds"].keys()
    assert facts["peak_memory_bytes"] > 10**8
    probabilities = np.load(trained / "preds_test.npy")
    assert probabilities.dtype == np.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_evaluate_rebuilds_the_test_split_and_its_predictions(run, capsys):
    before = (run / "preds_test.npy").read_bytes(), json.loads((run / "metrics_test.json").read_text())
    (run / "preds_test.npy").unlink()
    assert model_training.main(["--eval", "--checkpoint", str(run / "checkpoint_best.pt"), "--bootstrap", "20"]) == 0
    assert (run / "preds_test.npy").read_bytes() == before[0]
    assert json.loads((run / "metrics_test.json").read_text())["labels"] == before[1]["labels"]
    assert "report.html" in capsys.readouterr().out


def test_tune_then_evaluate_uses_the_new_thresholds(run):
    words = ["--tune-thresholds", "--preds", str(run / "preds_val.npy"), "--labels", str(run / "labels_val.npy")]
    assert model_training.main([*words, "--objective", "recall>=0.9", "--bootstrap", "0"]) == 0
    assert evaluate(run / "checkpoint_best.pt", "--split", "val") == 0
    metrics = json.loads((run / "metrics_val.json").read_text())["labels"]
    tuned = [
        label
        for label, result in json.loads((run / "thresholds.json").read_text())["thresholds"].items()
        if result["tuned"]
    ]
    assert tuned
    assert all(metrics[label]["at_threshold"]["recall"] >= 0.9 for label in tuned)


def test_another_checkpoint_leaves_the_record_of_the_run(run):
    before = {name: (run / name).read_bytes() for name in ("preds_test.npy", "metrics_test.json", "report.html")}
    assert evaluate(run / "checkpoint_final.pt") == 0
    assert {name: (run / name).read_bytes() for name in before} == before
    assert json.loads((run / "metrics_test-checkpoint_final.json").read_text())["checkpoint"] == "checkpoint_final.pt"


def test_another_table_is_measured_whole_and_not_tuned_on(run, table, table_path, tmp_path, capsys, caplog):
    other = tmp_path / "other.csv"
    table.head(50).rename(columns={"comment_text": "body"}).to_csv(other, index=False, sep=";")
    words = ["--data-path", str(other), "--text-column", "body", "--delimiter", ";"]
    assert evaluate(run / "checkpoint_best.pt", *words) == 0
    assert json.loads((run / "metrics_other.json").read_text())["n_examples"] == 50
    splits = load_splits(SplitOptions(data_path=table_path))
    known = {text for split in ("train", "val") for text in splits.frames[split]["comment_text"]}
    n_seen = sum(text in known for text in table.head(50)["comment_text"])
    assert f"{n_seen} of the 50 texts were in the training data, which makes the figures too good." in caplog.text
    capsys.readouterr()
    words = ["tune", "--preds", str(run / "preds_other.npy"), "--labels", str(run / "labels_other.npy")]
    assert cli.main(words) == 1
    assert "test split" in capsys.readouterr().err


def test_if_the_runs_own_table_is_gone_a_note_says_that_its_texts_may_have_been_seen(run, table, tmp_path, caplog):
    facts = json.loads((run / "run.json").read_text())
    facts["settings"]["data_path"] = str(tmp_path / "gone.csv")
    (run / "run.json").write_text(json.dumps(facts))
    table.head(50).to_csv(tmp_path / "other.csv", index=False)
    with caplog.at_level("INFO"):
        assert evaluate(run / "checkpoint_best.pt", "--data-path", str(tmp_path / "other.csv")) == 0
    assert "it is unknown how many of these texts were in it" in caplog.text


def test_the_same_table_in_another_place_is_still_split(run, table_path, tmp_path):
    moved = Path(shutil.copy(table_path, tmp_path / "moved.csv"))
    before = (run / "preds_val.npy").read_bytes()
    assert evaluate(run / "checkpoint_best.pt", "--data-path", str(moved), "--split", "val") == 0
    assert (run / "preds_val.npy").read_bytes() == before
    assert json.loads((run / "preds_val.json").read_text())["split"] == "val"


def test_flags_that_do_nothing_for_the_own_table_are_refused(run, table_path, tmp_path, capsys):
    moved = Path(shutil.copy(table_path, tmp_path / "moved.csv"))
    words = ["--data-path", str(moved), "--labels-in", "toxic", "--quoting", "none", "--label-columns", "toxic,insult"]
    assert evaluate(run / "checkpoint_best.pt", *words) == 2
    assert (
        "--label-columns, --labels-in, --quoting: no effect, since --data-path is the run's own table"
        in capsys.readouterr().err
    )
    words = ["--data-path", str(moved), "--text-column", "comment_text", "--quoting", "standard"]  # as in training
    assert evaluate(run / "checkpoint_best.pt", *words) == 0


def test_saved_probabilities_are_calibrated_and_measured_before_and_after(trained):
    labels = json.loads((trained / "run.json").read_text())["labels"]
    calibrators = load_calibrators(trained / "calibration.json", labels)
    assert {calibrator.method for calibrator in calibrators} - {"none"}
    for split in ("val", "test"):
        scores, targets = (np.load(trained / f"{kind}_{split}.npy").astype(float) for kind in ("preds", "labels"))
        about = json.loads((trained / f"preds_{split}.json").read_text())
        assert (about["kind"], about["calibrated"]) == ("probabilities", True)
        metrics = json.loads((trained / f"metrics_{split}.json").read_text())
        for i, (label, calibrator) in enumerate(zip(labels, calibrators, strict=True)):
            compared = metrics["calibration"][label]
            assert compared["method"] == calibrator.method
            assert (compared["before"] == compared["after"]) == (calibrator.method == "none")
            assert compared["after"] == {name: metrics["labels"][label][name] for name in compared["after"]}
            assert compared["after"]["brier"] == pytest.approx(np.mean((scores[:, i] - targets[:, i]) ** 2))
    assert json.loads((trained / "thresholds.json").read_text())["about"]["calibrated"] is True
    assert "What calibration changed" in (trained / "report.html").read_text()


def test_without_calibration_probabilities_are_those_of_the_model(trained, table_path, tiny_backbone, tmp_path):
    folder = tmp_path / "plain"
    assert train(table_path, tiny_backbone, folder, "--calibration", "none") == 0
    assert not (folder / "calibration.json").exists()
    labels = json.loads((folder / "run.json").read_text())["labels"]
    calibrators = load_calibrators(trained / "calibration.json", labels)
    plain, calibrated = (np.load(path / "preds_test.npy").astype(np.float64) for path in (folder, trained))
    np.testing.assert_allclose(calibrate(np.log(plain / (1 - plain)), calibrators), calibrated, atol=1e-5)
    assert "calibration" not in json.loads((folder / "metrics_test.json").read_text())
    assert "What calibration changed" not in (folder / "report.html").read_text()
    before = (folder / "preds_test.npy").read_bytes()
    assert evaluate(folder / "checkpoint_best.pt") == 0
    assert (folder / "preds_test.npy").read_bytes() == before


@pytest.mark.parametrize("verb", ["evaluate", "export"])
def test_thresholds_without_the_calibration_that_they_were_tuned_with_are_refused(run, tmp_path, capsys, verb):
    (run / "calibration.json").unlink()
    words = {
        "evaluate": ["--checkpoint", str(run / "checkpoint_best.pt")],
        "export": [str(run), "--to", str(tmp_path / "b")],
    }
    assert cli.main([verb, *words[verb]]) == 1
    assert "tuned on calibrated probabilities" in capsys.readouterr().err


@pytest.mark.hostile("run folder: changed checkpoint")
def test_files_that_changed_since_the_training_are_refused(run, tmp_path, capsys, attack):
    best, record, rng = run / "checkpoint_best.pt", RunFolder(run), np.random.default_rng(5)
    check_unchanged(record, best, run / "checkpoint_final.pt", run / "calibration.json")
    whole = best.read_bytes()
    for number in range(attack.cases(20, 200)):
        content = bytearray(whole)
        content[len(whole) // 2 if number == 0 else rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        best.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"checkpoint_best\.pt: is not the file that the training wrote"):
            check_unchanged(record, best)
        if number == 0:  # in the middle of the weights, which torch reads as they are; and half a file
            for changed in (bytes(content), whole[: len(whole) // 2]):
                best.write_bytes(changed)
                for words in (["evaluate", "--checkpoint", best], ["export", run, "--to", tmp_path / "b"]):
                    assert cli.main([str(word) for word in words]) == 1
                    assert "is not the file that the training wrote" in capsys.readouterr().err
                    assert not (tmp_path / "b").exists()
        attack.tried()


def test_a_run_from_before_calibration_is_evaluated_as_it_was(run):
    (run / "calibration.json").unlink()
    content = json.loads((run / "thresholds.json").read_text())
    del content["about"]["calibrated"]
    (run / "thresholds.json").write_text(json.dumps(content))
    assert evaluate(run / "checkpoint_best.pt") == 0
    assert "calibration" not in json.loads((run / "metrics_test.json").read_text())
    assert json.loads((run / "preds_test.json").read_text())["calibrated"] is False


def test_a_foreign_tokenizer_is_refused(run, capsys):
    path = run / "tokenizer" / "tokenizer.json"
    rules = json.loads(path.read_text())
    vocabulary = rules["model"]["vocab"]
    vocabulary["kind"], vocabulary["idiot"] = vocabulary["idiot"], vocabulary["kind"]
    path.write_text(json.dumps(rules))
    assert evaluate(run / "checkpoint_best.pt") == 1
    assert "not the tokenizer" in capsys.readouterr().err


@pytest.mark.hostile("terminal")
def test_a_dry_run_goes_through_all_phases_and_keeps_nothing(table, tiny_backbone, tmp_path, monkeypatch, capfd):
    """Whatever the labels are called, as long as people can read it, and whatever stands in the texts."""
    names = [
        "<script>alert(1)</script>",
        "$\\frac{1}{0}$",
        "{{ 7 * 7 }}",
        "%s%n",
        "=cmd|' /C calc'!A0",
        "\N{PILE OF POO}",
    ]
    odd = table.rename(columns=dict(zip(table.columns[2:], names, strict=True)))
    odd["comment_text"] += " \x1b[2J\x9b2J\u202e"
    odd.to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.chdir(tmp_path)
    words = ["--data-path", "t.csv", "--backbone", str(tiny_backbone), "--dry-run", "--bootstrap", "10"]
    assert model_training.main(words) == 0
    out, err = capfd.readouterr()
    assert "every phase works" in out
    assert all(name in out for name in names)
    assert not obeyed_in(out + err)
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    odd.rename(columns={names[0]: "\x1b[2J"}).to_csv(tmp_path / "t.csv", index=False)
    assert model_training.main(words) == 1
    out, err = capfd.readouterr()
    assert "U+001B" in err and not obeyed_in(out + err)


def test_overwrite_keeps_the_old_run_until_the_settings_are_checked(run, table_path, tiny_backbone):
    before = (run / "checkpoint_best.pt").read_bytes()
    assert train(table_path, tiny_backbone, run, "--overwrite", "--freeze-layers", "99") == 2
    assert (run / "checkpoint_best.pt").read_bytes() == before


def test_resume_requires_as_many_processes_as_before(run, table_path, tiny_backbone, monkeypatch, capsys):
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"status": "running", "processes": 2}))
    assert train(table_path, tiny_backbone, run, "--resume") == 2
    assert "2 processes" in capsys.readouterr().err
    assert (run / "checkpoint_best.pt").exists()


def test_a_training_whose_report_cannot_be_written_names_the_cure(run):
    (run / "report.html").unlink()
    (run / "report.html").mkdir()  # as a full disk would
    with pytest.raises(ArtifactError, match=r"(?s)report\.html: .*complete.*moderation evaluate --checkpoint"):
        write_report(RunFolder(run))
