"""The search finds again what a generator made, alike for a seed, and row by row on its own."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from small_stylegan2 import generator_tensors
from torch import Tensor

from ostec.bench.scores import psnr_db
from ostec.completion.projection.loss import Target, ViewLoss
from ostec.completion.projection.optimisers import Ggt, full_matrix_step
from ostec.completion.projection.pyramid import Pyramid, downsample, downsample_known
from ostec.completion.projection.search import DEFAULT, ORIGINAL, Plan, search
from ostec.completion.projection.starts import MapStart, best_random_latents
from ostec.errors import Cancelled
from ostec.interfaces import LossNetworks
from ostec.networks.stylegan2 import Generator

GENERATOR = Generator(generator_tensors(resolution=32, channels=12, width=16, z=16))
PYRAMID = Pyramid(GENERATOR)
ADAM = Plan("adam", 0.1, ((0, 1.0),), decay=0.94)
WEIGHTS = {"pixels": 1.5, "ms_ssim": 0.0, "latent": 0.0}


def made(faces: int) -> Tensor:
    """[N, L, W]: latents near the mean, another for each layer."""
    draw = torch.Generator().manual_seed(3)
    return GENERATOR.w_avg + 0.7 * torch.randn(faces, GENERATOR.num_ws, 16, generator=draw)


def picture(w_plus: Tensor) -> Tensor:
    return GENERATOR.synthesis(w_plus) / 2 + 0.5


def half_known(w_plus: Tensor) -> Target:
    """The left half of the pictures."""
    image = picture(w_plus)
    trust = torch.zeros(len(image), 1, *image.shape[2:])
    trust[..., :16] = 1
    return Target(image, trust, torch.zeros(len(image), 68, 2))


def view_loss(target: Target) -> ViewLoss:
    return ViewLoss(target, LossNetworks(), GENERATOR.w_avg, WEIGHTS)


def mean_latent(faces: int) -> Tensor:
    return GENERATOR.w_avg.repeat(faces, GENERATOR.num_ws, 1)


@pytest.mark.parametrize(
    ("plan", "steps", "wanted_db"),
    [
        (DEFAULT, 300, 10),
        (replace(ORIGINAL, settled_gain=None), 300, 10),
        (ADAM, 400, 7),
        (Plan("lbfgs", 1.0, ((0, 1.0),), decay=1.0), 80, 5),
    ],
    ids=["default", "original", "adam", "lbfgs"],
)
def test_the_masked_half_is_found(plan: Plan, steps: int, wanted_db: float) -> None:
    truth = made(3)
    target = half_known(truth)
    found = search(PYRAMID, view_loss(target), mean_latent(3), plan, steps, seed=0)
    before, after = (picture(w) for w in (mean_latent(3), found.w_plus))
    gains_db = []
    for i in range(3):
        hidden = target.trust[i, 0] == 0
        old_db, new_db = (psnr_db(pictures[i], target.image[i], hidden) for pictures in (before, after))
        gains_db.append(new_db - old_db)
        assert min(found.history[i]) < 0.5 * found.history[i][0]
    assert min(gains_db) > wanted_db, gains_db


def test_the_same_seed_gives_the_same_bits() -> None:
    target = half_known(made(1))
    noisy = replace(ORIGINAL, redraw_beyond=0.1)
    first, again, other = (search(PYRAMID, view_loss(target), mean_latent(1), noisy, 8, seed) for seed in (0, 0, 1))
    assert torch.equal(first.w_plus, again.w_plus) and first.history == again.history
    assert first.history != other.history


def test_a_batch_is_several_searches() -> None:
    truth = made(2)
    both = search(PYRAMID, view_loss(half_known(truth)), mean_latent(2), ADAM, 12, seed=0)
    for i in range(2):
        alone = search(PYRAMID, view_loss(half_known(truth[i : i + 1])), mean_latent(1), ADAM, 12, seed=0)
        assert torch.allclose(alone.w_plus[0], both.w_plus[i], atol=1e-4)


def broken_from(step: int, row: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss that is not finite for one item of the batch from a step on."""
    real, calls = view_loss(half_known(made(2))), []

    def loss(pictures: Tensor, w_plus: Tensor) -> Tensor:
        calls.append(0)
        losses = real(pictures, w_plus)
        broken = torch.arange(2) == row
        return losses + torch.where(broken & (len(calls) > step), torch.nan, 0.0)

    return loss


def test_a_search_that_diverges_keeps_its_best_and_does_not_touch_the_others() -> None:
    whole = search(PYRAMID, view_loss(half_known(made(2))), mean_latent(2), ADAM, 10, seed=0)
    found = search(PYRAMID, broken_from(5, row=0), mean_latent(2), ADAM, 10, seed=0)
    assert found.diverged == (True, False)
    assert [len(row) for row in found.history] == [5, 10]
    assert bool(torch.isfinite(found.w_plus).all())
    assert torch.allclose(found.w_plus[1], whole.w_plus[1], atol=1e-5)
    hopeless = search(PYRAMID, broken_from(0, row=1), mean_latent(2), ADAM, 10, seed=0)
    assert hopeless.history[1] == () and torch.equal(hopeless.w_plus[1], mean_latent(1)[0])


def test_the_best_latent_is_kept_and_not_the_last() -> None:
    jumpy = replace(ADAM, learning_rate=0.8, decay=1.0, sizes_px=((0, 1.0),))
    loss = view_loss(half_known(made(1)))
    found = search(PYRAMID, loss, mean_latent(1), jumpy, 40, seed=0)
    best = float(loss(picture(found.w_plus), found.w_plus))
    assert best == pytest.approx(min(found.history[0]), rel=1e-3)


def test_it_can_be_stopped() -> None:
    def stop(share: float) -> None:
        if share >= 0.5:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        search(PYRAMID, view_loss(half_known(made(1))), mean_latent(1), ADAM, 10, 0, stop)


def test_no_steps_give_the_start() -> None:
    found = search(PYRAMID, view_loss(half_known(made(1))), mean_latent(1), ADAM, 0, 0)
    assert torch.equal(found.w_plus, mean_latent(1)) and found.history == ((),)


def test_the_original_stops_when_nothing_is_gained() -> None:
    flat = search(PYRAMID, lambda pictures, w: w.sum(dim=(1, 2)) * 0 + 1, mean_latent(1), ORIGINAL, 200, 0)
    assert len(flat.history[0]) < 20


def test_the_best_random_start_is_better_than_the_mean() -> None:
    z = torch.randn(40, 16, generator=torch.Generator().manual_seed(7))
    truth = GENERATOR.mapping(z)[[5, 30]][:, None].repeat(1, GENERATOR.num_ws, 1)
    loss = view_loss(half_known(truth))
    start = best_random_latents(PYRAMID, loss, 2, 40, seed=7)
    assert torch.allclose(start, truth, atol=1e-5)


def test_ggt_steps_by_the_full_matrix() -> None:
    draw = torch.Generator().manual_seed(0)
    window, gradient = torch.randn(2, 4, 9, generator=draw).double(), torch.randn(2, 9, generator=draw).double()
    for i in range(2):
        values, vectors = torch.linalg.eigh(window[i].T @ window[i])
        whole = vectors @ torch.diag(values.clamp(min=0).sqrt() + 0.1) @ vectors.T
        ours = full_matrix_step(window, gradient, 0.1)[i]
        assert torch.allclose(ours, torch.linalg.solve(whole, gradient[i]), rtol=1e-5)


def test_ggt_descends_a_narrow_valley() -> None:
    x = torch.tensor([[3.0, 1.0], [1.0, -2.0]], requires_grad=True)
    optimiser = Ggt([x], lr=0.03, eps=1e-1)

    def valley() -> Tensor:
        x.grad = None
        loss = (x * torch.tensor([0.1, 10.0])).square().sum()
        loss.backward()
        return loss

    first = float(valley())
    for _ in range(300):
        optimiser.step(valley)
    assert float(valley()) < 1e-2 * first


def test_a_size_is_used_where_it_shows_the_picture() -> None:
    """If the last layers add nothing but contrast, small pictures are the full picture made smaller."""
    tensors = generator_tensors(resolution=32)
    loud = tensors | {"32.rgb.weight": tensors["32.rgb.weight"] * 10}
    assert Pyramid(Generator(loud)).usable_size(8) == 32
    for name in ("16.rgb.weight", "32.rgb.weight"):
        tensors[name] = tensors[name] * 0
    tensors["32.rgb.bias"] = torch.tensor([0.5, 0.0, -0.5])
    generator = Generator(tensors)
    pyramid = Pyramid(generator)
    assert [pyramid.usable_size(size) for size in (8, 16, 0, 64)] == [8, 16, 32, 32]
    w_plus = torch.randn(2, generator.num_ws, 8)
    full = downsample(pyramid.picture(w_plus, 32), 16)
    assert float((pyramid.picture(w_plus, 16) - full).abs().mean()) < 0.03
    assert float((generator.synthesis(w_plus, 16) / 2 + 0.5 - full).abs().mean()) > 0.15


def test_the_best_latent_outlives_a_change_of_picture_size() -> None:
    """After five steps every step leads away from the goal: the latent of the fifth stays the best, at any size."""
    tensors = generator_tensors(resolution=32, channels=12, width=16, z=16)
    pyramid = Pyramid(Generator(tensors | {"32.rgb.weight": tensors["32.rgb.weight"] * 0.1}))
    sizes_px: list[int] = []

    def turning(pictures: Tensor, w_plus: Tensor) -> Tensor:
        sizes_px.append(pictures.shape[-1])
        distance = (w_plus - 1).square().mean(dim=(1, 2))
        return distance if len(sizes_px) <= 5 else 101 * distance.detach() - 100 * distance

    plan = replace(ADAM, sizes_px=((16, 0.5), (32, 0.5)))
    found = search(pyramid, turning, mean_latent(1), plan, 20, seed=0)
    assert sizes_px == [16] * 10 + [32] * 11  # the best latent is measured once more
    assert float((found.w_plus - 1).square().mean()) == pytest.approx(min(found.history[0]), rel=1e-5)
    assert found.history[0].index(min(found.history[0])) == 5


def test_known_pixels_alone_make_a_smaller_target() -> None:
    """At half the size, a pixel that is known in part has the colour of that part."""
    image = torch.zeros(1, 3, 32, 32)
    image[..., 15] = 0.8
    trust = torch.zeros(1, 1, 32, 32)
    trust[..., 15] = 1
    small, share = downsample_known(image, trust, 16)
    assert torch.allclose(small[..., 7], torch.tensor(0.8)) and torch.allclose(share[..., 7], torch.tensor(0.5))
    assert torch.equal(downsample(image, 32), image)


@pytest.mark.parametrize("optimiser", ["ggt", "adam", "lbfgs"])
def test_a_film_has_no_more_frames_than_asked_for(optimiser: str) -> None:
    """One for a step at most, however often the optimiser evaluates it."""
    plan = replace(ADAM, optimiser=optimiser, frames=5)
    loss = view_loss(half_known(made(2)))
    frames = [search(PYRAMID, loss, mean_latent(2), plan, steps, 0).frames for steps in (12, 4, 0)]
    assert [None if film is None else len(film[0]) for film in frames] == [4, 4, None]
    assert frames[0] is not None and frames[0].dtype == torch.uint8 and len(frames[0]) == 2
    first = (frames[0][0, 0] / 255 - picture(mean_latent(1))[0].clamp(0, 1).mean(dim=(1, 2), keepdim=True)).mean()
    assert abs(float(first)) < 0.01  # the start comes first


def test_a_dropped_generator_is_freed() -> None:
    generator = Generator(generator_tensors(resolution=32, channels=12, width=16, z=16))
    pyramid = Pyramid(generator)
    loss = ViewLoss(half_known(made(1)), LossNetworks(), generator.w_avg)
    search(pyramid, loss, best_random_latents(pyramid, loss, 1, 3, 0), DEFAULT, 2, 0)
    MapStart(pyramid)(loss.target.image, loss.target.trust, mean_latent(1))
    dropped = weakref.ref(generator)
    del generator, pyramid, loss
    gc.collect()
    assert dropped() is None
