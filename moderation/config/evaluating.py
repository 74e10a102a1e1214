"""Settings of `moderation evaluate`, in its two forms: of a checkpoint, and of a bundle on suites by other authors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from moderation.data.options import (
    LABEL_CUT_HELP,
    LABEL_FORMAT_HELP,
    LABEL_NONE_HELP,
    LABELS_IN_HELP,
    LANGUAGE_COLUMN_HELP,
    LANGUAGES_HELP,
    PARTIAL_LABELS_HELP,
    LabelFormat,
)
from moderation.inference.options import THRESHOLD_HELP, Backend
from moderation.options import Options, flatten, no_effect, part, setting, settings_of
from moderation.suites.options import SampleOptions, SuiteOptions
from moderation.tables.options import DELIMITER_HELP, ESCAPE_HELP, QUOTING_HELP, TEXT_COLUMN_HELP, Quoting


@dataclass(frozen=True, kw_only=True)
class CheckpointForm(Options):
    """Settings only for a checkpoint."""

    checkpoint: Path = setting(None, "checkpoint_best.pt or checkpoint_final.pt of a run folder")
    data_path: Path | None = setting(None, "another table to evaluate on; default: the run's own test split")
    split: Literal["val", "test"] = setting("test", "split of the run's data to evaluate on")
    batch_size: int = setting(32, "examples per batch", at_least=1)


@dataclass(frozen=True, kw_only=True)
class SuitesForm(Options):
    """Settings only for a bundle and its suites."""

    suite: tuple[str, ...] = setting(
        (),
        "KIND=PATH, NAME:KIND=PATH, or NAME=PATH if the columns show the kind: jigsaw, jigsaw-multilingual, "
        "hatecheck, multilingual-hatecheck, madlibs, surge, toxic-spans, evasion, binary",
        metavar="SUITE",
    )
    json: Path | None = setting(None, "write all numbers here as JSON")
    html: Path | None = setting(None, "write a readable page here")
    sample: SampleOptions = part(SampleOptions)
    backend: Backend = setting("auto", "engine; auto uses the fastest one that is in the bundle")
    threshold: tuple[str, ...] = setting((), THRESHOLD_HELP, metavar="LABEL=NUMBER")


@dataclass(frozen=True, kw_only=True)
class TableChanges(Options):
    """The format of a table, as far as it was given."""

    text_column: str | None = setting(None, TEXT_COLUMN_HELP)
    label_columns: tuple[str, ...] | None = setting(
        None,
        "label columns; for --data-path, in the order of the checkpoint's labels, default: the labels' names; for a "
        "suite, those to measure, default: all that the bundle has",
    )
    label_cut: float | None = setting(None, LABEL_CUT_HELP)
    labels_in: str | None = setting(None, LABELS_IN_HELP, metavar="COLUMN")
    label_format: LabelFormat | None = setting(None, LABEL_FORMAT_HELP)
    label_none: tuple[str, ...] | None = setting(None, LABEL_NONE_HELP, metavar="CLASS")
    delimiter: str | None = setting(None, DELIMITER_HELP, metavar="CHARACTER")
    quoting: Quoting | None = setting(None, QUOTING_HELP)
    escape: str | None = setting(None, ESCAPE_HELP, metavar="CHARACTER")
    partial_labels: bool | None = setting(None, PARTIAL_LABELS_HELP)
    language_column: str | None = setting(None, LANGUAGE_COLUMN_HELP)
    languages: tuple[str, ...] | None = setting(None, LANGUAGES_HELP, metavar="CODE")

    @property
    def given(self) -> dict[str, Any]:
        """The settings that were given, as arguments of `data.options.TableOptions`."""
        return {name: value for name, value in flatten(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Options):
    """Settings of `moderation evaluate`."""

    of_checkpoint: CheckpointForm = part(CheckpointForm, "a checkpoint on its test split or another table")
    bundle: Path | None = setting(
        None, "folder of a bundle to measure on each --suite; default: the included English model"
    )
    of_bundle: SuitesForm = part(SuitesForm, "a bundle on public test suites")
    table: TableChanges = part(
        TableChanges, "format of the table in --data-path (default: as in training), or of every --suite"
    )
    thresholds: Path | None = setting(
        None, "file of thresholds; default: the one next to --checkpoint, or those of the bundle"
    )
    output_dir: Path | None = setting(
        None,
        "folder to write to; default for a checkpoint: its own folder; for a bundle, gets suites.json and suites.html",
    )
    threads: int | None = setting(None, "processor threads; default: all cores", at_least=1)
    bootstrap: int = setting(1000, "bootstrap samples for the intervals; 0: no intervals", at_least=0)

    @property
    def suite_options(self) -> SuiteOptions:
        """How suites are measured."""
        return SuiteOptions(bootstrap=self.bootstrap, **flatten(self.of_bundle.sample))

    @property
    def command(self) -> str:
        """Module of the command: `suites` measures a bundle and needs no torch."""
        return "suites" if self._is_of_bundle else "evaluate"

    @property
    def extras(self) -> tuple[str, ...]:
        """Extras of this toolkit that the evaluation needs."""
        return ("onnx", "suites") if self._is_of_bundle else ("train",)

    @property
    def _is_of_bundle(self) -> bool:
        return self.bundle is not None or (bool(self.of_bundle.suite) and self.of_checkpoint.checkpoint is None)

    @property
    def json_path(self) -> Path | None:
        """Where the suites' numbers go."""
        return self.of_bundle.json or (self.output_dir / "suites.json" if self.output_dir else None)

    @property
    def html_path(self) -> Path | None:
        """Where the suites' page goes."""
        return self.of_bundle.html or (self.output_dir / "suites.html" if self.output_dir else None)

    def problems(self) -> list[str]:
        """Neither a checkpoint nor a bundle, or settings that belong to the other one."""
        if self._is_of_bundle:
            missing = "--suite is missing: name one or more, such as hatecheck=test_suite_cases.csv"
            problems = [] if self.of_bundle.suite else [missing]
            return problems + no_effect(self, list(settings_of(CheckpointForm)), "not for a bundle")
        of_bundle = list(settings_of(SuitesForm))
        if self.of_checkpoint.checkpoint is None:
            return no_effect(self, of_bundle, "only for a bundle; also name a suite, with --suite") or [
                "--checkpoint is missing; to measure a bundle instead, name suites with --suite"
            ]
        problems = no_effect(self, of_bundle, "only for a bundle; leave --checkpoint out")
        if self.of_checkpoint.data_path is None:
            unread = list(settings_of(TableChanges))
            problems += no_effect(self, unread, "no effect without --data-path, which it describes")
        return problems
