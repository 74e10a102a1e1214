"""Settings of a training: the model, the fit, the run; imports little, so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moderation.data.options import SealedSplits, SplitOptions
from moderation.options import Options, no_effect, part, setting

Precision = Literal["auto", "fp32", "bf16", "fp16"]
PosWeight = Literal["off", "sqrt", "balanced"]
Tracker = Literal["tensorboard", "mlflow", "wandb"]
Calibration = Literal["auto", "none"]
BestMetric = Literal["macro_average_precision", "macro_roc_auc", "loss"]


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """Settings of the run: its folder, its seed, and its trackers."""

    output_dir: Path | None = setting(None, "run folder; default: runs/<date>-<backbone>")
    overwrite: bool = setting(False, "replace the run in the folder")
    resume: bool = setting(False, "continue the interrupted run in --output-dir")
    dry_run: bool = setting(False, "run every phase on a few examples and keep nothing")
    seed: int = setting(42, "seed of the splits, the weights, the order and dropout", at_least=0, at_most=2**32 - 1)
    track: tuple[Tracker, ...] = setting((), "also log to these trackers", metavar="TRACKER")
    bootstrap: int = setting(1000, "bootstrap samples for the intervals; 0: no intervals", at_least=0)


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Options):
    """The classifier: a pretrained encoder, and which parts of it are trained."""

    backbone: str = setting(
        "distilbert/distilbert-base-multilingual-cased",
        "pretrained encoder: hub id, local folder, or a short name (minilm, mpnet, distilbert-multilingual)",
        metavar="BACKBONE",
    )
    revision: str | None = setting(None, "hub revision of the backbone (commit, tag or branch)", metavar="REVISION")
    random_weights: bool = setting(False, "start from random weights instead of the pretrained ones")
    max_length: int = setting(
        256, "number of tokens to read of each text; longer texts are cut off, and counted", at_least=8
    )
    fold_disguises: bool = setting(
        False,
        "read accents, look-alikes, digits for letters, spaced or repeated letters as plain letters; English only",
    )
    attention_dropout: float = setting(
        0.0, "dropout on attention; 0 allows the fused attention kernel", at_least=0, below=1
    )
    freeze_embeddings: bool = setting(False, "do not train the embeddings")
    freeze_layers: int = setting(0, "do not train the embeddings and the lowest N layers", at_least=0)


@dataclass(frozen=True, kw_only=True)
class FitOptions(Options):
    """How the weights are fitted.

    >>> FitOptions(epochs=1, batch_size=32).lr
    2e-05
    """

    epochs: float = setting(3.0, "passes over the train split", above=0)
    batch_size: int = setting(16, "examples per step, over all processes", at_least=1)
    lr: float = setting(2e-5, "peak learning rate", above=0)
    head_lr: float | None = setting(None, "peak learning rate of the classification head; default: --lr", above=0)
    weight_decay: float = setting(0.01, "AdamW's weight decay", at_least=0)
    warmup: float = setting(0.06, "share of the steps over which the learning rate rises", at_least=0, at_most=1)
    grad_accumulation: int = setting(1, "batches per optimizer step", at_least=1)
    max_grad_norm: float = setting(1.0, "clip the gradient's norm to this; 0: no clipping", at_least=0)
    pos_weight: PosWeight = setting("sqrt", "weight of positives in the loss")
    pos_weight_cap: float = setting(50.0, "largest weight of positives", at_least=1)
    negatives: float = setting(
        1.0,
        "share of the train rows without any label that each epoch uses, in turn; rows of --extra-train-path are "
        "always used, and pos_weight counts all rows",
        above=0,
        at_most=1,
    )
    balanced_sampler: bool = setting(False, "draw rare labels more often, with replacement")
    precision: Precision = setting("auto", "number format; auto uses the fastest one that the processor supports well")
    best_metric: BestMetric = setting("macro_average_precision", "validation metric that picks the best checkpoint")
    patience: int = setting(0, "stop after N evaluations without a better metric; 0: never", at_least=0)
    save_every: int = setting(500, "optimizer steps between saved states, from which --resume continues", at_least=1)

    def problems(self) -> list[str]:
        """Two settings that both choose the examples of an epoch."""
        if self.balanced_sampler and self.negatives < 1:
            return ["--negatives and --balanced-sampler both choose the examples of an epoch: leave one of them out"]
        return []


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """Everything that a run was trained with, as `run.json` records it: one flat object of all settings."""

    data: SplitOptions = part(SplitOptions, "data")
    run: RunOptions = part(RunOptions, "run")
    model: ModelOptions = part(ModelOptions, "model")
    fit: FitOptions = part(FitOptions, "training")
    threads: int | None = setting(None, "processor threads; default: all cores", "run", at_least=1)
    calibration: Calibration = setting(
        "auto", "auto calibrates each label's probabilities on the val split; none leaves them unchanged", "thresholds"
    )
    objective: str = setting(
        "f1",
        "what the thresholds maximise: f1, fbeta:B, precision>=P, recall>=R, false-alarms<=X (quote them in a shell)",
        "thresholds",
        metavar="OBJECTIVE",
    )

    @property
    def sealed_splits(self) -> SealedSplits:
        """Everything that the splits depend on."""
        return SealedSplits(data=self.data, seed=self.run.seed, fold_disguises=self.model.fold_disguises)

    @property
    def text_column(self) -> str:
        """Column of the texts in the tables."""
        return self.data.table.text_column

    @property
    def idle_settings(self) -> list[str]:
        """Settings that have no effect with the others; logged, not refused, since earlier runs may contain them."""
        found: list[str] = []
        if self.data.val_path is not None:
            found += no_effect(self, ["val_size"], "no effect with --val-path")
        if self.data.test_path is not None:
            found += no_effect(self, ["test_size"], "no effect with --test-path")
        if self.fit.pos_weight == "off":
            found += no_effect(self, ["pos_weight_cap"], "no effect with --pos-weight off")
        return found
