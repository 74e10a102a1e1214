"""Rare labels: weights in the loss, and a sampler that draws them more often."""

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import WeightedRandomSampler

from moderation.errors import ConfigError, DataError
from moderation.training.options import PosWeight


def build_balanced_sampler_and_pos_weight(
    targets: npt.ArrayLike,
    *,
    rule: PosWeight = "balanced",
    cap: float = 50.0,
    seed: int = 42,
) -> tuple[WeightedRandomSampler, torch.Tensor]:
    """Build both remedies for rare labels; use one or both.

    Args:
        targets: 0/1, NaN where unknown, `(n_examples, n_labels)`, columns in label order.
        rule: How to compute `pos_weight` from the ratio of negatives to positives: "balanced" uses the ratio, "sqrt"
            its square root, "off" 1.
        cap: Largest `pos_weight`, 1 or more.
        seed: Seed of the sampler's draws.

    Returns:
        The sampler, which draws `n_examples` rows with replacement, and `pos_weight`, float32 `(n_labels,)`, for
        `torch.nn.BCEWithLogitsLoss` or `PosWeightTrainer`.

    Raises:
        DataError: targets are not 0/1 in two dimensions, or a label has no positives.
        ConfigError: an unknown rule, or a cap below 1.

    Example:
        >>> sampler, pos_weight = build_balanced_sampler_and_pos_weight([[1, 0], [0, 1], [0, 0], [0, 0], [0, 0]])
        >>> pos_weight
        tensor([4., 4.])
        >>> len(list(sampler))
        5
    """
    array = np.asarray(targets, dtype=np.float32)
    if array.ndim != 2 or not len(array) or not (np.isin(array, (0, 1)) | np.isnan(array)).all():
        raise DataError(f"Targets: expected 0/1 of shape (n_examples, n_labels), found shape {array.shape}.")
    weights = torch.from_numpy(example_weights(array))
    generator = torch.Generator().manual_seed(seed)
    sampler = WeightedRandomSampler(weights.tolist(), len(array), replacement=True, generator=generator)
    return sampler, torch.from_numpy(pos_weight_of(array, rule, cap))


def pos_weight_of(targets: npt.NDArray[np.float32], rule: PosWeight, cap: float) -> npt.NDArray[np.float32]:
    """Weight of positives per label, float32 `(n_labels,)`, in [1, cap]; see the function above."""
    if cap < 1:
        raise ConfigError(f"pos_weight: cap is {cap}, expected 1 or more.")
    n_positives = np.nansum(targets, axis=0, dtype=np.float64)
    if not n_positives.all():
        columns = ", ".join(map(str, np.flatnonzero(n_positives == 0)))
        raise DataError(f"pos_weight: no positives in column {columns} (from 0). Add examples, or leave the label out.")
    ratio = ((~np.isnan(targets)).sum(axis=0) - n_positives) / n_positives
    if rule == "off":
        ratio = np.ones_like(ratio)
    elif rule == "sqrt":
        ratio = np.sqrt(ratio)
    elif rule != "balanced":
        raise ConfigError(f"pos_weight: {rule!r} is not off, sqrt or balanced.")
    weights: npt.NDArray[np.float32] = np.clip(ratio, 1, cap).astype(np.float32)
    return weights


def example_weights(targets: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Weight of each example for the balanced sampler, float64 `(n_examples,)`.

    An example weighs as much as the rarest of its labels, 1 / frequency; an example without labels as much as their
    absence. So each label, and no label at all, is drawn about equally often.
    """
    flags = np.column_stack([targets > 0, ~(targets > 0).any(axis=1)])  # an unknown label is no positive one
    frequency = flags.sum(axis=0, dtype=np.float64)
    inverse = np.divide(1.0, frequency, out=np.zeros_like(frequency), where=frequency > 0)
    weights: npt.NDArray[np.float64] = (flags * inverse).max(axis=1)
    return weights
