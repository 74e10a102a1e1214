"""`moderation tune` on real files: what it writes, prints and refuses."""

import json

import numpy as np
import pytest

from moderation.arrays import sidecar, write_array
from moderation.commands.tune import tune
from moderation.config import TuneConfig
from moderation.errors import ArtifactError, ConfigError, DataError
from moderation.evaluation.thresholds import load_thresholds, read_thresholds

LABELS = ["toxic", "threat"]


def write_run(folder, split="val", kind="probabilities", scale=1.0, labels=LABELS):
    rng = np.random.default_rng(0)
    truth = (rng.random((400, 2)) < 0.2).astype(np.float32)
    scores = (np.clip(rng.normal(0.3 + 0.4 * truth, 0.15), 0, 1) * scale).astype(np.float32)
    preds, targets = folder / f"preds_{split}.npy", folder / f"labels_{split}.npy"
    write_array(preds, scores, {"labels": labels, "split": split, "kind": kind})
    write_array(targets, truth, {"labels": labels, "split": split, "kind": "targets"})
    return preds, targets


def config_for(preds, targets, **settings):
    return TuneConfig(preds=preds, labels=targets, **{"bootstrap": 20} | settings)


def test_it_writes_thresholds_next_to_the_probabilities_and_prints_a_table(tmp_path, capsys):
    preds, targets = write_run(tmp_path)
    assert tune(config_for(preds, targets)) == 0
    path = tmp_path / "thresholds.json"
    printed = capsys.readouterr().out
    assert printed.rstrip().endswith(str(path))
    assert "cross-fitted" in printed
    tuned = read_thresholds(path)
    labels, results, about = tuned.labels, tuned.thresholds, tuned.about
    assert labels == tuple(LABELS)
    assert all(result.tuned and result.interval and result.cross_fitted for result in results.values())
    assert (about["split"], about["n_examples"], about["seed"]) == ("val", 400, 42)


@pytest.mark.parametrize("calibrated", [True, False, None])
def test_it_is_recorded_whether_the_probabilities_were_calibrated(tmp_path, calibrated):
    preds, targets = write_run(tmp_path)
    if calibrated is not None:
        sidecar(preds).write_text(json.dumps(json.loads(sidecar(preds).read_text()) | {"calibrated": calibrated}))
    assert tune(config_for(preds, targets)) == 0
    assert read_thresholds(tmp_path / "thresholds.json").about["calibrated"] is calibrated


def test_two_runs_write_the_same_bytes(tmp_path):
    preds, targets = write_run(tmp_path)
    for name in ("a.json", "b.json"):
        tune(config_for(preds, targets, out=tmp_path / name))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert not (tmp_path / "thresholds.json").exists()


def test_the_objective_is_followed(tmp_path):
    preds, targets = write_run(tmp_path)
    tune(config_for(preds, targets, objective="precision>=0.95"))
    results = read_thresholds(tmp_path / "thresholds.json").thresholds
    assert all(result.precision >= 0.95 and result.constraint_met for result in results.values())


def test_without_sidecars_the_labels_must_be_named(tmp_path):
    preds, targets = write_run(tmp_path)
    for path in (preds, targets):
        sidecar(path).unlink()
    with pytest.raises(ConfigError, match="--label-columns"):
        tune(config_for(preds, targets))
    assert tune(config_for(preds, targets, label_columns=("x", "y"))) == 0
    assert len(load_thresholds(tmp_path / "thresholds.json", ["x", "y"])) == 2


def test_one_sidecar_is_enough(tmp_path):
    preds, targets = write_run(tmp_path)
    sidecar(preds).unlink()
    assert tune(config_for(preds, targets)) == 0
    assert read_thresholds(tmp_path / "thresholds.json").labels == tuple(LABELS)


def test_the_test_split_is_refused(tmp_path):
    preds, targets = write_run(tmp_path, split="test")
    with pytest.raises(ArtifactError, match=r"test split.*val split"):
        tune(config_for(preds, targets))
    sidecar(preds).unlink()  # the targets alone still tell
    with pytest.raises(ArtifactError, match="test split"):
        tune(config_for(preds, targets, label_columns=tuple(LABELS)))
    assert not (tmp_path / "thresholds.json").exists()


def test_logits_are_refused_by_record_and_by_value(tmp_path):
    preds, targets = write_run(tmp_path, kind="logits")
    with pytest.raises(ArtifactError, match=r"contains logits.*sigmoid"):
        tune(config_for(preds, targets))
    preds, targets = write_run(tmp_path, scale=5.0)
    with pytest.raises(DataError, match=r"preds_val\.npy.*logits.*sigmoid"):
        tune(config_for(preds, targets))


def test_swapped_files_are_refused(tmp_path):
    preds, targets = write_run(tmp_path)
    with pytest.raises(ArtifactError, match=r"contains targets .* expected probabilities"):
        tune(config_for(targets, preds))


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    preds, targets = write_run(tmp_path)
    with pytest.raises(ArtifactError, match="another order"):
        tune(config_for(preds, targets, label_columns=("threat", "toxic")))
    write_array(targets, np.zeros((399, 2)), {"labels": LABELS, "split": "val", "kind": "targets"})
    with pytest.raises(DataError, match=r"preds_val\.npy \(400, 2\), .*labels_val\.npy \(399, 2\)"):
        tune(config_for(preds, targets))
    write_array(targets, np.zeros((400, 2)), {"labels": LABELS, "split": "train", "kind": "targets"})
    with pytest.raises(ArtifactError, match="the same split"):
        tune(config_for(preds, targets))
    write_array(targets, np.zeros((400, 2)), {"labels": ["a", "b"], "split": "val", "kind": "targets"})
    with pytest.raises(ArtifactError, match="other labels"):
        tune(config_for(preds, targets))


@pytest.mark.parametrize("content", [{}, {"labels": "toxic"}, {"labels": [1, 2]}])
def test_a_foreign_file_next_to_the_array_is_named(tmp_path, content):
    preds, targets = write_run(tmp_path)
    sidecar(preds).write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"preds_val\.json: does not name the labels"):
        tune(config_for(preds, targets))


def test_nan_is_refused_and_nothing_is_written(tmp_path):
    preds, targets = write_run(tmp_path)
    scores = np.load(preds)
    scores[17, 1] = np.nan
    write_array(preds, scores, {"labels": LABELS, "split": "val", "kind": "probabilities"})
    with pytest.raises(DataError, match=r"1 value is NaN or infinite \(rows from 0: 17\)"):
        tune(config_for(preds, targets))
    assert not (tmp_path / "thresholds.json").exists()


@pytest.mark.hostile("run folder: changed arrays")
def test_arrays_that_differ_from_their_sidecar_are_refused(tmp_path, attack):
    preds, targets = write_run(tmp_path)
    whole = {path: path.read_bytes() for path in (preds, targets)}
    n_cases, rng = attack.cases(20, 400), np.random.default_rng(3)
    for case in range(n_cases):
        path = (preds, targets)[case % 2]
        content = bytearray(whole[path])
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=f"{path}: (was changed since|not a readable)"):
            tune(config_for(preds, targets))
        path.write_bytes(whole[path])
    attack.tried(n_cases)
    preds.write_bytes(whole[targets])
    with pytest.raises(ArtifactError, match="was changed since"):
        tune(config_for(preds, targets))
    sidecar(preds).unlink()
    assert tune(config_for(preds, targets)) == 0, "what nothing is known of is taken as it is"


def test_a_missing_and_a_truncated_file_are_refused(tmp_path):
    preds, targets = write_run(tmp_path)
    preds.write_bytes(preds.read_bytes()[:100])
    with pytest.raises(ArtifactError, match="not a readable"):
        tune(config_for(preds, targets))
    preds.unlink()
    with pytest.raises(ArtifactError, match="no such file"):
        tune(config_for(preds, targets))


@pytest.mark.parametrize("languages", [["en"] * 399, ["\x1b[2J", "en"] * 200, "en", [1] * 400])
def test_languages_that_do_not_fit_are_refused_and_not_printed(tmp_path, capsys, languages):
    preds, targets = write_run(tmp_path)
    sidecar(targets).write_text(json.dumps(json.loads(sidecar(targets).read_text()) | {"languages": languages}))
    with pytest.raises(ArtifactError, match="languages") as caught:
        tune(config_for(preds, targets))
    assert "\x1b" not in str(caught.value) + capsys.readouterr().out


def test_a_threshold_for_each_language_is_printed_and_kept(tmp_path, capsys):
    preds, targets = write_run(tmp_path)
    doubled = {
        path: (np.concatenate([np.load(path)] * 2), json.loads(sidecar(path).read_text())) for path in (preds, targets)
    }
    for path, (array, about) in doubled.items():
        del about["sha256"]
        write_array(path, array, about | ({"languages": ["de"] * 400 + ["tr"] * 400} if path == targets else {}))
    assert tune(config_for(preds, targets)) == 0
    assert "\nde\n" in capsys.readouterr().out
    tuned = read_thresholds(tmp_path / "thresholds.json")
    assert set(tuned.by_language) == {"de", "tr"}
    assert tuned.by_language["de"]["toxic"].threshold == tuned.by_language["tr"]["toxic"].threshold
