"""Where arithmetic of reduced precision is faster."""

from __future__ import annotations

import torch

_NATIVE_BFLOAT16 = (8, 0)
"""The first compute capability with bfloat16 in hardware (Ampere); older GPUs emulate it, slower than float32."""


def bfloat16_is_native(device: torch.device) -> bool:
    """Whether a device is a CUDA GPU that computes in bfloat16 itself."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _NATIVE_BFLOAT16
