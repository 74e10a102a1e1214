"""Batches of texts of similar length, so that little of the work is padding."""

from collections.abc import Iterator, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Sampler

PAD_TO_MULTIPLE_OF = 8  # few different shapes: kernels are prepared once per shape
_POOL_BATCHES = 64


class BucketedBatches(Sampler[list[int]]):
    """Yield batches of rows: shuffled as a whole, with similar lengths in each batch.

    Each epoch's order (a permutation of all rows or of a part, or weighted draws with replacement) is cut into pools;
    a pool is sorted by length, cut into batches, and the batches of all pools are shuffled. With several processes each
    one gets its share of every batch, so that all of them work on similar lengths at once; no row is added or left
    out: batches differ by one row in size if the numbers do not divide evenly.

    Args:
        lengths: Tokens per row, `(n_examples,)`.
        batch_size: Rows per batch over all processes; at least one per process.
        seed: With the epoch, fixes the order.
        weights: Weights of the rows, `(n_examples,)`, for draws with replacement; None: every row once.
        n_optional: How many of the `optional` rows an epoch uses; the epochs cycle through them.
        optional: Marks rows that an epoch may leave out, bool `(n_examples,)`; None: it uses all.
        rank: This process, from 0.
        world_size: Number of processes.
    """

    def __init__(
        self,
        lengths: Sequence[int] | npt.NDArray[Any],
        batch_size: int,
        *,
        seed: int,
        weights: npt.NDArray[np.float64] | None = None,
        optional: npt.NDArray[np.bool_] | None = None,
        n_optional: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.seed = seed
        self.weights = weights
        everything = np.ones(len(self.lengths), dtype=bool)
        self.always = np.flatnonzero(everything if optional is None else ~optional)
        self.optional = np.flatnonzero(~everything if optional is None else optional)
        self.n_optional = n_optional
        self.n_rows = len(self.always) + n_optional
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        most = max(1, self.n_rows // world_size)  # a batch needs at least one row per process
        self.n_batches = min(-(-self.n_rows // batch_size), most)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose order the next iteration uses."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        batches = self._batches(self._order(rng))
        for position in rng.permutation(len(batches)):
            yield np.array_split(batches[position], self.world_size)[self.rank].tolist()

    def _order(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        if self.weights is not None:
            n = len(self.lengths)
            return rng.choice(n, n, replace=True, p=self.weights / self.weights.sum())
        if not self.n_optional:
            return rng.permutation(self.always)
        circle = np.random.default_rng(self.seed).permutation(self.optional)
        places = np.arange(self.n_optional) + self.epoch * self.n_optional
        return rng.permutation(np.concatenate([self.always, circle[places % len(circle)]]))

    def _batches(self, order: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Cut into `n_batches` whose sizes differ by one at most, each with similar lengths."""
        n_pools = -(-self.n_batches // _POOL_BATCHES)
        bounds = np.array([batch[0] for batch in np.array_split(np.arange(len(order)), self.n_batches)])
        batches = []
        for pool_bounds in np.array_split(bounds, n_pools):
            end = bounds[bounds > pool_bounds[-1]]
            pool = order[pool_bounds[0] : end[0] if len(end) else len(order)]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += np.split(pool, pool_bounds[1:] - pool_bounds[0])
        return batches


def sorted_batches(
    lengths: npt.NDArray[Any], batch_size: int, *, rank: int = 0, world_size: int = 1
) -> list[npt.NDArray[np.int64]]:
    """Batches for prediction, longest first (the memory peak comes first); this process's share of them."""
    order = np.argsort(-lengths, kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return batches[rank::world_size]


def lengths_of(dataset: Any) -> npt.NDArray[Any]:
    """Tokens of each row of an encoded dataset, `(n_examples,)`; counted if the column `length` was removed."""
    if "length" in dataset.column_names:
        return np.asarray(dataset.with_format("numpy")["length"][:])
    return np.array([len(ids) for ids in dataset["input_ids"]])


class EpochLoader(DataLoader[Any]):
    """A data loader whose batches are reshuffled when the trainer announces an epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on to the batches."""
        batches = self.batch_sampler
        if isinstance(batches, BucketedBatches):
            batches.set_epoch(epoch)


class EncodedRow(TypedDict):
    """A row of an encoded dataset from `df_to_hfds`."""

    input_ids: Sequence[int]
    attention_mask: Sequence[int]
    labels: NotRequired[npt.ArrayLike]


class PaddingCollator:
    """Pad a batch to its longest text, rounded up.

    Args:
        pad_token_id: Token that fills up `input_ids`.
        padding_side: "right" or "left".
    """

    def __init__(self, pad_token_id: int, padding_side: str = "right") -> None:
        self.pad_token_id = pad_token_id
        self.padding_side = padding_side

    def __call__(self, rows: Sequence[EncodedRow]) -> dict[str, torch.Tensor]:
        """Stack rows: int64 `(n_examples, n_tokens)`; targets, if any, float32 `(n_examples, n_labels)`."""
        n_tokens = max(len(row["input_ids"]) for row in rows)
        n_tokens += -n_tokens % PAD_TO_MULTIPLE_OF
        input_ids = np.full((len(rows), n_tokens), self.pad_token_id, dtype=np.int64)
        attention_mask = np.zeros((len(rows), n_tokens), dtype=np.int64)
        for i, row in enumerate(rows):
            n = len(row["input_ids"])
            place = slice(0, n) if self.padding_side == "right" else slice(n_tokens - n, n_tokens)
            input_ids[i, place] = row["input_ids"]
            attention_mask[i, place] = 1
        batch = {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(attention_mask)}
        if "labels" in rows[0]:
            targets = np.stack([np.asarray(row["labels"], dtype=np.float32) for row in rows])  # or tensors
            batch["labels"] = torch.from_numpy(targets)
        return batch
