"""The model card: a bundle's README.md, with the metadata block that the hub reads."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from moderation.arrays import read_array, sidecar
from moderation.artifacts import RunFolder, read_json
from moderation.bundles import Bundle
from moderation.calibrators import Calibrator
from moderation.categories import TWIN, find_counterparts
from moderation.errors import ArtifactError
from moderation.evaluation.curves import Curve, decision_curves
from moderation.evaluation.reliability import auc_interval, wilson_interval
from moderation.export.parity import HEADER, ParityRow, parity_cells
from moderation.forms import FORMS
from moderation.labels import check_same_labels
from moderation.text_tables import interval, number

logger = logging.getLogger(__name__)

_SPLIT = "val"
_KINDS = ("probabilities", "targets")


class LabelCurve(TypedDict):
    """Decisions of a label at about a hundred thresholds: the fields of `evaluation.curves.Curve`."""

    n_positives: int
    threshold: list[float]
    precision: list[float | None]
    recall: list[float | None]
    flagged: list[float | None]


class Curves(TypedDict):
    """The manifest's record `curves`."""

    split: str
    n_examples: int
    labels: dict[str, LabelCurve]


def read_curves(
    run: RunFolder, labels: Sequence[str], thresholds: Sequence[float] | npt.NDArray[np.float32]
) -> Curves | None:
    """Decisions on the validation split at about a hundred thresholds per label, as the manifest keeps them.

    Args:
        run: The run folder.
        labels: The model's labels, in order.
        thresholds: The tuned thresholds, in that order; each is one of its label's points.

    Returns:
        Shares have six decimals. None, with a log line, if the run has no validation predictions.

    Raises:
        ArtifactError: the arrays have other labels or another split, or are damaged.
        DataError: the arrays are not probabilities and targets, or do not match each other.
    """
    arrays = (run.preds(_SPLIT), run.labels(_SPLIT))
    missing = [path.name for array in arrays for path in (array, sidecar(array)) if not path.is_file()]
    if missing:
        logger.warning("No %s in %s: the bundle will have no curves.", ", ".join(missing), run.path)
        return None
    for array, kind in zip(arrays, _KINDS, strict=True):
        about = read_json(sidecar(array), "labels, split and kind of the array next to it")
        check_same_labels(about.get("labels") or [], labels, str(sidecar(array)))
        if (about.get("split"), about.get("kind")) != (_SPLIT, kind):
            raise ArtifactError(
                f"{sidecar(array)}: names {about.get('kind')} of the {about.get('split')} split, expected {kind} of "
                f"the {_SPLIT} split. Use the run's own files, or move them away to export without curves."
            )
    probabilities, targets = (read_array(array) for array in arrays)
    curves = decision_curves(probabilities, targets, labels, thresholds=thresholds)
    return {
        "split": _SPLIT,
        "n_examples": len(targets),
        "labels": {label: _as_json(curve) for label, curve in curves.items()},
    }


def _as_json(curve: Curve) -> LabelCurve:
    """Thresholds unrounded, since rounding could move one past a probability; shares rounded."""
    return {
        "n_positives": curve.n_positives,
        "threshold": list(curve.threshold),
        "precision": _round(curve.precision),
        "recall": _round(curve.recall),
        "flagged": _round(curve.flagged),
    }


def _round(shares: Sequence[float | None]) -> list[float | None]:
    return [None if share is None else round(share, 6) for share in shares]


_TEXT = """\
---
{metadata}
---

# {name}

A classifier of comments with {n_labels} labels; several may apply at once: {labels}.
Exported by content-moderation; `moderation.json` names the SHA-256 of every file, the thresholds, and where the model
comes from.
{about}
## Use

```python
from moderation import Classifier

classifier = Classifier.load("{name}")  # this folder
result = classifier.classify(["You are wonderful."])[0]
result.probabilities, result.flagged
```

`moderation verify {name}` hashes every file and compares the answers of each form with those of the export.
{transformers}
**Use the sigmoid.** The labels are independent. A server that applies a softmax over the labels, as many do for text
classification, makes them sum to 1 and gives wrong numbers.

## Thresholds

A label is flagged where its probability reaches its threshold. The thresholds were tuned on the validation split.

{thresholds}

## Names in other APIs

`moderation serve` uses these names for the labels in its OpenAI and Perspective APIs.

{counterparts}

## Probabilities

{calibration}

{quality}{by_language}## Long texts

The model reads {length} tokens at once. `Classifier` reads a longer text in windows of that length that share about
{overlap} tokens and are cut between words; a label's probability is the highest over the windows. Other programs read
only the first {length} tokens.

## Forms, compared with torch

{parity}

Limits: {limits}. In this bundle: {forms}.{left_in_float}

## Limitations

- {languages} Do not rely on its answers in other languages and scripts.
- Labels are opinions of annotators about comments of their time and place. The model repeats their biases; texts that
  mention groups of people, quote an insult or answer it may be flagged without reason.
- It sees one text, without the conversation before it.
- Its flags are for people to review, not for punishments without appeal.
"""


_TRANSFORMERS = """
With transformers only, which reads just the first window and does not calibrate:

```python
from transformers import pipeline

pipe = pipeline("text-classification", "{name}", top_k=None, function_to_apply="sigmoid", truncation=True)
```
"""


_CALIBRATED = """\
They are calibrated: before the sigmoid, each label's logit goes through a rising map that was fitted on the validation
split, so that of the comments given 0.8 about eight in ten have the label. `Classifier`, the server and the forms for
other servers apply it; the thresholds above are for calibrated probabilities. transformers and programs that read the
plain weights get the sigmoid of the logit, uncalibrated. A logit x (of such a probability p: ln(p / (1 - p))) becomes

{table}

of which 1 / (1 + exp(-x)) is the calibrated probability. `moderation.json` has all digits under `calibration`."""


_UNCALIBRATED = "They are the sigmoid of the logits, not calibrated."


_QUALITY = """\
## How good it is

On the {n_examples:,} comments of the run's test split, in float32, with the first window of each, at the thresholds
above; `moderation.json` has the intervals.

{table}

"""


_LANGUAGES = """\
## Languages

On the same comments, at the thresholds of each language. In brackets are 95 % intervals (Wilson 1927; for ROC-AUC,
Hanley and McNeil 1982). Languages with their own calibrators and thresholds: {own}. A label with too few examples in a
language, and every other language, has the general ones above. The language of a text is recognised when it is read.

{table}

"""


def write_card(bundle: Bundle, *, about: str = "", licence: str = "other") -> str:
    """Return the text of the model card.

    Args:
        bundle: Complete except for the card itself.
        about: Markdown by the model's authors; comes first in the card.
        licence: As the hub names it.
    """
    rows = [ParityRow.from_plain(row) for row in bundle.records["parity"]]
    return _TEXT.format(
        metadata=_metadata(bundle, licence),
        about=f"\n{about.strip()}\n" if about.strip() else "",
        name=bundle.name,
        transformers=_TRANSFORMERS.format(name=bundle.name) if "hf" in bundle.forms else "",
        n_labels=len(bundle.labels),
        labels=", ".join(map(_plain, bundle.labels)),
        thresholds=_table(
            ["label", "threshold"],
            [[_plain(label), f"{value:.4f}"] for label, value in zip(bundle.labels, bundle.thresholds, strict=True)],
        ),
        counterparts=_counterparts(bundle),
        calibration=_calibration(bundle),
        quality=_quality(bundle),
        by_language=_by_language(bundle),
        length=bundle.window_length,
        overlap=bundle.window_overlap,
        parity=_table(HEADER, [parity_cells(row) for row in rows]),
        limits="; ".join(f"{row.form}: {_limits(row.limits)}" for row in rows),
        forms=", ".join(bundle.forms),
        left_in_float=_left_in_float(bundle),
        languages=_languages(bundle),
    )


def _languages(bundle: Bundle) -> str:
    if not bundle.languages:
        return "Trained on a table whose languages are not recorded."
    return f"Trained on {', '.join(bundle.languages)}."


def _metadata(bundle: Bundle, licence: str) -> str:
    """The YAML block; its strings are JSON strings, which are also valid YAML."""
    lines = [
        f"license: {json.dumps(licence)}",
        *(["language:"] if bundle.languages else []),
        *(f"- {json.dumps(language)}" for language in bundle.languages),
    ]
    lines += ["pipeline_tag: text-classification"]
    lines += ["library_name: transformers"] if "hf" in bundle.forms else []
    lines += ["tags:"]
    lines += [f"- {tag}" for tag in ("content-moderation", "toxicity", "multi-label")]
    lines += [f"- {form.hub_tag}" for form in FORMS.values() if form.hub_tag and form.name in bundle.forms]
    lines += ["metrics:", "- roc_auc", "- f1"]
    return "\n".join(lines)


def _counterparts(bundle: Bundle) -> str:
    """Each label with its categories and its attribute, according to the bundle's mapping."""
    found = find_counterparts(bundle.labels, bundle.mapping)
    rows = []
    for label in bundle.labels:
        categories = [name for name, labels in found.categories.items() if label in labels]
        attributes = [name for name, other in found.attributes.items() if other == label and not name.endswith(TWIN)]
        words = (", ".join(f"`{name}`" for name in names) or "-" for names in (categories, attributes))
        rows.append([_plain(label), *words])
    return _table(["label", "OpenAI's categories", "Perspective's attribute"], rows)


def _calibration(bundle: Bundle) -> str:
    """How logits become probabilities, for programs that have to compute it themselves."""
    if all(calibrator.method == "none" for calibrator in bundle.calibrators):
        return _UNCALIBRATED
    rows = [
        [_plain(label), calibrator.method, _formula(calibrator)]
        for label, calibrator in zip(bundle.labels, bundle.calibrators, strict=True)
    ]
    return _CALIBRATED.format(table=_table(["label", "method", "calibrated logit"], rows))


def _formula(calibrator: Calibrator) -> str:
    if calibrator.knots:
        (first, first_to), (last, last_to) = calibrator.knots[0], calibrator.knots[-1]
        return (
            f"on the broken line through {len(calibrator.knots)} knots, from ({first:.3f}, {first_to:.3f}) to "
            f"({last:.3f}, {last_to:.3f}); x + constant outside"
        )
    if calibrator.method == "none":
        return "x"
    sign = "-" if calibrator.intercept < 0 else "+"
    return f"{calibrator.slope:.6g} x" + (f" {sign} {abs(calibrator.intercept):.6g}" if calibrator.intercept else "")


def _quality(bundle: Bundle) -> str:
    """The figures on the test split, if there are any."""
    measured = bundle.records["metrics"].get("test")
    if not measured:
        return ""
    header = ["label", "positives", "ROC-AUC", "average precision", "precision", "recall", "F1"]
    rows = []
    for label in bundle.labels:
        found = measured["labels"][label]
        decided = found["at_threshold"]
        numbers = (found["roc_auc"], found["average_precision"], decided["precision"], decided["recall"], decided["f1"])
        rows.append([_plain(label), f"{found['support']:,}", *(number(value, 3) for value in numbers)])
    return _QUALITY.format(n_examples=measured["n_examples"], table=_table(header, rows))


def _by_language(bundle: Bundle) -> str:
    """The figures of each language, if there are several."""
    measured = (bundle.records["metrics"].get("test") or {}).get("languages") or {}
    if len(measured) < 2:
        return ""
    header = ["language", "label", "known", "positives", "ROC-AUC", "recall", "false alarms", "ECE", "threshold"]
    rows = []
    for code, figures in measured.items():
        cuts = dict(zip(bundle.labels, bundle.tunings.of(code).thresholds, strict=True))
        for label, found in figures.items():
            n_positives, n_clean = found["support"], found["n_known"] - found["support"]
            cells = [_plain(code), _plain(label), f"{found['n_known']:,}", f"{n_positives:,}"]
            auc = found["roc_auc"]
            cells += [_with_interval(auc, None if auc is None else auc_interval(auc, n_positives, n_clean))]
            for name, n in (("recall", n_positives), ("false_alarms", n_clean)):
                share = found[name]
                cells.append(_with_interval(share, None if share is None else _share_interval(share, n)))
            rows.append([*cells, number(found["ece"]), f"{cuts[label]:.4f}"])
    own = ", ".join(bundle.by_language) or "none"
    return _LANGUAGES.format(own=own, table=_table(header, rows))


def _share_interval(share: float, n: int) -> tuple[float, float]:
    low, high = wilson_interval(round(share * n), n)
    return float(low), float(high)


def _with_interval(value: float | None, bounds: tuple[float, float] | None) -> str:
    return number(value) if bounds is None else f"{number(value)} {interval(bounds)}"


def _limits(limits: Mapping[str, float]) -> str:
    words = {
        "max_difference": "no probability differs by more than {:g}",
        "auc_drop": "no label's ROC-AUC falls by more than {:g}",
        "flips": "at most {:.1%} of the decisions flip",
    }
    return ", ".join(words[name].format(value) for name, value in limits.items())


def _left_in_float(bundle: Bundle) -> str:
    lines = [
        f"\n\n`{form}` keeps in float, because their 8-bit form cost too much: {', '.join(facts.left_in_float)}."
        for form, facts in bundle.forms.items()
        if facts.left_in_float
    ]
    return "".join(lines)


def _plain(name: str) -> str:
    r"""Escape a label for Markdown, so that it is shown literally and starts no table, link, code or HTML.

    >>> print(_plain("severe_toxic"), _plain("a|b <i> [x](y)"))
    severe_toxic a\|b \<i\> \[x\](y)
    """
    return re.sub(
        r"[\\|<>&\[\]*`~:@]|(?<!\w)[#+-]|(?<![^\W_])_|_(?![^\W_])|(?<=www)\.", r"\\\g<0>", name, flags=re.IGNORECASE
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
