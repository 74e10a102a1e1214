"""Settings of the verbs for training: train, tune, check."""

from dataclasses import dataclass
from pathlib import Path

from moderation.data.options import TableOptions
from moderation.options import Options, no_effect, part, setting
from moderation.training.options import TrainOptions


@dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainOptions):
    """Settings of `moderation train`."""

    def problems(self) -> list[str]:
        """A table or a folder is missing."""
        problems = []
        if self.data.data_path is None:
            problems.append("--data-path is missing: name a table of labelled comments")
        if self.run.resume and self.run.output_dir is None:
            problems.append("--resume needs --output-dir, the folder of the interrupted run")
        return problems


@dataclass(frozen=True, kw_only=True)
class TuneConfig(Options):
    """Settings of `moderation tune`."""

    preds: Path = setting(None, "probabilities of the validation split: .npy, (n_examples, n_labels)")
    labels: Path = setting(None, "targets of the same rows, 0 or 1: .npy, of the same shape")
    label_columns: tuple[str, ...] | None = setting(None, "label names; default: those in the file next to --preds")
    objective: str = setting(
        "f1",
        "what to maximise: f1, fbeta:B, precision>=P (best recall), recall>=R (best precision), "
        "false-alarms<=X (best F1); quote them in a shell",
        metavar="OBJECTIVE",
    )
    out: Path | None = setting(None, "where to write; default: thresholds.json next to --preds")
    bootstrap: int = setting(1000, "bootstrap samples for the intervals; 0: no intervals", at_least=0)
    seed: int = setting(42, "seed of the bootstrap and of the cross-fitting folds", at_least=0, at_most=2**32 - 1)

    def problems(self) -> list[str]:
        """Problems between settings: a path is missing or a number is out of range."""
        return [f"--{name} is missing" for name in ("preds", "labels") if getattr(self, name) is None]


@dataclass(frozen=True, kw_only=True)
class CheckConfig(Options):
    """Settings of `moderation check`."""

    data_path: Path = setting(None, "labelled comments: CSV, TSV, Parquet or JSONL, also .gz .zip .zst", "data")
    table: TableOptions = part(TableOptions, "data")
    also: tuple[Path, ...] = setting(
        (), "more tables with the same labels, such as those for --val-path; texts that two files share are counted"
    )
    backbone: str | None = setting(None, "count tokens with this backbone's tokenizer", metavar="BACKBONE")
    max_length: int = setting(256, "with --backbone: count the texts with more tokens than this", at_least=8)
    json: Path | None = setting(None, "also write the report here as JSON; - prints it instead of the table")

    def problems(self) -> list[str]:
        """Problems between settings: a number is out of range, or a setting would have no effect."""
        if self.backbone is None:
            return no_effect(self, ["max_length"], "only with --backbone, whose tokenizer counts the tokens")
        return []
