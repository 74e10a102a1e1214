"""`run.json`: everything that is known about a training, as one dataclass with one reader and one writer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from moderation.artifacts import read_json
from moderation.documents import Document, json_field


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The tables of a run.

    Args:
        left_out: Reason -> rows left out when the tables were read.
        added: How -> rows added to the train split.
        sha256: SHA-256 of the training table; like the next three, None without such a table.
        val_sha256: SHA-256 of the validation table.
        test_sha256: SHA-256 of the test table.
        extra_train_sha256: SHA-256 of the extra table.
    """

    left_out: Mapping[str, int] = field(default_factory=dict)
    added: Mapping[str, int] = field(default_factory=dict)
    sha256: str | None = json_field(None, optional=True)
    val_sha256: str | None = json_field(None, optional=True)
    test_sha256: str | None = json_field(None, optional=True)
    extra_train_sha256: str | None = json_field(None, optional=True)

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each table that there is, under the name of its field."""
        names = ("sha256", "val_sha256", "test_sha256", "extra_train_sha256")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class BackboneFacts:
    """The pretrained encoder.

    Args:
        name: Its name in the settings.
        hub_id: Its id on the hub.
        revision: Its commit there.
        weights_sha256: SHA-256 of its weights; None for random ones.
        config_sha256: SHA-256 of its configuration; None in runs of earlier versions, like the next one.
        tokenizer_sha256: Hash of its tokenizer, of `encoding.tokenizer_sha256`.
    """

    name: str
    hub_id: str | None = None
    revision: str | None = None
    weights_sha256: str | None = None
    config_sha256: str | None = json_field(None, optional=True)
    tokenizer_sha256: str | None = json_field(None, optional=True)

    @property
    def hashes(self) -> dict[str, str]:
        """What is hashed -> its SHA-256, as far as it is known."""
        named = {"weights": self.weights_sha256, "config": self.config_sha256, "tokenizer": self.tokenizer_sha256}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class GitState:
    """Commit of the toolkit's source, and whether files differ from it."""

    commit: str
    dirty: bool


@dataclass(frozen=True)
class Hardware:
    """The machine that a run used; `cores` is None if the system does not tell."""

    cpu: str
    cores: int | None
    threads: int
    memory_bytes: int
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class Fit:
    """Figures of a finished training.

    Args:
        steps: Optimizer steps in all.
        examples: Examples seen in all, counting repetitions.
        seconds: Seconds of this process's part of the training.
        parameters: Parameters of the model.
        trainable: How many of them were trained.
        resumed_from: Step at which this process continued; None: from the start.
    """

    steps: int
    examples: int
    seconds: float
    parameters: int
    trainable: int
    resumed_from: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The content of `run.json`. Values that an earlier version, or an unfinished run, does not have are None.

    Args:
        status: `running` or `done`.
        started: Date and time in UTC, ISO 8601.
        settings: All settings of the training by name, flat, as plain values.
        labels: Label order.
        precision: Number format: fp32, bf16 or fp16.
        data: The tables.
        splits: Rows of each split.
        backbone: The pretrained encoder.
        python: Version of Python.
        platform: System and processor.
        libraries: Versions by name.
        git: None outside a checkout of the toolkit.
        hardware: The machine.
        processes: Processes that trained together.
        files: SHA-256 by name of the files that the training wrote.
        seconds: Seconds by phase.
        peak_memory_bytes: Largest resident memory of the first process.
        training: Figures of the training itself.
    """

    status: str = "unknown"
    started: str | None = json_field(None, optional=True)
    settings: Mapping[str, object]
    labels: tuple[str, ...] | None = json_field(None, optional=True)
    precision: str | None = json_field(None, optional=True)
    data: DataFacts
    splits: Mapping[str, int] | None = json_field(None, optional=True)
    backbone: BackboneFacts | None = json_field(None, optional=True)
    python: str | None = json_field(None, optional=True)
    platform: str | None = json_field(None, optional=True)
    libraries: Mapping[str, str] | None = json_field(None, optional=True)
    git: GitState | None = None
    hardware: Hardware | None = json_field(None, optional=True)
    processes: int | None = json_field(None, optional=True)
    files: Mapping[str, str] | None = json_field(None, optional=True)
    seconds: Mapping[str, float] | None = json_field(None, optional=True)
    peak_memory_bytes: int | None = json_field(None, optional=True)
    training: Fit | None = json_field(None, optional=True)

    def write(self, path: Path) -> None:
        """Write the file, completely or not at all.

        Raises:
            ArtifactError: the disk is full or the folder cannot be written.
        """
        _RUN_JSON.write(path, self)


_RUN_JSON = Document(
    RunRecord,
    "run.json, as written by `moderation train`",
    "content-moderation run",
    1,
    cure="restore it, or train again",
    extra=True,
)


def read_record(path: Path) -> RunRecord:
    """Read `run.json`; the first versions of this toolkit wrote it without a version.

    Raises:
        ArtifactError: missing, damaged, or written by another program or a newer version of this one.
    """
    content = read_json(path, _RUN_JSON.what)
    return _RUN_JSON.parse({"version": 1} | content, path)
