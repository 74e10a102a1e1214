"""`moderation evaluate BUNDLE --suite ...`: what a bundle is worth on suites that others wrote."""

from contextlib import ExitStack

from moderation.artifacts import resolve_target, write_atomically, write_json
from moderation.bundles import SHIPPED
from moderation.config import EvaluateConfig
from moderation.data.cleaning import TableForm
from moderation.evaluation.chosen_thresholds import choose_thresholds
from moderation.inference.classifier import Classifier
from moderation.locks import claimed
from moderation.suites.measuring import measure_suites
from moderation.suites.registry import parse_suites
from moderation.suites.results import Options
from moderation.suites.summary import format_suites, render_page, to_json


def suites(config: EvaluateConfig) -> int:
    """Measure a bundle on every suite, print the tables, write JSON and a page where they were asked for.

    Returns:
        0.

    Raises:
        ModerationError: a bundle or a suite that cannot be read, or a file that cannot be written.
    """
    outputs = dict.fromkeys(path.resolve() for path in (config.json_path, config.html_path) if path is not None)
    with ExitStack() as claims:
        for path in outputs:
            claims.enter_context(claimed(path, "evaluate"))
        return _measure(config)


def _measure(config: EvaluateConfig) -> int:
    suites = parse_suites(config.suite)
    chosen = choose_thresholds(config.thresholds, config.threshold)
    options = Options(bootstrap=config.bootstrap, seed=config.seed, max_texts=config.max_texts)
    with Classifier.load(
        config.bundle or SHIPPED, backend=config.backend, threads=config.threads, thresholds=chosen
    ) as classifier:
        measured = measure_suites(classifier, suites, options, TableForm(**config.table_settings))
    print(format_suites(measured))
    written = []
    if config.json_path is not None:
        write_json(resolve_target(config.json_path), to_json(measured))
        written.append(config.json_path)
    if config.html_path is not None:
        page = render_page(measured)
        with write_atomically(resolve_target(config.html_path)) as temporary:
            temporary.write_text(page, encoding="utf-8")
        written.append(config.html_path)
    if written:
        print("\n" + "\n".join(map(str, written)))
    return 0
