"""How fast is exact threshold tuning, compared with a grid of 99 thresholds with scikit-learn's F1?

    python benchmarks/thresholds.py --json thresholds.json

160,000 synthetic examples with six labels of realistic prevalence, one run on one machine. Both sides get the same
float32 probabilities and 0/1 targets. The grid gets float32 targets and predictions, the type that scikit-learn is
fastest with.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import running
from sklearn.metrics import f1_score

from moderation.artifacts import write_json
from moderation.evaluation.probabilities import FloatArray, predict, sigmoid
from moderation.evaluation.thresholds import threshold_array, tune_thresholds
from moderation.labels import JIGSAW_LABELS
from moderation.text_tables import align

PREVALENCE = (0.1, 0.01, 0.05, 0.003, 0.05, 0.009)
GRID = np.arange(1, 100) / 100


def make_data(n_examples: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return probabilities and targets, `(n_examples, 6)`: two overlapping normal distributions of logits."""
    rng = np.random.default_rng(seed)
    prevalence = np.array(PREVALENCE)
    targets = rng.random((n_examples, len(prevalence))) < prevalence
    centre = np.log(prevalence / (1 - prevalence))
    return sigmoid(rng.normal(centre + 3.5 * targets, 1.3)), targets.astype(np.float32)


def tune_by_grid(probabilities: FloatArray, targets: FloatArray) -> npt.NDArray[np.float64]:
    """Return the best of 99 thresholds per label."""
    best = []
    for scores, truth in zip(probabilities.T, targets.T, strict=True):
        values = [f1_score(truth, (scores >= np.float32(cut)).astype(np.float32), zero_division=0.0) for cut in GRID]
        best.append(GRID[int(np.argmax(values))])
    return np.array(best)


def measure_f1(probabilities: FloatArray, targets: FloatArray, thresholds: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return F1 per label, by scikit-learn for both sides."""
    decided = predict(probabilities, thresholds)
    return np.asarray(f1_score(targets, decided, average=None, zero_division=0.0), dtype=np.float64)


def compare(n_examples: int, seed: int, repeats: int) -> dict[str, Any]:
    """Tune both ways and return rows and ratios."""
    probabilities, targets = make_data(n_examples, seed)
    exact_s = []
    for _ in range(repeats):
        start = time.perf_counter()
        results = tune_thresholds(probabilities, targets, JIGSAW_LABELS, bootstrap=0, folds=0)
        exact_s.append(time.perf_counter() - start)
    start = time.perf_counter()
    grid = tune_by_grid(probabilities, targets)
    grid_s = time.perf_counter() - start

    exact = threshold_array(results, JIGSAW_LABELS)
    exact_f1, grid_f1 = measure_f1(probabilities, targets, exact), measure_f1(probabilities, targets, grid)
    rows = [
        {
            "label": label,
            "n_positives": int(targets[:, i].sum()),
            "exact_threshold": float(exact[i]),
            "grid_threshold": float(grid[i]),
            "exact_f1": float(exact_f1[i]),
            "grid_f1": float(grid_f1[i]),
        }
        for i, label in enumerate(JIGSAW_LABELS)
    ]
    return {
        "n_examples": n_examples,
        "seconds": {"exact_median": float(np.median(exact_s)), "exact_runs": exact_s, "grid": grid_s},
        "rows": rows,
        "ratios": {
            "grid_over_exact": grid_s / float(np.median(exact_s)),
            "worst_f1_difference": float((exact_f1 - grid_f1).min()),
        },
    }


def format_comparison(outcome: dict[str, Any]) -> str:
    """Return the table."""
    header = ["label", "positives", "exact threshold", "grid threshold", "exact F1", "grid F1"]
    lines = [
        [row["label"], f"{row['n_positives']:,}"]
        + [f"{row[name]:.4f}" for name in ("exact_threshold", "grid_threshold", "exact_f1", "grid_f1")]
        for row in outcome["rows"]
    ]
    seconds, ratios = outcome["seconds"], outcome["ratios"]
    return (
        f"{align([header, *lines])}\n\n"
        f"{outcome['n_examples']:,} examples: exact {seconds['exact_median'] * 1000:.1f} ms, "
        f"grid of {len(GRID)} with f1_score {seconds['grid']:.2f} s\n"
        f"grid_over_exact      {ratios['grid_over_exact']:.0f}x   (wanted: 50x or more)\n"
        f"worst_f1_difference  {ratios['worst_f1_difference']:+.6f}   (exact minus grid; wanted: 0 or more)"
    )


def main() -> None:
    """Parse the command line, compare, print the table."""
    parser = argparse.ArgumentParser(description="Exact threshold tuning compared with a grid with scikit-learn.")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--examples", type=int, default=160_000)
    parser.add_argument("--repeats", type=int, default=5, help="runs of the exact tuning; the median counts")
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    outcome = compare(arguments.examples, arguments.seed, arguments.repeats)
    print(format_comparison(outcome))
    if arguments.json:
        write_json(arguments.json, outcome)


if __name__ == "__main__":
    running.run(main)
