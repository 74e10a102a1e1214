"""Where a run comes from: what the page shows from `run.json`."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath, PureWindowsPath

from moderation.errors import ArtifactError
from moderation.run_records import Fit, RunRecord, read_record

_PATHS = ("data_path", "val_path", "test_path", "extra_train_path", "output_dir")


def read_origin(path: Path) -> RunRecord:
    """Read `run.json` for the page, which shows more of it than other readers need.

    Raises:
        ArtifactError: it cannot be read, or lacks something that the page shows.
    """
    record = read_record(path)
    wrong = [
        f"settings.{name}"
        for name, kind in (("data_path", str), ("max_length", int), ("epochs", (int, float)))
        if not isinstance(record.settings.get(name), kind)
    ]
    wrong += [] if record.started is None or _is_moment(record.started) else ["started"]
    wrong += [f"splits.{split}" for split in ("train", "val") if split not in (record.splits or {})]
    if wrong:
        raise ArtifactError(
            f"{path}: {', '.join(wrong)}: missing, or of another type. Restore the file, or train again."
        )
    return record


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
    training: Fit | None
    seconds: float | None


def tell_story(record: RunRecord) -> Story:
    """Summarise the run."""
    n_tokens = int(str(record.settings["max_length"]))
    resumed = record.training is not None and record.training.resumed_from
    splits = record.splits or {}
    return Story(
        started="n/a" if record.started is None else _moment(record.started),
        data=_file_name(str(record.settings["data_path"])),
        backbone=_encoder(record),
        n_train=splits["train"],
        n_val=splits["val"],
        epochs=float(str(record.settings["epochs"])),
        max_length=n_tokens,
        n_words=int(round(n_tokens * 0.75, -1 if n_tokens > 30 else 0)),
        pos_weight=_plain(record.settings.get("pos_weight")),
        training=record.training,
        seconds=None if record.seconds is None or resumed else float(sum(record.seconds.values())),
    )


def _encoder(record: RunRecord) -> str:
    """The encoder's id on the hub, otherwise the name of its folder."""
    backbone = record.backbone
    return "n/a" if backbone is None else backbone.hub_id or _file_name(backbone.name)


def list_settings(record: RunRecord) -> list[tuple[str, str]]:
    """Settings as they can be given again; paths are reduced to the file name, since a page may be shared."""
    return [
        (name, _plain(_file_name(str(value)) if name in _PATHS and value else value))
        for name, value in record.settings.items()
    ]


def list_facts(record: RunRecord) -> list[tuple[str, str]]:
    """Names and values of everything needed to repeat the run."""
    data, splits = record.data, record.splits or {}
    rows = [("Data, SHA-256", _plain(data.sha256))]
    rows += [(f"Rows left out: {why}", f"{n:,}") for why, n in data.left_out.items() if n]
    rows += [(f"Train rows added: {name}", f"{n:,}") for name, n in data.added.items() if n]
    if data.extra_train_sha256 is not None:
        rows += [("Extra table, SHA-256", data.extra_train_sha256)]
    rows += [("Split sizes", ", ".join(f"{split} {n:,}" for split, n in splits.items()))]
    if (backbone := record.backbone) is not None:
        rows += [("Backbone", " @ ".join(filter(None, (backbone.name, backbone.revision))))]
        rows += [("Backbone weights, SHA-256", _plain(backbone.weights_sha256))]
    git = record.git
    rows += [("Git commit", f"{git.commit}{' with local changes' if git.dirty else ''}" if git else "n/a")]
    if (hardware := record.hardware) is not None:
        machine = [hardware.cpu, f"{hardware.cores} cores", f"{hardware.threads} threads"]
        machine += [f"{hardware.memory_bytes / 1e9:.1f} GB memory", *hardware.gpus]
        rows += [("Hardware", ", ".join(machine)), ("Processes", _plain(record.processes))]
    rows += [("Precision of the arithmetic", _plain(record.precision))]
    if record.peak_memory_bytes is not None:
        rows += [("Peak memory", f"{record.peak_memory_bytes / 1e9:.2f} GB")]
    rows += [(f"Seconds: {phase}", f"{seconds:,.1f}") for phase, seconds in (record.seconds or {}).items()]
    rows += [("Python", f"{record.python}, {record.platform}")]
    return rows + list((record.libraries or {}).items())


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


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
