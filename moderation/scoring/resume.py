"""Finished rows of an unfinished output: a folder of parts next to it, from which a run can be resumed.

A part's name contains the rows that it holds, and a hash of these, of its content and of everything on which that
depends. So parts may have any size, and a part that is damaged or belongs to another run is computed again. The file
that describes the run is written first, and each part is written under a temporary name and then renamed, so that the
run can be resumed from the folder at any moment.
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

from moderation.artifacts import open_regular, read_json, write_atomically, write_json
from moderation.errors import ArtifactError
from moderation.links import refuse_links_out
from moderation.manifests import FileFacts
from moderation.scoring.origins import describe_content, describe_file
from moderation.scoring.writers import OutputFormat, open_output

_FORMAT = 3
_NAME = re.compile(r"([0-9]{12})-([0-9]{6,})-([0-9a-f]{32})\.arrow")
_ANEW = "start again with --overwrite and without --resume"


@dataclass(frozen=True, order=True)
class Part:
    """Some rows that are finished.

    Args:
        first: Its first row, counted from 0.
        n_rows: Number of its rows.
        digest: Hash of these, of its content and of everything on which that depends, 32 hex digits.
    """

    first: int
    n_rows: int
    digest: str

    @property
    def end(self) -> int:
        """The row after its last one."""
        return self.first + self.n_rows

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.first:012d}-{self.n_rows:06d}-{self.digest}.arrow"


@dataclass(frozen=True)
class Parts:
    """The parts of one output.

    Args:
        output: The file that is made from them.
        fingerprint: Everything on which the output depends, as plain values.
    """

    output: Path
    fingerprint: Mapping[str, object]

    @property
    def folder(self) -> Path:
        """The folder that holds them."""
        return self.output.with_name(f".{self.output.name}.parts")

    @property
    def about(self) -> Path:
        """The file with the input, model and settings to which they belong."""
        return self.folder / "parts.json"

    def begin(self, *, resume: bool) -> list[Part]:
        """Make the folder, or open the one that an interrupted run left.

        Args:
            resume: Continue from the existing parts.

        Returns:
            The existing intact parts, in the order of their rows; no row is in two of them.

        Raises:
            ArtifactError: the parts belong to another input, model, setting or version; the message shows which.
        """
        refuse_links_out(self.folder)
        if resume and self.about.exists():
            self._compare()
            return self._find()
        self.remove()
        with suppress(OSError):  # writing the first file reports what is wrong
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700)  # the parts hold the texts
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
            ArtifactError: it cannot be written, for example because the disk is full.
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
        """A part; None if it is missing or not intact."""
        try:
            with open_regular(self.folder / part.name) as file:
                content = file.read()
        except OSError:  # also a pipe or a device
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
        seal: Callable[[Path], FileFacts] = describe_file,
    ) -> Iterator[pa.RecordBatch]:
        """Write the output from its parts, yield each part on the way, and remove them at the end.

        Args:
            parts: All of them, in the order of their rows.
            form: Of the output.
            schema: Of the parts.
            metadata: Called after the last part, for the metadata of a Parquet file.
            seal: Called with the complete file before it becomes the output, to record its hash in it or next to it;
                returns its size and hash.

        Raises:
            ArtifactError: the disk is full, or a part disappeared or was changed meanwhile; the other parts stay.
        """
        whole = self.folder / self.output.name  # here, so that a kill leaves nothing next to the output
        with (
            write_atomically(whole) as temporary,
            temporary.open("wb") as file,
            open_output(file, form, schema, metadata) as write,
        ):
            for part in parts:
                batch = self.read(part)
                if batch is None:
                    raise ArtifactError(
                        f"{self.folder / part.name}: disappeared or was changed, perhaps by another run with the same "
                        "output."
                    )
                write(batch)
                yield batch
        write_json(made_file(self.output), describe_content(seal(whole)))
        with write_atomically(self.output) as temporary:
            whole.replace(temporary)
        self.remove()

    def remove(self) -> None:
        """Remove the parts, but first the file that describes them: after a kill in between, nothing can be resumed."""
        with suppress(FileNotFoundError):
            self.about.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _compare(self) -> None:
        try:
            found = read_json(self.about, "the record of an interrupted run")
        except ArtifactError as error:
            raise ArtifactError(f"{error} The finished rows cannot be identified any more; {_ANEW}.") from error
        if found.get("format") != _FORMAT:
            raise ArtifactError(
                f"{self.folder}: holds parts from another version of the toolkit (their format is "
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
                f"{self.folder}: the interrupted run cannot be resumed because this differs:\n  "
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
    """Refuse to replace an output or parts unless that was requested.

    Args:
        output: The file to write.
        resume: Continue from existing parts; there may be none, even next to a finished output.
        overwrite: Replace the output at the end and, unless `resume`, discard existing parts.

    Raises:
        ArtifactError: the output or parts of it exist and neither was requested.
    """
    parts = Parts(output, {})
    begun = parts.about.exists()
    if begun and not resume and not overwrite:
        raise ArtifactError(
            f"{parts.folder}: holds the finished parts of an interrupted run. Run the same command with --resume to "
            "continue from them, or with --overwrite to start again."
        )
    if output.exists() and not overwrite and not (begun and _is_own(output)):
        if begun:
            raise ArtifactError(
                f"{output}: the file exists, next to the finished parts of an interrupted run. Move it away, or "
                "continue and replace it with --resume --overwrite."
            )
        if not resume:
            raise ArtifactError(f"{output}: the file exists. Choose another name, or replace it with --overwrite.")


def made_file(output: Path) -> Path:
    """The file that records size and hash of the output just before it is moved into place."""
    return Parts(output, {}).folder / "made.json"


def _is_own(output: Path) -> bool:
    """Whether the existing output was made from these parts by a run that was killed right after."""
    try:
        return read_json(made_file(output), "size and hash of the output") == describe_content(describe_file(output))
    except ArtifactError:  # it is missing or damaged
        return False
