"""How fast is the training, and does it learn as well as the slow way?

Two contenders, each in a process of its own, train on the same comments: the stock `transformers.Trainer` with its
defaults (random order, padding per batch, fp32, dropout everywhere) and ours (batches of similar length, fused
attention). Backbone, batch size, maximum length, learning rate, loss, seed and number of examples are the same; each
trainer orders the examples in its own way. Afterwards the mean ROC-AUC on the same validation comments is measured.

    python benchmarks/training.py --data-path train.parquet --examples 6400 --json training.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import running
import torch
from tables import print_table, write_json
from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

from moderation.backbones.registry import load_tokenizer, resolve_backbone
from moderation.data.encoding import df_to_hfds
from moderation.data.options import SplitOptions
from moderation.data.splits import load_splits
from moderation.evaluation.metrics import compute_metrics
from moderation.tables.options import TEXT_COLUMN
from moderation.training.batching import BucketedBatches
from moderation.training.model import build_model
from moderation.training.prediction import predict_logits
from moderation.training.trainer import PosWeightTrainer

WARM_UP_STEPS = 3


class Meter(TrainerCallback):
    """Seconds and resident memory after each step."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.resident: list[int] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Read the clock and the memory."""
        self.times.append(time.perf_counter())
        self.resident.append(psutil.Process().memory_info().rss)


def main() -> None:
    """Run both contenders and print the table."""
    options = parse()
    if options.contender:
        run_contender(options)
        return
    peak = matrix_product_flops()
    results = {name: in_own_process(name) for name in ("stock", "ours")}
    rows = [row(name, result, peak) for name, result in results.items()]
    print_table(rows)
    print(f"\nfp32 matrix product (1280 x 384 by 384 x 1536), this machine, this run: {peak / 1e9:.0f} GFLOP/s")
    ratios = {
        "examples_per_s": results["ours"]["examples_per_s"] / results["stock"]["examples_per_s"],
        "roc_auc_difference": results["ours"]["macro_roc_auc"] - results["stock"]["macro_roc_auc"],
        "memory_growth_ours": results["ours"]["resident_by_quarter"][-1] / results["ours"]["resident_by_quarter"][0],
    }
    for name, value in ratios.items():
        print(f"{name}: {value:.4f}")
    if options.json:
        write_json(options.json, rows, ratios)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path", type=Path, required=True)
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--examples", type=int, default=6400)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--val-examples", type=int, default=14000)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--contender", choices=("stock", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def in_own_process(contender: str) -> dict[str, Any]:
    """Run this file once more for one contender and read what it measured."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        words = [sys.executable, __file__, *sys.argv[1:], "--contender", contender, "--result", str(result)]
        if code := subprocess.run(words).returncode:
            sys.exit(code)  # the contender has printed the reason
        return dict(json.loads(result.read_text()))


def run_contender(options: argparse.Namespace) -> None:
    """Train, measure, predict the validation comments, write the numbers."""
    backbone = resolve_backbone(options.backbone)
    tokenizer = load_tokenizer(backbone.path)
    splits = load_splits(
        SplitOptions(data_path=options.data_path, max_train_examples=options.examples), seed=options.seed
    )
    encode = {"text_column": TEXT_COLUMN, "max_length": options.max_length}
    train = df_to_hfds(splits.frames["train"], tokenizer, splits.labels, **encode)
    val = df_to_hfds(splits.frames["val"].head(options.val_examples), tokenizer, splits.labels, **encode)
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(options, folder, backbone.path, splits.labels, tokenizer, train, meter)
        trainer.train()
    collator = DataCollatorWithPadding(tokenizer)
    model: Any = trainer.model
    logits = predict_logits(model, val, collator, description=f"{options.contender}: val")
    targets = splits.targets("val")[: len(val)]
    lengths = np.asarray(train.with_format("numpy")["length"][:])
    n_layers, hidden = model.config.num_hidden_layers, model.config.hidden_size
    padded = padded_lengths(options, lengths)
    encoder = sum(p.numel() for name, p in model.named_parameters() if ".encoder." in name)
    measured = np.diff(meter.times)[WARM_UP_STEPS:]
    resident = np.array_split(np.array(meter.resident), 4)
    result = {
        "examples_per_s": options.batch_size / float(measured.mean()),
        "seconds": float(meter.times[-1] - meter.times[0]),
        "padding": 1 - float(lengths.sum() / padded.sum()),
        # Forward and backward: 6 per weight and token, and 12 x length x width per layer and token for the attention.
        "flops_per_example": float((6 * encoder * padded + 12 * n_layers * hidden * padded**2).mean()),
        "macro_roc_auc": compute_metrics((logits, targets))["macro_roc_auc"],
        "resident_by_quarter": [int(part.max()) for part in resident],
    }
    options.result.write_text(json.dumps(result))


def make_trainer(
    options: argparse.Namespace, folder: str, backbone: Path, labels: Any, tokenizer: Any, train: Any, meter: Meter
) -> Trainer:
    """Make the stock trainer, or ours, with the same settings."""
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=1,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.lr,
        seed=options.seed,
        save_strategy="no",
        report_to=[],
        logging_steps=50,
        use_cpu=not torch.cuda.is_available(),
    )
    torch.manual_seed(options.seed)
    if options.contender == "ours":
        return PosWeightTrainer(
            model=build_model(backbone, labels),
            args=arguments,
            train_dataset=train,
            processing_class=tokenizer,
            callbacks=[meter],
        )
    return Trainer(
        model=build_model(backbone, labels, attention_dropout=0.1),
        args=arguments,
        train_dataset=train.select_columns(["input_ids", "attention_mask", "labels"]),
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[meter],
    )


def padded_lengths(options: argparse.Namespace, lengths: Any) -> Any:
    """Count the tokens computed for each example, padding included, float64 `(n_examples,)`."""
    if options.contender == "ours":
        batches: list[Any] = list(BucketedBatches(lengths, options.batch_size, seed=options.seed))
        widths = [-(-lengths[batch].max() // 8) * 8 for batch in batches]
    else:
        order = np.random.default_rng(options.seed).permutation(len(lengths))
        batches = np.array_split(order, len(order) // options.batch_size)
        widths = [lengths[batch].max() for batch in batches]
    return np.concatenate([np.full(len(batch), width, float) for batch, width in zip(batches, widths, strict=True)])


def matrix_product_flops(seconds: float = 2.0) -> float:
    """Measure the FLOP/s of an fp32 product in the encoder's shapes, the best of many."""
    a, b = torch.randn(1280, 384), torch.randn(384, 1536)
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(10):
            a @ b
        best = max(best, 10 * 2 * 1280 * 384 * 1536 / (time.perf_counter() - start))
    return best


def row(name: str, result: dict[str, Any], peak: float) -> dict[str, Any]:
    """Make a row of the table."""
    flops = result["flops_per_example"] * result["examples_per_s"]
    return {
        "trainer": name,
        "examples/s": round(result["examples_per_s"], 2),
        "seconds": round(result["seconds"]),
        "padding": f"{result['padding']:.1%}",
        "GFLOP/s": round(flops / 1e9),
        "of product": f"{flops / peak:.0%}",
        "mean ROC-AUC": round(result["macro_roc_auc"], 4),
        "MiB by quarter": " ".join(str(size >> 20) for size in result["resident_by_quarter"]),
    }


if __name__ == "__main__":
    running.run(main)
