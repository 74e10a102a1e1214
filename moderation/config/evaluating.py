"""Settings of `moderation evaluate`, in its two forms: of a checkpoint, and of a bundle on suites of others."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from moderation.config.declaring import THRESHOLD_HELP, Backend, no_effect, raise_problems, setting

_OF_CHECKPOINT = "a checkpoint on its test split or another table"
_OF_BUNDLE = "a bundle on suites of others"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Settings of `moderation evaluate`."""

    checkpoint: Path = setting(None, "checkpoint_best.pt or checkpoint_final.pt of a run folder", _OF_CHECKPOINT)
    data_path: Path | None = setting(
        None, "another table to evaluate on; default: the run's own test split", _OF_CHECKPOINT
    )
    text_column: str | None = setting(None, "text column of --data-path; default: as in training", _OF_CHECKPOINT)
    label_cut: float | None = setting(
        None, "cut of fractional labels in --data-path; default: as in training", _OF_CHECKPOINT
    )
    delimiter: str | None = setting(
        None, "field delimiter of --data-path; default: as in training", _OF_CHECKPOINT, metavar="CHARACTER"
    )
    language_column: str | None = setting(
        None, "language column of --data-path; default: as in training", _OF_CHECKPOINT
    )
    split: Literal["val", "test"] = setting("test", "split of the run's data to evaluate on", _OF_CHECKPOINT)
    batch_size: int = setting(32, "examples per batch", _OF_CHECKPOINT)

    bundle: Path | None = setting(
        None, "folder of a bundle to measure on each --suite; default: the included English model"
    )
    suite: tuple[str, ...] = setting(
        (),
        "KIND=PATH, NAME:KIND=PATH, or NAME=PATH where the columns tell the kind: jigsaw, jigsaw-multilingual, "
        "hatecheck, multilingual-hatecheck, madlibs, surge, toxic-spans, evasion, binary",
        _OF_BUNDLE,
        metavar="SUITE",
    )
    json: Path | None = setting(None, "write all numbers here as JSON", _OF_BUNDLE)
    html: Path | None = setting(None, "write a page for people here", _OF_BUNDLE)
    max_texts: int | None = setting(
        None, "measure a random part of this many rows of each suite, for a quick look", _OF_BUNDLE
    )
    seed: int = setting(42, "seed of the random parts, the edits and the intervals", _OF_BUNDLE)
    backend: Backend = setting("auto", "engine; auto takes the fastest that the bundle holds", _OF_BUNDLE)

    threshold: tuple[str, ...] = setting((), THRESHOLD_HELP, _OF_BUNDLE)

    thresholds: Path | None = setting(
        None, "file of thresholds; default: the one beside --checkpoint, or those of the bundle"
    )
    output_dir: Path | None = setting(
        None,
        "where to write; default for a checkpoint: its own folder; for a bundle, battery.json and battery.html go here",
    )
    threads: int | None = setting(None, "processor threads; default: all cores")
    bootstrap: int = setting(1000, "bootstrap samples of the intervals; 0: none")

    @property
    def recipe(self) -> str:
        """Name of the recipe: that of a bundle is another one, which needs no torch."""
        return "battery" if self._is_of_bundle else "evaluate"

    @property
    def extras(self) -> tuple[str, ...]:
        """Extras of this toolkit that the evaluation needs."""
        return ("onnx", "suites") if self._is_of_bundle else ("train",)

    @property
    def _is_of_bundle(self) -> bool:
        return self.bundle is not None or (bool(self.suite) and self.checkpoint is None)

    @property
    def json_path(self) -> Path | None:
        """Where the battery's numbers go."""
        return self.json or (self.output_dir / "battery.json" if self.output_dir else None)

    @property
    def html_path(self) -> Path | None:
        """Where the battery's page goes."""
        return self.html or (self.output_dir / "battery.html" if self.output_dir else None)

    def __post_init__(self) -> None:
        """Check values that need no file.

        Raises:
            ConfigError: neither checkpoint nor bundle, settings of both, or a number out of range.
        """
        problems = self._problems_of_form()
        problems += [
            f"--{name.replace('_', '-')} is {getattr(self, name)}, expected {rule}"
            for name, rule, fine in (
                ("split", "val | test", self.split in ("val", "test")),
                ("batch_size", "1 or more", self.batch_size >= 1),
                ("threads", "1 or more", self.threads is None or self.threads >= 1),
                ("bootstrap", "0 or more", self.bootstrap >= 0),
                ("max_texts", "1 or more", self.max_texts is None or self.max_texts >= 1),
                ("seed", "0 to 4294967295", 0 <= self.seed < 2**32),
                ("backend", " | ".join(get_args(Backend)), self.backend in get_args(Backend)),
            )
            if not fine
        ]
        raise_problems(problems)

    def _problems_of_form(self) -> list[str]:
        foreign = _OF_CHECKPOINT if self._is_of_bundle else _OF_BUNDLE
        names = [field.name for field in fields(self) if field.metadata["group"] == foreign]
        if self._is_of_bundle:
            problems = (
                [] if self.suite else ["--suite is missing: name one or more, such as hatecheck=test_suite_cases.csv"]
            )
            return problems + no_effect(self, names, "not for a bundle")
        if self.checkpoint is None:
            return no_effect(self, names, "for a bundle alone; name a suite as well, with --suite") or [
                "--checkpoint is missing; or name suites with --suite, to measure a bundle on them"
            ]
        problems = no_effect(self, names, "for a bundle alone; leave --checkpoint out")
        if self.data_path is None:
            columns = ("text_column", "label_cut", "delimiter", "language_column")
            problems += no_effect(self, columns, "how to read --data-path, which is not given")
        return problems
