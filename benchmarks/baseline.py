"""What does a linear model reach on the same split?

TF-IDF and one logistic regression per label, at its best: sublinear counts, C chosen on the validation split, and one
threshold per label tuned there by the same code as for a fine-tuned model. It is measured on the test split. The model
in the first row knows only words; the one in the second row also knows pairs of words and pieces of words, which help
against misspelt insults.

    python benchmarks/baseline.py --data-path train.parquet --max-train-examples 20000
    python benchmarks/baseline.py --run runs/exp1 --json baseline.json

With --run, data, sizes, seed and objective come from that run, its own row is below, and a split that differs from the
run's is refused.
"""

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import running
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion
from tables import print_table, write_json

from moderation.arrays import read_array
from moderation.artifacts import RunFolder, read_json, sha256
from moderation.config import TrainConfig
from moderation.data.splits import Splits, load_splits
from moderation.errors import ArtifactError, ConfigError
from moderation.evaluation.metrics import eval_with_thresholds
from moderation.evaluation.thresholds import threshold_array, tune_thresholds
from moderation.flags import from_plain
from moderation.labels import check_same_labels
from moderation.options import build, change, flatten

C_VALUES = (1.0, 3.0, 10.0, 30.0)
N_CHARACTER_RUNS = 200_000
Classifiers = list[LogisticRegression | None]

logger = logging.getLogger("baseline")


def main() -> None:
    """Fit, tune, measure, print."""
    options = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    compare(options)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path", type=Path, help="labelled comments; default: those of --run")
    parser.add_argument("--max-train-examples", type=int, help="train on a seeded part, the same as `train` takes")
    parser.add_argument("--seed", type=int, help="seed of the split; default: 42, or that of --run")
    parser.add_argument("--run", type=Path, help="run folder of a fine-tuned model to compare with")
    parser.add_argument("--words-only", action="store_true", help="leave out the second row, by far the slower one")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    return parser.parse_args()


def compare(options: argparse.Namespace) -> None:
    """Measure every row on one split."""
    config = read_config(options)
    splits = load_splits(config.data, seed=config.run.seed, fold_disguises=config.model.fold_disguises)
    run_row = [read_run(options.run, splits)] if options.run else []
    vectorizers = [("TF-IDF words", words())]
    vectorizers += [] if options.words_only else [("TF-IDF words, pairs, characters", words_and_characters())]
    rows = [measure(name, vectorizer, splits, config) for name, vectorizer in vectorizers]
    rows += run_row
    sizes = ", ".join(f"{split} {len(frame):,}" for split, frame in splits.frames.items())
    table, seed = config.data.data_path.name, config.run.seed
    print(f"Split of {table}, seed {seed}: {sizes}. Thresholds from val, numbers from test.\n")
    print_table(rows)
    ratios = compute_ratios(rows, fine_tuned=bool(run_row))
    print()
    for name, value in ratios.items():
        print(f"{name}: {value:.4f}")
    if options.json:
        write_json(options.json, rows, ratios)


def read_config(options: argparse.Namespace) -> TrainConfig:
    """Read the settings of a training from the flags or from the run; flags that contradict the run are refused.

    Raises:
        ConfigError: no data was named, or data, size or seed differ from the run's.
        ArtifactError: the run cannot be read, or its data has changed since.
    """
    names = ("data_path", "max_train_examples", "seed")
    flags = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.run is None:
        return build(TrainConfig, flags)
    path = RunFolder(options.run).run_json
    facts = read_json(path, "run.json of a run")
    if facts.get("status") != "done":
        raise ArtifactError(f"{options.run}: this run is not complete; finish it with `moderation train --resume`.")
    config: TrainConfig = from_plain(TrainConfig, facts["settings"], str(path))
    different = [name for name in names[1:] if name in flags and flags[name] != flatten(config)[name]]
    if different:
        raise ConfigError(f"{', '.join(different)}: not as in {path}. Leave out these flags; the run's settings apply.")
    config = change(config, data_path=options.data_path or config.data.data_path)
    if sha256(config.data.data_path) != facts["data"]["sha256"]:
        raise ArtifactError(f"{config.data.data_path}: not the data of {options.run} (its SHA-256 differs).")
    return config


def read_run(folder: Path, splits: Splits) -> dict[str, Any]:
    """Make the row of a fine-tuned model.

    Raises:
        ArtifactError: labels, sizes or test targets differ from those of `splits`.
    """
    run = RunFolder(folder)
    facts, metrics = read_json(run.run_json, "run.json"), read_json(run.metrics("test"), "metrics of the test split")
    check_same_labels(facts["labels"], splits.labels, str(folder))
    sizes = {split: len(frame) for split, frame in splits.frames.items()}
    if facts["splits"] != sizes:
        raise ArtifactError(f"{folder}: split sizes {facts['splits']}, expected {sizes}: the run used another split.")
    if metrics["n_examples"] != sizes["test"]:
        raise ArtifactError(f"{run.metrics('test')}: {metrics['n_examples']} examples, expected {sizes['test']}.")
    if not np.array_equal(read_array(run.labels("test")), splits.targets("test")):
        raise ArtifactError(f"{run.labels('test')}: the targets differ from those of the split made here. Train again.")
    seconds = sum(facts["seconds"].get(phase, 0.0) for phase in ("tokenize", "train", "predict"))
    return make_row(f"fine-tuned {facts['backbone']['name']}", metrics, seconds)


def words() -> TfidfVectorizer:
    """Use single words as features."""
    return TfidfVectorizer(sublinear_tf=True, min_df=2, strip_accents="unicode", dtype=np.float32)


def words_and_characters() -> FeatureUnion:
    """Use words, pairs of words, and runs of 2 to 5 characters within words as features."""
    common = {"sublinear_tf": True, "strip_accents": "unicode", "dtype": np.float32}
    return FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2), min_df=3, **common)),
            (
                "characters",
                TfidfVectorizer(
                    analyzer="char_wb", ngram_range=(2, 5), min_df=5, max_features=N_CHARACTER_RUNS, **common
                ),
            ),
        ]
    )


def measure(name: str, vectorizer: Any, splits: Splits, config: TrainConfig) -> dict[str, Any]:
    """Fit on train, choose C and thresholds on val, measure on test.

    The C with the best macro average precision on val is used. The time includes every fit of the search; the features,
    which are the same for all, are computed once.
    """
    texts = {split: frame[config.text_column] for split, frame in splits.frames.items()}
    start = time.perf_counter()
    features = {"train": vectorizer.fit_transform(texts["train"])}
    features |= {split: vectorizer.transform(texts[split]) for split in ("val", "test")}
    found: dict[float, tuple[float, Classifiers]] = {}
    for c in C_VALUES:
        classifiers = fit_labels(features["train"], splits.targets("train"), c)
        score = evaluate(predict_labels(classifiers, features["val"]), splits, "val", 0.5)["macro"]["average_precision"]
        found[c] = score, classifiers
        logger.info("%s, C = %g: macro AP %.4f on val", name, c, score)
    best_c = max(found, key=lambda c: found[c][0])
    val, test = (predict_labels(found[best_c][1], features[split]) for split in ("val", "test"))
    seconds = time.perf_counter() - start
    tuned = tune_thresholds(
        val,
        splits.targets("val"),
        splits.labels,
        objective=config.objective,
        bootstrap=0,
        folds=0,
        seed=config.run.seed,
    )
    metrics = evaluate(test, splits, "test", threshold_array(tuned, splits.labels))
    return make_row(f"{name} (C = {best_c:g})", metrics, seconds)


def fit_labels(features: Any, targets: npt.NDArray[np.float32], c: float) -> Classifiers:
    """Fit one logistic regression per label; None for a label that has only one class in the train split."""
    return [
        LogisticRegression(solver="liblinear", C=c).fit(features, target) if 0 < target.mean() < 1 else None
        for target in targets.T
    ]


def predict_labels(classifiers: Classifiers, features: Any) -> npt.NDArray[np.float32]:
    """Compute probabilities, `(n_examples, n_labels)`; 0 for a label that could not be fitted."""
    columns = [
        np.zeros(features.shape[0]) if classifier is None else classifier.predict_proba(features)[:, 1]
        for classifier in classifiers
    ]
    return np.column_stack(columns).astype(np.float32)


def evaluate(probabilities: npt.NDArray[np.float32], splits: Splits, split: str, thresholds: Any) -> dict[str, Any]:
    """Measure a split with the code that also measures a fine-tuned model."""
    return eval_with_thresholds(probabilities, splits.targets(split), splits.labels, thresholds, bootstrap=0)


def make_row(model: str, metrics: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Make a row of the table."""
    macro = metrics["macro"]
    return {
        "model": model,
        "macro ROC-AUC": macro["roc_auc"],
        "macro AP": macro["average_precision"],
        "macro F1": macro["f1"],
        "micro F1": metrics["micro"]["f1"],
        **{f"AP {label}": values["average_precision"] for label, values in metrics["labels"].items()},
        "seconds": seconds,
    }


def compute_ratios(rows: list[dict[str, Any]], *, fine_tuned: bool) -> dict[str, float]:
    """Divide each measure of the last row by the best of the rows before it; above 1, the last row is better."""
    *others, last = rows
    name = "fine_tuned_over_best_baseline" if fine_tuned else "characters_over_words"
    ratios = {}
    for measure_name in ("macro ROC-AUC", "macro AP", "macro F1", "micro F1"):
        best = max((row[measure_name] or 0.0 for row in others), default=0.0)
        if best and last[measure_name] is not None:
            ratios[f"{name}_{measure_name.lower().replace(' ', '_').replace('-', '_')}"] = last[measure_name] / best
    return ratios


if __name__ == "__main__":
    running.run(main)
