"""How should the windows of a long text be pooled? Measured on comments longer than one window, with their true labels.

For each way of pooling: mean ROC-AUC and average precision, and macro-F1 at the bundle's thresholds, which were tuned
on first windows. The comments come from the run's val and test splits, which the model was not trained on.

    python benchmarks/windows.py --bundle model-export --run runs/exp1
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import running
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from tables import print_table, write_json
from tqdm import tqdm

from moderation import Classifier
from moderation.artifacts import RunFolder
from moderation.evaluation.probabilities import predict
from moderation.training.runs import rebuild_splits, run_settings, settings_of_moved_table

Pooling = dict[str, Any]
POOLINGS: Pooling = {
    "first": lambda windows: windows[0],
    "mean": lambda windows: windows.mean(axis=0),
    "two highest": lambda windows: np.sort(windows, axis=0)[-2:].mean(axis=0),
    "any (1 - product)": lambda windows: 1 - (1 - windows.astype(np.float64)).prod(axis=0),
    "max": lambda windows: windows.max(axis=0),
}


def main() -> None:
    """Read the long comments of a run's splits and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="run folder that the bundle was exported from")
    parser.add_argument("--data-path", type=Path, help="where the run's table is now, if it has moved")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    run = RunFolder(options.run)
    settings = run_settings(run)
    if options.data_path:
        settings = settings_of_moved_table(run, settings, options.data_path) or settings
    frames = rebuild_splits(run, settings, "Name its table with --data-path.").frames
    classifier = Classifier.load(options.bundle)
    kept: list[npt.NDArray[np.float32]] = []
    targets = []
    for split in ("val", "test"):
        columns = frames[split][[settings.text_column, *classifier.labels]].itertuples(index=False)
        for text, *truth in tqdm(columns, total=len(frames[split]), desc=split):
            windows = classifier.windows(text)
            if len(windows) > 1:
                kept.append(classifier.window_probabilities(windows))
                targets.append(truth)
    rows = [row(name, pool, kept, np.array(targets, dtype=int), classifier) for name, pool in POOLINGS.items()]
    print(f"{len(kept):,} comments of {sum(map(len, kept)):,} windows, {classifier.model_version}\n")
    print_table(rows)
    if options.json:
        write_json(options.json, rows, {})


def row(
    name: str, pool: Any, kept: list[npt.NDArray[np.float32]], targets: npt.NDArray[np.int_], classifier: Classifier
) -> dict[str, Any]:
    """Measure one way of pooling."""
    probabilities = np.stack([pool(windows) for windows in kept]).astype(np.float32)
    flags = predict(probabilities, classifier.thresholds)
    seen = (targets.sum(axis=0) > 0).nonzero()[0]
    return {
        "pooling": name,
        "mean ROC-AUC": float(np.mean([roc_auc_score(targets[:, i], probabilities[:, i]) for i in seen])),
        "mean AP": float(np.mean([average_precision_score(targets[:, i], probabilities[:, i]) for i in seen])),
        "macro-F1": float(np.mean([f1_score(targets[:, i], flags[:, i], zero_division=0) for i in seen])),
        "flagged at all": float(flags.any(axis=1).mean()),
        "toxic recall": float(flags[targets[:, 0] == 1, 0].mean()),
    }


if __name__ == "__main__":
    running.run(main)
