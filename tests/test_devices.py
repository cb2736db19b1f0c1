"""The search on a pretended GPU: no devices mix, it computes what the CPU does, and the CPU seldom waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from fake_cuda import FakeCuda
from gpu_checks import SIDE_PX, GpuChecks, completer, generator, latents, on, prepared, scene, view_loss

from ostec.completion.projection.pivotal_tuning import tuned_pictures
from ostec.completion.projection.pyramid import Pyramid
from ostec.completion.projection.search import ORIGINAL, PLANS, STEPS_PER_SYNC, Plan
from ostec.completion.projection.starts import best_random_latents
from ostec.types import Photo


@pytest.fixture
def gpu() -> Iterator[FakeCuda]:
    with FakeCuda() as fake:
        yield fake


class TestPretendedGpu(GpuChecks):
    """The checks that a real GPU has to pass too."""


def counted(gpu: FakeCuda, plan: Plan, steps: int) -> tuple[int, int, int]:
    """(copies to the GPU, copies from it, waits) of a search."""
    search = prepared("cuda")
    gpu.reset()
    search(plan, steps)
    return gpu.to_device, gpu.to_host, gpu.syncs


@pytest.mark.parametrize(
    ("plan", "per_step"), [(PLANS["ggt"], 1), (PLANS["adam"], 0), (PLANS["lbfgs"], 40), (ORIGINAL, 1)]
)
def test_a_search_copies_no_more_for_more_steps_and_seldom_waits(gpu: FakeCuda, plan: Plan, per_step: int) -> None:
    """GGT waits once a step, for the eigenvalues of its window; L-BFGS for its line search."""
    few, many = counted(gpu, plan, 3), counted(gpu, plan, 6)
    assert many[:2] == few[:2] and sum(few[:2]) < 10, (gpu.lines("to_device"), gpu.lines("to_host"))
    assert many[2] - few[2] <= 3 * per_step, gpu.lines("sync")


def test_a_loss_copies_nothing_once_it_knows_its_target(gpu: FakeCuda) -> None:
    for points in ("landmarks", "heat_maps"):
        loss, w_plus = view_loss("cuda", points, "discriminator"), latents("cuda")
        pictures = torch.rand(2, 3, SIDE_PX, SIDE_PX, device="cuda")
        loss(pictures, w_plus)
        gpu.reset()
        loss(pictures, w_plus)
        assert (gpu.to_device, gpu.to_host, gpu.syncs) == (0, 0, 0), gpu.counts


def test_starts_are_tried_together(gpu: FakeCuda) -> None:
    loss, pyramid = view_loss("cuda"), Pyramid(on(generator(), "cuda"))
    best_random_latents(pyramid, loss, views=2, count=2, seed=0)
    gpu.reset()
    best_random_latents(pyramid, loss, views=2, count=16, seed=0)
    assert gpu.to_device <= 2 and gpu.to_host == gpu.syncs == 0, gpu.counts


@pytest.mark.parametrize("steps", [2, 12])
def test_tuning_seldom_waits(gpu: FakeCuda, steps: int) -> None:
    made, loss, w_plus = on(generator(), "cuda"), view_loss("cuda"), latents("cuda")
    loss(torch.rand(2, 3, SIDE_PX, SIDE_PX, device="cuda"), w_plus)
    gpu.reset()
    tuned_pictures(made, loss, w_plus, steps)
    assert gpu.to_device == gpu.to_host == 0 and gpu.syncs <= 1 + steps // STEPS_PER_SYNC, gpu.counts


def test_of_a_photo_only_the_crop_of_the_face_goes_to_the_gpu(gpu: FakeCuda) -> None:
    face, _ = scene()
    large = replace(face, photo=Photo(torch.rand(3, 2000, 2000), "large"))
    search = completer("cuda").search
    gpu.reset()
    found = search.identity(large)
    assert found is not None and found.is_cuda and found.shape == (1, 16)
    assert gpu.bytes["to_device"] < 4 * 3 * 256**2
