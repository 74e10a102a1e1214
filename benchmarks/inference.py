"""How many comments a second, and how far is that from what the machine could do?

Everything is measured in one run, on the same comments at their real lengths; each contender runs in a process of its
own with the same number of threads. Peers with the same weights: the `transformers` pipeline (one by one; in batches of
32 in the order of the texts), the way llm-guard calls it (each text padded to 512 tokens), and plain onnxruntime in
float32; and the way detoxify predicts (all texts in one padded batch, in the shape of BERT-base). All of these cut off
a text at 512 tokens; ours reads it to the end. Weights are random if that does not change the work.

    python benchmarks/inference.py --data-path train.parquet --json inference.json
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import running
from bundles import LABELS, LONGEST, SHAPES, build_bundle, read_texts
from tables import print_table, write_json

BACKENDS = ("openvino", "onnx-int8", "onnx", "torchscript", "torch")
PEERS = ("pipeline-1", "pipeline-32", "llm-guard's way", "onnxruntime fp32", "detoxify's way")
SECONDS_ENOUGH = 10
Loaded = tuple[Callable[[list[str]], Any], int, float]


def main() -> None:
    """Run every contender and print the table."""
    options = parse()
    if options.contender:
        run_contender(options)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.bundles or Path(scratch)
        for shape in SHAPES:
            if not (folder / shape / "moderation.json").is_file():
                in_own_process(options, folder, "build", shape)
        limits = [in_own_process(options, folder, "limit", "")]
        rows = [in_own_process(options, folder, peer, "distilbert") for peer in PEERS]
        rows += [in_own_process(options, folder, f"ours {name}", shape) for shape in SHAPES for name in wanted(shape)]
        limits.append(in_own_process(options, folder, "limit", ""))
    for row in rows:
        add_share(row, limits)
    print_table(rows)
    print_limits(limits)
    ratios = find_ratios(rows)
    print("\n" + "\n".join(f"{name}: {value:.3g}" for name, value in ratios.items()))
    if options.json:
        write_json(options.json, rows, ratios)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path", type=Path, required=True, help="table with a column comment_text")
    parser.add_argument("--distilbert", default="distilbert-multilingual", help="backbone: short name or folder")
    parser.add_argument("--minilm", default="minilm", help="backbone: short name or folder")
    parser.add_argument("--bundles", type=Path, help="keep the bundles in this folder, and reuse those in it")
    parser.add_argument("--texts", type=int, default=256, help="comments")
    parser.add_argument("--threads", type=int, default=2, help="processor threads of each contender")
    parser.add_argument("--json", type=Path, help="write rows and ratios here")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    return parser.parse_args()


def wanted(shape: str) -> list[str]:
    """List our contenders: every backend with its defaults, and the two int8 ones with other sizes of batches."""
    other = ["openvino +1", "openvino +2048", "onnx-int8 +512"]
    return [*BACKENDS, *other] if shape == "distilbert" else [*BACKENDS[:3], *other]


def in_own_process(options: argparse.Namespace, folder: Path, contender: str, shape: str) -> dict[str, Any]:
    words = [sys.executable, __file__, "--data-path", str(options.data_path), "--bundles", str(folder)]
    words += ["--distilbert", options.distilbert, "--minilm", options.minilm, "--threads", str(options.threads)]
    words += ["--texts", str(options.texts), "--contender", contender, "--shape", shape]
    found: dict[str, Any] = json.loads(running.in_own_process(words, f"{shape} {contender}".strip()))
    return found


def run_contender(options: argparse.Namespace) -> None:
    """Load one contender, warm it up, pass over the texts for some seconds, and print a JSON object."""
    if options.contender == "build":
        texts = read_texts(options.data_path, options.texts)
        build_bundle(options.bundles / options.shape, getattr(options, options.shape), texts[:100])
        print("{}")
        return
    if options.contender == "limit":
        print(json.dumps(measure_limits(options.threads)))
        return
    texts = read_texts(options.data_path, options.texts)
    name = options.contender
    begin = time.perf_counter()
    folder = options.bundles / options.shape
    if name.startswith("ours "):
        predict, n_tokens, padding = load_ours(folder, name.removeprefix("ours "), options.threads, texts)
    else:
        predict, n_tokens, padding = load_peer(folder, name, options.threads, texts)
    predict(texts[:1])
    load_s = time.perf_counter() - begin
    predict(texts[:16])
    passes: list[float] = []
    while sum(passes) < SECONDS_ENOUGH and len(passes) < 7:
        begin = time.perf_counter()
        predict(texts)
        passes.append(time.perf_counter() - begin)
    seconds = statistics.median(passes)
    row = {
        "shape": "bert-base" if name.startswith("detoxify") else options.shape,
        "contender": name,
        "documents/s": len(texts) / seconds,
        "tokens/s": n_tokens / seconds,
        "padding": f"{padding:.0%}",
        "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "load and first answer, s": load_s,
        "passes": len(passes),
    }
    print(json.dumps(row))


def load_ours(folder: Path, words: str, threads: int, texts: list[str]) -> Loaded:
    from moderation import Classifier

    name, _, together = words.partition(" +")
    classifier = Classifier.load(
        folder, backend=name, threads=threads, batch_tokens=int(together) if together else None
    )
    windows = [window for text in texts for window in classifier.windows(text)]
    n_tokens = sum(len(window.ids) for window in windows)
    n_places = sum(batch.input_ids.size for batch in classifier.models[0].batches(windows))
    return classifier.probabilities, n_tokens, 1 - n_tokens / n_places


def load_peer(folder: Path, name: str, threads: int, texts: list[str]) -> Loaded:
    import torch

    from moderation.pretrained import read_tokenizer

    torch.set_num_threads(threads)
    tokenizer = read_tokenizer(folder)
    lengths = np.array([len(ids) for ids in tokenizer(texts, truncation=True, max_length=LONGEST)["input_ids"]])
    predict, batch_size = _peers(folder, name, tokenizer, threads)
    starts = range(0, len(lengths), batch_size)
    padded = sum(int(lengths[i : i + batch_size].max()) * len(lengths[i : i + batch_size]) for i in starts)
    if name.startswith("llm-guard"):
        padded = LONGEST * len(lengths)
    return predict, int(lengths.sum()), 1 - float(lengths.sum()) / padded


def _peers(folder: Path, name: str, tokenizer: Any, threads: int) -> tuple[Callable[[list[str]], Any], int]:
    """Return the peer's call, and how many texts it computes together."""
    if name.startswith("onnxruntime"):
        return partial(_plain_onnxruntime(folder, threads), tokenizer), 1
    if name.startswith("detoxify"):
        return partial(_detoxify(tokenizer), tokenizer), 1 << 30
    from transformers import pipeline

    batch_size = 32 if name == "pipeline-32" else 1
    more = {"padding": "max_length"} if name.startswith("llm-guard") else {}
    classify = pipeline(
        "text-classification", model=str(folder), tokenizer=tokenizer, device="cpu", trust_remote_code=False
    )
    settings: dict[str, Any] = {
        "top_k": None,
        "function_to_apply": "sigmoid",
        "truncation": True,
        "max_length": LONGEST,
    }
    return partial(classify, batch_size=batch_size, **settings, **more), batch_size


def _plain_onnxruntime(folder: Path, threads: int) -> Callable[[Any, list[str]], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "onnx/model.onnx", options, providers=["CPUExecutionProvider"])

    def predict(tokenizer: Any, texts: list[str]) -> None:
        for text in texts:
            inputs = tokenizer(text, truncation=True, max_length=LONGEST, return_tensors="np")
            session.run(None, {key: inputs[key] for key in ("input_ids", "attention_mask")})

    return predict


def _detoxify(tokenizer: Any) -> Callable[[Any, list[str]], Any]:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    config: Any = BertConfig(vocab_size=len(tokenizer))
    config.num_labels = len(LABELS)
    model: Any = BertForSequenceClassification(config)
    model.eval()

    def predict(tokenizer: Any, texts: list[str]) -> Any:
        with torch.no_grad():
            inputs = tokenizer(texts, return_tensors="pt", truncation=True, padding=True, max_length=LONGEST)
            return torch.sigmoid(model(**inputs)[0])

    return predict


def measure_limits(threads: int) -> dict[str, float]:
    """Measure plain matrix products in the encoder's shapes, float32 and int8, in billions of operations a second."""
    import torch

    torch.set_num_threads(threads)
    found = {}
    for shape, (_, width, inner) in SHAPES.items():
        sizes = [(width, width)] * 4 + [(width, inner), (inner, width)]  # the products of one layer
        n_operations = sum(2 * LONGEST * n_in * n_out for n_in, n_out in sizes)
        floats = [(torch.randn(LONGEST, n_in), torch.randn(n_in, n_out)) for n_in, n_out in sizes]
        ints = [((64 * a).to(torch.int8), (64 * b).to(torch.int8)) for a, b in floats]
        found[f"{shape} fp32"] = n_operations / _seconds(torch.mm, floats) / 1e9
        found[f"{shape} int8"] = n_operations / _seconds(torch._int_mm, ints) / 1e9
    return found


def _seconds(product: Callable[[Any, Any], Any], pairs: list[tuple[Any, Any]]) -> float:
    """Return the median over 200 turns through the pairs."""
    times: npt.NDArray[np.float64] = np.empty(200)
    for turn in range(-20, len(times)):
        begin = time.perf_counter()
        for a, b in pairs:
            product(a, b)
        times[turn] = time.perf_counter() - begin
    return float(np.median(times))


def add_share(row: dict[str, Any], limits: list[dict[str, float]]) -> None:
    """Add which share of the machine's limit a contender reaches, counting its products with the encoder's weights.

    Our graphs leave out what nobody reads: after the last attention, all positions but the first.
    """
    int8 = "openvino" in row["contender"] or "int8" in row["contender"]
    if row["shape"] not in SHAPES:
        row["of limit"] = None
        return
    layers, width, inner = SHAPES[row["shape"]]
    per_token = 2 * layers * (4 * width * width + 2 * width * inner)
    if "ours o" in row["contender"]:
        per_token -= 2 * (width * width + 2 * width * inner)
    limit = max(found[f"{row['shape']} {'int8' if int8 else 'fp32'}"] for found in limits)
    row["of limit"] = row["tokens/s"] * per_token / 1e9 / limit


def print_limits(limits: list[dict[str, float]]) -> None:
    print("\nmatrix products of the encoder's shapes, before and after, billions of operations a second:")
    for name in limits[0]:
        print(f"  {name}: " + " ".join(f"{found[name]:,.0f}" for found in limits))


def find_ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Compare the best of our int8 forms with the peers."""
    speed = {(row["shape"], row["contender"]): row["documents/s"] for row in rows}
    ours = {
        shape: max(
            (
                row
                for row in rows
                if row["shape"] == shape and row["contender"].split(" +")[0] in ("ours openvino", "ours onnx-int8")
            ),
            key=lambda row: float(row["documents/s"]),
        )
        for shape in SHAPES
    }
    best = {shape: row["documents/s"] for shape, row in ours.items()}
    return {
        "vs_pipeline_1": best["distilbert"] / speed["distilbert", "pipeline-1"],
        "vs_pipeline_32": best["distilbert"] / speed["distilbert", "pipeline-32"],
        "minilm_vs_pipeline_1": best["minilm"] / speed["distilbert", "pipeline-1"],
        "vs_detoxify": best["distilbert"] / speed["bert-base", "detoxify's way"],
        "int8_limit_share": ours["distilbert"]["of limit"],
    }


if __name__ == "__main__":
    running.run(main)
