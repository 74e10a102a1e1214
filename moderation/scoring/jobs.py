"""A scoring job: input, classifier, output, and everything on which the output depends."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from moderation.artifacts import resolve_target
from moderation.documents import to_plain
from moderation.errors import ConfigError
from moderation.extras import package_version
from moderation.inference.backends import backends
from moderation.inference.classifier import Classifier
from moderation.locks import claimed
from moderation.manifests import FileFacts
from moderation.scoring.batch import check_free_names
from moderation.scoring.json_lines import OBJECT
from moderation.scoring.options import ScoreOptions
from moderation.scoring.origins import check_sidecar
from moderation.scoring.readers import StreamedTable, open_table
from moderation.scoring.records import NamesLanguages, result_names
from moderation.scoring.resume import check_output
from moderation.scoring.summary import ScoreSummary
from moderation.scoring.writers import OutputFormat, output_format
from moderation.tables.csv_dialects import CsvDialect

_LONGEST_NAME = 220  # bytes of an output's name: temporary files next to it have longer names, of up to 255 bytes


@dataclass(frozen=True)
class Job:
    """What to score, and with which classifier.

    Args:
        options: What to read and how to write it.
        classifier: Loaded.
        languages: Detects the language of a text; None: not detected.
        summary: Counts the results.
        output: The file to write, as `claim_output` found it; `-` for standard output.
        clock: A monotonic clock, in seconds.
    """

    options: ScoreOptions
    classifier: Classifier
    languages: NamesLanguages | None
    summary: ScoreSummary
    output: Path
    clock: Callable[[], float] = time.monotonic

    @property
    def form(self) -> OutputFormat:
        """The format of the output."""
        return output_format(Path(self.options.output or "-"), csv_safe=self.options.csv_safe)

    @property
    def input_path(self) -> Path:
        """The file to read."""
        return Path(self.options.input_path or "-")


@contextmanager
def claim_output(options: ScoreOptions) -> Iterator[Path | None]:
    """Lock the output against other runs, and check what can be checked before anything is loaded.

    Yields:
        The file to write; None: standard output. For a link, it is the target that the link has now, so that parts are
            next to the target, the link itself stays, and a link that changes later does not matter.

    Raises:
        ModerationError: an output that cannot be written, that another run writes, or that may not be replaced.
    """
    if options.writes_pipe:
        yield None
        return
    output = resolve_target(Path(options.output or "-"))
    form = _check_output_name(options, output)
    with claimed(output, "score", source=options.input_path):
        check_output(output, resume=options.resume, overwrite=options.overwrite)
        if not form.holds_record:
            check_sidecar(output)
        yield output


def _check_output_name(options: ScoreOptions, target: Path) -> OutputFormat:
    output, source = Path(options.output or "-"), options.input_path
    if len(os.fsencode(target.name)) > _LONGEST_NAME:
        raise ConfigError(f"--output {output}: the name is too long; expected up to {_LONGEST_NAME} bytes.")
    form = output_format(output, csv_safe=options.csv_safe)
    if source is not None and not options.reads_pipe:
        same = output.resolve() == source.resolve()
        with suppress(OSError):
            same = same or output.samefile(source)
        if same:
            raise ConfigError(f"--output {output}: this is the input file. Name another file.")
    return form


def open_input(job: Job, *, keep_objects: bool) -> tuple[Job, StreamedTable]:
    """Open the input; the returned job names the column that holds the texts."""
    options = job.options
    table = open_table(
        job.input_path,
        text_column=options.text_column,
        dialect=CsvDialect(delimiter=options.delimiter, quoting=options.quoting, escape=options.escape),
        keep_objects=keep_objects,
        results=result_names(job.classifier.labels, flag_columns=options.flag_columns),
    )
    check_free_names(table.names, job.classifier.labels, str(job.input_path), flag_columns=options.flag_columns)
    return replace(job, options=replace(options, text_column=table.text_column)), table


def settings_of(job: Job, text_column: str) -> dict[str, object]:
    """Settings on which the content of the output depends, as plain values."""
    options = job.options
    found: dict[str, object] = {
        "text_column": text_column,
        "delimiter": options.delimiter,
        "quoting": options.quoting,
        "escape": options.escape,
        "flag_columns": options.flag_columns,
        "languages": job.languages is not None,
    }
    if options.csv_safe:
        found["csv_safe"] = True
    engines = [backends()[model.backend_name] for model in job.classifier.models]
    if any(engine.shares_window for engine in engines):  # the last digits depend on the number of threads
        found["threads"] = job.classifier.threads
    return found


def fingerprint(job: Job, table: StreamedTable, content: FileFacts) -> dict[str, object]:
    """Everything on which the bytes of the output depend, as plain values.

    Args:
        job: The job.
        table: The opened file.
        content: Its size and hash.
    """
    classifier, models = job.classifier, job.classifier.models
    engines = {package for model in classifier.models for package in backends()[model.backend_name].run_needs}
    packages = (*sorted(engines), "tokenizers", "py3langid", "content-moderation")
    return (
        {"input_name": job.input_path.name, "input_bytes": content.bytes, "input_sha256": content.sha256}
        | {"model": "+".join(f"{model.bundle.name}@{model.bundle.version}/{model.backend_name}" for model in models)}
        | {"thresholds": classifier.thresholds_by_label, "thresholds_from": classifier.thresholds_from}
        | ({} if classifier.router is None else {"tunings": _digest(classifier)})
        | settings_of(job, job.options.text_column)
        | {"objects_kept": OBJECT in table.schema.names}
        | {package: package_version(package) for package in packages}
    )


def _digest(classifier: Classifier) -> str:
    """A hash of all calibrators and thresholds; those of a run folder are not in its version."""
    content = [to_plain(tunings) for tunings in classifier.tunings]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
