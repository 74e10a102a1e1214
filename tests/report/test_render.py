import json
import os
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from moderation.arrays import sidecar, write_array
from moderation.artifacts import RunFolder, read_json, write_json
from moderation.calibrators import Calibrator
from moderation.documents import to_plain
from moderation.errors import ArtifactError, MissingExtraError
from moderation.evaluation.metrics import eval_with_thresholds
from moderation.evaluation.probabilities import calibrate
from moderation.evaluation.reliability import compare_calibration
from moderation.evaluation.thresholds import format_thresholds, save_thresholds, tune_thresholds
from moderation.report.content import FEW
from moderation.report.render import save_logs_and_plots
from tests.attack_table import Attack
from tests.hostile_names import SHOWN

MakeRun = Callable[..., RunFolder]
PLOTS = ["losses", "roc", "precision_recall", "f1_over_threshold", "reliability", "cooccurrence"]
SMALL = {"n_val": 300, "n_test": 300, "bootstrap": 10}


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, and the text that a reader sees."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(run: RunFolder) -> Page:
    return Page(run.report.read_text(encoding="utf-8"))


@pytest.fixture
def run(make_run: MakeRun, unpainted: None) -> RunFolder:
    """A small run, for tests that look at no picture."""
    return make_run(**SMALL)


def without_pictures(run: RunFolder) -> RunFolder:
    """Leave what the pictures are drawn from out, where a test is about words."""
    run.log.unlink()
    for split in ("val", "test"):
        run.preds(split).unlink()
    return run


def test_a_whole_run_gives_six_pictures_and_a_page(make_run: MakeRun) -> None:
    run = make_run(n_val=1200, n_test=1200, bootstrap=50)
    paths = save_logs_and_plots(str(run.path))
    assert paths == [*(run.plots_dir / f"{name}.png" for name in PLOTS), run.report]
    assert all(path.stat().st_size > 0 for path in paths)
    assert not list(run.path.rglob("*.tmp"))

    metrics = read_json(run.metrics("test"), "metrics")
    page = read(run)
    for label, values in metrics["labels"].items():
        precision, recall = (values["at_threshold"][name] for name in ("precision", "recall"))
        if values["at_threshold"]["flagged"] >= FEW and 0 < precision < 1:
            assert f"Of 100 comments flagged as {label}, about {precision * 100:.0f} really are." in page.text
        if values["support"] >= FEW and 0 < recall < 1:
            assert f"Of 100 that are {label}, about {recall * 100:.0f} are found." in page.text
        assert f"{label} {values['prevalence']:.4f} {values['roc_auc']:.4f}" in page.text
    flags = np.load(run.preds("test")) >= np.float32([row["threshold"] for row in metrics["labels"].values()])
    deserved = np.load(run.labels("test")).any(axis=1)[flags.any(axis=1)].mean()
    assert f"Of 100 comments that the model flags, about {deserved * 100:.0f} deserve it." in page.text
    assert f"In every 1,000 comments like these it flags {1000 * metrics['flagged_any'] / 1200:.0f} ;" in page.text


def write_again(path: Path, array: object) -> None:
    """Replace an array, and let its sidecar say so."""
    write_array(path, np.asarray(array), read_json(sidecar(path), "a sidecar"))


def decided(make_run: MakeRun, *, right: int, wrong: int, missed: int, other_missed: int = 0) -> RunFolder:
    """A run of two labels; of the first so many test comments are rightly flagged, wrongly flagged, and missed."""
    n = 300
    run = make_run(**SMALL, labels=("toxic", "threat"), prevalence=(0.3, 0.3))
    scores = np.full((n, 2), 0.01, dtype=np.float32)
    targets = np.zeros((n, 2), dtype=np.float32)
    scores[: right + wrong, 0] = 0.99
    targets[:right, 0] = targets[right + wrong : right + wrong + missed, 0] = 1
    targets[:other_missed, 1] = 1
    thresholds = np.float32([0.5, 0.5])
    for path, array in ((run.preds("test"), scores), (run.labels("test"), targets)):
        write_again(path, array)
    measured = eval_with_thresholds(scores, targets, ("toxic", "threat"), thresholds, bootstrap=10)
    write_json(run.metrics("test"), {"split": "test"} | measured)
    save_logs_and_plots(run.path)
    return run


@pytest.mark.parametrize(
    ("counts", "lead", "span"),
    [
        ((1, 0, 5), "Of the 1 comment that the model flagged, 1 deserved it", "1 of 1, so likely 21 to 100 of 100"),
        (
            (7, 0, 5),
            "Of the 7 comments that the model flagged, all 7 deserved it",
            "7 of 7, so likely 65 to 100 of 100",
        ),
        ((0, 3, 5), "Of the 3 comments that the model flagged, none deserved it", "0 of 3, so likely 0 to 56 of 100"),
        ((50, 0, 5), "Of the 50 comments that the model flagged, all 50", "50 of 50, so likely 93 to 100 of 100"),
        (
            (40, 10, 5),
            "Of 100 comments that the model flags, about 80 deserve it",
            "40 of 50, so likely 67 to 89 of 100",
        ),
    ],
)
@pytest.mark.usefixtures("unpainted")
def test_the_headline_states_what_was_counted_and_claims_no_certainty(
    make_run: MakeRun, counts: tuple[int, int, int], lead: str, span: str
) -> None:
    right, wrong, missed = counts
    text = read(decided(make_run, right=right, wrong=wrong, missed=missed)).text
    few = right + wrong < FEW or right + missed < FEW
    assert lead in text.replace(" ,", ",")
    assert f"Flags that are right: {span}" in text
    assert "all 100" not in text
    assert ("too few to say more" in text) == ("together is a rough guess" in text) == few


@pytest.mark.usefixtures("unpainted")
def test_the_weakest_label_is_named_first_of_all(make_run: MakeRun) -> None:
    text = read(decided(make_run, right=4, wrong=6, missed=2)).text
    assert "weakest" not in text, "threat has no comment to be measured on, and one label is no weakest"
    text = read(decided(make_run, right=4, wrong=6, missed=2, other_missed=3)).text
    weakest = (
        "The weakest label is threat: it was never flagged, and 0 of the 3 comments that have it are found (F1 0.00)."
    )
    assert text.index("Read this first") < text.index(weakest) < text.index("Of the 10 comments flagged as toxic")
    text = read(decided(make_run, right=0, wrong=6, missed=2, other_missed=1)).text
    assert "The weakest labels are toxic, threat: none of the comments that have them is found." in text


@pytest.mark.parametrize(
    ("objective", "value", "held_out"),
    [
        ("f1", "F1", None),
        ("fbeta:0.5", "F0.5", None),
        ("precision>=0.9", "recall", "precision"),
        ("recall>=0.8", "precision", "recall"),
    ],
)
def test_the_table_of_thresholds_explains_its_columns_and_shows_the_objective(
    run: RunFolder, objective: str, value: str, held_out: str | None
) -> None:
    labels = list(read_json(run.metrics("val"), "metrics")["labels"])
    results = tune_thresholds(np.load(run.preds("val")), np.load(run.labels("val")), labels, objective=objective)
    save_thresholds(run.thresholds, results, labels, {})
    save_logs_and_plots(without_pictures(run).path)
    text, table = read(run).text, format_thresholds(results)
    for words in (text, table):
        assert f"the {value} reached on the comments that the threshold was chosen on, so it is too good" in words
    kept = results["toxic"].cross_fitted_constraint
    assert (kept is None) == (held_out is None)
    assert (f"Held-out {held_out}" in text) == (f"held-out {held_out}" in table) == (held_out is not None)
    if kept is not None:
        assert f"{kept:.3f}" in table.splitlines()[1]
        assert f"{results['toxic'].cross_fitted:.3f} {kept:.3f}" in text


def test_the_page_is_self_contained_and_accessible(make_run: MakeRun) -> None:
    run = make_run(**SMALL)
    save_logs_and_plots(run.path)
    source, page = run.report.read_text(encoding="utf-8"), read(run)
    assert [tag for tag, _ in page.elements if tag in ("script", "link", "iframe", "object", "embed")] == []
    assert "url(" not in source and "@import" not in source and "http:" not in source and "https:" not in source
    images = page.all("img")
    assert len(images) == len(PLOTS)
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in images)
    assert all(len(image["alt"] or "") > 30 for image in images)
    assert all(header.get("scope") in ("col", "row", "colgroup") for header in page.all("th"))
    assert page.all("html") == [{"lang": "en"}]
    assert "prefers-color-scheme: dark" in source and "@media print" in source
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    referred = [
        attributes.get("aria-labelledby") or attributes.get("aria-describedby") for _, attributes in page.elements
    ]
    assert {name for name in referred if name} <= set(names)


def test_the_same_run_gives_the_same_bytes(make_run: MakeRun) -> None:
    run = make_run(**SMALL)
    first = [path.read_bytes() for path in save_logs_and_plots(run.path)]
    assert [path.read_bytes() for path in save_logs_and_plots(run.path)] == first


def test_the_origin_of_the_run_is_shown_without_anybodys_folders(run: RunFolder) -> None:
    save_logs_and_plots(without_pictures(run).path)
    page = read(run)
    assert (
        "trained on 20,000 comments of train.parquet. Started 22 November 2026, 21:14 UTC, took 25 minutes" in page.text
    )
    for fact in ("9f2c" * 16, "e7b2f92c0ffee", "with local changes", "AMD EPYC 7B13", "2.31 GB", "torch 2.13.0+cpu"):
        assert fact in page.text
    assert "Rows left out: no text 3" in page.text and "not English" not in page.text
    assert "lr 5e-05" in page.text
    assert "the first 192 tokens (roughly 140 words)" in page.text
    assert "somebody" not in run.report.read_text(encoding="utf-8")


def test_labels_with_few_examples_get_a_warning(run: RunFolder) -> None:
    save_logs_and_plots(without_pictures(run).path)
    support = {
        label: int(np.load(run.labels("val"))[:, i].sum())
        for i, label in enumerate(read_json(run.metrics("val"), "metrics")["labels"])
    }
    untuned = ", ".join(f"{label} ({n})" for label, n in support.items() if n < 10)
    assert untuned
    assert f"Too few examples to choose a threshold, so 0.5 was kept: {untuned}" in read(run).text


@pytest.mark.usefixtures("unpainted")
def test_a_label_without_examples_is_not_available(make_run: MakeRun) -> None:
    run = make_run(**SMALL, labels=("toxic", "threat"), prevalence=(0.1, 0.0))
    save_logs_and_plots(run.path)
    text = read(run).text
    assert "No comment here is threat, so what share it finds is unknown." in text
    assert "threat 0.0000 n/a n/a" in text
    assert "ROC-AUC over 1, average precision over 1, F1 over 1 of 2 labels" in text


def test_newly_chosen_thresholds_are_noticed(run: RunFolder) -> None:
    content = read_json(run.thresholds, "thresholds")
    content["thresholds"]["toxic"]["threshold"] = 0.25
    write_json(run.thresholds, content)
    save_logs_and_plots(without_pictures(run).path)
    assert "chosen again after this measurement" in read(run).text and "Changed: toxic." in read(run).text


def test_an_unfinished_run_says_so(run: RunFolder) -> None:
    facts = read_json(run.run_json, "run.json")
    for name in ("seconds", "peak_memory_bytes", "training"):
        del facts[name]
    write_json(run.run_json, facts | {"status": "running", "git": None})
    save_logs_and_plots(without_pictures(run).path)
    assert "The training has not finished" in read(run).text
    assert "Git commit n/a" in read(run).text


def test_without_a_test_split_the_validation_split_is_shown(run: RunFolder) -> None:
    for path in (run.preds("test"), run.labels("test"), run.metrics("test")):
        path.unlink()
    save_logs_and_plots(run.path)
    text = read(run).text
    assert "No test split was measured." in text and "so they are too good" in text
    assert "Val split, 300 comments" in text
    assert len(list(run.plots_dir.iterdir())) == len(PLOTS)


@pytest.mark.parametrize(
    ("missing", "gone", "kept"),
    [
        (["run.json", "preds_test.npy"], "How it was made", "Label by label"),
        (["thresholds.json", "preds_test.npy"], "How the thresholds were chosen", "Label by label"),
        (["metrics_test.json"], "Label by label", "How the thresholds were chosen"),
        (["preds_test.npy", "log.jsonl"], "Plots", "Label by label"),
        (["labels_test.npy", "log.jsonl"], "Can you trust its probabilities", "Label by label"),
    ],
)
def test_missing_parts_are_left_out(run: RunFolder, missing: list[str], gone: str, kept: str) -> None:
    for name in missing:
        (run.path / name).unlink()
    save_logs_and_plots(run.path)
    text = read(run).text
    assert gone not in text
    assert kept in text


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path: Path) -> None:
    assert save_logs_and_plots(tmp_path) == [tmp_path / "report.html"]
    assert "Results are not available" in read(RunFolder(tmp_path)).text


def test_arrays_without_other_files_give_pictures(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    rng = np.random.default_rng(0)
    np.save(run.preds("val"), rng.random((50, 2), dtype=np.float32))
    np.save(run.labels("val"), (rng.random((50, 2)) < 0.5).astype(np.float32))
    assert [path.stem for path in save_logs_and_plots(tmp_path)] == [*PLOTS[1:], "report"]
    assert "label 1" in (read(run).all("img")[0]["alt"] or "")


def test_calibration_is_shown_before_and_after(run: RunFolder) -> None:
    for split in ("val", "test"):
        metrics = read_json(run.metrics(split), "metrics")
        labels = tuple(metrics["labels"])
        after, targets = np.load(run.preds(split)), np.load(run.labels(split))
        calibrators = [Calibrator("platt", slope=1.5, intercept=-1.0), *[Calibrator()] * (len(labels) - 1)]
        before = calibrate(np.log(after / (1 - after + 1e-6) + 1e-6), calibrators)
        metrics["calibration"] = to_plain(compare_calibration(before, after, targets, labels, calibrators))
        write_json(run.metrics(split), metrics)
    save_logs_and_plots(run.path)
    page, compared = read(run), metrics["calibration"]["toxic"]
    assert "What calibration changed" in page.text and "measured here on the test split" in page.text
    numbers = " ".join(
        f"{compared[stage][name]:.4f}" for name in ("brier", "log_loss", "ece") for stage in ("before", "after")
    )
    assert f"toxic platt {numbers}" in page.text
    reliability = next(
        alt for image in page.all("img") if (alt := image["alt"] or "").startswith("One panel per label: sh")
    )
    assert reliability.endswith("Dashed: before calibration, for toxic.")
    assert "raises probabilities by design" not in page.text


def test_a_run_without_calibration_does_not_mention_it(run: RunFolder) -> None:
    save_logs_and_plots(run.path)
    assert "What calibration changed" not in read(run).text
    assert not any("before calibration" in (image["alt"] or "") for image in read(run).all("img"))


def test_broken_calibration_figures_are_named(run: RunFolder) -> None:
    metrics = read_json(run.metrics("test"), "metrics")
    write_json(run.metrics("test"), metrics | {"calibration": {"toxic": {"method": "platt"}}})
    with pytest.raises(ArtifactError, match="metrics_test"):
        save_logs_and_plots(run.path)


@pytest.mark.hostile("HTML: hostile names")
def test_names_are_escaped(tmp_path: Path, make_run: MakeRun, attack: Attack) -> None:
    names = ("<script>alert(1)</script>", '"&$x$', *(SHOWN[1:] if attack.long else SHOWN[2:3]))
    run = make_run(**SMALL, labels=names, prevalence=(0.1, 0.05, *[0.1] * (len(names) - 2)))
    save_logs_and_plots(run.path)
    attack.tried(len(names))
    assert read(run).all("script") == read(run).all("a") == []
    assert {image["src"][:5] for image in read(run).all("img")} == {"data:"}
    assert all(name in read(run).text for name in names)


def break_json(key: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        *way, last = key.split(".")
        place = content
        for step in way:
            place = place[step]
        del place[last]
        path.write_text(json.dumps(content), encoding="utf-8")

    return change


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("run.json", truncate),
        ("run.json", break_json("settings")),
        ("run.json", break_json("hardware.cores")),
        ("run.json", break_json("splits.train")),
        ("run.json", lambda path: path.write_text(path.read_text("utf-8").replace("2026-", "soon-", 1), "utf-8")),
        ("run.json", lambda path: path.write_text('{"labels": "toxic"}', encoding="utf-8")),
        ("metrics_test.json", truncate),
        ("metrics_test.json", break_json("labels.insult.brier")),
        ("metrics_test.json", break_json("labels.insult.at_threshold.flagged")),
        ("metrics_test.json", break_json("macro")),
        ("metrics_test.json", break_json("n_examples")),
        ("thresholds.json", break_json("thresholds.insult.f1")),
        ("preds_test.npy", truncate),
        ("preds_test.npy", lambda path: write_again(path, np.full((300, 6), np.nan, dtype=np.float32))),
        ("preds_test.npy", lambda path: write_again(path, np.float32(0.5))),
        ("preds_test.npy", lambda path: write_again(path, np.zeros((299, 6), dtype=np.float32))),
        ("preds_test.npy", lambda path: np.save(path, np.full((300, 6), 0.5, dtype=np.float32))),
        ("preds_test.json", break_json("labels")),
        ("labels_test.npy", lambda path: write_again(path, np.full((300, 6), 0.5, dtype=np.float32))),
        ("log.jsonl", truncate),
        ("log.jsonl", lambda path: path.write_text('{"loss": "low", "step": 1}\n', encoding="utf-8")),
        ("log.jsonl", lambda path: path.write_bytes(b"\xff\xfe")),
    ],
)
def test_a_broken_file_is_named_and_nothing_is_written(
    run: RunFolder, name: str, damage: Callable[[Path], None]
) -> None:
    damage(run.path / name)
    before = sorted(run.path.rglob("*"))
    with pytest.raises(ArtifactError) as raised:
        save_logs_and_plots(run.path)
    assert name.split(".")[0] in str(raised.value)
    assert sorted(run.path.rglob("*")) == before


@pytest.mark.hostile("run: files without an end")
@pytest.mark.parametrize("name", ["log.jsonl", "run.json", "thresholds.json", "preds_test.npy", "preds_test.json"])
@pytest.mark.parametrize("kind", ["pipe", "device", "nested", "sparse"])
def test_no_file_of_a_run_is_read_without_an_end(run: RunFolder, name: str, kind: str) -> None:
    path = run.path / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "nested":
        path.write_text("[" * 100_000)
    else:
        with path.open("wb") as file:
            file.truncate(30 << 30)
    with pytest.raises(ArtifactError, match=name.split(".")[0]):
        save_logs_and_plots(run.path)


def test_files_of_different_runs_are_refused(run: RunFolder) -> None:
    labels = ["toxic", "severe_toxic", "obscene", "threat", "identity_hate", "insult"]
    write_array(run.preds("test"), np.load(run.preds("test")), {"labels": labels, "split": "test"})
    with pytest.raises(ArtifactError, match="the labels are in another order"):
        save_logs_and_plots(run.path)


def test_metrics_of_other_examples_are_refused(run: RunFolder) -> None:
    for path in (run.preds("test"), run.labels("test")):
        write_again(path, np.load(path)[:200])
    with pytest.raises(ArtifactError, match=r"measured on 300 examples, but .* holds 200"):
        save_logs_and_plots(run.path)


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder"):
        save_logs_and_plots(tmp_path / "nowhere")


@pytest.mark.parametrize("module", ["jinja2", "matplotlib.figure"])
def test_a_missing_library_names_the_extra(run: RunFolder, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"'\.\[train\]'"):
        save_logs_and_plots(run.path)
    assert not run.report.exists()


def test_it_works_by_its_public_name_without_pyplot_or_torch(run: RunFolder) -> None:
    program = (
        "import sys, model_training\n"
        "assert 'matplotlib' not in sys.modules\n"
        "print(model_training.save_logs_and_plots(sys.argv[1])[-1])\n"
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, run.path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(run.report)
