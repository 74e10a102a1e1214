"""Bundle and suites -> the report: all files are read before scoring, so that a wrong one is reported at once."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from moderation.artifacts import sha256
from moderation.data.cleaning import PLAIN_FORM
from moderation.data.options import TableOptions
from moderation.data.training_texts import Digests, count_seen, read_sketch
from moderation.errors import DataError
from moderation.inference.classifier import Classifier
from moderation.options import flatten
from moderation.suites.hatecheck import files_of
from moderation.suites.options import SuiteOptions
from moderation.suites.registry import Kind, Suite, find_kind
from moderation.suites.results import MeasuredSuite, SuitesReport
from moderation.suites.rows import take_rows
from moderation.suites.scorer import Scorer
from moderation.tables.options import TEXT_COLUMN

logger = logging.getLogger(__name__)

_TEXT_COLUMNS = (TEXT_COLUMN, "text", "test_case", "Text")  # of the kinds of suites


def measure_suites(
    classifier: Classifier, suites: Sequence[Suite], options: SuiteOptions, form: TableOptions = PLAIN_FORM
) -> SuitesReport:
    """Read all suites, then measure them in turn; a text that is in several is computed once.

    Args:
        classifier: Of the bundle.
        suites: In the order of the results.
        options: How to measure.
        form: How their tables are written.

    Raises:
        DataError: all suites that cannot be read, in one message.
    """
    started = time.monotonic()
    scorer = Scorer(classifier)
    readings = _read_all(suites, scorer, form)
    sketches = [read_sketch(model.bundle) for model in classifier.models]
    measured = tuple(
        _measure(suite, kind, frame, scorer, options, _count_seen(frame, sketches))
        for suite, (kind, frame) in zip(suites, readings, strict=True)
    )
    return SuitesReport(
        model_version=classifier.model_version,
        bundle_version=classifier.bundle.version,
        thresholds=classifier.thresholds_by_label,
        thresholds_from=classifier.thresholds_from,
        languages=classifier.languages,
        options=options,
        table_settings={name: value for name, value in flatten(form).items() if value != getattr(PLAIN_FORM, name)},
        suites=measured,
        seconds=round(time.monotonic() - started, 1),
        n_computed=scorer.n_computed,
    )


def _read_all(suites: Sequence[Suite], scorer: Scorer, form: TableOptions) -> list[tuple[Kind, pd.DataFrame]]:
    readings, problems = [], []
    for suite in suites:
        try:
            kind = find_kind(suite, scorer.bundle, form)
            readings.append((kind, kind.read(suite.path, scorer.bundle, form)))
        except DataError as error:
            problems.append(f"suite {suite.name}: {error}")
    if problems:
        raise DataError("\n".join(problems))
    return readings


def _count_seen(frame: pd.DataFrame, sketches: Sequence[Digests | None]) -> str:
    """How many of a suite's texts were in a model's training data, by the bundles' sketches; empty without any."""
    column = next((name for name in _TEXT_COLUMNS if name in frame.columns), None)
    known = [sketch for sketch in sketches if sketch is not None]
    if column is None or not known:
        return ""
    return "; ".join(dict.fromkeys(str(count_seen(frame[column], sketch)) for sketch in known))


def _measure(
    suite: Suite, kind: Kind, frame: pd.DataFrame, scorer: Scorer, options: SuiteOptions, note: str
) -> MeasuredSuite:
    started = time.monotonic()
    part = frame if kind.takes_part else take_rows(frame, options.max_texts, options.seed)
    result = kind.measure(part, scorer, options)
    if note:
        logger.warning("%s: %s", suite.name, note)
        result = replace(result, notes=(note, *result.notes))
    seconds = round(time.monotonic() - started, 1)
    logger.info("%s (%s): %d of %d rows in %.0f s.", suite.name, kind.name, result.n_rows, len(frame), seconds)
    return MeasuredSuite(
        name=suite.name,
        kind=kind.name,
        path=str(suite.path),
        files={file.name: sha256(file) for file in files_of(suite.path)},
        n_rows=len(frame),
        seconds=seconds,
        result=result,
        of_authors=bool(frame.attrs.get("of_authors", True)),
    )
