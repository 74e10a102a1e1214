"""Train, tune, evaluate and export from Python: like the verbs of the command line, but with results instead of output.

Settings have the names of the flags, with `_` for `-`: `moderation train --help` lists those of `train`. All functions
raise `ModerationError` for anything that a user can cause and fix.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from moderation.artifacts import RunFolder
from moderation.config import EvaluateConfig, ExportConfig, TrainConfig, TuneConfig
from moderation.evaluation.split_metrics import METRICS, SplitMetrics
from moderation.evaluation.thresholds import read_thresholds
from moderation.extras import missing_extra, modules_of, require
from moderation.flags import from_plain
from moderation.options import Options

if TYPE_CHECKING:
    from moderation.commands.evaluate import Evaluation
    from moderation.commands.export import Exported
    from moderation.commands.tune import Tuning
    from moderation.inference.classifier import Classifier
    from moderation.run_records import RunRecord
    from moderation.suites.results import SuitesReport

Config = TypeVar("Config", bound=Options)


@dataclass(frozen=True)
class Run:
    """A run folder; its files are read when you access them.

    Args:
        path: The folder.

    Example:
        >>> run = Run("runs/exp1")  # doctest: +SKIP
        >>> run.metrics.macro.f1, run.thresholds["toxic"]  # doctest: +SKIP
        (0.71, 0.43)
    """

    path: Path

    def __post_init__(self) -> None:
        """Accept a string, too."""
        object.__setattr__(self, "path", Path(self.path))

    @property
    def metrics(self) -> SplitMetrics:
        """Figures of the test split at the tuned thresholds, from `metrics_test.json`."""
        return METRICS.read(RunFolder(self.path).metrics("test"))

    @property
    def thresholds(self) -> dict[str, float]:
        """Label -> tuned threshold in [0, 1], in label order."""
        tuned = read_thresholds(RunFolder(self.path).thresholds)
        return {label: tuned.thresholds[label].threshold for label in tuned.labels}

    @property
    def record(self) -> "RunRecord":
        """The content of `run.json`: settings, versions, hashes, seconds."""
        from moderation.run_records import read_record

        return read_record(RunFolder(self.path).run_json)

    @property
    def checkpoint(self) -> Path:
        """The weights with the best validation metric."""
        return RunFolder(self.path).checkpoint_best

    @property
    def report(self) -> Path:
        """The report, an HTML page."""
        return RunFolder(self.path).report

    def load(self) -> "Classifier":
        """The classifier of this run, which runs on torch."""
        with _needing("train", "Run.load"):
            from moderation.inference.classifier import Classifier
        return Classifier.load(self.path)


def train(data_path: str | Path, **settings: Any) -> Run:
    """Fine-tune a model on labelled comments, tune its thresholds, measure it, and write a run folder.

    Args:
        data_path: CSV, TSV, Parquet or JSON lines, with a text column and one column of 0 and 1 per label.
        **settings: Settings of `moderation train`, such as `output_dir`, `epochs`, `batch_size`, `backbone`.

    Returns:
        The run folder, with its figures and thresholds; a dry run does not keep it.

    Raises:
        ModerationError: settings, data or artifacts cannot be used, or a package is missing.

    Example:
        >>> import moderation
        >>> run = moderation.train("train.csv", output_dir="runs/exp1", epochs=1)  # doctest: +SKIP
        >>> run.load().classify("You are wonderful.").flagged  # doctest: +SKIP
        ()
    """
    config = _configure(TrainConfig, {"data_path": data_path} | settings, "train")
    require(modules_of("train"), ("train",))
    with _needing("train", "moderation.train"):
        from moderation.commands.train import train_run
    return Run(train_run(config).run.path)


def tune(preds: str | Path, labels: str | Path, **settings: Any) -> "Tuning":
    """Choose one threshold per label from predictions of the validation split, and write them.

    Args:
        preds: Probabilities: `.npy`, float32 `(n_examples, n_labels)`, in [0, 1].
        labels: Targets of the same rows, 0 or 1, of the same shape.
        **settings: Settings of `moderation tune`, such as `objective`, `out`, `bootstrap`.

    Returns:
        The thresholds, the result of each, and the file that was written.

    Raises:
        ModerationError: files cannot be used, or the objective is unknown.

    Example:
        >>> import moderation
        >>> tuning = moderation.tune("runs/exp1/preds_val.npy", "runs/exp1/labels_val.npy",
        ...                          objective="precision>=0.9")  # doctest: +SKIP
        >>> tuning.thresholds  # doctest: +SKIP
        {'toxic': 0.71, 'insult': 0.64}
    """
    config = _configure(TuneConfig, {"preds": preds, "labels": labels} | settings, "tune")
    from moderation.commands.tune import tune_files

    return tune_files(config)


def evaluate(checkpoint: str | Path | None = None, **settings: Any) -> "Evaluation | SuitesReport":
    """Measure a checkpoint on its test split or another table, or a bundle on suites.

    Args:
        checkpoint: `checkpoint_best.pt` or `checkpoint_final.pt` of a run folder; None: measure a bundle.
        **settings: Settings of `moderation evaluate`: `data_path`, `split`, `thresholds` for a checkpoint; `bundle`,
            `suite` and so on for a bundle.

    Returns:
        An `Evaluation` for a checkpoint, a `SuitesReport` for a bundle.

    Raises:
        ModerationError: files or settings cannot be used or do not belong together.

    Example:
        >>> import moderation
        >>> done = moderation.evaluate("runs/exp1/checkpoint_best.pt", data_path="other.csv")  # doctest: +SKIP
        >>> done.metrics.n_examples  # doctest: +SKIP
        5000
        >>> report = moderation.evaluate(suite=["hatecheck=test_suite_cases.csv"])  # doctest: +SKIP
    """
    given = {} if checkpoint is None else {"checkpoint": checkpoint}
    config = _configure(EvaluateConfig, given | settings, "evaluate")
    if config.command == "suites":
        with _needing("suites", "moderation.evaluate"):
            from moderation.commands.suites import measure_bundle
        return measure_bundle(config)
    with _needing("train", "moderation.evaluate"):
        from moderation.commands.evaluate import evaluate_checkpoint
    return evaluate_checkpoint(config)


def export_bundle(run: str | Path | Run, to: str | Path, **settings: Any) -> "Exported":
    """Turn a run folder into a bundle for scoring and serving.

    It is not called `export`, because `moderation.export` is a package.

    Args:
        run: A run folder.
        to: Folder of the bundle to write.
        **settings: Settings of `moderation export`, such as `formats`, `name`, `overwrite`.

    Returns:
        The bundle's folder, how far each form is from torch, and the forms that were left out because of that.

    Raises:
        ModerationError: a run or a folder cannot be used, or a package is missing.

    Example:
        >>> import moderation
        >>> done = moderation.export_bundle(run, "model-export", formats=["hf", "onnx"])  # doctest: +SKIP
        >>> moderation.Classifier.load(done.path)  # doctest: +SKIP
        Classifier(exp1@3f1c0b9e2d4a/onnx)
    """
    folder = run.path if isinstance(run, Run) else run
    config = _configure(ExportConfig, {"run": folder, "to": to} | settings, "export_bundle")
    with _needing("train", "moderation.export_bundle"):
        from moderation.commands.export import export_run
    return export_run(config)


def _configure(config_class: type[Config], settings: Mapping[str, Any], name: str) -> Config:
    """Settings from Python values, checked like those of a file.

    Raises:
        ConfigError: lists all unknown names and invalid values.
    """
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    return from_plain(config_class, plain, f"moderation.{name}")


@contextmanager
def _needing(extra: str, feature: str) -> Iterator[None]:
    """Say what to install if a package of an extra is missing.

    Raises:
        MissingExtraError: the block tried to import a missing package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_extra(error, (extra,), feature) or error from None
