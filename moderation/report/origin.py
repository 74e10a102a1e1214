"""Where a run comes from: what the page shows from `run.json`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath, PureWindowsPath

from moderation.documents import Document

_PATHS = ("data_path", "val_path", "test_path", "extra_train_path", "output_dir")


@dataclass(frozen=True)
class Data:
    """The training table: its hash, rows left out by reason, rows added by how, the hash of an extra table."""

    sha256: str
    left_out: Mapping[str, int] = field(default_factory=dict)
    added: Mapping[str, int] = field(default_factory=dict)
    extra_train_sha256: str | None = None


@dataclass(frozen=True)
class Backbone:
    """The pretrained encoder: its name in the settings, its id on the hub, its revision, the hash of its weights."""

    name: str
    hub_id: str | None = None
    revision: str | None = None
    weights_sha256: str | None = None


@dataclass(frozen=True)
class Git:
    """The commit of the working copy, and whether it had local changes."""

    commit: str
    dirty: bool


@dataclass(frozen=True)
class Hardware:
    """The machine."""

    cpu: str
    cores: int | None
    threads: int
    memory_bytes: int
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class Training:
    """The course of the training: steps, examples seen, all and trained parameters, seconds."""

    steps: int
    examples: int
    parameters: int
    trainable: int
    seconds: float
    resumed_from: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What the page shows about a run.

    Args:
        status: `running` or `done`.
        started: Point in time, ISO 8601.
        settings: Merged settings of `moderation train`.
        labels: Ordered labels.
        precision: Precision of the arithmetic.
        data: The training table.
        splits: Split -> examples.
        backbone: The encoder.
        python: Version.
        platform: System and processor.
        libraries: Name -> version.
        git: None outside a working copy.
        hardware: The machine.
        processes: How many processes trained together.
        seconds: Phase -> seconds; like the next two, None until the run is done.
        peak_memory_bytes: Peak memory of the process.
        training: The course of the training.
    """

    status: str = "unknown"
    started: str
    settings: Mapping[str, object]
    labels: tuple[str, ...]
    precision: str
    data: Data
    splits: Mapping[str, int]
    backbone: Backbone
    python: str
    platform: str
    libraries: Mapping[str, str]
    git: Git | None = None
    hardware: Hardware
    processes: int
    seconds: Mapping[str, float] | None = None
    peak_memory_bytes: int | None = None
    training: Training | None = None

    def __post_init__(self) -> None:
        datetime.fromisoformat(self.started)
        for name, kind in (("data_path", str), ("max_length", int), ("epochs", (int, float))):
            if not isinstance(self.settings.get(name), kind):
                raise ValueError(f"settings.{name} is missing or of another type")
        for split in ("train", "val"):
            if split not in self.splits:
                raise ValueError(f"splits.{split} is missing")


RUN_FACTS = Document(RunFacts, "run.json, as written by `moderation train`", "content-moderation run", 1, extra=True)


@dataclass(frozen=True)
class Story:
    """The run in numbers.

    Args:
        started: Point in time, in words.
        data: File name of the training table.
        backbone: Its id on the hub, or the name of its folder.
        n_train: Examples.
        n_val: Examples.
        epochs: Requested epochs.
        max_length: Tokens read of each comment.
        n_words: About how many words that is.
        pos_weight: The setting.
        training: The course of the training, once it is done.
        seconds: Seconds of the whole run; None if unknown, as after a kill, which leaves no record of its time.
    """

    started: str
    data: str
    backbone: str
    n_train: int
    n_val: int
    epochs: float
    max_length: int
    n_words: int
    pos_weight: str
    training: Training | None
    seconds: float | None


def tell_story(facts: RunFacts) -> Story:
    """Summarise the run."""
    n_tokens = int(str(facts.settings["max_length"]))
    resumed = facts.training is not None and facts.training.resumed_from
    return Story(
        started=_moment(facts.started),
        data=_file_name(str(facts.settings["data_path"])),
        backbone=_plain(facts.backbone.hub_id or _file_name(facts.backbone.name)),
        n_train=facts.splits["train"],
        n_val=facts.splits["val"],
        epochs=float(str(facts.settings["epochs"])),
        max_length=n_tokens,
        n_words=int(round(n_tokens * 0.75, -1 if n_tokens > 30 else 0)),
        pos_weight=_plain(facts.settings.get("pos_weight")),
        training=facts.training,
        seconds=None if facts.seconds is None or resumed else float(sum(facts.seconds.values())),
    )


def list_settings(facts: RunFacts) -> list[tuple[str, str]]:
    """Settings as they can be given again; paths are reduced to the file name, since a page may be shared."""
    return [
        (name, _plain(_file_name(str(value)) if name in _PATHS and value else value))
        for name, value in facts.settings.items()
    ]


def list_facts(facts: RunFacts) -> list[tuple[str, str]]:
    """Names and values of everything needed to repeat the run."""
    rows = [("Data, SHA-256", facts.data.sha256)]
    rows += [(f"Rows left out: {why}", f"{n:,}") for why, n in facts.data.left_out.items() if n]
    rows += [(f"Train rows added: {name}", f"{n:,}") for name, n in facts.data.added.items() if n]
    if facts.data.extra_train_sha256 is not None:
        rows += [("Extra table, SHA-256", facts.data.extra_train_sha256)]
    rows += [("Split sizes", ", ".join(f"{split} {n:,}" for split, n in facts.splits.items()))]
    backbone = facts.backbone
    rows += [("Backbone", " @ ".join(filter(None, (backbone.name, backbone.revision))))]
    rows += [("Backbone weights, SHA-256", _plain(backbone.weights_sha256))]
    git = facts.git
    rows += [("Git commit", f"{git.commit}{' with local changes' if git.dirty else ''}" if git else "n/a")]
    hardware = facts.hardware
    machine = [hardware.cpu, f"{hardware.cores} cores", f"{hardware.threads} threads"]
    machine += [f"{hardware.memory_bytes / 1e9:.1f} GB memory", *hardware.gpus]
    rows += [("Hardware", ", ".join(machine)), ("Processes", _plain(facts.processes))]
    rows += [("Precision of the arithmetic", facts.precision)]
    if facts.peak_memory_bytes is not None:
        rows += [("Peak memory", f"{facts.peak_memory_bytes / 1e9:.2f} GB")]
    rows += [(f"Seconds: {phase}", f"{seconds:,.1f}") for phase, seconds in (facts.seconds or {}).items()]
    rows += [("Python", f"{facts.python}, {facts.platform}")]
    return rows + list(facts.libraries.items())


def _moment(text: str) -> str:
    """Write a point in time.

    >>> _moment("2026-11-02T21:14:05+00:00")
    '2 November 2026, 21:14 UTC'
    """
    moment = datetime.fromisoformat(text).astimezone(UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _file_name(path: str) -> str:
    r"""Last part of a path from any system.

    >>> _file_name("/home/me/train.csv"), _file_name(r"C:\data\train.csv")
    ('train.csv', 'train.csv')
    """
    return PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name


def _plain(value: object) -> str:
    """A setting's value, in the form that a reader would write.

    >>> _plain(None), _plain(True), _plain(["a", "b"]), _plain(2e-5)
    ('default', 'yes', 'a, b', '2e-05')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "default" if value is None else str(value)
