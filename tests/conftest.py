"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

ASSETS = Path(__file__).resolve().parents[2] / "shared" / "assets"


@pytest.fixture(autouse=True)
def _same_bits() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_weights_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What `auto` picks must not depend on what lies in somebody's data folder."""
    monkeypatch.delenv("OSTEC_WEIGHTS", raising=False)
    for variable in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path_factory.getbasetemp() / "no-data"))


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of test data that lies beside some checkouts; without it the test skips."""
    if not ASSETS.is_dir():
        pytest.skip("needs the test data folder, which a plain clone does not have")
    return ASSETS
