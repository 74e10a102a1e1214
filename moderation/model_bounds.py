"""Limits on a model that a configuration from elsewhere describes: about as large as the weights that come with it.

A configuration of a few bytes can request millions of layers, or a table of a hundred million tokens. Building such a
model takes hours and all memory before anything notices that the weights do not fit.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

MOST_TOKENS = 1 << 24
"""Largest vocabulary."""

_MOST_LAYERS = 10_000
# A key with one of these words in its name counts parts.
_COUNTED = ("layer", "label", "block", "stage", "depth", "expert", "group")
_PARTS_PER_TENSOR, _FEW_PARTS = 40, 2_000  # modules, parameters and buffers; a layer has about two for each tensor
_MOST_PARTS, _MOST_VALUES = 200_000, 1 << 33  # of a model without weights to compare it with
_STRETCH, _FEW_VALUES = 4, 1 << 24  # loaded values may be registered twice, and heads and masks are not in the file


class TooLargeError(ValueError):
    """A model is much larger than the weights that were given for it, or than memory."""


def is_far_too_many(key: str, value: Any) -> bool:
    """Whether an entry of a configuration requests more layers, labels or similar parts than any model has.

    >>> is_far_too_many("num_hidden_layers", 12), is_far_too_many("num_hidden_layers", 10**7)
    (False, True)
    """
    return isinstance(value, int) and value > _MOST_LAYERS and any(part in key for part in _COUNTED)


@contextmanager
def fitting_in_memory(free: int | None) -> Iterator[None]:
    """Stop this thread from building a model whose float32 weights need more memory than is free.

    Args:
        free: Bytes; None: unknown.

    Raises:
        TooLargeError: as in `no_larger_than`.
    """
    most_values = _MOST_VALUES if free is None else free // 4
    with _bounded(_MOST_PARTS, most_values, "a model that needs more memory than is free"):
        yield


@contextmanager
def no_larger_than(sizes: Mapping[str, int]) -> Iterator[None]:
    """Stop this thread from building a model that is much larger than its weights.

    Args:
        sizes: Name of each tensor -> how many values the file really has.

    Raises:
        TooLargeError: raised inside the block, at the first part that is too much.
    """
    most_parts = _FEW_PARTS + _PARTS_PER_TENSOR * len(sizes)
    most_values = _FEW_VALUES + _STRETCH * sum(sizes.values())
    with _bounded(most_parts, most_values, "a model that is much larger than its weights"):
        yield


@contextmanager
def _bounded(most_parts: int, most_values: int, otherwise: str) -> Iterator[None]:
    """Stop this thread from building a model of more modules, parameters and buffers, or of more values in them."""
    from torch.nn.modules import module as registry

    thread = threading.get_ident()
    n_parts = n_values = 0

    def count(_: Any, __: str, part: Any) -> None:
        nonlocal n_parts, n_values
        if threading.get_ident() != thread:
            return
        n_parts += 1
        n_values += part.numel() if hasattr(part, "numel") else 0
        if n_parts > most_parts or n_values > most_values:
            raise TooLargeError(otherwise)

    with ExitStack() as stack:
        for register in (
            registry.register_module_parameter_registration_hook,
            registry.register_module_buffer_registration_hook,
            registry.register_module_module_registration_hook,
        ):
            stack.callback(register(count).remove)
        yield
