"""Settings of `moderation evaluate`, in its two forms: of a checkpoint, and of a bundle on suites of others."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from moderation.data.options import LABEL_CUT_HELP, LABEL_FORMAT_HELP, LABEL_NONE_HELP, LABELS_IN_HELP, LabelFormat
from moderation.inference.options import THRESHOLD_HELP, Backend
from moderation.options import Options, no_effect, setting
from moderation.tables.options import DELIMITER_HELP, ESCAPE_HELP, QUOTING_HELP, TEXT_COLUMN_HELP, Quoting

_OF_CHECKPOINT = "a checkpoint on its test split or another table"
_OF_BUNDLE = "a bundle on suites of others"
_TABLE = "how a table is written (--data-path: default as in training; every --suite)"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Options):
    """Settings of `moderation evaluate`."""

    checkpoint: Path = setting(None, "checkpoint_best.pt or checkpoint_final.pt of a run folder", _OF_CHECKPOINT)
    data_path: Path | None = setting(
        None, "another table to evaluate on; default: the run's own test split", _OF_CHECKPOINT
    )
    split: Literal["val", "test"] = setting("test", "split of the run's data to evaluate on", _OF_CHECKPOINT)
    batch_size: int = setting(32, "examples per batch", _OF_CHECKPOINT, at_least=1)

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
        None, "measure a random part of this many rows of each suite, for a quick look", _OF_BUNDLE, at_least=1
    )
    seed: int = setting(
        42, "seed of the random parts, the edits and the intervals", _OF_BUNDLE, at_least=0, at_most=2**32 - 1
    )
    backend: Backend = setting("auto", "engine; auto takes the fastest that the bundle holds", _OF_BUNDLE)

    threshold: tuple[str, ...] = setting((), THRESHOLD_HELP, _OF_BUNDLE, metavar="LABEL=NUMBER")

    text_column: str | None = setting(None, TEXT_COLUMN_HELP, _TABLE)
    label_columns: tuple[str, ...] | None = setting(
        None,
        "label columns; of --data-path in the order of the checkpoint's labels, default: those names; of a suite those "
        "to measure, default: all that the bundle has",
        _TABLE,
    )
    label_cut: float | None = setting(None, LABEL_CUT_HELP, _TABLE)
    labels_in: str | None = setting(None, LABELS_IN_HELP, _TABLE, metavar="COLUMN")
    label_format: LabelFormat | None = setting(None, LABEL_FORMAT_HELP, _TABLE)
    label_none: tuple[str, ...] | None = setting(None, LABEL_NONE_HELP, _TABLE, metavar="CLASS")
    delimiter: str | None = setting(None, DELIMITER_HELP, _TABLE, metavar="CHARACTER")
    quoting: Quoting | None = setting(None, QUOTING_HELP, _TABLE)
    escape: str | None = setting(None, ESCAPE_HELP, _TABLE, metavar="CHARACTER")
    language_column: str | None = setting(
        None, "column of language codes; rows other than 'en' are left out; default: 'lang' or 'language'", _TABLE
    )

    thresholds: Path | None = setting(
        None, "file of thresholds; default: the one beside --checkpoint, or those of the bundle"
    )
    output_dir: Path | None = setting(
        None,
        "where to write; default for a checkpoint: its own folder; for a bundle, suites.json and suites.html go here",
    )
    threads: int | None = setting(None, "processor threads; default: all cores", at_least=1)
    bootstrap: int = setting(1000, "bootstrap samples of the intervals; 0: none", at_least=0)

    @property
    def table_settings(self) -> dict[str, Any]:
        """What was said of how a table is written, as arguments of `data.loading.TableForm`."""
        names = [field.name for field in fields(self) if field.metadata["heading"] == _TABLE]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def command(self) -> str:
        """Module that does it: `suites` measures a bundle and needs no torch."""
        return "suites" if self._is_of_bundle else "evaluate"

    @property
    def extras(self) -> tuple[str, ...]:
        """Extras of this toolkit that the evaluation needs."""
        return ("onnx", "suites") if self._is_of_bundle else ("train",)

    @property
    def _is_of_bundle(self) -> bool:
        return self.bundle is not None or (bool(self.suite) and self.checkpoint is None)

    @property
    def json_path(self) -> Path | None:
        """Where the suites' numbers go."""
        return self.json or (self.output_dir / "suites.json" if self.output_dir else None)

    @property
    def html_path(self) -> Path | None:
        """Where the suites' page goes."""
        return self.html or (self.output_dir / "suites.html" if self.output_dir else None)

    def problems(self) -> list[str]:
        """Problems between settings: neither checkpoint nor bundle, settings of both, or a number out of range."""
        return self._problems_of_form()

    def _problems_of_form(self) -> list[str]:
        foreign = _OF_CHECKPOINT if self._is_of_bundle else _OF_BUNDLE
        names = [field.name for field in fields(self) if field.metadata["heading"] == foreign]
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
            names = [field.name for field in fields(self) if field.metadata["heading"] == _TABLE]
            problems += no_effect(self, names, "how to read --data-path, which is not given")
        return problems
