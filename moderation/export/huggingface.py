"""The plain Hugging Face folder: what `AutoModelForSequenceClassification` and `pipeline` read."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from moderation.artifacts import is_failed_write, write_atomically, write_json
from moderation.errors import ArtifactError
from moderation.forms import FORMS
from moderation.training.model import describe_labels

WEIGHTS = FORMS["hf"].main_file
# Settings from the tokenizer's origin: the bundle's reader sets them itself, or they name folders on another machine.
_FOREIGN_KEYS = {"max_length", "stride", "truncation_strategy", "pad_to_multiple_of", "pad_token_type_id"}
_FOREIGN_KEYS |= {"is_local", "local_files_only", "name_or_path", "tokenizer_file", "vocab_file", "merges_file"}


def write_huggingface(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    *,
    max_length: int,
) -> list[str]:
    """Write `config.json`, `model.safetensors` and the tokenizer's two files.

    `tokenizer.json` neither truncates nor pads: its reader decides that. `model_max_length` is the length with which
    the classifier was trained, so that a pipeline truncates there.

    Args:
        folder: An existing folder.
        model: On the CPU, float32.
        tokenizer: A fast one.
        labels: Names of the logits, in order.
        max_length: Tokens of one window.

    Returns:
        Names of the files with the weights, which make up the form; the others belong to every bundle.

    Raises:
        ArtifactError: the tokenizer has no `tokenizer.json`, or the folder cannot be written.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ArtifactError(
            f"{tokenizer.__class__.__name__}: has no tokenizer.json; a bundle needs a fast tokenizer, which runs "
            "without transformers. Train with a backbone that has one."
        )
    describe_labels(model.config, labels)
    model.config.architectures = [type(model).__name__]
    try:
        model.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        _write_weights(folder, model)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{folder}: could not be written; the disk may be full. Free some space.") from error
    _settle_tokenizer(folder, max_length)
    return [WEIGHTS]


def _write_weights(folder: Path, model: PreTrainedModel) -> None:
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with write_atomically(folder / WEIGHTS) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
        temporary.chmod(0o666 & ~_umask())  # like every other file; this library makes its files private


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


def write_torch_weights(path: Path, model: PreTrainedModel) -> None:
    """Write the weights as a pickle that contains only tensors, to be read with `weights_only=True`."""
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    with write_atomically(path) as temporary:
        try:
            torch.save(weights, temporary)
        except RuntimeError as error:
            if not is_failed_write(error):
                raise
            raise OSError(None, "the disk may be full", path.name) from error


def _settle_tokenizer(folder: Path, max_length: int) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, content | {"truncation": None, "padding": None})
    path = folder / "tokenizer_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in content.items() if key not in _FOREIGN_KEYS}
    write_json(path, kept | {"model_max_length": max_length})
