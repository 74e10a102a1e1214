r"""What does each part of the included model's recipe contribute? Small trainings that differ from it in one thing.

    python examples/counterparts.py runs/counterparts.csv
    python benchmarks/ablations.py --data-path train.parquet --output-dir runs/ablations --json ablations.json \
        --suite hatecheck=test_suite_cases.csv madlibs=bias_madlibs_77k.csv.gz

Run both in the project's root.

Training: each variant is `moderation train --config configs/compact-en.toml` on the same seeded part of the train split
and the same share of the further comments. Complete runs are not repeated, so the command continues where it was
stopped, and one command per seed can run in parallel.

Measurement: on all comments of val with a label, and as many others as make up --val-examples. So rare labels keep all
their positives, and average precision is higher than at the comments' own prevalence. Best epoch and thresholds are
chosen on the same comments for every variant. `kept` is the share of the recall that is left with the worst disguise,
on train comments that no training saw. The test split is not used.

The table shows means over the seeds. `spread` is the largest difference between two seeds of the recipe itself; smaller
differences mean nothing.
"""

import argparse
import json
import logging
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import running
from tables import print_table, write_json

from moderation import artifacts
from moderation.artifacts import RunFolder, read_json
from moderation.data.options import SplitOptions
from moderation.data.splits import load_splits
from moderation.errors import ConfigError
from moderation.suites.scorer import MAIN_LABEL

CONFIG = Path("configs/compact-en.toml")
RECIPE = "the recipe"
VARIANTS: dict[str, dict[str, Any]] = {
    RECIPE: {},
    "pos_weight off": {"pos_weight": "off"},
    "all negatives, as many steps": {"negatives": 1},
    "balanced sampler, as many steps": {"negatives": 1, "balanced_sampler": True},
    "no further comments": {"extra_train_path": None},
    "half of the clean further comments": {"extra_train_path": "halved.parquet"},
    "no disguises": {"disguised": 0},
    "disguises not folded, all of them copied": {"fold_disguises": False},
    "learning rate 5e-5": {"lr": 5e-5},
    "learning rate 3e-4": {"lr": 3e-4},
    "head at the encoder's rate": {"head_lr": 1.5e-4},
    "embeddings frozen": {"freeze_embeddings": True},
    "at most 128 tokens": {"max_length": 128},
}
N_TOXIC, N_CLEAN = 100, 5  # comments in the table that replaces the test split, for the suite `evasion`
RARE = ("severe_toxic", "threat", "identity_hate")
SUITE_FIGURES = {
    "hatecheck": {"accuracy, hateful cases": "hateful", "accuracy, non-hateful cases": "non-hateful"},
    "madlibs": {"BPSN AUC, worst term": "worst BPSN"},
    "evasion": {"share of recall kept, worst edit": "kept"},
}

logger = logging.getLogger("ablations")


def main() -> None:
    """Train what is missing, measure, print."""
    options = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    claim(options)
    n_epoch = write_tables(options)
    names = [RECIPE, *(name for name in options.only if name != RECIPE)]
    results = {name: [run(options, name, seed, n_epoch) for seed in options.seeds] for name in names}
    rows = [{"variant": name} | mean(measured) for name, measured in results.items()]
    ratios = {f"{row['variant']}, AP over the recipe's": row["AP"] / rows[0]["AP"] for row in rows[1:]}
    if len(options.seeds) > 1:
        rows.append({"variant": "spread of the recipe"} | spread(results[RECIPE]))
    print_table(rows)
    if options.json:
        write_json(options.json, rows, ratios)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path", type=Path, required=True)
    parser.add_argument("--output-dir", type=Path, required=True, help="run folders and tables")
    parser.add_argument("--examples", type=int, default=20_000, help="train comments")
    parser.add_argument("--val-examples", type=int, default=5_000)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--suite", nargs="+", default=[], help="hatecheck=FILE, madlibs=FILE")
    parser.add_argument("--max-texts", type=int, default=1_500, help="texts of each suite")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    return parser.parse_args()


def read_recipe() -> dict[str, Any]:
    """Read the settings of the included model."""
    return tomllib.loads(CONFIG.read_text(encoding="utf-8"))


def claim(options: argparse.Namespace) -> None:
    """Refuse a folder whose runs had other settings, since one table would mix them with the new ones.

    Raises:
        ConfigError: the folder holds such runs.
    """
    path = options.output_dir / "options.json"
    names = ("examples", "val_examples", "epochs", "suite", "max_texts")
    asked = {name: getattr(options, name) for name in names} | {"recipe": read_recipe()}
    if path.is_file() and read_json(path, "options of ablations") != asked:
        raise ConfigError(f"{options.output_dir}: holds ablations with other options. Name another --output-dir.")
    artifacts.write_json(path, asked)


def write_tables(options: argparse.Namespace) -> float:
    """Write the tables that all trainings share.

    Returns:
        Length of an epoch of the recipe, as a share of an epoch over all comments.
    """
    splits = load_splits(SplitOptions(data_path=options.data_path))
    if options.examples >= len(splits.frames["train"]):
        raise ConfigError(
            f"--examples {options.examples}: expected fewer than the train split has; `kept` needs the rest."
        )
    labelled = splits.targets("val").any(axis=1)
    rng = np.random.default_rng(0)
    others = rng.permutation(np.flatnonzero(~labelled))[: max(0, options.val_examples - int(labelled.sum()))]
    rows = np.sort(np.concatenate([np.flatnonzero(labelled), others]))
    write_table(options.output_dir / "val.parquet", splits.frames["val"].iloc[rows])
    train = splits.frames["train"].sample(frac=1, random_state=0)
    part, unused = train[: options.examples], train[options.examples :]
    write_table(options.output_dir / "train.parquet", part)
    toxic = unused[MAIN_LABEL] > 0
    clean = ~unused[list(splits.labels)].any(axis=1)
    rest = pd.concat([unused[toxic].head(N_TOXIC), unused[clean].head(N_CLEAN)])
    write_table(options.output_dir / "rest.parquet", rest)
    recipe = read_recipe()
    further = pd.read_csv(recipe["extra_train_path"]).sample(frac=len(part) / len(train), random_state=0)
    write_table(options.output_dir / "further.parquet", further)
    harmless = ~further[list(splits.labels)].any(axis=1)
    write_table(
        options.output_dir / "halved.parquet", further.drop(further[harmless].sample(frac=0.5, random_state=0).index)
    )
    tables = SplitOptions(
        data_path=options.output_dir / "train.parquet",
        val_path=options.output_dir / "val.parquet",
        test_path=options.output_dir / "rest.parquet",
        extra_train_path=options.output_dir / "further.parquet",
        disguised=recipe["disguised"],
    )
    whole = load_splits(tables, fold_disguises=recipe["fold_disguises"])
    return 1 - (1 - float(recipe["negatives"])) * float(whole.optional_rows().mean())


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table in one step, because runs of other seeds may be reading it."""
    with artifacts.write_atomically(path) as temporary:
        frame.to_parquet(temporary)


def run(options: argparse.Namespace, name: str, seed: int, n_epoch: float) -> dict[str, float]:
    """Train one variant with one seed, unless that is done already, and measure it."""
    folder = options.output_dir / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
    found = RunFolder(folder)
    whole = "negatives" in VARIANTS[name]
    if not found.run_json.is_file() or read_json(found.run_json, "a run").get("status") != "done":
        settings = read_recipe() | {"extra_train_path": "further.parquet"} | VARIANTS[name]
        if settings["extra_train_path"]:
            settings["extra_train_path"] = options.output_dir / settings["extra_train_path"]
        command: list[object] = ["train", *flags(settings)]
        for split, flag in (("train", "--data-path"), ("val", "--val-path"), ("rest", "--test-path")):
            command += [flag, options.output_dir / f"{split}.parquet"]
        command += ["--overwrite", "--output-dir", folder, "--seed", seed, "--bootstrap", 0]
        moderation(*command, "--epochs", options.epochs * (n_epoch if whole else 1))
    metrics = read_json(found.metrics("val"), "metrics")
    measured = {
        "ROC-AUC": metrics["macro"]["roc_auc"],
        "AP": metrics["macro"]["average_precision"],
        "F1": metrics["macro"]["f1"],
    }
    measured |= {f"AP {label}": metrics["labels"][label]["average_precision"] for label in RARE}
    return measured | measure_suites(options, folder)


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Turn settings into flags; None is left out.

    >>> flags({"head_lr": 0.001, "fold_disguises": True, "extra_train_path": None})
    ['--head-lr', '0.001', '--fold-disguises']
    """
    words: list[str] = []
    for name, value in settings.items():
        if value is not None and value is not False:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words


def measure_suites(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Measure the plain weights on the suites."""
    bundle = folder / "bundle"
    evasion = f"evasion={options.output_dir / 'rest.parquet'}"
    found: dict[tuple[str, str], float] = {}
    for suite in (*options.suite, evasion):
        target = folder / f"{suite.partition('=')[0]}.json"
        if not bundle.is_dir():
            moderation("export", folder, "--to", bundle, "--formats", "hf", "--parity-texts", 50)
        if not target.is_file():
            limits = ["--max-texts", options.max_texts, "--bootstrap", 0]
            moderation("evaluate", bundle, "--suite", suite, *limits, "--json", target)
        for result in json.loads(target.read_text(encoding="utf-8"))["suites"].values():
            found |= {(result["kind"], figure["measure"]): figure["value"] for figure in result["figures"]}
    return {
        column: found[kind, measure]
        for kind, columns in SUITE_FIGURES.items()
        for measure, column in columns.items()
        if (kind, measure) in found
    }


def moderation(*words: object) -> None:
    """Run one verb in a process of its own. Its output is discarded; if it fails, the end of its messages is shown."""
    logger.info("moderation %s", " ".join(map(str, words)))
    command = [sys.executable, "-m", "moderation", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])


def mean(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the means over the seeds."""
    return {str(name): float(value) for name, value in pd.DataFrame(measured).mean().items()}


def spread(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the largest differences between two seeds."""
    frame = pd.DataFrame(measured)
    return {str(name): float(value) for name, value in (frame.max() - frame.min()).items()}


if __name__ == "__main__":
    running.run(main)
