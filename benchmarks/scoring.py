"""Does the memory of `moderation score` stay constant, and does it continue after a kill as promised?

The real command runs in a process of its own, whose memory is watched. It scores your own table, or a synthetic one of
many rows and few different texts, which measures the engine and not the model. With `--kill-after`, a second run is
killed after that many seconds (SIGKILL) and continued with --resume, and its result is compared with that of the
uninterrupted run.

    python benchmarks/scoring.py --model model-export --rows 2000000
    python benchmarks/scoring.py --model model-export --data-path train.parquet --kill-after 120
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import running
from tables import print_table, write_json

from moderation.artifacts import sha256
from moderation.bundles import SHIPPED

N_TEXTS = 2_000


def main() -> None:
    """Score, watch, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="bundle; default: the included model")
    parser.add_argument("--data-path", type=Path, help="table with a column comment_text; default: a synthetic one")
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the synthetic table")
    parser.add_argument("--ending", default=".csv.gz", help="format of the output")
    parser.add_argument("--kill-after", type=float, help="seconds until a second run is killed, and then resumed")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source = options.data_path or write_table(Path(scratch) / "comments.csv", options.rows)
        whole = Path(scratch) / f"whole{options.ending}"
        rows = [score(source, whole, options.model, "uninterrupted")]
        if options.kill_after:
            again = Path(scratch) / f"again{options.ending}"
            rows.append(score(source, again, options.model, "killed", kill_after=options.kill_after))
            rows.append(score(source, again, options.model, "resumed", "--resume"))
            print(f"same bytes: {'yes' if sha256(again) == sha256(whole) else 'NO'}\n")
    print_table(rows)
    if options.json:
        write_json(options.json, rows, {})


def write_table(path: Path, n_rows: int) -> Path:
    """Write the same few thousand texts of 5 to 15 words again and again, each in runs, as in a crawl."""
    rng = np.random.default_rng(0)
    words = np.array(
        [f"{a}{b}" for a in ("re", "con", "un", "pro", "de") for b in ("act", "form", "do", "view", "mark")]
    )
    texts = [" ".join(rng.choice(words, size=rng.integers(5, 16))) for _ in range(N_TEXTS)]
    with path.open("w", encoding="utf-8") as file:
        file.write("id,comment_text\n")
        for row in range(n_rows):
            file.write(f"{row},{texts[row // 100 % N_TEXTS]}\n")
    return path


def score(
    source: Path, output: Path, model: Path, name: str, *more: str, kill_after: float | None = None
) -> dict[str, Any]:
    """Run the command, print its summary, and return its seconds, largest memory and exit code."""
    words = [sys.executable, "-m", "moderation", "score", str(source), "-o", str(output), "--model", str(model), *more]
    begin = time.perf_counter()
    log = output.with_name("score.log")
    with log.open("w") as errors:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True)
    watched = psutil.Process(process.pid)
    most = 0
    while process.poll() is None:
        try:
            most = max(most, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        if kill_after and time.perf_counter() - begin > kill_after:
            process.kill()
        time.sleep(0.05)
    seconds = time.perf_counter() - begin
    summary, _ = process.communicate()
    if process.returncode not in (0, 3) and not kill_after:
        said = log.read_text(errors="replace")[-3000:].strip()
        sys.exit(f"moderation score ended with {process.returncode}:\n{said}")
    print(summary)
    return {"run": name, "seconds": seconds, "peak MiB": most >> 20, "exit code": process.returncode}


if __name__ == "__main__":
    running.run(main)
