"""Files that come in the package."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ostec.errors import BadWeights, MissingWeights

DATA_DIR = Path(__file__).parent.parent / "data"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name. Raises `MissingWeights`, `BadWeights`."""
    if not path.is_file():
        raise MissingWeights(f"{path} is missing; it ships with ostec: install the package again.")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadWeights(f"{path} cannot be read as safetensors ({error}); install the package again.") from error
