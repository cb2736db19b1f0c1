"""A FaceNet with few channels and random weights."""

from __future__ import annotations

import torch

WIDTHS, BLOCKS, POINTS, PARTS = (4, 8, 8, 8, 8, 8, 8), 2, 6, 3


def small_tensors(decoder: bool = True) -> dict[str, torch.Tensor]:
    """Of a FaceNet with few channels, random."""
    draw = torch.Generator().manual_seed(3)
    shapes = {"stem.0.weight": (4, 3, 3, 3), "stem.0.bias": (4,), "stem.1.weight": (4,)}
    for s, width in enumerate(WIDTHS):
        for b in range(BLOCKS):
            first = b == 0 and s > 0
            own, half, side = (WIDTHS[s - 1] if first else width), width // 2, 2 if first else 1
            name = f"stages.{s}.{b}"
            shapes |= {f"{name}.narrow.0.weight": (half, own, side, side), f"{name}.narrow.0.bias": (half,)}
            shapes |= {f"{name}.narrow.1.weight": (half,), f"{name}.act.weight": (width,)}
            shapes |= {f"{name}.depthwise.weight": (half, 1, 3, 3), f"{name}.depthwise.bias": (half,)}
            shapes |= {f"{name}.widen.weight": (width, half, 1, 1), f"{name}.widen.bias": (width,)}
    for head, out in (("points", 3 * POINTS), ("presence", 1), ("spread", POINTS)):
        shapes |= {f"{head}.weight": (out, WIDTHS[-1], 2, 2), f"{head}.bias": (out,)}
    if decoder:
        for k in range(5):
            shapes |= {f"decoder.lateral.{k}.weight": (4, WIDTHS[k], 1, 1), f"decoder.lateral.{k}.bias": (4,)}
        for k in range(4):
            shapes |= {f"decoder.mix.{k}.0.weight": (4, 1, 3, 3), f"decoder.mix.{k}.0.bias": (4,)}
            shapes |= {f"decoder.mix.{k}.1.weight": (4, 4, 1, 1), f"decoder.mix.{k}.1.bias": (4,)}
            shapes[f"decoder.mix.{k}.2.weight"] = (4,)
        shapes |= {"decoder.out.weight": (PARTS, 4, 1, 1), "decoder.out.bias": (PARTS,)}
    return {name: 0.3 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}
