"""Changes to pictures: what they do, and how often."""

from __future__ import annotations

import generator_augment
import pytest
import torch
from generator_augment import augmented, colour, geometry
from torch import Tensor


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_a_chance_nothing_changes() -> None:
    pictures = torch.rand(2, 3, 8, 8)
    assert augmented(pictures, 0.0, draw()) is pictures
    assert torch.equal(geometry(5, 8, 0.0, draw()), torch.eye(3).expand(5, 3, 3))
    assert torch.allclose(colour(5, 0.0, draw()), torch.eye(4).expand(5, 4, 4), atol=1e-6)


def test_the_seed_decides() -> None:
    pictures = torch.rand(4, 3, 16, 16)
    one, same, other = (augmented(pictures, 0.7, draw(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.allclose(one, other)


@pytest.mark.parametrize(
    ("theta", "wanted"),
    [
        ([[-1.0, 0, 0], [0, 1, 0], [0, 0, 1]], lambda x: x.flip(3)),
        ([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], lambda x: x.rot90(1, (2, 3))),
        ([[1.0, 0, 2 * 3 / 16], [0, 1, 0], [0, 0, 1]], lambda x: torch.cat([x[..., 3:], x[..., -3:].flip(3)], dim=3)),
    ],
    ids=["mirror", "quarter turn", "shift"],
)
def test_pictures_move_as_the_matrix_says(theta: list[list[float]], wanted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator_augment, "geometry", lambda *_: torch.tensor([theta]))
    monkeypatch.setattr(generator_augment, "colour", lambda *_: torch.eye(4)[None])
    picture = torch.rand(1, 3, 16, 16)
    assert torch.allclose(augmented(picture, 1.0, draw()), wanted(picture), atol=1e-4)


def test_grey_stays_grey_whatever_the_hue() -> None:
    greys = torch.stack([torch.full((100,), x) for x in (-0.5, 0.0, 0.8)])
    rgb1 = torch.cat([greys[..., None].expand(-1, -1, 3), torch.ones(3, 100, 1)], dim=2)
    changed = torch.einsum("nij,knj->kni", colour(100, 1.0, draw()), rgb1)
    assert torch.allclose(changed[..., 0], changed[..., 1], atol=1e-5)
    assert torch.allclose(changed[..., 0], changed[..., 2], atol=1e-5)
    assert torch.allclose(changed[..., 3], torch.ones(3, 100))


def test_each_change_has_its_chance() -> None:
    """Of pictures under p = 0.2, as many are untouched as independent chances leave."""
    p, n = 0.2, 20000
    theta = geometry(n, 64, p, draw())
    untouched = float((theta == torch.eye(3)).flatten(1).all(dim=1).float().mean())
    mirror_or_turn, whole_shift = (1 - p / 2) * (1 - p * 3 / 4), (1 - p * 15 / 16) ** 2
    scale, turns, stretch, shift = [1 - p] * 4
    assert abs(untouched - mirror_or_turn * whole_shift * scale * turns * stretch * shift) < 0.01

    def logs(matrices: Tensor) -> Tensor:
        return matrices[:, :2, :2].det().abs().log2()

    assert abs(float(logs(theta).mean())) < 0.01  # no picture size is favoured
    assert abs(float(logs(theta).std()) - 2 * 0.2 * p**0.5) < 0.02


def test_gradients_pass() -> None:
    pictures = torch.rand(2, 3, 8, 8, requires_grad=True)
    augmented(pictures, 1.0, draw()).square().sum().backward()
    assert pictures.grad is not None and float(pictures.grad.abs().sum()) > 0
