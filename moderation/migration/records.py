"""The two JSON files of a migration: all numbers, and the thresholds for the server, `score` and `Classifier`."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moderation.artifacts import read_json
from moderation.documents import Document, json_field
from moderation.errors import ArtifactError
from moderation.evaluation.chosen_thresholds import FORMAT, VERSION
from moderation.evaluation.split_metrics import Interval
from moderation.migration.attributes import Attribute, Change
from moderation.migration.matching import Match
from moderation.migration.options import Basis
from moderation.migration.summary import Migration, Together

_CHOSEN_BY = "moderation migrate"
_TITLE = b"<title>Thresholds in place of Perspective's</title>"  # of the page
_BEGINNING = 1 << 16  # bytes of the page in which it stands


@dataclass(frozen=True)
class AttributeRecord:
    """An attribute, as in `attributes.Attribute`, without its arrays and without texts of comments."""

    name: str
    label: str
    old_threshold: float
    n: int
    n_flagged_before: int
    rank_correlation: float | None
    by_rate: Match
    by_agreement: Match
    taken: Basis
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class RateRecord:
    """The threshold that flags a requested share."""

    threshold: float
    interval: Interval | None
    n_flagged: int


@dataclass(frozen=True)
class MigrationRecord:
    """All numbers of a migration, as in `summary.Migration`, and the SHA-256 of its thresholds.json."""

    version: Literal[1]
    source: str
    model_version: str
    attributes: tuple[AttributeRecord, ...]
    rates: Mapping[str, RateRecord]
    together: Together
    others: Mapping[str, float]
    warnings: tuple[str, ...]
    thresholds_sha256: str | None = json_field(None, optional=True)


MIGRATION = Document(MigrationRecord, "migration.json as `moderation migrate` writes it", extra=True)


@dataclass(frozen=True)
class ThresholdRecord:
    """The threshold of a label, in (0, 1]."""

    threshold: float


@dataclass(frozen=True)
class ThresholdOrigin:
    """Where thresholds come from: kind of probabilities, what chose them, `name@version` of the bundle."""

    calibrated: bool
    chosen_by: str
    model_version: str


@dataclass(frozen=True)
class MigratedThresholds:
    """Thresholds that replace the bundle's."""

    about: ThresholdOrigin
    thresholds: Mapping[str, ThresholdRecord]


THRESHOLDS = Document(
    MigratedThresholds,
    "thresholds.json as `moderation migrate` writes it",
    FORMAT,
    VERSION,
    "migrate again",
    extra=True,
)


def record_migration(migration: Migration) -> MigrationRecord:
    """All numbers."""
    return MigrationRecord(
        version=1,
        source=migration.source,
        model_version=migration.model_version,
        attributes=tuple(map(_record_attribute, migration.attributes)),
        rates={
            label: RateRecord(match.threshold, match.interval, match.n_flagged)
            for label, match in migration.rates.items()
        },
        together=migration.together,
        others=migration.others,
        warnings=tuple(migration.warnings),
    )


def _record_attribute(one: Attribute) -> AttributeRecord:
    return AttributeRecord(
        name=one.name,
        label=one.label,
        old_threshold=one.old_threshold,
        n=one.n,
        n_flagged_before=one.n_old,
        rank_correlation=one.rank_correlation,
        by_rate=one.by_rate,
        by_agreement=one.by_agreement,
        taken=one.basis,
        changes=one.changes,
    )


def record_thresholds(migration: Migration) -> MigratedThresholds:
    """The thresholds."""
    return MigratedThresholds(
        about=ThresholdOrigin(migration.calibrated, _CHOSEN_BY, migration.model_version),
        thresholds={label: ThresholdRecord(value) for label, value in migration.thresholds.items()},
    )


def is_migrated(path: Path) -> bool:
    """Whether a file was written by a migration, judging by its content."""
    if path.suffix == ".html":
        with suppress(OSError), path.open("rb") as file:
            return _TITLE in file.read(_BEGINNING)
        return False
    try:
        content = read_json(path, "a file of a migration")
    except ArtifactError:
        return False
    with suppress(ArtifactError):
        return THRESHOLDS.parse(content, path).about.chosen_by == _CHOSEN_BY
    try:
        MIGRATION.parse(content, path)
    except ArtifactError:
        return False
    return True
