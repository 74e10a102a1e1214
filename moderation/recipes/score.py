"""`moderation score`: classify every text of a file, chunk by chunk, and keep what is finished."""

import importlib.metadata
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from moderation.artifacts import sha256, write_atomically
from moderation.bundles import SHIPPED
from moderation.config import ScoreConfig
from moderation.data.languages import Languages
from moderation.errors import ArtifactError, ConfigError, DataError, MissingExtraError
from moderation.inference.backends import BACKENDS, count_cores
from moderation.inference.classifier import Classifier
from moderation.inference.json_lines import OBJECT
from moderation.inference.outputs import OutputFormat, encode_json_lines, open_output, output_format
from moderation.inference.parts import Parts
from moderation.inference.scoring import check_free_names, score_batch, scored_schema
from moderation.inference.streams import PIPE_COLUMN, Chunk, StreamedTable, open_table, pipe_chunks
from moderation.inference.tally import Tally

logger = logging.getLogger(__name__)

JSON_LINES = OutputFormat("jsonl")
ROWS_FAILED = 3

_State = tuple[int, int] | None


def score(config: ScoreConfig) -> int:
    """Score a file or standard input.

    From file to file, every finished chunk is kept beside the output until the output is whole, so that a run that was
    interrupted in whatever way goes on with `resume` and ends in the same bytes.

    Returns:
        0; 3 where some rows could not be scored, which then say why in the column `error`.

    Raises:
        ModerationError: input, output, model or settings that cannot be.
    """
    started = time.monotonic()
    piped, to_stdout = str(config.input_path) == "-", config.output is None or str(config.output) == "-"
    output = Path("-") if config.output is None or to_stdout else config.output
    form = JSON_LINES if to_stdout else output_format(output)
    if not to_stdout:
        _check_paths(config, output, piped)
    with Classifier.load(config.model or SHIPPED, backend=config.backend, threads=config.threads) as classifier:
        tally = Tally(classifier.labels, classifier.languages)
        languages = _load_languages(classifier)
        if piped:
            _score_pipe(config, classifier, languages, output, form, tally)
        else:
            before = _state(config.input_path)  # before the first look into it
            table = open_table(
                config.input_path,
                text_column=config.text_column,
                delimiter=config.delimiter,
                keep_objects=form.table == "jsonl",
            )
            check_free_names(table.names, classifier.labels, str(config.input_path))
            if to_stdout:
                with _progress(table.n_rows) as bar:
                    chunks = _watched(bar, table.chunks(config.chunk_rows))
                    _stream(classifier, languages, chunks, config.text_column, _write_to_stdout, tally)
            else:
                _score_file(config, classifier, languages, table, before, output, form, tally)
    print(tally.to_text(time.monotonic() - started, str(output)), file=sys.stderr if to_stdout else sys.stdout)
    return ROWS_FAILED if tally.n_failed else 0


def _check_paths(config: ScoreConfig, output: Path, piped: bool) -> None:
    """Refuse what can be refused before anything is loaded."""
    if not piped:
        same = output.resolve() == config.input_path.resolve()
        with suppress(OSError):
            same = same or output.samefile(config.input_path)
        if same:
            raise ConfigError(f"--output {output}: this is the input itself. Name another file.")
    Parts(output).check(resume=config.resume, overwrite=config.overwrite)


def _load_languages(classifier: Classifier) -> Languages | None:
    try:
        return Languages("The column detected_language", "languages", classifier.normalise)
    except MissingExtraError as error:
        logger.info("%s Until then it stays empty.", error)
        return None


def _score_file(
    config: ScoreConfig,
    classifier: Classifier,
    languages: Languages | None,
    table: StreamedTable,
    before: _State,
    output: Path,
    form: OutputFormat,
    tally: Tally,
) -> None:
    """From file to file, by way of the parts."""
    parts = Parts(output)
    n_found = parts.begin(_fingerprint(config, classifier, table, languages), resume=config.resume)
    if config.resume:
        logger.info("%s", f"Going on behind {n_found} finished parts." if n_found else "No finished parts; starting.")
    n_parts = n_kept = 0
    try:
        with _progress(table.n_rows) as bar:
            for chunk in table.chunks(config.chunk_rows):
                found = parts.read(n_parts) if n_parts < n_found else None
                if found is not None and found.num_rows == chunk.batch.num_rows:
                    bar.skip(chunk)
                else:
                    parts.write(
                        n_parts,
                        score_batch(
                            classifier,
                            chunk.batch,
                            text_column=config.text_column,
                            errors=chunk.errors,
                            languages=languages,
                        ),
                    )
                    tally.n_new += chunk.batch.num_rows
                    bar.advance(chunk)
                n_parts += 1
                n_kept += chunk.batch.num_rows
        if _state(config.input_path) != before:
            raise DataError(f"{config.input_path}: changed while it was read. Start anew with --overwrite.")
        schema = scored_schema(table.schema, classifier.labels, config.text_column)
        with tqdm(total=n_kept, desc="Write", unit=" rows", disable=None) as write_bar:
            for batch in parts.finish(n_parts, form, schema):
                tally.add(batch)
                write_bar.update(batch.num_rows)
    except ArtifactError as error:
        raise ArtifactError(f"{error}\n{_kept(n_kept)}") from error
    except KeyboardInterrupt:
        logger.info("%s", _kept(n_kept))
        raise


def _kept(n_rows: int) -> str:
    return f"{n_rows:,} rows are finished and kept; run the same command with --resume to go on from there."


def _fingerprint(
    config: ScoreConfig, classifier: Classifier, table: StreamedTable, languages: Languages | None
) -> dict[str, Any]:
    """All on which the bytes of the output depend."""
    found: dict[str, Any] = {
        "input_bytes": config.input_path.stat().st_size,
        "input_sha256": sha256(config.input_path),
        "model": f"{classifier.bundle.name}@{classifier.bundle.version}/{classifier.backend_name}",
        "text_column": config.text_column,
        "delimiter": config.delimiter,
        "chunk_rows": config.chunk_rows,
        "languages": languages is not None,
        "objects_kept": OBJECT in table.schema.names,
    }
    if classifier.backend_name in ("torch", "torchscript"):  # whose last digits depend on it
        found["threads"] = config.threads or count_cores()
    engines = {BACKENDS[classifier.backend_name][1]} | ({"torch"} if classifier.backend_name == "torch" else set())
    packages = (*sorted(engines), "tokenizers", "py3langid", "content-moderation")
    return found | {package: _version(package) for package in packages}


def _version(package: str) -> str:
    """Version of a package; an engine may also have been installed under another name, as onnxruntime-gpu is."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(package), "__version__", "unknown"))


def _state(path: Path) -> _State:
    """What changes where a file changes; None: there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _score_pipe(
    config: ScoreConfig,
    classifier: Classifier,
    languages: Languages | None,
    output: Path,
    form: OutputFormat,
    tally: Tally,
) -> None:
    """Lines of standard input, as they come; what has come is written also where Ctrl-C or an error ends it."""
    if sys.stdin.isatty():
        logger.info("Reading from the terminal: one text a line, Ctrl-D ends it.")
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:
        chunks = pipe_chunks(pipe, config.chunk_rows)
        if str(output) == "-":
            _stream(classifier, languages, chunks, PIPE_COLUMN, _write_to_stdout, tally)
            return
        schema = scored_schema(pa.schema([(PIPE_COLUMN, pa.string())]), classifier.labels, PIPE_COLUMN)
        ended: BaseException | None = None
        with (
            write_atomically(output) as temporary,
            temporary.open("wb") as file,
            open_output(file, form, schema) as write,
        ):

            def write_at_once(batch: pa.RecordBatch) -> None:
                write(batch)
                file.flush()

            try:
                _stream(classifier, languages, chunks, PIPE_COLUMN, write_at_once, tally)
            except OSError:  # of writing, so that the file cannot be ended either
                raise
            except (KeyboardInterrupt, Exception) as error:
                if not (tally.n_rows or isinstance(error, KeyboardInterrupt)):
                    raise
                ended = error
        if ended is not None:
            logger.info("%s: holds the %s rows that had come and were finished.", output, f"{tally.n_rows:,}")
            raise ended


def _stream(
    classifier: Classifier,
    languages: Languages | None,
    chunks: Iterable[Chunk],
    text_column: str,
    write: Callable[[pa.RecordBatch], None],
    tally: Tally,
) -> None:
    for chunk in chunks:
        scored = score_batch(classifier, chunk.batch, text_column=text_column, errors=chunk.errors, languages=languages)
        write(scored)
        tally.add(scored)
        tally.n_new += scored.num_rows


def _write_to_stdout(batch: pa.RecordBatch) -> None:
    """Write at once and past Python's buffer, which would be left with what a reader that went away did not take."""
    content = memoryview(encode_json_lines(batch))
    try:
        while content:
            content = content[os.write(sys.stdout.fileno(), content) :]
    except BrokenPipeError:
        raise ArtifactError("standard output: its reader went away before all was written.") from None
    except OSError as error:
        raise ArtifactError(f"standard output: could not be written ({error.strerror}). Free some space.") from None


class _Progress:
    """A bar that counts rows; where their number is not known, it is told from the share of the file that was read."""

    def __init__(self, bar: "tqdm[Any]", n_rows: int | None) -> None:
        self._bar, self._n_rows = bar, n_rows

    def advance(self, chunk: Chunk) -> None:
        """Count a chunk that was scored."""
        if self._n_rows is None and chunk.share > 0 and not self._bar.disable:
            self._bar.total = max(round((self._bar.n + chunk.batch.num_rows) / chunk.share), self._bar.n)
        self._bar.update(chunk.batch.num_rows)

    def skip(self, chunk: Chunk) -> None:
        """Count a chunk that was scored before; it says nothing about speed."""
        if self._bar.disable:  # it has no counts then
            return
        self._bar.initial += chunk.batch.num_rows
        self._bar.n += chunk.batch.num_rows


@contextmanager
def _progress(n_rows: int | None) -> Iterator[_Progress]:
    with tqdm(total=n_rows, desc="Score", unit=" rows", disable=None) as bar:
        yield _Progress(bar, n_rows)


def _watched(bar: _Progress, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        yield chunk
        bar.advance(chunk)
