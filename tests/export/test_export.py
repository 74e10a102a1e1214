"""`moderation export` and `verify` on a tiny run: what is written, what is compared, what is refused."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from moderation import Classifier, cli
from moderation.arrays import sidecar, write_predictions
from moderation.artifacts import RunFolder
from moderation.bundles import SHIPPED, read_bundle, write_manifest
from moderation.calibrators import Calibrator
from moderation.commands import verify
from moderation.commands.export import export, read_metrics
from moderation.config import ExportConfig
from moderation.errors import ArtifactError
from moderation.evaluation.metrics import measure_split
from moderation.evaluation.split_metrics import METRICS
from moderation.export.card import read_curves
from moderation.export.forms import write_torchscript
from moderation.export.mixed_precision import layer_groups
from moderation.export.odd_texts import ODD_TEXTS
from moderation.export.options import ExportOptions
from moderation.export.parity import check_again, compare
from moderation.export.staging import check_target, recover_target, staged_folder
from moderation.forms import FORMS
from moderation.locks import claimed
from moderation.manifests import MANIFEST
from moderation.training.model import build_model
from moderation.tunings import LanguageTuning, Tunings


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))


def test_every_form_is_written_and_passed(tiny_bundle):
    bundle = read_bundle(tiny_bundle)
    assert set(bundle.forms) == {"hf", "onnx", "onnx-int8", "torchscript"}
    rows = {row["form"]: row for row in bundle.records["parity"]}
    assert rows.keys() == set(bundle.forms)
    assert all(row["passed"] for form, row in rows.items() if form != "onnx-int8")
    assert rows["onnx-int8"]["passed"] or rows["onnx-int8"]["allowed"]
    assert all(row["n_texts"] == 100 + len(ODD_TEXTS) for row in rows.values())
    assert {path.name for path in tiny_bundle.iterdir()} >= {"README.md", "parity.json", "config.json"}


def test_the_plain_folder_names_its_labels_and_its_length(tiny_bundle):
    config = json.loads((tiny_bundle / "config.json").read_text())
    labels = read_bundle(tiny_bundle).labels
    assert tuple(config["id2label"][str(place)] for place in range(6)) == labels
    assert config["problem_type"] == "multi_label_classification"
    assert json.loads((tiny_bundle / "tokenizer_config.json").read_text())["model_max_length"] == 32
    assert json.loads((tiny_bundle / "tokenizer.json").read_text())["truncation"] is None


def test_verify_passes(tiny_bundle, capsys, monkeypatch):
    """With one thread for torch's forms, unless told otherwise: more wait for each other where cores are busy."""
    asked = []
    load = Classifier.load
    monkeypatch.setattr(verify, "Classifier", Mock(load=lambda *words, **how: asked.append(how) or load(*words, **how)))
    assert cli.main(["verify", str(tiny_bundle)]) == 0
    assert "passed" in capsys.readouterr().out
    assert {how["backend"]: how["threads"] for how in asked} == {
        "onnx": None,
        "onnx-int8": None,
        "torch": 1,
        "torchscript": 1,
    }


def test_verify_names_a_flipped_byte_a_missing_and_a_foreign_file(bundle, capsys):
    path = bundle / "onnx" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    assert cli.main(["verify", str(bundle)]) == 1
    assert "model.onnx" in capsys.readouterr().err
    path.unlink()
    assert cli.main(["verify", str(bundle)]) == 1
    assert "model.onnx: missing" in capsys.readouterr().err


def test_verify_names_a_foreign_file(bundle, capsys):
    (bundle / "extra.bin").write_bytes(b"x")
    assert cli.main(["verify", str(bundle), "--threads", "1"]) == 1
    assert "extra.bin: not named" in capsys.readouterr().out


def test_swapped_labels_are_refused(bundle, capsys):
    path = bundle / "config.json"
    content = json.loads(path.read_text())
    content["id2label"]["0"], content["id2label"]["1"] = content["id2label"]["1"], content["id2label"]["0"]
    path.write_text(json.dumps(content))
    assert cli.main(["verify", str(bundle)]) == 1
    assert "another order" in capsys.readouterr().err


def test_a_folder_that_is_not_a_bundle_is_not_replaced(tiny_run, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert cli.main(["export", str(tiny_run), "--to", str(tmp_path), "--overwrite"]) == 1
    assert "not a bundle" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_other_files_in_a_bundles_folder_are_not_removed_with_it(tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(SHIPPED, folder, copy_function=os.symlink)
    check_target(folder, overwrite=True)
    (folder / "notes").mkdir()
    (folder / "notes" / "diary.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"--overwrite would remove them: notes, notes/diary\.txt\. Move them away"):
        check_target(folder, overwrite=True)
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(ArtifactError, match="not known which files are the bundle's"):
        check_target(folder, overwrite=True)


@pytest.mark.usefixtures("short_texts")
def test_a_bundle_is_replaced_only_on_request(tiny_run, bundle, capsys):
    assert cli.main(["export", str(tiny_run), "--to", str(bundle)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    words = ["export", str(tiny_run), "--to", str(bundle), "--overwrite", "--formats", "onnx", "--parity-texts", "20"]
    assert cli.main([*words, "--threads", "1"]) == 0
    assert set(read_bundle(bundle).forms) == {"onnx"}
    assert not (bundle / "model.safetensors").exists()
    assert [path.name for path in bundle.parent.iterdir()] == ["tiny"]
    with Classifier.load(bundle, threads=1) as classifier:
        assert classifier.backend_name == "onnx"


@pytest.mark.usefixtures("short_texts")
def test_a_form_that_fails_is_not_written_unless_allowed(tiny_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(FORMS, "onnx", replace(FORMS["onnx"], limits={"max_difference": -1.0}))
    words = ["export", str(tiny_run), "--formats", "hf,onnx", "--parity-texts", "20", "--threads", "1", "--to"]
    assert cli.main([*words, str(tmp_path / "a")]) == 1
    assert "--allow onnx" in capsys.readouterr().out
    assert set(read_bundle(tmp_path / "a").forms) == {"hf"}
    assert cli.main([*words, str(tmp_path / "b"), "--allow", "onnx"]) == 0
    assert [row.get("allowed") for row in read_bundle(tmp_path / "b").records["parity"]] == [None, True]


def test_compare_counts_flips_and_the_fall_of_roc_auc():
    reference = np.float32([[0.1], [0.2], [0.8], [0.9]])
    found = np.float32([[0.1], [0.85], [0.8], [0.4]])  # the second and the fourth cross the threshold
    row = compare("onnx-int8", found, reference, np.float32([[0], [0], [1], [1]]), np.float32([0.5]), ["toxic"])
    assert row.flips == 0.5
    assert row.auc_drop == pytest.approx(0.5)  # 1 -> two of four pairs in order
    assert not row.passed
    assert compare("onnx", reference, reference, np.zeros((0, 1)), np.float32([0.5]), ["toxic"]).passed


def test_the_card_shows_what_was_measured_on_the_test_split(tiny_run, tiny_bundle):
    measured = json.loads((tiny_run / "metrics_test.json").read_text())
    card = (tiny_bundle / "README.md").read_text()
    assert f"On the {measured['n_examples']:,} comments" in card
    for label, found in measured["labels"].items():
        line = next(line for line in card.splitlines() if line.startswith(f"| {label} | {found['support']} |"))
        assert f"{found['roc_auc']:.3f}" in line


def test_the_card_explains_how_to_calibrate_manually(tiny_bundle):
    bundle = read_bundle(tiny_bundle)
    card = (tiny_bundle / "README.md").read_text()
    assert {calibrator.method for calibrator in bundle.calibrators} - {"none"}
    for label, calibrator in zip(bundle.labels, bundle.calibrators, strict=True):
        assert f"| {label} | {calibrator.method} | " in card
        if calibrator.method in ("temperature", "platt"):
            assert f"| {calibrator.slope:.6g} x" in card


def test_plain_weights_and_the_formula_give_the_classifiers_probabilities(tiny_bundle):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    texts = ["kind river bread", "stupid idiot damn", "kill them fine"]
    tokenizer = AutoTokenizer.from_pretrained(tiny_bundle)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bundle)
    logits = [model(**tokenizer(text, return_tensors="pt")).logits[0].detach().numpy() for text in texts]
    for backend in ("torch", "onnx", "torchscript"):
        with Classifier.load(tiny_bundle, backend=backend, threads=1) as classifier:
            answers = classifier.probabilities(texts)
            for i, calibrator in enumerate(classifier.bundle.calibrators):
                by_hand = 1 / (1 + np.exp(-calibrator.apply(np.array(logits)[:, i])))
                np.testing.assert_allclose(answers[:, i], by_hand, atol=1e-5)


def test_the_manifest_keeps_the_curves_of_the_validation_split(tiny_run, tiny_bundle):
    bundle = read_bundle(tiny_bundle)
    curves = bundle.records["curves"]
    measured = json.loads((tiny_run / "metrics_val.json").read_text())
    assert (curves["split"], curves["n_examples"]) == ("val", measured["n_examples"]) == ("val", 60)
    assert tuple(curves["labels"]) == bundle.labels
    for label, threshold in zip(bundle.labels, bundle.thresholds, strict=True):
        curve, found = curves["labels"][label], measured["labels"][label]
        place = curve["threshold"].index(threshold)
        assert curve["n_positives"] == found["support"]
        assert curve["precision"][place] == pytest.approx(found["at_threshold"]["precision"], abs=1e-6)
        assert curve["recall"][place] == pytest.approx(found["at_threshold"]["recall"], abs=1e-6)
        assert curve["flagged"][place] * 60 == pytest.approx(found["at_threshold"]["flagged"], abs=1e-3)


@pytest.mark.usefixtures("short_texts")
def test_a_run_without_validation_predictions_gives_no_curves_and_reports_it(tiny_run, tmp_path, caplog):
    run = RunFolder(Path(shutil.copytree(tiny_run, tmp_path / "run")))
    run.preds("val").unlink()
    words = ["export", str(run.path), "--to", str(tmp_path / "b"), "--formats", "hf", "--parity-texts", "20"]
    assert cli.main([*words, "--threads", "1"]) == 0
    assert read_bundle(tmp_path / "b").records["curves"] is None
    assert [record.message for record in caplog.records if "preds_val.npy" in record.message] == [
        f"No preds_val.npy in {run.path}: the bundle will have no curves."
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "test"}, "probabilities of the test split"),
        ({"kind": "targets"}, "targets of the val"),
        ({"labels": ["a", "b"]}, "other labels"),
    ],
)
def test_predictions_of_something_else_are_refused(tmp_path, change, message):
    run = RunFolder(tmp_path)
    scores, truth = np.float32([[0.2, 0.8], [0.7, 0.1]]), np.float32([[0, 1], [1, 0]])
    write_predictions(run, "val", scores, truth, ["toxic", "threat"], split="val")
    assert read_curves(run, ["toxic", "threat"], [0.5, 0.5])["n_examples"] == 2
    path = sidecar(run.preds("val"))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match=message):
        read_curves(run, ["toxic", "threat"], [0.5, 0.5])


@pytest.mark.usefixtures("short_texts")
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_failed_form_replaces_nothing(tiny_run, bundle, tmp_path, capsys, monkeypatch, overwrite):
    """Neither a whole bundle by one that lost a form, nor nothing by one that nothing can load."""
    monkeypatch.setitem(FORMS, "onnx", replace(FORMS["onnx"], limits={"max_difference": -1.0}))
    before = (bundle / MANIFEST).read_bytes()
    words = f"export {tiny_run} --parity-texts 20 --threads 1 --to"
    rest = (
        [str(bundle), "--formats", "hf,onnx", "--overwrite"] if overwrite else [str(tmp_path / "new"), "--formats=onnx"]
    )
    assert cli.main([*words.split(), *rest]) == 1
    message = capsys.readouterr().err
    assert "largest difference" in message
    assert "--allow onnx" in message
    assert (bundle / MANIFEST).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"tiny"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--formats", "triton"], "add one of hf, onnx, onnx-int8, openvino, torchscript"),
        (["--formats", "torch"], "add one of hf"),
        ([], "--name"),
    ],
)
def test_whatever_can_be_known_is_reported_before_anything_is_loaded(tmp_path, capsys, words, expected):
    run = tmp_path / "a run, [1]"
    run.mkdir()
    assert cli.main(["export", str(run), "--to", str(tmp_path / "b"), *words]) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("form", "package", "extra"),
    [
        ("onnx", "onnx", "export"),
        ("onnx-int8", "onnxruntime", "export"),
        ("openvino", "nncf", "export"),
        ("torchserve", "model_archiver", "torchserve"),
    ],
)
def test_a_missing_package_is_reported_before_anything_is_loaded(tmp_path, capsys, monkeypatch, form, package, extra):
    monkeypatch.setattr("moderation.commands.export.find_spec", lambda name: None if name == package else name)
    words = ["export", str(tmp_path / "run"), "--to", str(tmp_path / "b"), "--formats", f"hf,{form}"]
    assert cli.main(words) == 2
    assert f"pip install '.[{extra}]'" in capsys.readouterr().err


def test_openvino_keeps_in_float_what_the_bundle_names(tiny_bundle, tmp_path):
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    from moderation.export.openvino_int8 import groups_in_openvino, write_openvino_int8

    graph = tiny_bundle / "onnx/model.onnx"
    groups = layer_groups(graph)
    assert groups_in_openvino(graph, groups | {"renamed": [groups["head"][0], "nowhere"]}) == groups
    windows = [np.arange(4, 20, dtype=np.int64)] * 2
    quantized = []
    for place, left in enumerate(([], groups["head"])):
        write_openvino_int8(graph, tmp_path / f"{place}.xml", windows, left_in_float=left)
        nodes = openvino.Core().read_model(str(tmp_path / f"{place}.xml")).get_ops()
        heads = [node for node in nodes if node.get_friendly_name().endswith("Gemm/WithoutBiases")]
        assert len(heads) == len(groups["head"])
        sources = [node.input_value(0).get_node().get_type_name() for node in heads]
        quantized.append("FakeQuantize" in sources)
    assert quantized == [True, False]


def test_verify_does_not_pass_what_it_did_not_compare(bundle, capsys):
    path = bundle / "parity.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"texts": dict.fromkeys(content["texts"], "0")}))
    write_manifest(bundle, read_bundle(bundle))
    assert cli.main(["verify", str(bundle), "--threads", "1"]) == 1
    table = capsys.readouterr().out
    assert "FAILED: nothing compared" in table
    assert "passed" not in table


@pytest.mark.parametrize("missing", ["hf", "onnx"])
def test_answers_that_were_not_kept_are_named(missing):
    answers = np.float32([[0.5]])
    kept = dict.fromkeys({"hf", "onnx"} - {missing}, answers)
    with pytest.raises(ArtifactError, match=f"no answers of {missing}"):
        check_again("onnx", answers, kept)


def test_a_link_stays_and_what_it_points_to_is_replaced(bundle, tmp_path):
    (tmp_path / "link").symlink_to(bundle, target_is_directory=True)
    with staged_folder(tmp_path / "link", overwrite=True) as folder:
        (folder / "new").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in bundle.iterdir()] == ["new"]
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", "link"}


@pytest.mark.usefixtures("short_texts")
def test_the_makers_words_and_what_labels_are_called_elsewhere_stand_in_the_card(tiny_run, tmp_path, capsys):
    words = f"export {tiny_run} --to {tmp_path / 'b'} --formats hf --parity-texts 20 --threads 1".split()
    assert cli.main([*words, "--map", "obscene=harrassment"]) == 2
    assert "--map:" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
    about = tmp_path / "about.md"
    about.write_text("## Purpose\n\nTo be tested, nothing {else}.\n", encoding="utf-8")
    words += ["--about", str(about), "--licence", "cc0-1.0"]
    assert cli.main([*words, "--map", "obscene=sexual", "--map", "insult=self_harm,insult=FLIRTATION"]) == 0
    bundle = read_bundle(tmp_path / "b")
    assert bundle.mapping == {"obscene": ("sexual",), "insult": ("self-harm", "FLIRTATION")}
    card = (tmp_path / "b" / "README.md").read_text(encoding="utf-8")
    assert card.startswith('---\nlicense: "cc0-1.0"\n')
    assert "comes from.\n\n## Purpose\n\nTo be tested, nothing {else}.\n\n## Use\n" in card
    assert "| obscene | `sexual` | `PROFANITY` |" in card
    assert "| insult | `self-harm` | `FLIRTATION` |" in card
    assert "| threat | `harassment/threatening`, `violence` | `THREAT` |" in card
    about.write_bytes(b"\xff\xfe")
    assert cli.main([*words, "--overwrite"]) == 2
    assert "Purpose" in (tmp_path / "b" / "README.md").read_text(encoding="utf-8"), "what stood there is unchanged"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_export_that_is_terminated_leaves_nothing(tiny_run: Path, tmp_path: Path) -> None:
    words = ["export", str(tiny_run), "--to", str(tmp_path / "bundle"), "--formats", "onnx", "--threads", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "moderation", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        while not any(tmp_path.iterdir()):
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert said.endswith("moderation export: terminated.\n")
    assert not list(tmp_path.iterdir())


def test_numbers_at_other_thresholds_stay_out_of_the_bundle(tmp_path, caplog):
    """After `tune`, or `evaluate --thresholds`, the run's metrics are of other decisions than the bundle's."""
    run = RunFolder(tmp_path)
    probabilities, targets = np.array([[0.2], [0.7]], np.float32), np.array([[0], [1]], np.float32)
    for split, threshold in (("val", 0.5), ("test", 0.25)):
        measured = measure_split(probabilities, targets, ["toxic"], [threshold], bootstrap=0)
        METRICS.write(run.metrics(split), replace(measured, split=split))
    tunings = Tunings(LanguageTuning((Calibrator(),), (0.5,)))
    assert read_metrics(run, ["toxic"], tunings).keys() == {"val"}
    assert "metrics_test.json: measured at other thresholds" in caplog.text and "--split test" in caplog.text
    assert "metrics_val.json" not in caplog.text
    own = Tunings(tunings.general, {"tr": LanguageTuning((Calibrator(),), (0.2,))})
    assert read_metrics(run, ["toxic"], own) == {}, "they do not contain the decisions in Turkish"
    run.metrics("test").write_text("{}")
    with pytest.raises(ArtifactError, match=r"metrics_test\.json"):
        read_metrics(run, ["toxic"], tunings)


def test_torchscript_on_a_full_disk_gives_an_error_and_not_a_crash(tiny_backbone, tmp_path, full_disk):
    model = build_model(tiny_backbone, ["toxic"]).eval()
    with full_disk(10_000), pytest.raises(ArtifactError, match=r"model\.pt: could not be written"):
        write_torchscript(tmp_path / "model.pt", model)
    assert not list(tmp_path.iterdir())


def test_a_bundle_that_a_kill_left_aside_is_restored(bundle, tmp_path):
    version = read_bundle(bundle).version
    (tmp_path / ".tiny.aaaaaaaaaaaa.tmp").mkdir()
    (tmp_path / ".tiny.en.bbbbbbbbbbbb.old").mkdir()  # of a bundle called tiny.en
    (tmp_path / ".tiny.en.bbbbbbbbbbbb.old" / MANIFEST).write_text("{}")
    bundle.rename(tmp_path / ".tiny.0123456789ab.old")  # between the two renames
    with pytest.raises(ArtifactError, match="already holds a bundle"):
        export(ExportConfig(run=tmp_path, to=bundle))
    assert read_bundle(bundle).version == version
    shutil.rmtree(tmp_path / ".tiny.en.bbbbbbbbbbbb.old")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    bundle.rename(tmp_path / ".tiny.0123456789ab.old")
    (tmp_path / "tiny").mkdir()  # by somebody else: what was moved aside is the only one of its kind
    recover_target(bundle)
    assert (tmp_path / ".tiny.0123456789ab.old").is_dir()
    bundle.rmdir()
    recover_target(bundle)
    with staged_folder(bundle, overwrite=True) as folder:
        (folder / "new").write_text("")
    assert [path.name for path in bundle.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_second_export_leaves_alone_what_the_first_moved_aside(bundle, tmp_path):
    with claimed(bundle, "export"):
        bundle.rename(tmp_path / ".tiny.0123456789ab.old")
        with pytest.raises(ArtifactError, match="another process is writing it"):
            export(ExportConfig(run=tmp_path, to=bundle, export=ExportOptions(overwrite=True)))
        assert not bundle.exists()


def test_two_processes_of_one_id_do_not_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("os.getpid", lambda: 1)
    with staged_folder(tmp_path / "a", overwrite=False) as first:
        with pytest.raises(ArtifactError), staged_folder(tmp_path / "a", overwrite=False) as second:
            assert first != second
            (first / "x").write_text("")
            raise ArtifactError("given up")
        assert (first / "x").exists()
