"""`moderation score`: classify every text of a file, chunk by chunk, and save what is finished.

Lines of standard input, and one text, are scored to standard output without Arrow; files need it.
"""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

from moderation.bundles import AUTO
from moderation.config import ScoreConfig
from moderation.data.languages import Languages
from moderation.errors import ArtifactError, ConfigError, DataError, MissingExtraError
from moderation.escapes import escape_json
from moderation.evaluation.chosen_thresholds import choose_thresholds
from moderation.inference.classifier import Classifier
from moderation.scoring.lines import Line, pipe_lines
from moderation.scoring.origins import describe_thresholds
from moderation.scoring.progress import Pace, Progress
from moderation.scoring.records import PIPE_COLUMN, score_texts
from moderation.scoring.summary import ScoreSummary
from moderation.tables.encodings import NO_UTF8
from moderation.tables.formats import FORMATS, is_named_as_table

logger = logging.getLogger(__name__)

ROWS_FAILED = 3


def score(config: ScoreConfig) -> int:
    """Score a file, standard input, or one text.

    From file to file, finished work is kept next to the output until the output is complete, so a run that was
    interrupted in any way continues with `resume` and produces the same bytes.

    Returns:
        0; 3 if some rows could not be scored; their column `error` says why. With `resume`, the same for an output that
        this command has already finished.

    Raises:
        ModerationError: input, output, model or settings are invalid.
    """
    started = time.monotonic()
    _check_input(config)
    options = config.table
    of_files = not (config.of_lines and options.writes_pipe)
    path = "-" if options.writes_pipe else os.fsencode(str(options.output)).decode("utf-8", "backslashreplace")
    claim: AbstractContextManager[Path | None] = nullcontext()
    if of_files:
        from moderation.scoring import jobs, run

        claim = jobs.claim_output(options)
    with (
        claim as target,
        Classifier.load(
            config.model or AUTO,
            backend=config.backend,
            threads=config.threads,
            thresholds=choose_thresholds(config.thresholds, config.threshold),
        ) as classifier,
    ):
        summary = ScoreSummary(classifier.labels, classifier.languages, describe_thresholds(classifier))
        languages = _load_languages(classifier)
        with _open_lines(config) as lines:
            if not of_files:
                _stream_lines(config, classifier, languages, lines, summary)
            else:
                job = jobs.Job(options, classifier, languages, summary, target or Path("-"))
                if config.of_lines:
                    run.score_lines(job, lines)
                elif options.writes_pipe:
                    run.stream_file(job, _write_to_stdout)
                elif finished := run.score_file(job):
                    n_rows, n_failed = finished
                    counted = f"rows: {n_rows:,}; with an error: {n_failed:,}"
                    _say(f"{path}: already complete, nothing to do ({counted}).", sys.stdout)
                    return ROWS_FAILED if n_failed else 0
    _say(summary.to_text(time.monotonic() - started, path), sys.stderr if options.writes_pipe else sys.stdout)
    return ROWS_FAILED if summary.n_failed else 0


def _check_input(config: ScoreConfig) -> None:
    """Refuse a text instead of a file (its words must not be repeated in the message), and a file without an output."""
    path = config.table.input_path
    if path is None or config.table.reads_pipe:
        return
    if not is_named_as_table(path) and not os.path.exists(path):  # noqa: PTH110 - a text may be too long for a path
        raise ConfigError(
            f"the input is not a file, and its ending is not that of a table ({FORMATS}). To score a "
            'text: moderation score --text "...", or: echo "..." | moderation score -'
        )
    if path.is_dir():
        raise DataError(f"{path}: this is a folder; expected a file that ends in {FORMATS}.")
    if config.table.output is None:
        raise ConfigError("--output is missing: name the file to write, or - for standard output.")


def _load_languages(classifier: Classifier) -> Languages | None:
    if classifier.recogniser is not None:
        return classifier.recogniser
    try:
        return Languages("The column detected_language", "languages", classifier.normalise)
    except MissingExtraError as error:
        logger.info("%s Until then it stays empty.", error)
        return None


@contextmanager
def _open_lines(config: ScoreConfig) -> Iterator[Iterable[list[Line]]]:
    """Lines of standard input as they arrive, or the one text; nothing for a file."""
    if config.text is not None:
        yield [[_as_line(config.text)]]
    elif not config.table.reads_pipe:
        yield []
    else:
        if sys.stdin.isatty():
            logger.info("Reading from the terminal: one text per line, end with Ctrl-D.")
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:
            yield pipe_lines(pipe)


def _as_line(text: str) -> Line:
    """An argument of the command line, treated like a line of the pipe: bytes that are not UTF-8 give an error."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"), NO_UTF8
    return text, None


def _stream_lines(
    config: ScoreConfig,
    classifier: Classifier,
    languages: Languages | None,
    lines: Iterable[list[Line]],
    summary: ScoreSummary,
) -> None:
    """Score lines as they arrive, and answer each as soon as it is scored."""
    pace, is_typed = Pace(), config.text is None and sys.stdin.isatty()
    with Progress(on_terminal=False) as progress:
        for some in lines:
            for start, stop in pace.steps([len(text or "") for text, _ in some]):
                texts, errors = zip(*some[start:stop], strict=True)
                found = score_texts(classifier, texts, errors, languages)
                _write_to_stdout(found.to_json_lines(texts, PIPE_COLUMN, flag_columns=config.table.flag_columns))
                flagged = found.flagged
                summary.add(
                    [None if place is None else flagged[place] for place in found.places],
                    [None if place is None else found.languages[place] for place in found.places],
                    found.errors,
                )
                if not is_typed:  # a person's typing speed is of no interest
                    progress.advance(stop - start)
    summary.n_new = summary.n_rows


def _say(summary: str, stream: TextIO) -> None:
    """Print the summary; if nobody reads it any more, the work is still done."""
    try:
        print(summary, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # otherwise Python would complain again at exit


def _write_to_stdout(lines: bytes) -> None:
    """Write at once, bypassing Python's buffer, where the rest would stay if the reader goes away.

    The lines are JSON, and have the same content with or without the escapes that a terminal needs.
    """
    content = memoryview(escape_json(lines))
    try:
        while content:
            content = content[os.write(sys.stdout.fileno(), content) :]
    except BrokenPipeError:
        raise ArtifactError("standard output: its reader closed it before everything was written.") from None
    except OSError as error:
        raise ArtifactError(f"standard output: could not be written ({error.strerror}). Free some space.") from None
