"""Does a text's answer depend on the texts around it? Comments alone and in a list, with every backend of a bundle.

Each backend runs with its defaults, and again computing windows of one length together, up to 512 tokens.

    python benchmarks/company.py --bundle model-export --data-path train.parquet
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import running
from bundles import read_texts
from tables import print_table, write_json

from moderation import Classifier
from moderation.bundles import SHIPPED, read_bundle
from moderation.inference.backends import backends

TOGETHER = 512


def main() -> None:
    """Compare and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=SHIPPED, help="default: the included model")
    parser.add_argument("--data-path", type=Path, required=True, help="table with a column comment_text")
    parser.add_argument("--texts", type=int, default=500, help="comments")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    texts = read_texts(options.data_path, options.texts)
    forms = read_bundle(options.bundle).forms
    rows = [compare(options.bundle, name, texts) for name, form in backends().items() if form.name in forms]
    print_table(rows)
    if options.json:
        write_json(options.json, rows, {})


def compare(bundle: Path, name: str, texts: list[str]) -> dict[str, Any]:
    """Find the largest difference between a probability in a list and that of the text alone."""
    with Classifier.load(bundle, backend=name) as classifier:
        alone = np.concatenate([classifier.probabilities([text]) for text in texts])
        listed = classifier.probabilities(texts)
    with Classifier.load(bundle, backend=name, batch_tokens=TOGETHER) as classifier:
        together = classifier.probabilities(texts)
    return {
        "backend": name,
        "texts": len(texts),
        "as it comes, same bytes": "yes" if listed.tobytes() == alone.tobytes() else "no",
        f"batch_tokens={TOGETHER}, same bytes": "yes" if together.tobytes() == alone.tobytes() else "no",
        "largest difference": f"{np.abs(together - alone).max():.1e}",
    }


if __name__ == "__main__":
    running.run(main)
