"""How long does it take from a table on disk to encoded splits? Seconds and memory of each phase.

python benchmarks/data.py --data-path train.parquet --json data.json
"""

import argparse
import logging
import time
from pathlib import Path
from typing import Any

import running
from tables import print_table, write_json

from moderation.backbones.registry import load_tokenizer, resolve_backbone
from moderation.data.cleaning import load_english_only
from moderation.data.encoding import df_to_hfds
from moderation.data.profile import describe
from moderation.data.splitting import split_examples
from moderation.tables.options import TEXT_COLUMN
from moderation.tables.reading import read_table
from moderation.training.environment import peak_memory_bytes


def main() -> None:
    """Time each phase once, in the order of a training, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path", type=Path, required=True)
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    tokenizer = load_tokenizer(resolve_backbone(options.backbone, need_weights=False).path)
    rows: list[dict[str, Any]] = []

    def timed(phase: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = function(*args, **kwargs)
        seconds = time.perf_counter() - start
        rows.append({"phase": phase, "seconds": round(seconds, 2), "peak MiB": peak_memory_bytes() >> 20})
        return result

    timed("read", read_table, options.data_path)
    frame = timed("read and check", load_english_only, options.data_path)
    labels = frame.attrs["labels"]
    timed("describe", describe, frame, labels, TEXT_COLUMN)
    targets = frame[list(labels)].to_numpy(dtype="float32")
    timed("split", split_examples, frame[TEXT_COLUMN], targets)
    timed("tokenise", df_to_hfds, frame, tokenizer, labels)
    print(f"{len(frame)} comments")
    print_table(rows)
    if options.json:
        write_json(options.json, rows, {"rows_per_s_tokenise": len(frame) / rows[-1]["seconds"]})


if __name__ == "__main__":
    running.run(main)
