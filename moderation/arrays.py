"""Saved arrays of a run, each with a JSON file beside it that says what it holds."""

import errno
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moderation.artifacts import RunFolder, open_regular, read_json, write_atomically, write_json
from moderation.errors import ArtifactError

_MOST_ARRAY = 8 << 30  # bytes


def sidecar(array_path: Path) -> Path:
    """Path of the JSON file that names labels, split and kind of a saved array."""
    return array_path.parent / f"{array_path.stem}.json"


def write_array(path: Path, array: npt.NDArray[Any], about: Mapping[str, object]) -> None:
    """Write an array as `.npy`, and then next to it `about` and the array's SHA-256 as its sidecar."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    with write_atomically(path) as temporary:
        temporary.write_bytes(content.getbuffer())
    write_json(sidecar(path), {**about, "sha256": hashlib.sha256(content.getbuffer()).hexdigest()})


def write_predictions(
    run: RunFolder,
    name: str,
    probabilities: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    labels: Sequence[str],
    *,
    split: str,
    calibrated: bool = False,
    languages: Sequence[str] | None = None,
) -> None:
    """Write probabilities and targets, each with a sidecar that names labels, split and kind.

    Args:
        run: Where to write.
        name: Part of the files' names: that of the split, or of another table.
        probabilities: float32 `(n_examples, n_labels)`, in [0, 1].
        targets: float32, of the same shape, 0 or 1.
        labels: Order of the columns.
        split: What the examples are for: `train`, `val` or `test`.
        calibrated: Whether the probabilities went through the run's calibrators.
        languages: Code of each example's language; None: not known.
    """
    about = {"labels": list(labels), "split": split}
    write_array(run.preds(name), probabilities, about | {"kind": "probabilities", "calibrated": calibrated})
    of_languages = {} if languages is None else {"languages": list(languages)}
    write_array(run.labels(name), targets, {**about, "kind": "targets", **of_languages})


def read_array(path: Path) -> npt.NDArray[Any]:
    """Read a `.npy` file; pickled objects inside are refused.

    Raises:
        ArtifactError: missing, damaged, far too large, not numeric, or not the array that its sidecar belongs to.
    """
    beside = sidecar(path)
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > _MOST_ARRAY:
                raise OSError(errno.EFBIG, f"more than {_MOST_ARRAY >> 30} GiB")
            array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            file.seek(0)
            found = hashlib.file_digest(file, "sha256").hexdigest() if beside.is_file() else None
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file; expected an array saved by numpy (.npy).") from error
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); expected an array (.npy).") from error
    # On a damaged header numpy raises whatever its parser runs into, even MemoryError and TokenError.
    except Exception as error:
        raise ArtifactError(
            f"{path}: not a readable .npy file of numbers (truncated, or another format); "
            "expected float32 (n_examples, n_labels), saved with numpy.save."
        ) from error
    if array.dtype.kind not in "fiub":
        raise ArtifactError(f"{path}: not a numeric array; expected float32 (n_examples, n_labels).")
    if found is None:
        return array
    recorded = read_json(beside, "a description of the array next to it").get("sha256")
    if recorded not in (None, found):
        raise ArtifactError(
            f"{path}: was changed since {beside.name} next to it was written, or the program was killed between "
            "writing the two (its SHA-256 differs). Write both again (for a run: moderation evaluate), or restore "
            f"it; if the array is right, move {beside.name} away."
        )
    return array
