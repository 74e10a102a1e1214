"""Checkpoints: the weights of a run, with everything needed to rebuild the model offline.

A `.pt` file of plain types and tensors, read with `weights_only=True`; its configuration must not name code, so a file
from elsewhere runs none. The same model gives the same bytes, whichever process wrote them.
"""

import errno
import hashlib
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import torch
from transformers import PreTrainedModel

from moderation.artifacts import is_failed_write, open_regular, write_atomically
from moderation.errors import ArtifactError
from moderation.labels import as_labels
from moderation.manifest_values import LONGEST_WINDOW, is_whole
from moderation.memory import is_out_of_memory
from moderation.model_bounds import no_larger_than
from moderation.pretrained import make_config, make_model
from moderation.training.model import count_tokens

logger = logging.getLogger(__name__)

_FORMAT = "content-moderation checkpoint"
_VERSION = 1
_ARCHIVE = b"PK\x03\x04"
_MOST_TRIED = 1_024  # tokens of a text
_POSITION_TABLES = ("position_embeddings", "embed_positions", "wpe")  # names of learned ones in transformers


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    """Facts that a checkpoint records; None: not recorded.

    Args:
        backbone: Its name in the settings.
        max_length: Tokens that the model reads of a text.
        tokenizer_sha256: Hash of the tokenizer that it was trained with.
        step: Optimizer steps so far.
        val_metrics: Metrics of the val split at that step, by name; empty for the final one.
    """

    backbone: str | None = None
    max_length: int | None = None
    tokenizer_sha256: str | None = None
    step: int | None = None
    val_metrics: dict[str, float] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file, rebuilt.

    Args:
        model: On the CPU, float32, without dropout.
        labels: Order of its logits.
        about: Facts written with it.
    """

    model: PreTrainedModel
    labels: tuple[str, ...]
    about: CheckpointFacts


def save_checkpoint(path: Path, model: PreTrainedModel, labels: Sequence[str], about: CheckpointFacts) -> None:
    """Write a checkpoint, completely or not at all.

    Args:
        path: The `.pt` file.
        model: Its configuration and weights are saved.
        labels: Order of its logits.
        about: Other facts.

    Raises:
        ArtifactError: the disk is full or the folder cannot be written.
    """
    own: dict[str, object] = {"model_type": model.config.model_type}
    # transformers would set this when it saves the model for the first time.
    own["architectures"] = [type(model).__name__]
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "labels": list(labels),
        "config": dict(sorted((model.config.to_diff_dict() | own).items())),
        "about": {name: value for name, value in asdict(about).items() if value is not None},
        "weights": {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()},
    }
    with write_atomically(path) as temporary:
        try:
            with temporary.open("wb") as file:  # torch would write a file's name into its content
                torch.save(content, file)
        except RuntimeError as error:
            if not is_failed_write(error):
                raise
            raise OSError(None, "the disk may be full", str(path)) from error


def load_checkpoint(path: Path, *, sha256: str | None = None) -> Checkpoint:
    """Read a checkpoint and rebuild its model, without any other file.

    Args:
        path: The `.pt` file.
        sha256: Of the file that is expected; None: any.

    Raises:
        ArtifactError: the file is missing, truncated, of another program, of a newer version, does not fit together,
            names code to run, or is not the expected one.
    """
    content = _read(path, sha256)
    try:
        config = make_config(content["config"], f"{path} (config)")
        with no_larger_than(_measure(content["weights"])), torch.device("meta"):  # uses no memory
            make_model(config)
        model = make_model(config)
        model.load_state_dict(content["weights"])
        labels = as_labels(content["labels"])
        if len(labels) != config.num_labels:
            raise ValueError("its labels and logits do not match")
        about = _read_facts(content["about"])
        model.eval()  # type: ignore[no-untyped-call]
        _check_positions(model, about.max_length)
        _try_out(model, about.max_length)
    except ArtifactError:
        raise
    except Exception as error:  # values from elsewhere can make transformers fail in undocumented ways
        if is_out_of_memory(error):
            raise
        raise ArtifactError(f"{path}: the parts of this checkpoint do not match; it was changed or damaged.") from error
    return Checkpoint(model, labels, about)


def _read_facts(about: Any) -> CheckpointFacts:
    """The facts about a checkpoint, checked so that JSON can store them.

    Raises:
        ValueError, TypeError, AttributeError: a value is invalid.
    """
    json.dumps(about)
    facts = CheckpointFacts(**{field.name: about.get(field.name) for field in fields(CheckpointFacts)})
    for text in (facts.backbone, facts.tokenizer_sha256):
        if not isinstance(text, str | None):
            raise ValueError("a name that is not a text")
    if facts.max_length is not None and not (is_whole(facts.max_length) and 0 < facts.max_length <= LONGEST_WINDOW):
        raise ValueError("a length that cannot be a maximum length")
    if facts.step is not None and not is_whole(facts.step):
        raise ValueError("a step that is not a number")
    if not isinstance(facts.val_metrics, dict | None):
        raise ValueError("metrics without names")
    return facts


def _check_positions(model: PreTrainedModel, longest: int | None) -> None:
    """Compare the longest text with the positions that the model has, since very long texts are not tried.

    Raises:
        ValueError: it has fewer.
    """
    stated = getattr(model.config, "max_position_embeddings", None)
    found = [stated] if is_whole(stated) and stated > 0 else []
    for name, table in model.named_modules():
        if isinstance(table, torch.nn.Embedding) and name.rpartition(".")[2] in _POSITION_TABLES:
            reserved = 0 if table.padding_idx is None else table.padding_idx + 1  # RoBERTa's count begins after it
            found.append(table.num_embeddings - reserved)
    if longest is not None and any(n_positions < longest for n_positions in found):
        raise ValueError("texts that are longer than the table of positions")


def _try_out(model: PreTrainedModel, longest: int | None) -> None:
    """Let a model classify some texts: wrong settings may fail only with the highest token, or at another length.

    Args:
        model: Rebuilt.
        longest: Maximum tokens of a text; None: unknown. Of very long texts only the beginning is tried.
    """
    end, pad = (_special_token(model, f"{name}_token_id") for name in ("eos", "pad"))  # some models look for them
    highest = (count_tokens(model) or 1) - 1
    for n_rows, length in ((1, 8), (2, 9), (2, max(9, min(longest or 0, _MOST_TRIED)))):
        rows = torch.full((2, length), int(end == 0))
        rows[0, -1] = rows[1, -3] = end
        rows[1, -2:] = pad
        if highest not in (end, pad):
            rows[:, 0] = highest
        mask = torch.ones_like(rows)
        mask[1, -2:] = 0
        with torch.inference_mode():
            logits = model(input_ids=rows[:n_rows], attention_mask=mask[:n_rows]).logits
        if logits.shape != (n_rows, model.config.num_labels):
            raise ValueError("not one logit per label")


def _special_token(model: PreTrainedModel, name: str) -> int:
    token = getattr(model.config, name, None)
    return int(token) if is_whole(token) else 0


def _read(path: Path, sha256: str | None) -> dict[str, Any]:
    expected = "expected checkpoint_best.pt or checkpoint_final.pt of a run folder"
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; {expected}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about the pickle protocol of files that are not pickles
            with open_regular(path) as file:
                if sha256 is not None and hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    raise ArtifactError(
                        f"{path}: is not the checkpoint that was read before (its SHA-256 differs); it was replaced "
                        "while it was in use. Load the run again."
                    )
                file.seek(0)
                _check_archive(file, path.stat().st_size)
                content = torch.load(file, map_location="cpu", weights_only=True)
    except ArtifactError:
        raise
    except Exception as error:  # foreign bytes can make its unpickler fail in undocumented ways
        if is_out_of_memory(error):
            raise
        # half a file sends the reader to offsets before its start, which raises an argument error without a file name
        if isinstance(error, OSError) and (error.errno != errno.EINVAL or error.filename is not None):
            raise ArtifactError(
                f"{path}: cannot be read ({error.strerror or type(error).__name__}); {expected}."
            ) from error
        raise ArtifactError(f"{path}: not a readable checkpoint (truncated, or another format); {expected}.") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ArtifactError(f"{path}: a checkpoint of another program; {expected}.")
    if content.get("version") != _VERSION:
        raise ArtifactError(f"{path}: written by a newer version of this toolkit; upgrade it to read the file.")
    return content


def _check_archive(file: BinaryIO, n_bytes: int) -> None:
    """Refuse a compressed archive, with the reader that torch itself uses: `torch.save` never compresses."""
    if file.read(4) != _ARCHIVE:
        raise ValueError("not an archive written by torch")
    file.seek(0)
    archive = torch.PyTorchFileReader(file)
    n_unpacked = sum(archive.get_record_size(name) for name in archive.get_all_records())
    if n_unpacked > n_bytes:
        raise ValueError("a compressed archive")
    file.seek(0)


def _measure(weights: dict[str, torch.Tensor]) -> dict[str, int]:
    """Number of values of each tensor that the file really has; shared storage counts once."""
    found: dict[str, int] = {}
    places: set[int] = set()
    for name, tensor in weights.items():
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise ValueError("weights that are not plain tensors")
        storage = tensor.untyped_storage()
        found[name] = 0 if storage.data_ptr() in places else storage.nbytes() // tensor.element_size()
        places.add(storage.data_ptr())
    return found
