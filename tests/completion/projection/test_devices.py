"""What the search computes stays on the device of its pictures: torch's meta device refuses tensors of any other."""

from __future__ import annotations

import copy

import pytest
import torch
from small_fan import small_fan
from small_lpips import Weights
from small_stylegan2 import discriminator_tensors, generator_tensors

from ostec.completion.projection.loss import WEIGHTS, Target, ViewLoss
from ostec.completion.projection.optimisers import Ggt
from ostec.geometry.sampling import warp
from ostec.interfaces import LossNetworks
from ostec.landmarks.facemesh_landmarks import load_mesh_landmarks
from ostec.landmarks.fan import Fan
from ostec.networks.stylegan2 import Generator
from ostec.networks.stylegan2_discriminator import Discriminator

SIZE = 64
GENERATOR = Generator(generator_tensors(resolution=SIZE, channels=8))
DISCRIMINATOR = Discriminator(discriminator_tensors(resolution=SIZE, channels=8))
FAN, LPIPS, MESH = Fan(small_fan().state_dict()), Weights().lpips(), load_mesh_landmarks()


def moved(module: torch.nn.Module) -> torch.nn.Module:
    return copy.deepcopy(module).to("meta")


@pytest.mark.parametrize("heat_maps", [True, False])
def test_the_loss_and_its_gradient(heat_maps: bool) -> None:
    pictures = torch.empty(2, 3, SIZE, SIZE, device="meta", requires_grad=True)
    w_plus = torch.empty(2, GENERATOR.num_ws, len(GENERATOR.w_avg), device="meta", requires_grad=True)
    target = Target(
        torch.empty(2, 3, SIZE, SIZE, device="meta"),
        torch.empty(2, 1, SIZE, SIZE, device="meta"),
        torch.empty(2, 68, 2, device="meta"),
        torch.empty(2, 3, device="meta"),
    )
    networks = LossNetworks(
        landmarks=moved(MESH),  # pyright: ignore[reportArgumentType]
        heat_maps=moved(FAN) if heat_maps else None,  # pyright: ignore[reportArgumentType]
        identity=lambda pictures, landmarks_px: pictures.mean(dim=(2, 3)),
        perception=moved(LPIPS),  # pyright: ignore[reportArgumentType]
        discriminator=moved(DISCRIMINATOR),
    )
    loss_function = ViewLoss(target, networks, GENERATOR.w_avg.to("meta"))
    assert len(loss_function.terms(pictures, w_plus)) == len(WEIGHTS) - 1
    loss = loss_function(pictures, w_plus)
    gradients = torch.autograd.grad(loss.sum(), (pictures, w_plus))
    assert loss.is_meta and all(gradient.is_meta for gradient in gradients)


def test_a_picture_of_the_generator() -> None:
    generator = moved(GENERATOR)
    assert isinstance(generator, Generator)
    w_plus = torch.empty(2, GENERATOR.num_ws, len(GENERATOR.w_avg), device="meta", requires_grad=True)
    for size in (16, SIZE):
        (gradient,) = torch.autograd.grad(generator.synthesis(w_plus, size).sum(), w_plus)
        assert gradient.is_meta


def test_a_step_of_the_optimiser() -> None:
    w_plus = torch.empty(2, 8, 8, device="meta", requires_grad=True)
    w_plus.grad = torch.empty_like(w_plus)
    for _ in range(2):
        Ggt([w_plus], 0.5).step()
    assert w_plus.is_meta


def test_cutting_a_picture() -> None:
    """The crop is known on the CPU, where landmarks are."""
    picture = torch.empty(3, SIZE, SIZE, device="meta", requires_grad=True)
    crop = warp(picture, torch.tensor([[0.5, 0.1, 2.0], [-0.1, 0.5, 3.0]]), (32, 32))
    (gradient,) = torch.autograd.grad(crop.sum(), picture)
    assert crop.is_meta and gradient.is_meta
