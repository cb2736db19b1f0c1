"""The example of `docs/conventions.md` runs, and its formulas are the code's."""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch

from ostec.geometry.camera import rotation

PAGE = Path(__file__).parents[2] / "docs" / "conventions.md"


def test_the_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(compile(example, str(PAGE), "exec"), {})


def test_the_rotation_is_the_products_of_the_page() -> None:
    def about(axis: int, degrees: float) -> torch.Tensor:
        """Right-handed about x, y or z."""
        generator = torch.zeros(3, 3, dtype=torch.float64)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        generator[second, first], generator[first, second] = 1, -1
        return torch.linalg.matrix_exp(math.radians(degrees) * generator)

    facing = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    expected = about(2, 12) @ about(1, 25) @ about(0, 40) @ facing
    assert torch.allclose(rotation(40, -25, 12).double(), expected, atol=1e-6)
