"""Encoded dataset -> logits, in batches of similar length, with results in the dataset's order."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import nn
from tqdm import tqdm

from moderation.training.batching import lengths_of, sorted_batches


def to_fastest_device(model: nn.Module) -> nn.Module:
    """Move a model to the GPU, if there is one."""
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def predict_logits(
    model: nn.Module,
    dataset: Any,
    collator: Callable[[Any], Mapping[str, torch.Tensor]],
    *,
    batch_size: int = 32,
    description: str = "Predict",
    quiet: bool = False,
) -> npt.NDArray[np.float32]:
    """Run the model over a dataset, without dropout.

    A model from a checkpoint computes in float32, a model in training in the precision of the training.

    With several processes, each one computes its share of the batches, and all get the complete result.

    Args:
        model: Returns `.logits` `(n_examples, n_labels)`; runs on its current device.
        dataset: From `df_to_hfds`.
        collator: Stacks rows into a batch.
        batch_size: Examples per batch and process.
        description: Name on the progress bar.
        quiet: Show no progress bar.

    Returns:
        Logits, float32 `(n_examples, n_labels)`, in the dataset's order.
    """
    together = dist.is_available() and dist.is_initialized()
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
    batches = sorted_batches(lengths_of(dataset), batch_size, rank=rank, world_size=world_size)
    rows = dataset.select_columns(["input_ids", "attention_mask"])
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    parts: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]] = []
    n_own = sum(len(batch) for batch in batches)
    with (
        torch.inference_mode(),
        tqdm(total=n_own, desc=description, unit=" texts", disable=quiet or rank > 0 or None) as bar,
    ):
        for batch in batches:
            inputs = collator(rows.__getitems__(batch.tolist()))
            logits = model(**{name: tensor.to(device) for name, tensor in inputs.items()}).logits
            parts.append((batch, logits.float().cpu().numpy()))
            bar.update(len(batch))
    model.train(was_training)
    if together:
        everyone: list[Any] = [None] * world_size
        dist.all_gather_object(everyone, parts)
        parts = [part for share in everyone for part in share]
    answer = np.empty((len(dataset), parts[0][1].shape[1]), dtype=np.float32)
    for batch, logits in parts:
        answer[batch] = logits
    return answer
