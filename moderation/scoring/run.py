"""From a file to a file, by way of parts that are kept; from a file to standard output; from lines to a file.

This is what of scoring needs Arrow.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from moderation.artifacts import resolve_target, sha256, write_atomically
from moderation.cores import count_cores
from moderation.errors import ArtifactError, ConfigError, DataError
from moderation.extras import package_version
from moderation.inference.backends import backends
from moderation.inference.classifier import Classifier
from moderation.locks import claimed
from moderation.scoring.batch import check_free_names, score_batch, scored_schema
from moderation.scoring.cells import encode_json_lines
from moderation.scoring.json_lines import OBJECT
from moderation.scoring.lines import Line
from moderation.scoring.options import ScoreConfig
from moderation.scoring.origins import Origin, check_sidecar, encode_metadata, write_sidecar
from moderation.scoring.progress import Pace, Progress
from moderation.scoring.readers import Chunk, StreamedTable, open_table
from moderation.scoring.records import PIPE_COLUMN, NamesLanguages, result_names
from moderation.scoring.resume import Part, Parts, check_output, describe_file
from moderation.scoring.summary import ScoreSummary
from moderation.scoring.writers import OutputFormat, open_output, output_format, row_bytes
from moderation.tables.csv_dialects import CsvDialect

logger = logging.getLogger(__name__)

PART_S = 15.0  # of computing, after which a part is finished

_LONGEST_NAME = 220  # bytes of an output's: files that stand beside it for a while have longer ones, of up to 255

_State = tuple[int, int, int] | None


@dataclass(frozen=True)
class Job:
    """What is to be scored, and by what.

    Args:
        config: Settings of the verb.
        classifier: Loaded.
        languages: Tells the language of a text; None: nobody does.
        summary: Counts what was done.
        output: The file to write, as `claim_output` found it; `-` for standard output.
        clock: Seconds that only grow.
    """

    config: ScoreConfig
    classifier: Classifier
    languages: NamesLanguages | None
    summary: ScoreSummary
    output: Path
    clock: Callable[[], float] = time.monotonic

    @property
    def form(self) -> OutputFormat:
        """How it is written."""
        return output_format(Path(self.config.output or "-"), csv_safe=self.config.csv_safe)

    @property
    def input_path(self) -> Path:
        """The file to read."""
        return Path(self.config.input_path or "-")


@contextmanager
def claim_output(config: ScoreConfig) -> Iterator[Path | None]:
    """Be the only one to write the output; refuse what can be refused before anything is loaded.

    Yields:
        The file to write; None: standard output. Of a link it is what the link points to now, so that parts stand
            beside it, and the link itself stays; wherever links point later, no other file is written.

    Raises:
        ModerationError: an output that cannot be written, that another run writes, or that was not given up.
    """
    if str(config.output or "-") == "-":
        yield None
        return
    output = resolve_target(Path(config.output or "-"))
    form = _check_output_name(config, output)
    with claimed(output, "score", source=config.input_path):
        check_output(output, resume=config.resume, overwrite=config.overwrite)
        if form.table != "parquet":
            check_sidecar(output)
        yield output


def _check_output_name(config: ScoreConfig, target: Path) -> OutputFormat:
    output, source = Path(config.output or "-"), config.input_path
    if len(os.fsencode(target.name)) > _LONGEST_NAME:
        raise ConfigError(f"--output {output}: the name is too long; expected up to {_LONGEST_NAME} bytes.")
    form = output_format(output, csv_safe=config.csv_safe)
    if source is not None and str(source) != "-":
        same = output.resolve() == source.resolve()
        with suppress(OSError):
            same = same or output.samefile(source)
        if same:
            raise ConfigError(f"--output {output}: this is the input itself. Name another file.")
    return form


def stream_file(job: Job, write: Callable[[bytes], None]) -> None:
    """Score a file and hand on JSON lines.

    Raises:
        ModerationError: the input cannot be read or changed meanwhile.
    """
    before = _state(job.input_path)
    job, table = _open(job, keep_objects=True)
    pace = Pace(job.clock)
    try:
        with Progress(table.n_rows, clock=job.clock) as progress:
            for chunk in _unchanged(job.input_path, before, table.chunks(job.config.chunk_rows)):
                progress.expect(job.summary.n_rows + chunk.batch.num_rows, chunk.share)
                for scored in _steps(job, pace, chunk, job.config.text_column):
                    write(encode_json_lines(scored))
                    _count(job.summary, scored)
                    progress.advance(scored.num_rows)
    except _Touched as error:
        raise DataError(f"{error} Run the command again once nothing writes to it.") from error
    job.summary.n_new = job.summary.n_rows


def score_lines(job: Job, lines: Iterable[list[Line]]) -> None:
    """Score lines as they come, into a file; what has come is written also where Ctrl-C or an error ends it."""
    config, summary, form = job.config, job.summary, job.form
    plain = pa.schema([(PIPE_COLUMN, pa.string())])
    schema = scored_schema(plain, job.classifier.labels, PIPE_COLUMN, flag_columns=config.flag_columns)
    origin = Origin(job.classifier, {"name": "-", "bytes": None, "sha256": None}, _settings(job, PIPE_COLUMN))
    ended: BaseException | None = None

    def about() -> dict[str, Any]:
        return origin.to_plain(summary.n_rows, summary.n_failed)

    with write_atomically(job.output) as temporary:
        with temporary.open("wb") as file, open_output(file, form, schema, lambda: encode_metadata(about())) as write:
            try:
                with Progress(on_terminal=False, clock=job.clock) as progress:
                    for scored in _score_lines(job, lines):
                        write(scored)
                        file.flush()
                        _count(summary, scored)
                        progress.advance(scored.num_rows)
            except OSError:  # of writing, so that the file cannot be ended either
                raise
            except (KeyboardInterrupt, Exception) as error:
                if not (summary.n_rows or isinstance(error, KeyboardInterrupt)):
                    raise
                ended = error
        if form.table != "parquet":
            write_sidecar(job.output, about(), describe_file(temporary))
    summary.n_new = summary.n_rows
    if ended is not None:
        logger.info("%s: holds the %s rows that had come and were finished.", job.output, f"{summary.n_rows:,}")
        raise ended


def score_file(job: Job) -> None:
    """From file to file. Every part that is finished is kept until the output is whole.

    Raises:
        ModerationError: the input cannot be read or changed meanwhile, parts of another run, a full disk.
    """
    before = _state(job.input_path)  # before the first look into it
    job, table = _open(job, keep_objects=job.form.table == "jsonl")
    config = job.config
    facts = {"name": job.input_path.name} | describe_file(job.input_path)
    parts = Parts(job.output, _fingerprint(job, table, facts))
    kept = parts.begin(resume=config.resume)
    if config.resume:
        logger.info("%s", f"Going on behind {len(kept)} finished parts." if kept else "No finished parts; starting.")
    found = list(kept)
    try:
        with Progress(table.n_rows, clock=job.clock) as progress:
            chunks = _unchanged(job.input_path, before, table.chunks(config.chunk_rows))
            for part in _finish_parts(job, chunks, parts, kept, progress):
                found.append(part)
                job.summary.n_new += part.n_rows
        if sha256(job.input_path) != facts["sha256"]:  # on a file system that does not tell a change by its times
            raise DataError(f"{job.input_path}: changed while it was read. Start anew with --overwrite.")
        origin = Origin(job.classifier, facts, _settings(job, config.text_column))
        _join(job, table, parts, sorted(found), origin)
    except ArtifactError as error:
        raise ArtifactError(f"{error}\n{_kept(found)}") from error
    except _Touched as error:
        raise DataError(f"{error} {_kept(found)} It is refused where the content is another one.") from error
    except KeyboardInterrupt:
        logger.info("%s", _kept(found))
        raise


def _open(job: Job, *, keep_objects: bool) -> tuple[Job, StreamedTable]:
    """Open the input; the job then names the column that holds the texts."""
    config = job.config
    table = open_table(
        job.input_path,
        text_column=config.text_column,
        dialect=CsvDialect(delimiter=config.delimiter, quoting=config.quoting, escape=config.escape),
        keep_objects=keep_objects,
        results=result_names(job.classifier.labels, flag_columns=config.flag_columns),
    )
    check_free_names(table.names, job.classifier.labels, str(job.input_path), flag_columns=config.flag_columns)
    return replace(job, config=replace(config, text_column=table.text_column)), table


class _Touched(DataError):
    """An input is no longer what it was when it was opened, or was given other times or rights."""


def _unchanged(path: Path, before: _State, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Hand on what was read as long as the file is what it was: no row of another content goes on.

    Raises:
        DataError: it changed.
    """
    for chunk in chunks:
        if _state(path) != before:
            raise _Touched(f"{path}: was changed, or touched, while it was read.")
        yield chunk


def _finish_parts(
    job: Job, chunks: Iterable[Chunk], parts: Parts, kept: list[Part], progress: Progress
) -> Iterator[Part]:
    """Score what stands in no part that is kept, and yield each new part when it is written."""
    pace, ahead = Pace(job.clock), deque(kept)
    first = 0
    for chunk in chunks:
        end = first + chunk.batch.num_rows
        while ahead and ahead[0].end <= first:
            ahead.popleft()
        missing = list(missing_rows(first, end, ahead))
        progress.expect(end, chunk.share)
        progress.keep(end - first - sum(stop - start for start, stop in missing))
        for start, stop in missing:
            yield from _score_rows(job, pace, _slice(chunk, start - first, stop - first), start, parts, progress)
        first = end


def missing_rows(first: int, end: int, kept: Iterable[Part]) -> Iterator[tuple[int, int]]:
    """Ranges of the rows from `first` to before `end` that stand in no part.

    >>> list(missing_rows(0, 10, [Part(2, 3, ""), Part(5, 1, ""), Part(8, 9, "")]))
    [(0, 2), (6, 8)]
    """
    for part in kept:
        if first < min(part.first, end):
            yield first, min(part.first, end)
        first = max(first, part.end)
        if first >= end:
            return
    if first < end:
        yield first, end


def _score_rows(job: Job, pace: Pace, chunk: Chunk, first: int, parts: Parts, progress: Progress) -> Iterator[Part]:
    """Score rows that follow each other; a part ends with them, or when it has taken long enough."""
    held: list[pa.RecordBatch] = []
    began = job.clock()
    for scored in _steps(job, pace, chunk, job.config.text_column):
        held.append(scored)
        progress.advance(scored.num_rows)
        if job.clock() - began >= PART_S:
            yield (part := parts.write(first, held))
            first, held, began = part.end, [], job.clock()
    if held:
        yield parts.write(first, held)


def _steps(job: Job, pace: Pace, chunk: Chunk, text_column: str) -> Iterator[pa.RecordBatch]:
    """Scored rows of a chunk, a few seconds' worth at a time."""
    for start, stop in pace.steps(row_bytes(chunk.batch.select([text_column])).tolist()):
        part = _slice(chunk, start, stop)
        yield score_batch(
            job.classifier,
            part.batch,
            text_column=text_column,
            errors=part.errors,
            languages=job.languages,
            flag_columns=job.config.flag_columns,
        )


def _slice(chunk: Chunk, start: int, stop: int) -> Chunk:
    return Chunk(chunk.batch.slice(start, stop - start), chunk.errors.slice(start, stop - start), chunk.share)


def _score_lines(job: Job, lines: Iterable[list[Line]]) -> Iterator[pa.RecordBatch]:
    pace = Pace(job.clock)
    for some in lines:
        texts = pa.array([text for text, _ in some], pa.string())
        errors = pa.array([error for _, error in some], pa.string())
        batch = pa.RecordBatch.from_arrays([texts], names=[PIPE_COLUMN])
        yield from _steps(job, pace, Chunk(batch, errors), PIPE_COLUMN)


def _join(job: Job, table: StreamedTable, parts: Parts, found: list[Part], origin: Origin) -> None:
    """Make the output out of its parts, and say beside it or in it where it comes from."""
    summary, config, form = job.summary, job.config, job.form
    schema = scored_schema(table.schema, job.classifier.labels, config.text_column, flag_columns=config.flag_columns)

    def about() -> dict[str, Any]:
        return origin.to_plain(summary.n_rows, summary.n_failed)

    finished = parts.finish(
        found,
        form,
        schema,
        metadata=lambda: encode_metadata(about()),
        beside=None if form.table == "parquet" else lambda made: write_sidecar(job.output, about(), made),
    )
    with tqdm(total=sum(part.n_rows for part in found), desc="Write", unit=" rows", disable=None) as bar:
        for batch in finished:
            _count(summary, batch)
            bar.update(batch.num_rows)


def _count(summary: ScoreSummary, batch: pa.RecordBatch) -> None:
    summary.add(*(batch.column(name).to_pylist() for name in ("flagged", "detected_language", "error")))


def _kept(parts: list[Part]) -> str:
    n_rows = sum(part.n_rows for part in parts)
    return f"{n_rows:,} rows are finished and kept; run the same command with --resume to go on from there."


def _settings(job: Job, text_column: str) -> dict[str, Any]:
    """Settings on which the content of the output depends."""
    config = job.config
    found: dict[str, Any] = {
        "text_column": text_column,
        "delimiter": config.delimiter,
        "quoting": config.quoting,
        "escape": config.escape,
        "flag_columns": config.flag_columns,
        "languages": job.languages is not None,
    }
    if config.csv_safe:
        found["csv_safe"] = True
    if backends()[job.classifier.backend_name].shares_window:  # whose last digits depend on it
        found["threads"] = config.threads or count_cores()
    return found


def _fingerprint(job: Job, table: StreamedTable, facts: dict[str, Any]) -> dict[str, Any]:
    """All on which the bytes of the output depend."""
    classifier = job.classifier
    engine = backends()[classifier.backend_name].run_needs
    packages = (*sorted(engine), "tokenizers", "py3langid", "content-moderation")
    return (
        {f"input_{name}": value for name, value in facts.items()}
        | {"model": f"{classifier.bundle.name}@{classifier.bundle.version}/{classifier.backend_name}"}
        | {"thresholds": classifier.thresholds_by_label, "thresholds_from": classifier.thresholds_from}
        | _settings(job, job.config.text_column)
        | {"objects_kept": OBJECT in table.schema.names}
        | {package: package_version(package) for package in packages}
    )


def _state(path: Path) -> _State:
    """What changes where a file changes; None: there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns  # the last cannot be set back
