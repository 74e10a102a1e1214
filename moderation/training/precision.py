"""The number format that the training computes in."""

import logging
from typing import Literal

import torch

from moderation.errors import ConfigError

logger = logging.getLogger(__name__)

Resolved = Literal["fp32", "bf16", "fp16"]


def resolve_precision(asked: str) -> Resolved:
    """Choose the number format.

    `auto` uses the faster format: bf16 on a GPU that has it (compute capability 8 or higher), fp16
    on an older one; on a CPU bf16 if its instruction set has bf16 matrix or vector products (AMX, AVX-512 BF16),
    since otherwise bf16 is emulated and slower than fp32.

    Args:
        asked: "auto", "fp32", "bf16" or "fp16".

    Raises:
        ConfigError: fp16 without a GPU, or an unknown name.
    """
    on_gpu = torch.cuda.is_available()
    if asked == "auto":
        if on_gpu:
            return "bf16" if torch.cuda.get_device_capability()[0] >= 8 else "fp16"
        return "bf16" if cpu_has_bf16() else "fp32"
    if asked == "fp16" and not on_gpu:
        raise ConfigError("--precision fp16 needs a GPU; use fp32, or bf16 if the processor has it.")
    if asked == "bf16" and not on_gpu and not cpu_has_bf16():
        logger.warning("Precision: this processor has no bf16 instructions; fp32 would be faster.")
    if asked not in ("fp32", "bf16", "fp16"):
        raise ConfigError(f"--precision {asked}: expected auto, fp32, bf16 or fp16.")
    return asked  # type: ignore[return-value]


def cpu_has_bf16() -> bool:
    """Whether the CPU has instructions for bf16 products."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))
