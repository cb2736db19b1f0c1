"""The search on a pretended GPU: no devices mix, it computes what the CPU does, and the CPU seldom waits for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_cuda import FakeCuda
from gpu_checks import GpuChecks, completed, completer, searched, settings


@pytest.fixture
def gpu() -> Iterator[FakeCuda]:
    with FakeCuda() as fake:
        yield fake


class TestPretendedGpu(GpuChecks):
    """The checks that a real GPU has to pass too."""
