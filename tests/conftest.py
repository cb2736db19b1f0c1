"""Fixtures shared by all tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

ASSETS = Path(__file__).resolve().parents[2] / "shared" / "assets"


@pytest.fixture(autouse=True)
def _same_bits() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of test data that lies beside some checkouts; without it the test skips."""
    if not ASSETS.is_dir():
        pytest.skip("needs the test data folder, which a plain clone does not have")
    return ASSETS
