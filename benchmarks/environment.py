"""How large is an installation, package by package, and how soon does its server answer?

    python benchmarks/environment.py                              # a fresh environment with '.[onnx,serve]'
    python benchmarks/environment.py --before OTHER_CHECKOUT      # and that of another version of this project

It needs the package index, but only the included model. Start-up is the time from starting the process to 200 from
`/readyz`; the two environments take turns.
"""

import argparse
import importlib.metadata
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tables import print_table, show

ROOT = Path(__file__).parents[1]
FILES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "model_training.py")
OF_THE_ENVIRONMENT = {"pip", "setuptools"}  # which every environment holds, whatever is installed


def build(source: Path, folder: Path, extras: str) -> Path:
    """Install a checkout with some extras into a new environment; return the environment's Python."""
    copied = folder / "source"
    copied.mkdir(parents=True)
    for name in FILES:
        shutil.copy(source / name, copied)
    shutil.copytree(source / "moderation", copied / "moderation")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    command: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--constraint", source / "constraints.txt"]
    subprocess.run([*command, f"{copied}[{extras}]"], check=True)
    return python


def sizes(python: Path) -> Counter[str]:
    """Count the bytes of each distribution, compiled modules included."""
    (site,) = (python.parents[1] / "lib").glob("python*/site-packages")
    found: Counter[str] = Counter()
    for distribution in importlib.metadata.distributions(path=[str(site)]):
        files = [Path(str(file.locate())) for file in distribution.files or []]
        found[distribution.metadata["Name"]] += sum(file.stat().st_size for file in files if file.is_file())
    return found


def on_disk(folder: Path) -> float:
    """Count the MiB of a folder in whole blocks, as `du -sm` does."""
    return sum(path.lstat().st_blocks * 512 for path in (folder, *folder.rglob("*"))) / 2**20


def start_up(python: Path, folder: Path, port: int) -> float:
    """Measure the seconds until a server answers that it is ready."""
    command: list[str | Path] = [
        python,
        "-m",
        "moderation",
        "serve",
        "--port",
        str(port),
        "--drain-s",
        "0",
        "--feedback-url",
        "",
    ]
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()  # nosec B310 # always http
                    return time.perf_counter() - started
                except urllib.error.URLError:
                    time.sleep(0.01)
            raise SystemExit(f"{python}: the server ended with {process.returncode}")
        finally:
            process.terminate()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="onnx,serve", help="what to install (default: %(default)s)")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="checkout of another version, to compare with")
    parser.add_argument(
        "--starts", type=int, default=7, metavar="N", help="starts of each server (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=8765, help="a free port (default: %(default)s)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="moderation-environment-") as name:
        sources = {"now": ROOT} | ({"before": arguments.before} if arguments.before else {})
        pythons = {which: build(source, Path(name) / which, arguments.extras) for which, source in sources.items()}
        report_sizes(pythons)
        if "serve" in arguments.extras.split(","):
            seconds: dict[str, list[float]] = {which: [] for which in pythons}
            for _ in range(arguments.starts):
                for which, python in pythons.items():
                    seconds[which].append(start_up(python, Path(name), arguments.port))
            report_starts(seconds)


def print_facts(facts: dict[str, float]) -> None:
    for name, value in facts.items():
        print(f"{name}: {show(value)}")


def report_sizes(pythons: dict[str, Path]) -> None:
    found = {which: sizes(python) for which, python in pythons.items()}
    largest = sorted(
        {one for size in found.values() for one in size}, key=lambda one: -max(size[one] for size in found.values())
    )
    rows = [{"package": one} | {f"{which}, MB": found[which][one] / 1e6 for which in found} for one in largest[:25]]
    print_table(rows)
    for which, python in pythons.items():
        installed = sum(size for one, size in found[which].items() if one not in OF_THE_ENVIRONMENT)
        print_facts(
            {f"{which}_installed_mb": installed / 1e6, f"{which}_whole_environment_mib": on_disk(python.parents[1])}
        )


def report_starts(seconds: dict[str, list[float]]) -> None:
    medians = {which: statistics.median(found) for which, found in seconds.items()}
    print_facts({f"{which}_seconds_to_ready": median for which, median in medians.items()})
    if "before" in medians:
        print_facts({"start_up_now_to_before": medians["now"] / medians["before"]})


if __name__ == "__main__":
    main()
