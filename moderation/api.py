"""Train, tune, evaluate and export from Python: as the verbs of the command line, with results instead of output.

Settings have the names of the flags, with `_` for `-`: `moderation train --help` lists those of `train`. All functions
raise `ModerationError` for what a user can cause and cure.
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
    from moderation.suites.results import SuitesReport
    from moderation.training.run_record import RunRecord

Config = TypeVar("Config", bound=Options)


@dataclass(frozen=True)
class Run:
    """A run folder; what it holds is read when it is asked for.

    Args:
        path: The folder.

    Example:
        >>> run = Run("runs/exp1")  # doctest: +SKIP
        >>> run.metrics.macro.f1, run.thresholds["toxic"]  # doctest: +SKIP
        (0.71, 0.43)
    """

    path: Path

    def __post_init__(self) -> None:
        """Take a string too."""
        object.__setattr__(self, "path", Path(self.path))

    @property
    def metrics(self) -> SplitMetrics:
        """Figures of the test split at the tuned thresholds, of `metrics_test.json`."""
        return METRICS.read(RunFolder(self.path).metrics("test"))

    @property
    def thresholds(self) -> dict[str, float]:
        """Label -> tuned threshold in [0, 1], in label order."""
        tuned = read_thresholds(RunFolder(self.path).thresholds)
        return {label: tuned.thresholds[label].threshold for label in tuned.labels}

    @property
    def record(self) -> "RunRecord":
        """What `run.json` says: settings, versions, hashes, seconds."""
        with _needing("train", "Run.record"):
            from moderation.training.run_record import read_record
        return read_record(RunFolder(self.path))

    @property
    def checkpoint(self) -> Path:
        """The weights with the best validation metric."""
        return RunFolder(self.path).checkpoint_best

    @property
    def report(self) -> Path:
        """The report, a page of HTML."""
        return RunFolder(self.path).report

    def load(self) -> "Classifier":
        """The classifier of this run, computed by torch."""
        with _needing("train", "Run.load"):
            from moderation.inference.classifier import Classifier
        return Classifier.load(self.path)


def train(data_path: str | Path, **settings: Any) -> Run:
    """Fine-tune a model on labelled comments, tune its thresholds, measure it, and write a run folder.

    Args:
        data_path: CSV, TSV, Parquet or JSON lines, with a column of texts and one column of 0 and 1 for each label.
        **settings: As of `moderation train`, such as `output_dir`, `epochs`, `batch_size`, `backbone`.

    Returns:
        The run folder, with its figures and thresholds; that of a dry run is gone.

    Raises:
        ModerationError: settings, data or artifacts that cannot be used, or a package that is missing.

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
        **settings: As of `moderation tune`, such as `objective`, `out`, `bootstrap`.

    Returns:
        The thresholds, what each is worth, and the file that was written.

    Raises:
        ModerationError: files that cannot be used, or an objective that is unknown.

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
        checkpoint: `checkpoint_best.pt` or `checkpoint_final.pt` of a run folder; None: a bundle is measured.
        **settings: As of `moderation evaluate`: `data_path`, `split`, `thresholds` for a checkpoint; `bundle`, `suite`
            and so on for a bundle.

    Returns:
        Of a checkpoint an `Evaluation`, of a bundle a `SuitesReport`.

    Raises:
        ModerationError: files or settings that cannot be used or do not belong together.

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
    """Turn a run folder into a bundle, to score and serve with.

    It is not called `export`, since `moderation.export` is the package of the forms.

    Args:
        run: A run folder.
        to: Folder of the bundle to write.
        **settings: As of `moderation export`, such as `formats`, `name`, `overwrite`.

    Returns:
        The bundle's folder, how far each form is from torch, and the forms that were left out for it.

    Raises:
        ModerationError: a run or a folder that cannot be used, or a package that is missing.

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
    """Settings out of Python's values, checked as those of a file are.

    Raises:
        ConfigError: unknown names, or values that cannot be, all of them in one message.
    """
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    return from_plain(config_class, plain, f"moderation.{name}")


@contextmanager
def _needing(extra: str, feature: str) -> Iterator[None]:
    """Name the cure where a package of an extra is not installed.

    Raises:
        MissingExtraError: the block met a missing package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_extra(error, (extra,), feature) or error from None
