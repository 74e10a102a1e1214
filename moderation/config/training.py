"""Settings of the verbs around a training: train, tune, check."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from moderation.data.options import LABEL_CUT_HELP, LABEL_FORMAT_HELP, LABEL_NONE_HELP, LABELS_IN_HELP, LabelFormat
from moderation.options import Options, no_effect, setting
from moderation.tables.options import DELIMITER_HELP, ESCAPE_HELP, QUOTING_HELP, TEXT_COLUMN_HELP, Quoting

Precision = Literal["auto", "fp32", "bf16", "fp16"]
PosWeight = Literal["off", "sqrt", "balanced"]
Tracker = Literal["tensorboard", "mlflow", "wandb"]
Calibration = Literal["auto", "none"]
BestMetric = Literal["macro_average_precision", "macro_roc_auc", "loss"]


@dataclass(frozen=True, kw_only=True)
class TableConfig(Options):
    """How to read a table of labelled comments."""

    data_path: Path = setting(None, "labelled comments: CSV, TSV, Parquet or JSONL, also .gz .zip .zst", "data")
    text_column: str = setting("comment_text", TEXT_COLUMN_HELP, "data")
    label_columns: tuple[str, ...] | None = setting(
        None,
        "label columns; default: the Jigsaw six where present, else every column of 0/1, true/false, yes/no",
        "data",
    )
    label_cut: float | None = setting(None, LABEL_CUT_HELP, "data")
    labels_in: str | None = setting(None, LABELS_IN_HELP, "data", metavar="COLUMN")
    label_format: LabelFormat = setting("auto", LABEL_FORMAT_HELP, "data")
    label_none: tuple[str, ...] | None = setting(None, LABEL_NONE_HELP, "data", metavar="CLASS")
    delimiter: str | None = setting(None, DELIMITER_HELP, "data", metavar="CHARACTER")
    quoting: Quoting = setting("standard", QUOTING_HELP, "data")
    escape: str | None = setting(None, ESCAPE_HELP, "data", metavar="CHARACTER")
    language_column: str | None = setting(
        None, "column of language codes; rows other than 'en' are left out; default: 'lang' or 'language'", "data"
    )
    detect_language: bool = setting(False, "detect each text's language and keep English alone", "data")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(TableConfig):
    """Settings of `moderation train`."""

    val_path: Path | None = setting(None, "validation table; default: a part of --data-path", "data")
    test_path: Path | None = setting(None, "test table; default: a part of --data-path", "data")
    val_size: float = setting(0.1, "share of the texts for validation", "data", metavar="SHARE", above=0, below=1)
    test_size: float = setting(0.1, "share of the texts for testing", "data", metavar="SHARE", above=0, below=1)
    max_train_examples: int | None = setting(
        None, "train on a random part of the train split, of this many rows", "data", at_least=1
    )
    extra_train_path: Path | None = setting(
        None,
        "further table for the train split alone, of the same columns; texts of val and test are left out",
        "data",
    )
    disguised: float = setting(
        0.0,
        "disguised copies to add per train row, each with one of the edits by which people hide words "
        "(docs/suites.md); with --fold-disguises only the edits that folding does not fully undo",
        "data",
        at_least=0,
        at_most=1,
    )

    output_dir: Path | None = setting(None, "run folder; default: runs/<date>-<backbone>", "run")
    overwrite: bool = setting(False, "replace the run that the folder holds", "run")
    resume: bool = setting(False, "continue the interrupted run in --output-dir", "run")
    dry_run: bool = setting(False, "go through every phase on a handful of examples and keep nothing", "run")
    seed: int = setting(
        42, "seed of the splits, the weights, the order and dropout", "run", at_least=0, at_most=2**32 - 1
    )
    track: tuple[Tracker, ...] = setting((), "also log to these trackers", "run", metavar="TRACKER")
    bootstrap: int = setting(1000, "bootstrap samples of the intervals; 0: none", "run", at_least=0)

    backbone: str = setting(
        "distilbert/distilbert-base-multilingual-cased",
        "pretrained encoder: hub id, local folder, or a short name (minilm, mpnet, distilbert-multilingual)",
        "model",
        metavar="BACKBONE",
    )
    revision: str | None = setting(
        None, "hub revision of the backbone (commit, tag or branch)", "model", metavar="REVISION"
    )
    random_weights: bool = setting(False, "start from random weights instead of the pretrained ones", "model")
    max_length: int = setting(
        256, "tokens to read of each text; longer texts are cut, and counted", "model", at_least=8
    )
    fold_disguises: bool = setting(
        False,
        "read accents, look-alikes, digits for letters, spaced or repeated letters as plain ones; for English only",
        "model",
    )
    attention_dropout: float = setting(
        0.0, "dropout on attention; 0 allows the fused attention kernel", "model", at_least=0, below=1
    )
    freeze_embeddings: bool = setting(False, "keep the embeddings as they are", "model")
    freeze_layers: int = setting(0, "keep the embeddings and the lowest N layers as they are", "model", at_least=0)

    epochs: float = setting(3.0, "passes over the train split", "training", above=0)
    batch_size: int = setting(16, "examples per step, over all processes", "training", at_least=1)
    lr: float = setting(2e-5, "peak learning rate", "training", above=0)
    head_lr: float | None = setting(
        None, "peak learning rate of the classification head; default: --lr", "training", above=0
    )
    weight_decay: float = setting(0.01, "AdamW's weight decay", "training", at_least=0)
    warmup: float = setting(
        0.06, "share of the steps over which the learning rate rises", "training", at_least=0, at_most=1
    )
    grad_accumulation: int = setting(1, "batches per optimizer step", "training", at_least=1)
    max_grad_norm: float = setting(1.0, "clip the gradient's norm; 0: do not", "training", at_least=0)
    pos_weight: PosWeight = setting("sqrt", "weight of positives in the loss", "training")
    pos_weight_cap: float = setting(50.0, "largest weight of positives", "training", at_least=1)
    negatives: float = setting(
        1.0,
        "share of the train rows without any label that one epoch sees, in turn; rows of --extra-train-path are "
        "always seen, and pos_weight counts all",
        "training",
        above=0,
        at_most=1,
    )
    balanced_sampler: bool = setting(False, "draw rare labels more often, with replacement", "training")
    precision: Precision = setting(
        "auto", "number format; auto takes the fastest that the processor supports well", "training"
    )
    best_metric: BestMetric = setting(
        "macro_average_precision", "validation metric that picks the best checkpoint", "training"
    )
    patience: int = setting(0, "stop after N evaluations without a better metric; 0: never", "training", at_least=0)
    save_every: int = setting(500, "optimizer steps between two states to resume from", "training", at_least=1)
    threads: int | None = setting(None, "processor threads; default: all cores", "run", at_least=1)

    calibration: Calibration = setting(
        "auto", "auto fits each label's probabilities to the val split; none leaves them as they are", "thresholds"
    )
    objective: str = setting(
        "f1",
        "what the thresholds maximise: f1, fbeta:B, precision>=P, recall>=R (quote them in a shell)",
        "thresholds",
        metavar="OBJECTIVE",
    )

    @property
    def split_settings(self) -> dict[str, Any]:
        """The settings on which the splits depend, as arguments of `data.preparing.load_splits`."""
        names = [field.name for field in fields(TableConfig)]
        names += [
            "val_path",
            "test_path",
            "val_size",
            "test_size",
            "max_train_examples",
            "extra_train_path",
            "disguised",
            "fold_disguises",
            "seed",
        ]
        return {name: getattr(self, name) for name in names}

    @property
    def idle_settings(self) -> list[str]:
        """What was set and does nothing beside the other settings; said, since a run of before may hold it too."""
        found: list[str] = []
        if self.val_path is not None:
            found += no_effect(self, ["val_size"], "of no effect beside --val-path")
        if self.test_path is not None:
            found += no_effect(self, ["test_size"], "of no effect beside --test-path")
        if self.pos_weight == "off":
            found += no_effect(self, ["pos_weight_cap"], "of no effect with --pos-weight off")
        return found

    @property
    def fit_settings(self) -> dict[str, Any]:
        """The settings of the training proper, as arguments of `training.fitting.fit`; precision as asked for."""
        names = [field.name for field in fields(self) if field.metadata["heading"] == "training"]
        names += ["random_weights", "attention_dropout", "freeze_embeddings", "freeze_layers"]
        names += ["seed", "resume", "track"]
        return {name: getattr(self, name) for name in names}

    def problems(self) -> list[str]:
        """Problems between settings: every value out of range, in one message."""
        problems = []
        if self.val_size + self.test_size >= 1:
            problems.append(f"--test-size is {self.test_size}, expected, with --val-size, below 1")
        if self.balanced_sampler and self.negatives < 1:
            problems.append("--negatives and --balanced-sampler both choose what an epoch sees: leave one of them out")
        if self.data_path is None:
            problems.insert(0, "--data-path is missing: name a table of labelled comments")
        if self.resume and self.output_dir is None:
            problems.append("--resume needs --output-dir, the folder of the interrupted run")
        return problems


@dataclass(frozen=True, kw_only=True)
class TuneConfig(Options):
    """Settings of `moderation tune`."""

    preds: Path = setting(None, "probabilities of the validation split: .npy, (n_examples, n_labels)")
    labels: Path = setting(None, "targets of the same rows, 0 or 1: .npy, of the same shape")
    label_columns: tuple[str, ...] | None = setting(None, "label names; default: those of the file beside --preds")
    objective: str = setting(
        "f1",
        "what to maximise: f1, fbeta:B, precision>=P (best recall), recall>=R (best precision); quote them in a shell",
        metavar="OBJECTIVE",
    )
    out: Path | None = setting(None, "where to write; default: thresholds.json beside --preds")
    bootstrap: int = setting(1000, "bootstrap samples of the intervals; 0: none", at_least=0)
    seed: int = setting(42, "seed of the bootstrap and of the cross-fitting folds", at_least=0, at_most=2**32 - 1)

    def problems(self) -> list[str]:
        """Problems between settings: a path is missing or a number out of range."""
        return [f"--{name} is missing" for name in ("preds", "labels") if getattr(self, name) is None]


@dataclass(frozen=True, kw_only=True)
class CheckConfig(TableConfig):
    """Settings of `moderation check`."""

    also: tuple[Path, ...] = setting(
        (), "further tables, such as those for --val-path: with the same labels; texts that two files share are counted"
    )
    backbone: str | None = setting(None, "count tokens with this backbone's tokenizer", metavar="BACKBONE")
    max_length: int = setting(256, "with --backbone: count the texts with more tokens than this", at_least=8)
    json: Path | None = setting(None, "also write the report here as JSON; - prints it instead of the table")

    def problems(self) -> list[str]:
        """Problems between settings: a number out of range, or one that would do nothing."""
        if self.backbone is None:
            return no_effect(self, ["max_length"], "only with --backbone, whose tokenizer counts the tokens")
        return []
