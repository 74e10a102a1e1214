"""Python instead of the command line: one call per verb, typed results, nothing printed."""

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest

import moderation
from moderation import ArtifactError, Classifier, ConfigError, Run, cli
from moderation.artifacts import RunFolder
from moderation.suites.results import SuitesReport


def test_a_training_gives_a_run_that_classifies(
    table_path: Path, tiny_backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = moderation.train(
        table_path,
        output_dir=tmp_path / "run",
        backbone=str(tiny_backbone),
        epochs=0.2,
        max_length=32,
        bootstrap=0,
        threads=1,
        label_columns=("toxic", "insult"),
    )
    assert isinstance(run, Run)
    assert run.path == tmp_path / "run"
    assert [*run.thresholds] == ["toxic", "insult"]
    assert run.metrics.split == "test"
    assert run.record.settings["label_columns"] == ["toxic", "insult"]
    assert run.report.is_file()
    with run.load() as classifier:
        assert classifier.labels == ("toxic", "insult")
    assert not capsys.readouterr().out


def test_thresholds_are_tuned_and_a_checkpoint_is_measured(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tiny_run)
    tuning = moderation.tune(run.preds("val"), run.labels("val"), out=tmp_path / "t.json", bootstrap=0)
    assert tuning.path == tmp_path / "t.json"
    assert [*tuning.thresholds] == [*Run(tiny_run).thresholds]
    done = moderation.evaluate(run.checkpoint_best, thresholds=tuning.path, output_dir=tmp_path / "out", bootstrap=0)
    assert not isinstance(done, SuitesReport)
    assert (done.name, done.metrics.n_examples) == ("test", 60)
    assert all(path.is_file() for path in done.files)
    assert not capsys.readouterr().out


def test_a_run_folder_answers_like_the_bundle_made_from_it(tiny_run: Path, tiny_bundle: Path) -> None:
    texts = ["you are wonderful", "a fool " * 200, ""]
    with (
        Classifier.load(tiny_bundle, backend="torch", threads=1) as bundle,
        Classifier.load(str(tiny_run), threads=1) as run,
    ):
        np.testing.assert_allclose(run.probabilities(texts), bundle.probabilities(texts), rtol=1e-5)
        assert run.thresholds_by_label == bundle.thresholds_by_label
        assert run.classify(texts[0]).flagged == run.classify(texts)[0].flagged
        assert run.model_version.endswith("/torch")
        again = pickle.loads(pickle.dumps(run))
        assert again.model_version == run.model_version
        again.close()


def test_a_run_folder_can_be_scored_with_but_not_served(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server reads a manifest, and so does a reload: it says what to export, and no more than that."""
    (tmp_path / "t.csv").write_text("comment_text\na fool\n", encoding="utf-8")
    words = [
        "score",
        str(tmp_path / "t.csv"),
        "-o",
        str(tmp_path / "s.csv"),
        "--threads",
        "1",
        "--model",
        str(tiny_run),
    ]
    assert cli.main(words) == 0
    with Classifier.load(tiny_run, threads=1) as run, (tmp_path / "s.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
        assert row["model_version"] == run.model_version
        assert float(row["p_toxic"]) == pytest.approx(run.classify("a fool").probabilities["toxic"])
    for given in (["--model", str(tiny_run)], ["--shadow", str(tiny_run)]):
        capsys.readouterr()
        assert cli.main(["serve", "--port", "0", *given]) == 1
        assert f"this is a run folder, not a bundle. Export it first: moderation export {tiny_run}" in (
            capsys.readouterr().err
        )


def test_a_bundle_is_not_replaced_without_overwrite(tiny_run: Path, tiny_bundle: Path) -> None:
    with pytest.raises(ArtifactError, match="--overwrite"):
        moderation.export_bundle(Run(tiny_run), tiny_bundle)


def test_none_stands_for_the_included_model() -> None:
    with Classifier.load(None, threads=1) as classifier:
        assert classifier.bundle.path == moderation.Classifier.load().bundle.path


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"epoch": 1}, "Did you mean epochs?"),
        ({"epochs": "many"}, "epochs: expected float, found str"),
        ({"epochs": 0}, "--epochs is 0.0, expected more than 0"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, object], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        moderation.train("train.csv", **settings)
    assert part in str(caught.value)
