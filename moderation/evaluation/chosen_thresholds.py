"""Thresholds that a user sets instead of the bundle's: read from a file or from arguments, checked, and ordered.

Imports little: the server and `moderation score` use it, and they have neither pandas nor scikit-learn.
"""

import json
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from moderation.artifacts import read_bytes
from moderation.errors import ConfigError
from moderation.language_codes import UNDETERMINED, base_language, name_languages
from moderation.strict_json import RepeatedName, unique_pairs

FORMAT = "content-moderation thresholds"
VERSION = 1

_EXPECTED = (
    "expected thresholds.json as written by `moderation tune`, the JSON that the server's page copies, "
    'or {"LABEL": NUMBER, ...}'
)
_NAME = re.compile(r"[\w.=-]+( [\w.=-]+)?")
_MODEL_VERSION = re.compile(r"(?P<name>[^@]{1,200}@[0-9a-f]{12})[0-9a-f]{0,52}(/.{1,40})?")
_LARGEST = 1 << 22  # bytes of a file of thresholds; a larger one is something else

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChosenThresholds:
    """Thresholds of some labels or of all, as a user set them.

    Args:
        values: Label -> threshold, above 0 and at most 1.
        where: Where they were set, for messages.
        calibrated: Whether they were tuned on calibrated probabilities; None: unknown.
        made_for: The bundles that they were found for, each as `name@version` with twelve digits; empty: unknown.
        by_language: Language code -> label -> threshold, for texts in that language; they precede `values`.
    """

    values: Mapping[str, float]
    where: str
    calibrated: bool | None = None
    made_for: tuple[str, ...] = ()
    by_language: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


GivenThresholds = ChosenThresholds | Mapping[str, float] | str | Path | None
"""How a caller can give them: already read, as a mapping, as the path of a file, or not at all."""


def choose_thresholds(path: Path | None, words: Sequence[str]) -> ChosenThresholds | None:
    """Read `--thresholds` and `--threshold`; if both name a label, the latter wins.

    Args:
        path: A file of thresholds.
        words: Each `LABEL=NUMBER`.

    Returns:
        None if neither is given.

    Raises:
        ConfigError: a file or an argument has no thresholds, or a label is set twice.
    """
    chosen = read_chosen(path) if path is not None else None
    single = parse_words(words)
    if not single:
        return chosen
    if chosen is None:
        return ChosenThresholds(single, "--threshold")
    own = {
        code: {label: value for label, value in values.items() if label not in single}
        for code, values in chosen.by_language.items()
    }
    where = f"{chosen.where} and --threshold"
    return replace(chosen, values={**chosen.values, **single}, by_language=own, where=where)


def parse_words(words: Iterable[str]) -> dict[str, float]:
    """Read arguments of the form `LABEL=NUMBER`.

    Raises:
        ConfigError: another form, a number that is not a threshold, or a repeated label.

    >>> parse_words(["toxic=0.8", "insult=.5"])
    {'toxic': 0.8, 'insult': 0.5}
    """
    found: dict[str, float] = {}
    for word in words:
        label, _, number = word.rpartition("=")
        label = label.strip()
        if not label:
            raise ConfigError(
                "--threshold: expected LABEL=NUMBER, such as toxic=0.8. A label with a comma in its name can only be "
                "set in a file (--thresholds)."
            )
        if label in found:
            raise ConfigError(f"--threshold: {_show(label)} is set more than once. Set each label once.")
        found[label] = _check_value(label, number, "--threshold", from_text=True)
    return found


def read_chosen(path: Path) -> ChosenThresholds:
    """Read a file of thresholds in any of this toolkit's formats, or a plain JSON object.

    Raises:
        ConfigError: no such file, not JSON, a repeated label, or a value that is not a threshold.
    """
    content = _read_object(path)
    if content.get("format") == FORMAT:
        version = content.get("version")
        if not isinstance(version, int) or not 1 <= version <= VERSION:
            raise ConfigError(
                f"{path}: format version {version}, expected {VERSION}. Update this program, or tune again."
            )
    inner = content.get("thresholds")
    values = inner if isinstance(inner, dict) else content
    about = content.get("about") if values is inner else None
    calibrated = about.get("calibrated") if isinstance(about, dict) else None
    return ChosenThresholds(
        _check_values(values, str(path)),
        str(path),
        calibrated if isinstance(calibrated, bool) else None,
        () if values is content else _read_made_for(about if isinstance(about, dict) else content),
        _check_by_language(content, str(path)) if values is inner else {},
    )


def as_chosen(thresholds: GivenThresholds) -> ChosenThresholds | None:
    """Read thresholds as a caller gives them.

    Raises:
        ConfigError: they are not thresholds.
    """
    if thresholds is None or isinstance(thresholds, ChosenThresholds):
        return thresholds
    if isinstance(thresholds, (str, Path)):
        return read_chosen(Path(thresholds))
    if isinstance(thresholds, Mapping):
        return ChosenThresholds(_check_values(thresholds, "thresholds"), "thresholds")
    raise ConfigError(
        f"thresholds: found {type(thresholds).__name__}, expected a mapping such as {{'toxic': 0.8}}, or the path of a "
        "file of thresholds."
    )


def apply_chosen(
    chosen: ChosenThresholds | None, labels: Sequence[str], shipped: Sequence[float], *, calibrated: bool
) -> tuple[float, ...]:
    """Thresholds in label order: those that were set, and for all other labels the bundle's.

    Args:
        chosen: What was set; None: nothing.
        labels: Of the model.
        shipped: The bundle's thresholds, in the order of the labels.
        calibrated: Whether the model's probabilities are calibrated.

    Raises:
        ConfigError: the model does not have a label, or the thresholds were tuned on the other kind of
            probabilities.
    """
    if chosen is None:
        return tuple(shipped)
    named = dict.fromkeys([*chosen.values, *(label for own in chosen.by_language.values() for label in own)])
    unknown = [label for label in named if label not in labels]
    if unknown:
        listed = f"{', '.join(map(_show, unknown[:10]))} {'is not a label' if len(unknown) == 1 else 'are not labels'}"
        raise ConfigError(f"{chosen.where}: {listed} of this model. Its labels: {', '.join(labels)}.")
    if chosen.calibrated is not None and chosen.calibrated != calibrated:
        words = {True: "calibrated", False: "uncalibrated"}
        raise ConfigError(
            f"{chosen.where}: tuned on {words[chosen.calibrated]} probabilities; this model's are "
            f"{words[calibrated]}. Tune on predictions of the run that the bundle was exported from, or, where you "
            "know better, set the numbers with --threshold LABEL=NUMBER."
        )
    return tuple(chosen.values.get(label, threshold) for label, threshold in zip(labels, shipped, strict=True))


def warn_of_other_bundle(chosen: ChosenThresholds | None, *bundles: str) -> None:
    """Warn if thresholds were found for a bundle other than the one that they will be used with.

    Args:
        chosen: What was set; None: nothing.
        bundles: `name@version` of each model, with twelve digits.
    """
    if chosen is not None and chosen.made_for and set(chosen.made_for) != set(bundles):
        logger.warning(
            "%s: thresholds that were made for %s; this model is %s, which gives other probabilities. Make new ones "
            "(moderation migrate --model FOLDER, or on the server's page), or leave them out to use the bundle's own.",
            *(chosen.where, " and ".join(chosen.made_for), " and ".join(bundles)),
        )


def _read_made_for(about: Mapping[str, Any]) -> tuple[str, ...]:
    """The bundles in a `model_version` of this toolkit, without the engines; empty: there are none."""
    version = about.get("model_version")
    parts = version.split("+") if isinstance(version, str) and version.isprintable() else []
    found = [_MODEL_VERSION.fullmatch(part) for part in parts]
    return tuple(match["name"] for match in found if match) if all(found) else ()


def _check_by_language(content: Mapping[str, Any], where: str) -> dict[str, dict[str, float]]:
    own = content.get("by_language") or {}
    if not isinstance(own, dict) or not all(isinstance(values, dict) for values in own.values()):
        raise ConfigError(f"{where}: by_language is not an object of languages; {_EXPECTED}.")
    codes = [base_language(code) for code in own]
    if UNDETERMINED in codes or len(set(codes)) < len(codes) or not all(name_languages([code]) for code in codes):
        raise ConfigError(f"{where}: by_language: expected different codes such as tr or ur-Latn; {_EXPECTED}.")
    return {code: _check_values(values, where) for code, values in zip(codes, own.values(), strict=True) if values}


def _read_object(path: Path) -> dict[str, object]:
    try:
        text = read_bytes(path, _LARGEST).decode("utf-8-sig")
        content = json.loads(text, object_pairs_hook=unique_pairs)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; {_EXPECTED}.") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}.") from None
    except RepeatedName as error:
        raise ConfigError(f"{path}: {_show(error.name)} is set more than once. Set each label once.") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path}: not valid JSON; {_EXPECTED}.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a JSON object; {_EXPECTED}.")
    return content


def _check_values(values: Mapping[Any, Any], where: str) -> dict[str, float]:
    if not values:
        raise ConfigError(f"{where}: contains no threshold; {_EXPECTED}.")
    found = {}
    for label, value in values.items():
        if not isinstance(label, str) or not label:
            raise ConfigError(f"{where}: a label is not a name; {_EXPECTED}.")
        number = value.get("threshold") if isinstance(value, dict) else value
        found[label] = _check_value(label, number, where)
    return found


def _check_value(label: str, value: object, where: str, *, from_text: bool = False) -> float:
    """The threshold as the float32 number used in comparisons; 0 would flag every text."""
    if from_text:
        try:
            value = float(str(value)) if "_" not in str(value) else None  # Python would read 0_5 as 5
        except ValueError:
            _refuse(label, where)
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        _refuse(label, where)
    try:
        number = float(value)
    except OverflowError:
        _refuse(label, where)
    if not math.isfinite(number) or not 0 < number <= 1 or float(np.float32(number)) == 0:
        _refuse(label, where)
    return number


def _refuse(label: str, where: str) -> NoReturn:
    raise ConfigError(
        f"{where}: the threshold of {_show(label)} must be a number above 0 and at most 1. A label is flagged where "
        "its probability reaches its threshold: 0 would flag every text, 1 almost none."
    )


def _show(label: str) -> str:
    """A label for a message; a name that looks like a text, as in a wrong file, is left out."""
    return repr(label) if len(label) <= 40 and _NAME.fullmatch(label) else f"(a name of {len(label)} characters)"
