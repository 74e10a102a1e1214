"""Finished rows of an unfinished output: a folder of parts beside it, from which a run goes on after a kill.

A part's name says which rows it holds and ends in a hash of these, of its content and of all on which that depends. So
parts of any sizes may stand there, and one that was damaged, or that belongs to another run, is computed again instead
of used. The file that says what the parts belong to comes first, and each part is written under a temporary name that
is then changed: whatever stands there at any moment can be gone on from.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from moderation.artifacts import read_json, sha256, write_atomically, write_json
from moderation.errors import ArtifactError
from moderation.links import refuse_links_out
from moderation.manifests import FileFacts
from moderation.scoring.origins import describe_content
from moderation.scoring.writers import OutputFormat, open_output

_FORMAT = 3
_NAME = re.compile(r"([0-9]{12})-([0-9]{6,})-([0-9a-f]{32})\.arrow")
_ANEW = "start anew with --overwrite and without --resume"


@dataclass(frozen=True, order=True)
class Part:
    """Some rows that are finished.

    Args:
        first: Its first row, counted from 0.
        n_rows: How many it holds.
        digest: Of these, of its content and of all on which that depends, 32 hex digits.
    """

    first: int
    n_rows: int
    digest: str

    @property
    def end(self) -> int:
        """The row behind its last one."""
        return self.first + self.n_rows

    @property
    def name(self) -> str:
        """Its file's."""
        return f"{self.first:012d}-{self.n_rows:06d}-{self.digest}.arrow"


@dataclass(frozen=True)
class Parts:
    """The parts of one output.

    Args:
        output: The file that they will make.
        fingerprint: All on which the output depends, as plain values.
    """

    output: Path
    fingerprint: Mapping[str, object]

    @property
    def folder(self) -> Path:
        """Where they stand."""
        return self.output.with_name(f".{self.output.name}.parts")

    @property
    def about(self) -> Path:
        """Input, model and settings to which they belong."""
        return self.folder / "parts.json"

    def begin(self, *, resume: bool) -> list[Part]:
        """Make the folder, or find it as an interrupted run left it.

        Args:
            resume: Go on from the parts that are there.

        Returns:
            The whole parts that are there, in the order of their rows; no row stands in two of them.

        Raises:
            ArtifactError: the parts belong to another input, model, setting or version; the message says to which.
        """
        refuse_links_out(self.folder)
        if resume and self.about.exists():
            self._compare()
            return self._find()
        self.remove()
        try:
            write_json(self.about, {"format": _FORMAT, **self.fingerprint})
        except ArtifactError:
            self.remove()
            raise
        return []

    def write(self, first: int, batches: Sequence[pa.RecordBatch]) -> Part:
        """Write a part.

        Args:
            first: Its first row, counted from 0.
            batches: Its rows.

        Raises:
            ArtifactError: the disk is full, or the like.
        """
        (batch,) = pa.Table.from_batches(batches).combine_chunks().to_batches() or [batches[0]]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_batch(batch)
        content = sink.getvalue()
        part = Part(first, batch.num_rows, self._digest(first, batch.num_rows, content))
        with write_atomically(self.folder / part.name) as temporary, temporary.open("wb") as file:
            file.write(content)
        return part

    def read(self, part: Part) -> pa.RecordBatch | None:
        """A part; None where there is none, or none that is whole."""
        try:
            content = (self.folder / part.name).read_bytes()
        except OSError:
            return None
        if self._digest(part.first, part.n_rows, content) != part.digest:
            return None
        with pa.ipc.open_file(pa.py_buffer(content)) as reader:
            return reader.get_batch(0)

    def finish(
        self,
        parts: Sequence[Part],
        form: OutputFormat,
        schema: pa.Schema,
        *,
        metadata: Callable[[], dict[str, str]] | None = None,
        beside: Callable[[FileFacts], None] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Write the output out of its parts, yield each of them on the way, and remove them at the end.

        Args:
            parts: All of them, in the order of their rows.
            form: Of the output.
            schema: Of the parts.
            metadata: Asked behind the last part, for what a Parquet file says of itself.
            beside: Called before the output takes its place, to write what stands beside it; gets its size and hash.

        Raises:
            ArtifactError: the disk is full, or a part went missing or was changed meanwhile; the others stay.
        """
        whole = self.folder / self.output.name  # here, so that a kill leaves nothing beside the output
        with (
            write_atomically(whole) as temporary,
            temporary.open("wb") as file,
            open_output(file, form, schema, metadata) as write,
        ):
            for part in parts:
                batch = self.read(part)
                if batch is None:
                    raise ArtifactError(
                        f"{self.folder / part.name}: went missing or was changed, by another run of the same output "
                        "perhaps."
                    )
                write(batch)
                yield batch
        made = describe_file(whole)
        if beside is not None:
            beside(made)
        write_json(made_file(self.output), describe_content(made))
        with write_atomically(self.output) as temporary:
            whole.replace(temporary)
        self.remove()

    def remove(self) -> None:
        """Remove the parts, and first what makes them some: a kill in between leaves nothing to go on from."""
        with suppress(FileNotFoundError):
            self.about.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _compare(self) -> None:
        try:
            found = read_json(self.about, "what an interrupted run wrote there")
        except ArtifactError as error:
            raise ArtifactError(f"{error} What is finished cannot be told any more; {_ANEW}.") from error
        if found.get("format") != _FORMAT:
            raise ArtifactError(
                f"{self.folder}: holds the parts of a run of another version of the toolkit (their format is "
                f"{found.get('format')}, expected {_FORMAT}). Finish with that version, or {_ANEW}."
            )
        wanted = {"format": _FORMAT, **self.fingerprint}
        changed = [
            f"{key} was {found.get(key)}, now {wanted.get(key)}"
            for key in wanted | found
            if found.get(key) != wanted.get(key)
        ]
        if changed:
            raise ArtifactError(
                f"{self.folder}: the interrupted run cannot be resumed with what differs:\n  "
                + "\n  ".join(changed)
                + f"\nRepeat its command, or {_ANEW}."
            )

    def _find(self) -> list[Part]:
        named = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        found: list[Part] = []
        for part in sorted(Part(int(name[1]), int(name[2]), name[3]) for name in named if name):
            if (not found or part.first >= found[-1].end) and self.read(part) is not None:
                found.append(part)
        return found

    def _digest(self, first: int, n_rows: int, content: Any) -> str:
        about = json.dumps([_FORMAT, first, n_rows, dict(self.fingerprint)], sort_keys=True).encode()
        return hashlib.blake2b(content, digest_size=16, key=hashlib.sha256(about).digest()).hexdigest()


def check_output(output: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to write where something stands that was not given up.

    Args:
        output: The file to write.
        resume: Go on from the parts that are there; none is fine too, also beside an output that is finished.
        overwrite: Replace the output at the end and, unless `resume`, throw away parts that are there.

    Raises:
        ArtifactError: the output or parts of it exist and neither was asked for.
    """
    parts = Parts(output, {})
    begun = parts.about.exists()
    if begun and not resume and not overwrite:
        raise ArtifactError(
            f"{parts.folder}: holds the finished parts of an interrupted run. Run the same command with --resume to "
            "go on from them, or with --overwrite to start anew."
        )
    if output.exists() and not overwrite and not (begun and _is_own(output)):
        if begun:
            raise ArtifactError(
                f"{output}: the file exists, beside the finished parts of an interrupted run. Move it away, "
                "or go on and replace it with --resume --overwrite."
            )
        if not resume:
            raise ArtifactError(f"{output}: the file exists. Choose another name, or replace it with --overwrite.")


def made_file(output: Path) -> Path:
    """Where it says what the output is like that is about to take its place."""
    return Parts(output, {}).folder / "made.json"


def _is_own(output: Path) -> bool:
    """Whether the file that stands there was made out of its parts, and the run was killed behind that."""
    try:
        return read_json(made_file(output), "size and hash of the output") == describe_content(describe_file(output))
    except ArtifactError:  # there is none, or it was damaged
        return False


def describe_file(path: Path) -> FileFacts:
    """Size and SHA-256 of a file."""
    return FileFacts(sha256(path), path.stat().st_size)
