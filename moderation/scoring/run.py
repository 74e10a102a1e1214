"""Scoring from a file to a file, with parts that are kept; from a file to standard output; from lines to a file.

This is the part of scoring that needs Arrow.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from moderation.artifacts import sha256, write_atomically
from moderation.errors import ArtifactError, DataError
from moderation.scoring.batch import score_batch, scored_schema
from moderation.scoring.cells import encode_json_lines
from moderation.scoring.finished import check_finished
from moderation.scoring.jobs import Job, fingerprint, open_input, settings_of
from moderation.scoring.lines import Line
from moderation.scoring.origins import InputFacts, Origin, describe_file, encode_metadata
from moderation.scoring.progress import Pace, Progress
from moderation.scoring.readers import Chunk, StreamedTable
from moderation.scoring.records import PIPE_COLUMN
from moderation.scoring.resume import Part, Parts
from moderation.scoring.seals import seal
from moderation.scoring.summary import ScoreSummary
from moderation.scoring.writers import open_output, row_bytes

logger = logging.getLogger(__name__)

PART_S = 15.0  # computing time after which a part is finished

_State = tuple[int, int, int] | None


def stream_file(job: Job, write: Callable[[bytes], None]) -> None:
    """Score a file and pass JSON lines to `write`.

    Raises:
        ModerationError: the input cannot be read or changed meanwhile.
    """
    before = _state(job.input_path)
    job, table = open_input(job, keep_objects=True)
    pace = Pace(job.clock)
    try:
        with Progress(table.n_rows, clock=job.clock) as progress:
            for chunk in _unchanged(job.input_path, before, table.chunks(job.options.chunk_rows)):
                progress.expect(job.summary.n_rows + chunk.batch.num_rows, chunk.share)
                for scored in _steps(job, pace, chunk, job.options.text_column):
                    write(encode_json_lines(scored))
                    _count(job.summary, scored)
                    progress.advance(scored.num_rows)
    except _Touched as error:
        raise DataError(f"{error} Run the command again when nothing writes to it.") from error
    job.summary.n_new = job.summary.n_rows


def score_lines(job: Job, lines: Iterable[list[Line]]) -> None:
    """Score lines as they arrive, into a file; after Ctrl-C or an error it still holds the lines that had arrived."""
    options, summary, form = job.options, job.summary, job.form
    plain = pa.schema([(PIPE_COLUMN, pa.string())])
    schema = scored_schema(plain, job.classifier.labels, PIPE_COLUMN, flag_columns=options.flag_columns)
    origin = Origin(job.classifier, InputFacts("-"), settings_of(job, PIPE_COLUMN))
    ended: BaseException | None = None

    def about() -> dict[str, object]:
        return origin.to_plain(summary.n_rows, summary.n_failed)

    def metadata() -> dict[str, str]:
        return encode_metadata(about(), sealed=form.holds_record)

    with write_atomically(job.output) as temporary:
        with temporary.open("wb") as file, open_output(file, form, schema, metadata) as write:
            try:
                with Progress(on_terminal=False, clock=job.clock) as progress:
                    for scored in _score_lines(job, lines):
                        write(scored)
                        file.flush()
                        _count(summary, scored)
                        progress.advance(scored.num_rows)
            except OSError:  # from writing, so the file cannot be finished either
                raise
            except (KeyboardInterrupt, Exception) as error:
                if not (summary.n_rows or isinstance(error, KeyboardInterrupt)):
                    raise
                ended = error
        seal(temporary, job.output, form, about())
    summary.n_new = summary.n_rows
    if ended is not None:
        logger.info("%s: holds the %s rows that had arrived and were finished.", job.output, f"{summary.n_rows:,}")
        raise ended


def score_file(job: Job) -> tuple[int, int] | None:
    """Score from file to file. Every finished part is kept until the output is complete.

    Returns:
        If this run was to resume an output that is already finished: its number of rows, and of rows with an error;
        the output is not changed. None: this run made the output.

    Raises:
        ModerationError: the input cannot be read or changed meanwhile; an output or parts of another run; a full disk.
    """
    before = _state(job.input_path)  # before anything is read from it
    job, table = open_input(job, keep_objects=job.form.table == "jsonl")
    options, content = job.options, describe_file(job.input_path)
    origin = Origin(job.classifier, InputFacts(job.input_path.name, content), settings_of(job, options.text_column))
    parts = Parts(job.output, fingerprint(job, table, content))
    if options.resume and not options.overwrite and job.output.exists() and not parts.about.exists():
        return check_finished(job.output, origin.to_plain(0, 0), job.form)
    kept = parts.begin(resume=options.resume)
    if options.resume:
        logger.info("%s", f"Continuing after {len(kept)} finished parts." if kept else "No finished parts; starting.")
    found = list(kept)
    try:
        with Progress(table.n_rows, clock=job.clock) as progress:
            chunks = _unchanged(job.input_path, before, table.chunks(options.chunk_rows))
            for part in _finish_parts(job, chunks, parts, kept, progress):
                found.append(part)
                job.summary.n_new += part.n_rows
        if sha256(job.input_path) != content.sha256:  # on a file system whose times do not show a change
            raise DataError(f"{job.input_path}: changed while it was read. Start again with --overwrite.")
        _join(job, table, parts, sorted(found), origin)
    except ArtifactError as error:
        raise ArtifactError(f"{error}\n{_kept(found)}") from error
    except _Touched as error:
        raise DataError(f"{error} {_kept(found)} --resume is refused if the input's content has changed.") from error
    except KeyboardInterrupt:
        logger.info("%s", _kept(found))
        raise
    return None


class _Touched(DataError):
    """An input changed after it was opened, or its times or permissions did."""


def _unchanged(path: Path, before: _State, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Pass chunks on while the file is unchanged, so that no row of a changed file is scored.

    Raises:
        DataError: it changed.
    """
    for chunk in chunks:
        if _state(path) != before:
            raise _Touched(f"{path}: was changed or touched while it was read.")
        yield chunk


def _finish_parts(
    job: Job, chunks: Iterable[Chunk], parts: Parts, kept: list[Part], progress: Progress
) -> Iterator[Part]:
    """Score the rows that are in no kept part, and yield each new part when it is written."""
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
    """Ranges of the rows from `first` to before `end` that are in no part.

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
    """Score consecutive rows; a part ends with them, or when it has taken long enough."""
    held: list[pa.RecordBatch] = []
    began = job.clock()
    for scored in _steps(job, pace, chunk, job.options.text_column):
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
            flag_columns=job.options.flag_columns,
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
    """Make the output from its parts, and record its origin in it or next to it."""
    summary, options, form = job.summary, job.options, job.form
    schema = scored_schema(table.schema, job.classifier.labels, options.text_column, flag_columns=options.flag_columns)

    def about() -> dict[str, object]:
        return origin.to_plain(summary.n_rows, summary.n_failed)

    finished = parts.finish(
        found,
        form,
        schema,
        metadata=lambda: encode_metadata(about(), sealed=form.holds_record),
        seal=lambda whole: seal(whole, job.output, form, about()),
    )
    with tqdm(total=sum(part.n_rows for part in found), desc="Write", unit=" rows", disable=None) as bar:
        for batch in finished:
            _count(summary, batch)
            bar.update(batch.num_rows)


def _count(summary: ScoreSummary, batch: pa.RecordBatch) -> None:
    summary.add(*(batch.column(name).to_pylist() for name in ("flagged", "detected_language", "error")))


def _kept(parts: list[Part]) -> str:
    n_rows = sum(part.n_rows for part in parts)
    return f"{n_rows:,} rows are finished and kept; run the same command with --resume to continue from there."


def _state(path: Path) -> _State:
    """Values that change when a file changes; None: there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns  # the last cannot be set back
