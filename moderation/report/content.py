"""From evidence to findings: the sentences and rows of a report, ready to be laid out."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from moderation.evaluation.objectives import parse_objective
from moderation.evaluation.probabilities import predict
from moderation.evaluation.reliability import wilson_interval
from moderation.evaluation.thresholds import DEFAULT_THRESHOLD, explain_value
from moderation.report.inputs import Evidence, expecting

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


FEW = 30  # with fewer examples or flags, a share is a rough guess


def find(evidence: Evidence) -> dict[str, Any]:
    """Work out all that the page says.

    Returns:
        Sections by name, each None or empty where the evidence lacks what it needs: `run`, `overall`, `labels` (rows),
        `thresholds` (rows), `calibration` (rows), `calibrated` (rows), `warnings`, `technical`, `settings`, `facts`.

    Raises:
        ArtifactError: a file lacks a number, or holds something else in its place.
    """
    with expecting(f"metrics_{evidence.split}.json", "metrics as `moderation evaluate` writes them"):
        labels = _label_rows(evidence)
        overall = _overall(evidence)
        technical = _technical(evidence)
    with expecting("run.json", "facts as `moderation train` writes them"):
        origin = trace_origin(evidence.facts)
    return {
        "name": evidence.name,
        "split": evidence.split,
        "overall": overall,
        "labels": labels,
        "thresholds": _threshold_rows(evidence),
        "thresholds_note": _threshold_note(evidence),
        "calibration": _calibration_rows(evidence),
        "calibrated": _calibrated_rows(evidence),
        "warnings": _warnings(evidence, labels, overall),
        "technical": technical,
    } | origin


def of_hundred(share: float) -> str:
    """Say a share as a count out of 100, without claiming all or none.

    >>> of_hundred(0.712), of_hundred(0.9999), of_hundred(0.001)
    ('about 71', 'more than 99', 'fewer than 1')
    """
    if share > 0.995:
        return "more than 99"
    return f"about {share * 100:.0f}" if share >= 0.005 else "fewer than 1"


def per_thousand(count: int, n: int) -> str:
    """Say a count as a rate per 1,000, with a digit more where it is small.

    >>> per_thousand(98, 1000), per_thousand(3, 2000), per_thousand(0, 10), per_thousand(1, 100_000)
    ('98', '1.5', '0', 'under 0.1')
    """
    rate = 1000 * count / n
    if 0 < rate < 0.1:
        return "under 0.1"
    return f"{rate:.1f}" if 0 < rate < 10 else f"{rate:,.0f}"


def _share(part: int, whole: int) -> dict[str, Any] | None:
    """A share with its counts and its 95 % interval, in words too; None of nothing.

    `plain` says whether it may be told as so many of 100: a handful, and all or none of many, are told as they were
    counted, since 1 of 1 is no 100 of 100.
    """
    if not whole:
        return None
    low, high = (float(bound) for bound in wilson_interval(part, whole))
    return {
        "part": part,
        "whole": whole,
        "value": part / whole,
        "plain": whole >= FEW and 0 < part < whole,
        "few": whole < FEW,
        "words": of_hundred(part / whole),
        "span": f"{low * 100:.0f} to {high * 100:.0f}",
        "low": low,
        "high": high,
    }


def _label_rows(evidence: Evidence) -> list[dict[str, Any]]:
    if evidence.metrics is None:
        return []
    n = evidence.metrics["n_examples"]
    rows = []
    for label, values in evidence.metrics["labels"].items():
        tuned = values["at_threshold"]
        right = round((tuned["precision"] or 0.0) * tuned["flagged"])
        rows.append(
            {
                "label": label,
                "right": _share(right, tuned["flagged"]),
                "found": _share(right, values["support"]),
                "per_thousand": per_thousand(tuned["flagged"], n),
                "truly_per_thousand": per_thousand(values["support"], n),
            }
            | {name: values[name] for name in ("support", "threshold", "at_threshold", "at_half")}
            | {"f1_interval": values["intervals"]["f1"]}
        )
    return rows


def _overall(evidence: Evidence) -> dict[str, Any] | None:
    """Comments with any flag against comments with any label; shares need the arrays."""
    if evidence.metrics is None:
        return None
    n, flagged, positive = (evidence.metrics[name] for name in ("n_examples", "flagged_any", "positive_any"))
    overall = {"n": n, "flagged": per_thousand(flagged, n), "positive": per_thousand(positive, n)}
    if evidence.probabilities is None or evidence.targets is None or evidence.cuts is None:
        return overall | {"right": None, "found": None}
    flags = predict(evidence.probabilities, evidence.cuts).any(axis=1)
    truth = (evidence.targets == 1).any(axis=1)
    both = int((flags & truth).sum())
    return overall | {"right": _share(both, int(flags.sum())), "found": _share(both, int(truth.sum()))}


def _calibration_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """Per label, how sure the model is of what it flags, against how often it is right."""
    if evidence.probabilities is None or evidence.targets is None or evidence.cuts is None:
        return []
    flags = predict(evidence.probabilities, evidence.cuts)
    rows = []
    for i, label in enumerate(evidence.labels):
        chosen = flags[:, i]
        truth = _share(int((evidence.targets[chosen, i] == 1).sum()), int(chosen.sum()))
        claimed = float(evidence.probabilities[chosen, i].mean()) if truth else None
        rows.append(
            {"label": label, "claimed": claimed, "true": truth, "verdict": _verdict(claimed, truth, int(chosen.sum()))}
        )
    return rows


def _calibrated_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """Per label, what calibration did to its probabilities; empty where the run has none."""
    compared = (evidence.metrics or {}).get("calibration", {})
    kept = ("method", "before", "after")
    return [{"label": label} | {name: values[name] for name in kept} for label, values in compared.items()]


def _verdict(claimed: float | None, true: Mapping[str, Any] | None, n_flagged: int) -> str:
    if claimed is None or true is None or n_flagged < FEW:
        return "too few flags to tell"
    if claimed > true["high"]:
        return "too sure of itself"
    return "too cautious" if claimed < true["low"] else "in line"


def _threshold_rows(evidence: Evidence) -> list[dict[str, Any]]:
    rows = []
    for label, result in (evidence.thresholds or {}).items():
        test = (evidence.metrics or {}).get("labels", {}).get(label) if evidence.split == "test" else None
        rows.append({"label": label, "result": result, "test_f1": test["at_threshold"]["f1"] if test else None})
    return rows


def _threshold_note(evidence: Evidence) -> dict[str, Any]:
    """What the columns of the table of thresholds mean; `held_out` names the quantity that was asked for, if any."""
    results = evidence.thresholds or {}
    goals = [parse_objective(result.objective) for result in results.values()]
    kinds = sorted({goal.kind for goal in goals if goal.constrained})
    return {"value": explain_value(results) if results else "", "held_out": " or ".join(kinds)}


def _warnings(evidence: Evidence, rows: list[dict[str, Any]], overall: Mapping[str, Any] | None) -> list[str]:
    """Say what a reader must know before relying on the numbers, the gravest first."""
    warnings = []
    if evidence.facts and evidence.facts.get("status") != "done":
        warnings.append("The training has not finished; this page shows what there is so far.")
    if rows and evidence.split == "val":
        warnings.append(
            "No test split was measured. These numbers come from the very comments that the thresholds were chosen on, "
            "so they flatter."
        )
    results = evidence.thresholds or {}
    untuned = [f"{label} ({result.n_positives})" for label, result in results.items() if not result.tuned]
    if untuned:
        warnings.append(
            f"Too few examples to choose a threshold, so {DEFAULT_THRESHOLD} was kept: {', '.join(untuned)} "
            "(in brackets: examples on the validation split). Add labelled comments before these decide anything."
        )
    missed = [label for label, result in results.items() if result.tuned and not result.constraint_met]
    if missed:
        warnings.append(
            f"No threshold reaches what was asked for; the highest precision was taken: {', '.join(missed)}."
        )
    if overall and any(overall[name] and overall[name]["few"] for name in ("right", "found")):
        warnings.append(
            f"Fewer than {FEW} comments were flagged, or have a label: what is said of all labels together is a rough "
            "guess."
        )
    if weakest := _weakest(rows):
        warnings.append(weakest)
    small = [f"{row['label']} ({row['support']})" for row in rows if row["support"] < FEW]
    if small:
        warnings.append(
            f"Fewer than {FEW} examples to measure on; take the numbers as rough guesses: {', '.join(small)}."
        )
    changed = [
        row["label"] for row in rows if row["label"] in results and _differs(row, results[row["label"]].threshold)
    ]
    if changed:
        warnings.append(
            "The thresholds were chosen anew after this measurement; run `moderation evaluate` to measure them. "
            f"Changed: {', '.join(changed)}."
        )
    return warnings


def _weakest(rows: list[dict[str, Any]]) -> str | None:
    """Name the label with the lowest F1 and what it gets wrong; None where there are not two to compare."""
    measured = [row for row in rows if row["at_threshold"]["f1"] is not None]
    if len(measured) < 2:
        return None
    row = min(measured, key=lambda row: (row["at_threshold"]["f1"], row["support"]))
    lost = [row["label"] for row in measured if not row["at_threshold"]["f1"]]
    if len(lost) > 1:
        return f"The weakest labels are {', '.join(lost)}: none of the comments that have them is found."
    flagged, right, f1 = row["at_threshold"]["flagged"], row["right"], row["at_threshold"]["f1"]
    flags = f"{right['part']:,} of its {flagged:,} flags are right" if right else "it was never flagged"
    found = f"{row['found']['part']:,} of the {row['support']:,} comments that have it are found"
    return f"The weakest label is {row['label']}: {flags}, and {found} (F1 {f1:.2f})."


def _differs(row: Mapping[str, Any], threshold: float) -> bool:
    return abs(float(row["threshold"]) - threshold) > 1e-6


def _technical(evidence: Evidence) -> dict[str, Any] | None:
    if evidence.metrics is None:
        return None
    metrics = evidence.metrics
    n_labels = len(metrics["labels"])
    names = {"roc_auc": "ROC-AUC", "average_precision": "average precision", "f1": "F1"}
    partial = [
        f"{name} over {metrics['macro_defined'][key]}"
        for key, name in names.items()
        if metrics["macro_defined"][key] < n_labels
    ]
    kept = ("n_examples", "labels", "macro", "macro_intervals", "micro", "subset_accuracy")
    return {name: metrics[name] for name in kept} | {"partial": partial, "n_labels": n_labels}
