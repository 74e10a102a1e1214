"""Finished chunks of an unfinished output: a folder of parts beside it, from which a run goes on after a kill.

Parts are written one after the other and each under a temporary name that is then changed; the file that says what
the parts belong to comes first. So whatever stands there at any moment can be gone on from.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from moderation.artifacts import read_json, write_atomically, write_json
from moderation.errors import ArtifactError
from moderation.inference.outputs import OutputFormat, open_output

_FORMAT = 1


@dataclass(frozen=True)
class Parts:
    """The parts of one output.

    Args:
        output: The file that they will make.
    """

    output: Path

    @property
    def folder(self) -> Path:
        """Where they stand."""
        return self.output.with_name(f".{self.output.name}.parts")

    @property
    def about(self) -> Path:
        """Input, model and settings to which they belong."""
        return self.folder / "parts.json"

    def part(self, number: int) -> Path:
        """Path of a part, numbered from 0."""
        return self.folder / f"{number:08d}.arrow"

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse to write where something stands that was not given up.

        Args:
            resume: Go on from the parts that are there; none is fine too.
            overwrite: Replace the output at the end and, unless `resume`, throw away parts that are there.

        Raises:
            ArtifactError: the output or parts of it exist and neither was asked for.
        """
        begun = self.about.exists()
        if begun and not resume and not overwrite:
            raise ArtifactError(
                f"{self.folder}: holds the finished parts of an interrupted run. Run the same command with --resume to "
                "go on from them, or with --overwrite to start anew."
            )
        if self.output.is_dir():
            raise ArtifactError(f"{self.output}: this is a folder; expected the name of a file to write.")
        if self.output.exists() and not overwrite and not (begun and self._is_own()):
            if begun:
                raise ArtifactError(
                    f"{self.output}: the file exists, beside the finished parts of an interrupted run. Move it away, "
                    "or go on and replace it with --resume --overwrite."
                )
            found = "nothing is left to resume, and the file exists" if resume else "the file exists"
            raise ArtifactError(f"{self.output}: {found}. Choose another name, or replace it with --overwrite.")

    def begin(self, fingerprint: dict[str, Any], *, resume: bool) -> int:
        """Make the folder, or find it as an interrupted run left it.

        Args:
            fingerprint: All on which the output depends, as plain values.
            resume: Go on from the parts that are there.

        Returns:
            The number of parts that are there.

        Raises:
            ArtifactError: the parts belong to another input, model or setting; the message says to which.
        """
        if resume and self.about.exists():
            self._compare(fingerprint)
            return len(list(self.folder.glob("[0-9]*.arrow")))
        self.remove()
        write_json(self.about, {"format": _FORMAT} | fingerprint)
        return 0

    def _compare(self, fingerprint: dict[str, Any]) -> None:
        found = read_json(self.about, "what an interrupted run wrote there")
        wanted = {"format": _FORMAT} | fingerprint
        changed = [
            f"{key} was {found.get(key)}, now {wanted.get(key)}"
            for key in wanted | found
            if found.get(key) != wanted.get(key)
        ]
        if changed:
            raise ArtifactError(
                f"{self.folder}: the interrupted run cannot be resumed with what differs:\n  "
                + "\n  ".join(changed)
                + "\nRepeat its command, or start anew with --overwrite and without --resume."
            )

    def read(self, number: int) -> pa.RecordBatch | None:
        """A part; None where there is none, or none that is whole."""
        try:
            with pa.OSFile(str(self.part(number))) as file, pa.ipc.open_file(file) as reader:
                return reader.get_batch(0)
        except (OSError, pa.ArrowException):
            return None

    def write(self, number: int, batch: pa.RecordBatch) -> None:
        """Write a part.

        Raises:
            ArtifactError: the disk is full, or the like.
        """
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with (
            write_atomically(self.part(number)) as temporary,
            temporary.open("wb") as file,
            pa.ipc.new_file(file, batch.schema, options=options) as writer,
        ):
            writer.write_batch(batch)

    def finish(self, n_parts: int, form: OutputFormat, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Write the output out of its parts, yield each of them on the way, and remove them at the end.

        Raises:
            ArtifactError: the disk is full, or a part went missing meanwhile; the parts stay.
        """
        whole = self.folder / self.output.name  # here, so that a kill leaves nothing beside the output
        with (
            write_atomically(whole) as temporary,
            temporary.open("wb") as file,
            open_output(file, form, schema) as write,
        ):
            for number in range(n_parts):
                batch = self.read(number)
                if batch is None:
                    raise ArtifactError(
                        f"{self.part(number)}: went missing, by another run of the same output perhaps."
                    )
                write(batch)
                yield batch
        write_json(self._made, _state(whole))
        with write_atomically(self.output) as temporary:
            whole.replace(temporary)
        self.remove()

    @property
    def _made(self) -> Path:
        """What the output is like that is about to take its place."""
        return self.folder / "made.json"

    def _is_own(self) -> bool:
        """Whether the file that stands there was made out of these parts, and the run was killed behind that."""
        return self._made.exists() and read_json(self._made, "size and time of the output") == _state(self.output)

    def remove(self) -> None:
        """Remove the parts, and first what makes them some: a kill in between leaves nothing to go on from."""
        with suppress(FileNotFoundError):
            self.about.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)


def _state(path: Path) -> dict[str, int]:
    """Size and time of a file, which it keeps when it is renamed."""
    status = path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
