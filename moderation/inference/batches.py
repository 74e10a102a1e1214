"""Windows -> batches of token ids, each with its mask."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Batch:
    """Windows that are computed together.

    Args:
        places: Of its windows among all, int64 `(n_windows,)`.
        input_ids: int64 `(n_windows, n_tokens)`.
        attention_mask: int64 of the same shape: 1 for a token, 0 for padding.
    """

    places: npt.NDArray[np.int64]
    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]


def make_batches(windows: Sequence[Sequence[int]], *, batch_tokens: int, round_to: int, pad_id: int) -> list[Batch]:
    """Group windows of like length, longest first.

    Args:
        windows: Token ids of each.
        batch_tokens: Tokens of a batch at most, padding included; a window longer than that is a batch of its own.
            0: each window alone.
        round_to: Lengths are padded to a multiple of it, but not beyond the longest window: an engine that prepares
            its kernels per shape meets few different ones. A window's own padding does not depend on the others.
        pad_id: Token that fills up.
    """
    lengths = np.array([len(ids) for ids in windows], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    batches = []
    start = 0
    while start < len(order):
        n_tokens = int(lengths[order[start]])  # longest first: the first window of a batch gives its length
        n_tokens += -n_tokens % round_to
        places = order[start : start + max(1, batch_tokens // n_tokens)]
        batches.append(_stack([windows[place] for place in places], places, n_tokens, pad_id))
        start += len(places)
    return batches


def _stack(windows: Sequence[Sequence[int]], places: npt.NDArray[np.int64], n_tokens: int, pad_id: int) -> Batch:
    input_ids = np.full((len(windows), n_tokens), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(windows), n_tokens), dtype=np.int64)
    for row, ids in enumerate(windows):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
    return Batch(places, input_ids, attention_mask)
