"""Where a run comes from: what was trained on what, when, and what it takes to repeat it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

_PATHS = ("data_path", "val_path", "test_path", "extra_train_path", "output_dir")


def trace_origin(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Lay out run.json for a reader.

    Args:
        facts: run.json, or nothing.

    Returns:
        `run`, the story in numbers (None without facts); `settings` and `facts`, rows of name and value.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: facts are missing or not what they should be.
    """
    return {"run": _run(facts), "settings": _settings(facts), "facts": _facts(facts)}


def _run(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    if not facts:
        return None
    settings = facts["settings"]
    n_tokens = int(settings["max_length"])
    return {
        "started": _moment(facts["started"]),
        "data": _file_name(settings["data_path"]),
        "backbone": _plain(facts["backbone"]["hub_id"] or _file_name(facts["backbone"]["name"])),
        "n_train": int(facts["splits"]["train"]),
        "n_val": int(facts["splits"]["val"]),
        "epochs": float(settings["epochs"]),
        "max_length": n_tokens,
        "n_words": int(round(n_tokens * 0.75, -1 if n_tokens > 30 else 0)),
        "pos_weight": _plain(settings["pos_weight"]),
        "training": _training(facts["training"]) if "training" in facts else None,
        "seconds": _seconds(facts),
    }


def _seconds(facts: Mapping[str, Any]) -> float | None:
    """Seconds of the whole run; None where they are not known, as after a kill, which leaves no record of its time."""
    if "seconds" not in facts or facts.get("training", {}).get("resumed_from"):
        return None
    return float(sum(facts["seconds"].values()))


def _training(done: Mapping[str, Any]) -> dict[str, Any]:
    counts = {name: int(done[name]) for name in ("steps", "examples", "parameters", "trainable")}
    return counts | {"seconds": float(done["seconds"]), "resumed_from": done.get("resumed_from")}


def _settings(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Settings as they can be given again; of paths the file name alone, since a page is passed on."""
    return [
        (name, _plain(_file_name(value) if name in _PATHS and value else value))
        for name, value in facts.get("settings", {}).items()
    ]


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not facts:
        return []
    rows = [("Data, SHA-256", facts["data"]["sha256"])]
    rows += [(f"Rows left out: {why}", f"{n:,}") for why, n in facts["data"].get("left_out", {}).items() if n]
    added = {name: n for name, n in facts["data"].get("added", {}).items() if n}
    rows += [(f"Train rows added: {name}", f"{n:,}") for name, n in added.items()]
    if "extra_train_sha256" in facts["data"]:
        rows += [("Extra table, SHA-256", facts["data"]["extra_train_sha256"])]
    rows += [("Split sizes", ", ".join(f"{split} {n:,}" for split, n in facts["splits"].items()))]
    backbone = facts["backbone"]
    rows += [("Backbone", " @ ".join(_plain(backbone[key]) for key in ("name", "revision") if backbone.get(key)))]
    rows += [("Backbone weights, SHA-256", _plain(backbone.get("weights_sha256")))]
    git = facts.get("git")
    rows += [("Git commit", f"{git['commit']}{' with local changes' if git['dirty'] else ''}" if git else "n/a")]
    hardware = facts["hardware"]
    machine = [hardware["cpu"], f"{hardware['cores']} cores", f"{hardware['threads']} threads"]
    machine += [f"{hardware['memory_bytes'] / 1e9:.1f} GB memory", *hardware["gpus"]]
    rows += [("Hardware", ", ".join(machine)), ("Processes", _plain(facts["processes"]))]
    rows += [("Precision of the arithmetic", _plain(facts["precision"]))]
    if "peak_memory_bytes" in facts:
        rows += [("Peak memory", f"{facts['peak_memory_bytes'] / 1e9:.2f} GB")]
    rows += [(f"Seconds: {phase}", f"{seconds:,.1f}") for phase, seconds in facts.get("seconds", {}).items()]
    rows += [("Python", f"{facts['python']}, {facts['platform']}")]
    return rows + [(name, version) for name, version in facts["libraries"].items()]


def _moment(text: str) -> str:
    """Write a point in time.

    >>> _moment("2026-11-02T21:14:05+00:00")
    '2 November 2026, 21:14 UTC'
    """
    moment = datetime.fromisoformat(text).astimezone(UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _file_name(path: str) -> str:
    r"""Last part of a path of any system.

    >>> _file_name("/home/me/train.csv"), _file_name(r"C:\data\train.csv")
    ('train.csv', 'train.csv')
    """
    return PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name


def _plain(value: Any) -> str:
    """A setting's value as a reader would write it.

    >>> _plain(None), _plain(True), _plain(["a", "b"]), _plain(2e-5)
    ('default', 'yes', 'a, b', '2e-05')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "default" if value is None else str(value)
