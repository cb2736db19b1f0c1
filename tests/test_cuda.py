"""The search on a real GPU, beside the CPU. It runs where there is one, and was written where there was none: there
`test_devices.py` runs the same checks on a pretended one."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from gpu_checks import GpuChecks, completer, settings, shots

from ostec.completion.projection.view_search import SearchRequest

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU and a build of torch for it; torch.cuda.is_available() is false"
)


@pytest.fixture
def gpu() -> Iterator[None]:
    yield
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


class TestCuda(GpuChecks):
    """The checks."""

    def test_the_memory_of_a_dropped_completer_is_freed(self, gpu: None) -> None:
        def left_bytes() -> int:
            parts = completer("cuda", "discriminator")
            parts.search.submit(SearchRequest(shots(), None, settings(iterations=2)))
            del parts
            gc.collect()
            return torch.cuda.memory_allocated()

        kept_by_libraries = left_bytes()
        assert left_bytes() - kept_by_libraries < 1 << 16
