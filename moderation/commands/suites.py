"""`moderation evaluate BUNDLE --suite ...`: measure a bundle on test suites by other authors."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from moderation.artifacts import resolve_target, write_atomically
from moderation.bundles import AUTO
from moderation.config import EvaluateConfig
from moderation.data.options import TableOptions
from moderation.evaluation.chosen_thresholds import choose_thresholds
from moderation.inference.classifier import Classifier
from moderation.language_codes import ANY_LANGUAGE
from moderation.locks import claimed
from moderation.suites.measuring import measure_suites
from moderation.suites.records import SUITES, record_suites
from moderation.suites.registry import parse_suites
from moderation.suites.results import SuitesReport
from moderation.suites.summary import format_suites, render_page


def suites(config: EvaluateConfig) -> int:
    """Measure a bundle on every suite, print the tables, and write JSON and a page if requested.

    Returns:
        0.

    Raises:
        ModerationError: a bundle or a suite cannot be read, or a file cannot be written.
    """
    with _claimed(config):
        measured = _measure(config)
        print(format_suites(measured))
        _write(measured, config)
    written = [str(path) for path in (config.json_path, config.html_path) if path is not None]
    if written:
        print("\n" + "\n".join(written))
    return 0


def measure_bundle(config: EvaluateConfig) -> SuitesReport:
    """Like `suites`, but print nothing.

    Raises:
        ModerationError: as there.
    """
    with _claimed(config):
        measured = _measure(config)
        _write(measured, config)
    return measured


@contextmanager
def _claimed(config: EvaluateConfig) -> Iterator[None]:
    named = (path for path in (config.json_path, config.html_path) if path is not None)
    outputs = dict.fromkeys(map(resolve_target, named))  # refuses a folder or a link to nothing before the work
    with ExitStack() as claims:
        for path in outputs:
            claims.enter_context(claimed(path, "evaluate"))
        yield


def _measure(config: EvaluateConfig) -> SuitesReport:
    suites = parse_suites(config.of_bundle.suite)
    chosen = choose_thresholds(config.thresholds, config.of_bundle.threshold)
    with Classifier.load(
        config.bundle or AUTO, backend=config.of_bundle.backend, threads=config.threads, thresholds=chosen
    ) as classifier:
        given = config.table.given
        if "detect_language" not in given:  # which keeps English
            given = {"languages": classifier.languages or (ANY_LANGUAGE,)} | given
        return measure_suites(classifier, suites, config.suite_options, TableOptions(**given))


def _write(measured: SuitesReport, config: EvaluateConfig) -> None:
    if config.json_path is not None:
        SUITES.write(resolve_target(config.json_path), record_suites(measured))
    if config.html_path is not None:
        page = render_page(measured)
        with write_atomically(resolve_target(config.html_path)) as temporary:
            temporary.write_text(page, encoding="utf-8")
