"""Settings of `moderation evaluate`, in its two forms: of a checkpoint, and of a bundle on suites of others."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from moderation.config.declaring import (
    DELIMITER_HELP,
    ESCAPE_HELP,
    LABEL_CUT_HELP,
    LABEL_FORMAT_HELP,
    LABEL_NONE_HELP,
    LABELS_IN_HELP,
    QUOTING_HELP,
    TEXT_COLUMN_HELP,
    Backend,
    LabelFormat,
    Quoting,
    raise_problems,
    setting,
)

_OF_CHECKPOINT = "a checkpoint on its test split or another table"
_OF_BUNDLE = "a bundle on suites of others"
_TABLE = "how a table is written (--data-path: default as in training; every --suite)"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Settings of `moderation evaluate`."""

    checkpoint: Path = setting(None, "checkpoint_best.pt or checkpoint_final.pt of a run folder", _OF_CHECKPOINT)
    thresholds: Path | None = setting(None, "thresholds.json; default: the one beside --checkpoint", _OF_CHECKPOINT)
    data_path: Path | None = setting(
        None, "another table to evaluate on; default: the run's own test split", _OF_CHECKPOINT
    )
    split: Literal["val", "test"] = setting("test", "split of the run's data to evaluate on", _OF_CHECKPOINT)
    batch_size: int = setting(32, "examples per batch", _OF_CHECKPOINT)

    bundle: Path | None = setting(None, "folder of a bundle, to evaluate on every --suite")
    suite: tuple[str, ...] = setting(
        (),
        "KIND=PATH, NAME:KIND=PATH, or NAME=PATH where the columns tell the kind: jigsaw, jigsaw-multilingual, "
        "hatecheck, multilingual-hatecheck, madlibs, surge, toxic-spans, evasion, binary",
        _OF_BUNDLE,
    )
    json: Path | None = setting(None, "write all numbers here as JSON", _OF_BUNDLE)
    html: Path | None = setting(None, "write a page for people here", _OF_BUNDLE)
    max_texts: int | None = setting(None, "rows of each suite at most, a seeded part, for a quick look", _OF_BUNDLE)
    seed: int = setting(42, "seed of the parts, the edits and the intervals", _OF_BUNDLE)
    backend: Backend = setting("auto", "engine; auto takes the fastest that the bundle holds", _OF_BUNDLE)

    text_column: str | None = setting(None, TEXT_COLUMN_HELP, _TABLE)
    label_columns: tuple[str, ...] | None = setting(
        None,
        "label columns; of --data-path in the order of the checkpoint's labels, default: those names; of a suite those "
        "to measure, default: all that the bundle has",
        _TABLE,
    )
    label_cut: float | None = setting(None, LABEL_CUT_HELP, _TABLE)
    labels_in: str | None = setting(None, LABELS_IN_HELP, _TABLE)
    label_format: LabelFormat | None = setting(None, LABEL_FORMAT_HELP, _TABLE)
    label_none: tuple[str, ...] | None = setting(None, LABEL_NONE_HELP, _TABLE)
    delimiter: str | None = setting(None, DELIMITER_HELP, _TABLE)
    quoting: Quoting | None = setting(None, QUOTING_HELP, _TABLE)
    escape: str | None = setting(None, ESCAPE_HELP, _TABLE)
    language_column: str | None = setting(
        None, "column of language codes; rows other than 'en' are left out; default: 'lang' or 'language'", _TABLE
    )

    output_dir: Path | None = setting(
        None, "where to write; default: the checkpoint's folder; of a bundle: battery.json and battery.html"
    )
    threads: int | None = setting(None, "processor threads; default: all cores")
    bootstrap: int = setting(1000, "bootstrap samples of the intervals; 0: none")

    @property
    def table_settings(self) -> dict[str, Any]:
        """What was said of how a table is written, as arguments of `data.loading.TableForm`."""
        names = [field.name for field in fields(self) if field.metadata["group"] == _TABLE]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def recipe(self) -> str:
        """Name of the recipe: that of a bundle is another one, which needs no torch."""
        return "evaluate" if self.bundle is None else "battery"

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
        foreign = _OF_BUNDLE if self.bundle is None else _OF_CHECKPOINT
        given = [
            f"--{field.name.replace('_', '-')}"
            for field in fields(self)
            if field.metadata["group"] == foreign and getattr(self, field.name) != field.default
        ]
        if self.bundle is not None:
            problems = (
                [] if self.suite else ["--suite is missing: name one or more, such as hatecheck=test_suite_cases.csv"]
            )
            return problems + ([f"{', '.join(given)}: not for a bundle"] if given else [])
        if given:
            return [f"{', '.join(given)}: for a bundle alone; name its folder: moderation evaluate BUNDLE"]
        return ["--checkpoint is missing"] if self.checkpoint is None else []
