"""How many requests a second does the server answer, how late, and what does HTTP cost in addition to the model?

The servers run one after the other on the loopback address, each in processes of its own and with the same weights. 1,
8, 64 and 256 connections send them one comment at a time. Server and load share the machine. Our server's cache is off,
because comments repeat; everything else has its defaults.

    npm install autocannon@9.0.0
    pip install litserve==0.2.19
    python benchmarks/serving.py --data-path train.parquet --json serving.json
    python benchmarks/serving.py --data-path train.parquet --overload 600

The second form puts ten times the load on the server that it can handle.
"""

import argparse
import importlib.util
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import running
from bundles import SHAPES, build_bundle, read_texts
from load import Part, Server, check_generator, free_port, put_load, serving
from tables import print_table, write_json

PEERS = (
    ("naive", "serving_naive.py"),
    ("litserve", "serving_litserve.py", "batches"),
    ("litserve, no batches", "serving_litserve.py", "workers"),
)
OURS = {"ours": "auto", "ours onnx-int8": "onnx-int8"}  # the latter runs the file that LitServe runs
LITSERVE = "litserve==0.2.19"
TURNS = 3  # answers that each connection gets at least
WARM_UP_S = 3.0
OVERLOAD = 10
MAX_WAIT_S = 5  # the default: a request that would wait longer is refused


def main() -> None:
    """Run every server and print the table."""
    options = parse()
    if options.contender:
        run_contender(options)
        return
    check_generator(options.node_modules)
    if importlib.util.find_spec("litserve") is None:
        print(
            f"litserve is not installed, so its rows are left out. Install it: pip install {LITSERVE}", file=sys.stderr
        )
        options.servers = [name for name in options.servers if "litserve" not in name]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundles = options.bundles or folder
        for shape in [overloaded(options)] if options.overload else options.shapes:
            if not (bundles / shape / "moderation.json").is_file():
                in_own_process(options, bundles, "build", shape)
        texts = folder / "texts.json"
        texts.write_text(json.dumps(read_texts(options.data_path, options.texts)), encoding="utf-8")
        if options.overload:
            rows, ratios = overload(options, bundles, folder, texts)
        else:
            rows = [row for shape in options.shapes for row in measure_shape(options, bundles, folder, texts, shape)]
            ratios = find_ratios(rows)
    print_table(rows)
    print("\n" + "\n".join(f"{name}: {value:.3g}" for name, value in ratios.items()))
    if options.json:
        write_json(options.json, rows, ratios)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path", type=Path, required=True, help="table with a column comment_text")
    parser.add_argument("--distilbert", default="distilbert-multilingual", help="backbone: short name or folder")
    parser.add_argument("--minilm", default="minilm", help="backbone: short name or folder")
    parser.add_argument("--bundles", type=Path, help="keep the bundles in this folder, and reuse those in it")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    names = [*OURS, *(name for name, *_ in PEERS)]
    parser.add_argument("--servers", nargs="+", choices=names, default=names)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--texts", type=int, default=512, help="comments")
    parser.add_argument("--seconds", type=float, default=15, help="minimum seconds of load for each row")
    parser.add_argument("--overload", type=float, metavar="SECONDS", help="only this: ten times the load, for so long")
    parser.add_argument("--node-modules", type=Path, default=Path("node_modules"), help="with autocannon")
    parser.add_argument("--json", type=Path, help="write rows and ratios here")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    return parser.parse_args()


def in_own_process(options: argparse.Namespace, bundles: Path, contender: str, shape: str) -> dict[str, Any]:
    words = [sys.executable, __file__, "--data-path", str(options.data_path), "--bundles", str(bundles)]
    words += ["--distilbert", options.distilbert, "--minilm", options.minilm, "--texts", str(options.texts)]
    words += ["--seconds", str(options.seconds), "--contender", contender, "--shape", shape]
    found: dict[str, Any] = json.loads(running.in_own_process(words, f"{shape} {contender}".strip()))
    return found


def run_contender(options: argparse.Namespace) -> None:
    """Build a bundle, or classify the comments without a server; prints a JSON object."""
    texts = read_texts(options.data_path, options.texts)
    folder = options.bundles / options.shape
    if options.contender == "build":
        build_bundle(folder, getattr(options, options.shape), texts[:100])
        print("{}")
        return
    from moderation import Classifier

    classifier = Classifier.load(folder, backend=options.contender.removeprefix("offline "))
    classifier.probabilities(texts[:16])
    passes: list[float] = []
    busy = time.process_time()
    while not passes or sum(passes) < options.seconds:
        began = time.perf_counter()
        classifier.probabilities(texts)
        passes.append(time.perf_counter() - began)
    each_ms = 1000 * (time.process_time() - busy) / len(passes) / len(texts)
    print(json.dumps({"requests/s": len(texts) / statistics.median(passes), "CPU ms each": each_ms}))


def servers(bundle: Path, port: int) -> dict[str, tuple[list[str], str]]:
    """Map each name to its command and the path that takes the comments."""
    serve = [sys.executable, "-m", "moderation", "serve", "--model", str(bundle.absolute()), "--port", str(port)]
    serve += ["--cache-texts", "0", "--backend"]
    found = {name: ([*serve, backend], "/v1/predict") for name, backend in OURS.items()}
    for name, script, *more in PEERS:
        file = Path(__file__).absolute().with_name(script)
        found[name] = ([sys.executable, str(file), str(bundle.absolute()), str(port), *more], "/predict")
    return found


def measure_shape(
    options: argparse.Namespace, bundles: Path, folder: Path, texts: Path, shape: str
) -> list[dict[str, Any]]:
    """Measure each server in turn; because machines are noisy, ours also without a server, before and after."""
    port = free_port()
    rows: list[dict[str, Any]] = []
    for name, (words, path) in servers(bundles / shape, port).items():
        if name not in options.servers:
            continue
        if name in OURS:
            rows.append(measure_offline(options, bundles, shape, name))
        print(f"{shape} {name} ...", file=sys.stderr)
        with serving(words, path, port, folder) as server:
            measured = measure_server(options, server, texts)
        rows += [{"shape": shape, "server": name} | row for row in measured]
        if name in OURS:
            rows.append(measure_offline(options, bundles, shape, name))
    names = max(rows, key=len)
    return [dict.fromkeys(names) | row for row in rows]


def measure_offline(options: argparse.Namespace, bundles: Path, shape: str, name: str) -> dict[str, Any]:
    found = in_own_process(options, bundles, f"offline {OURS[name]}", shape)
    return {"shape": shape, "server": f"{name}, offline", "connections": None} | found


def measure_server(options: argparse.Namespace, server: Server, texts: Path) -> list[dict[str, Any]]:
    """Put load on from few connections and from many, long enough that most of them get several answers."""
    rows = []
    warm, _ = put_load(server, texts, options.node_modules, connections=8, seconds=WARM_UP_S)
    speed = warm[0].rate(200, 299)
    for connections in options.connections:
        server.wait_until_idle()
        seconds = max(options.seconds, TURNS * connections / max(speed, 1))
        busy = server.cpu_s()
        (part,), _ = put_load(server, texts, options.node_modules, connections=connections, seconds=seconds)
        speed = part.rate(200, 299)
        each_ms = 1000 * (server.cpu_s() - busy) / max(1, sum(part.statuses.values()))
        more = {"CPU ms each": each_ms, "ready after s": server.ready_s}
        rows.append({"connections": connections} | describe(part) | more)
    return rows


def describe(part: Part) -> dict[str, Any]:
    latencies = np.percentile(part.latencies_ms, [50, 95, 99]).tolist() if part.latencies_ms else [None] * 3
    return {
        "requests/s": part.rate(200, 299),
        "p50 ms": latencies[0],
        "p95 ms": latencies[1],
        "p99 ms": latencies[2],
        "refused/s": part.rate(429, 429),
        "failed": part.failed,
        "MiB": max(part.memory_mib, default=None),
    }


def find_ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Compare ours with the others that ran, at 64 connections; of servers that ran twice, the better run counts."""
    ratios = {}
    for shape in dict.fromkeys(row["shape"] for row in rows):
        here = [row for row in rows if row["shape"] == shape and row["connections"] in (None, 64)]
        speed = {row["server"]: row["requests/s"] for row in sorted(here, key=lambda row: float(row["requests/s"]))}
        work = {row["server"]: row["CPU ms each"] for row in here}
        pairs = {
            "vs_naive_64": ("ours", "naive"),
            "vs_litserve_64": ("ours", "litserve"),
            "vs_litserve_no_batches_64": ("ours", "litserve, no batches"),
            "same_file_vs_litserve_64": ("ours onnx-int8", "litserve"),
            "same_file_vs_litserve_no_batches_64": ("ours onnx-int8", "litserve, no batches"),
            "throughput_vs_offline": ("ours", "ours, offline"),
            "same_file_throughput_vs_offline": ("ours onnx-int8", "ours onnx-int8, offline"),
        }
        for name, (one, other) in pairs.items():
            if one in speed and other in speed:
                ratios[f"{shape}_{name}"] = speed[one] / speed[other]
                ratios[f"{shape}_{name}_by_cpu"] = work[other] / work[one]
        for row in rows:
            if (row["shape"], row["server"], row["connections"]) == (shape, "ours", 8):
                ratios[f"{shape}_p99_ms_at_8"] = row["p99 ms"]
    return ratios


def overloaded(options: argparse.Namespace) -> str:
    return options.shapes[0] if len(options.shapes) == 1 else "minilm"


def overload(
    options: argparse.Namespace, bundles: Path, folder: Path, texts: Path
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Put ten times the load on our server that it can handle; a row for each tenth of the time."""
    port = free_port()
    words, path = servers(bundles / overloaded(options), port)["ours"]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection is a file, here and in the server
    modules = options.node_modules
    with serving(words, path, port, folder) as server:
        put_load(server, texts, modules, connections=8, seconds=WARM_UP_S)
        normal, _ = put_load(server, texts, modules, connections=64, seconds=options.seconds)
        carried = normal[0].rate(200, 299)
        server.wait_until_idle()
        # Some connections wait for as long as the queue allows; the others send one request a second.
        connections = round(carried * (OVERLOAD + 2 * MAX_WAIT_S))
        print(f"handles {carried:.0f}/s; {connections} connections ...", file=sys.stderr)
        parts, cpu_s = put_load(
            server, texts, modules, connections=connections, seconds=options.overload, rate=1, n_parts=10
        )
    rows = [
        {"tenth": place + 1, "sent/s": part.sent / part.seconds} | describe(part) for place, part in enumerate(parts)
    ]
    latencies = [ms for part in parts for ms in part.latencies_ms]
    ratios = {
        "carried_per_s": carried,
        "offered_over_carried": sum(part.sent for part in parts) / options.overload / carried,
        "accepted_over_carried": sum(part.rate(200, 299) for part in parts) / len(parts) / carried,
        "answers_5xx": sum(part.rate(500, 599) * part.seconds for part in parts),
        "without_answer": sum(part.errors for part in parts),
        "p50_ms_accepted": float(np.percentile(latencies, 50)),
        "p99_ms_accepted": float(np.percentile(latencies, 99)),
        "memory_last_over_second_tenth": rows[-1]["MiB"] / rows[1]["MiB"],
        "generator_cores": cpu_s / options.overload,
    }
    return rows, ratios


if __name__ == "__main__":
    running.run(main)
