"""The generator and the discriminator agree with textbook twins, which scale weights face by face."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace

import pytest
import torch
from small_stylegan2 import discriminator_tensors, generator_tensors
from torch import Tensor
from torch.nn import functional as F

from ostec.errors import BadWeights
from ostec.networks.stylegan2 import Generator, upsampled
from ostec.networks.stylegan2_discriminator import Discriminator, with_spread

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8


def filtered(x: Tensor, before: int, after: int, gain: float) -> Tensor:
    """Each plane under the outer product of the taps, one plane at a time."""
    x = F.pad(x, (before, after, before, after))
    planes = F.conv2d(x.reshape(-1, 1, *x.shape[2:]), torch.outer(TAPS, TAPS)[None, None] * gain)
    return planes.view(*x.shape[:2], *planes.shape[2:])


def with_zeros_between(x: Tensor) -> Tensor:
    spread = x.new_zeros(*x.shape[:2], x.shape[2] * 2, x.shape[3] * 2)
    spread[:, :, ::2, ::2] = x
    return spread


def synthesise_slowly(tensors: dict[str, Tensor], w_plus: Tensor, noise: bool, resolution: int) -> Tensor:
    """As the paper writes it: each face has weights of its own; upsampling puts zeros between texels and smooths."""
    faces = []
    for latents in w_plus:
        x, picture, layer, size = tensors["const"][None], None, 0, 4
        while size <= resolution:
            for kind in ("up", "conv", "rgb")[size == 4 :]:
                name = f"{size}.{kind}"
                style = tensors[f"{name}.style_weight"] @ latents[layer] + tensors[f"{name}.style_bias"]
                weight = tensors[f"{name}.weight"] * style[None, :, None, None]
                bias = tensors[f"{name}.bias"][None, :, None, None]
                if kind == "rgb":
                    rgb = F.conv2d(x, weight) + bias
                    picture = rgb if picture is None else filtered(with_zeros_between(picture), 2, 1, 4) + rgb
                    continue
                weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
                if kind == "up":
                    wide = F.conv2d(with_zeros_between(x), weight.flip(2, 3), padding=2)
                    x = filtered(wide[:, :, : 2 * x.shape[2] + 1, : 2 * x.shape[3] + 1], 1, 1, 4)
                else:
                    x = F.conv2d(x, weight, padding=1)
                x = x + bias + (tensors[f"{name}.noise"] if noise else 0)
                x = torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)
                layer += 1
            size *= 2
        assert picture is not None
        faces.append(picture)
    return torch.cat(faces)


@pytest.mark.parametrize("resolution", [4, 8, 16])
@pytest.mark.parametrize("noise", ["const", "none"])
@pytest.mark.parametrize("fused_from", [0, math.inf])
def test_pictures_and_gradients_are_those_of_the_textbook(resolution: int, noise: str, fused_from: float) -> None:
    tensors = generator_tensors()
    w_plus = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    generator = Generator(tensors)
    generator.fused_from = fused_from
    ours = generator.synthesis(w_plus, resolution, "const" if noise == "const" else "none")
    theirs = synthesise_slowly(tensors, w_plus, noise == "const", resolution)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
    gradients = [torch.autograd.grad((p * weights).sum(), w_plus)[0] for p in (ours, theirs)]
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-4 * float(gradients[1].abs().max()))


@pytest.mark.parametrize("clamp", [math.inf, 0.8])
@pytest.mark.parametrize("faces", [1, 3])
def test_few_passes_and_plain_formulas_agree(clamp: float, faces: int) -> None:
    tensors = generator_tensors(resolution=64, channels=20) | {"clamp": torch.tensor(clamp)}
    draw = torch.Generator().manual_seed(5)
    w_plus = torch.randn(faces, 10, 8, generator=draw).requires_grad_()
    generator, found = Generator(tensors), []
    weights = torch.randn(faces, 3, 64, 64, generator=draw)
    for generator.fused_from in (0, 20 * 32**2, math.inf):
        picture = generator.synthesis(w_plus)
        found.append((picture, *torch.autograd.grad((picture * weights).sum(), w_plus)))
    for ours, mixed, theirs in zip(*found, strict=True):
        for other in (ours, mixed):
            assert 0 < float((other - theirs).abs().max()) < 1e-4 * float(theirs.abs().max())


def test_divergence_is_not_hidden() -> None:
    w_plus = torch.zeros(1, 6, 8)
    w_plus[0, 2, 0] = math.nan
    assert bool(Generator(generator_tensors()).synthesis(w_plus).isnan().any())


def test_no_weight_asks_for_a_gradient() -> None:
    assert not any(tensor.requires_grad for tensor in Generator(generator_tensors()).buffers())
    generator = Generator(generator_tensors())
    assert not any(tensor.requires_grad for tensor in (*generator.parameters(), *generator.buffers()))


def test_sizes_come_from_the_tensors() -> None:
    generator = Generator(generator_tensors(resolution=32, width=10, z=7))
    assert (generator.resolution, generator.num_ws, generator.z_dim) == (32, 8, 7)
    assert generator.mapping(torch.randn(3, 7)).shape == (3, 10)
    assert generator.synthesis(torch.randn(3, 8, 10)).shape == (3, 3, 32, 32)


def test_mapping_does_not_know_the_length_of_its_input() -> None:
    generator, z = Generator(generator_tensors()), torch.randn(2, 5)
    assert torch.allclose(generator.mapping(z), generator.mapping(7 * z), atol=1e-5)
    assert not torch.allclose(generator.mapping(z), generator.mapping(-z), atol=1e-2)


def test_activations_are_bounded() -> None:
    tensors = generator_tensors() | {"clamp": torch.tensor(1e-3)}
    picture = Generator(tensors).synthesis(torch.randn(1, 6, 8))
    assert float(picture.abs().max()) <= 3e-3  # three sizes add up
    assert float(Generator(generator_tensors()).synthesis(torch.randn(1, 6, 8)).abs().max()) > 0.1


def test_upsampling_keeps_a_plane_and_its_place() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    inner = upsampled(ramp)[0, 0, 4:12, 4:12]
    assert torch.allclose(inner, torch.arange(1.75, 5.5, 0.5).expand(8, 8))


def judge_slowly(tensors: dict[str, Tensor], pictures: Tensor) -> Tensor:
    def layer(x: Tensor, name: str, gain: float = 1.0, **options: int) -> Tensor:
        x = F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], **options)
        return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2) * gain

    x, size = layer(pictures, "rgb"), pictures.shape[2]
    while size > 4:
        skip = F.conv2d(filtered(x, 1, 1, 1)[:, :, ::2, ::2], tensors[f"{size}.skip.weight"]) * 0.5**0.5
        x = layer(x, f"{size}.conv", padding=1)
        x = layer(filtered(x, 2, 2, 1), f"{size}.down", 0.5**0.5, stride=2) + skip
        size //= 2
    x = layer(with_spread(x), "last.conv", padding=1).flatten(1)
    x = x @ tensors["last.dense.weight"].T + tensors["last.dense.bias"]
    x = torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)
    return x @ tensors["last.out.weight"].T + tensors["last.out.bias"]


def test_logits_are_those_of_the_textbook() -> None:
    tensors, pictures = discriminator_tensors(), torch.rand(3, 3, 16, 16) * 2 - 1
    assert torch.allclose(Discriminator(tensors)(pictures), judge_slowly(tensors, pictures), atol=1e-5)


def test_spread_tells_how_much_the_pictures_of_a_group_differ() -> None:
    same = torch.rand(1, 2, 4, 4).expand(4, -1, -1, -1)
    assert torch.allclose(with_spread(same)[:, 2], torch.tensor(1e-4))
    plus_minus = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(-1, 2, 4, 4)
    assert torch.allclose(with_spread(plus_minus)[:, 2], torch.tensor(1.0))


@pytest.mark.parametrize("bad", ["missing", "wrong shape", "not finite", "one too many"])
def test_what_does_not_fit_is_named(bad: str) -> None:
    for kind, tensors, name in (
        (Generator, generator_tensors(), "8.conv.weight"),
        (Discriminator, discriminator_tensors(), "8.down.bias"),
    ):
        if bad == "missing":
            del tensors[name]
        elif bad == "one too many":
            name = "64.rgb.weight"
            tensors[name] = torch.ones(1)
        else:
            tensors[name] = tensors[name] * torch.nan if bad == "not finite" else tensors[name][:-1]
        with pytest.raises(BadWeights, match="file") as error:
            kind(tensors, "file")
        expected = re.escape(name) if bad in ("not finite", "one too many") else r"'\d+\.\w+\.\w+'"
        assert re.search(expected, str(error.value))


@pytest.mark.parametrize(
    ("w_plus", "resolution"), [((2, 6, 7), None), ((2, 5, 8), None), ((2, 6, 8), 12), ((2, 6, 8), 32)]
)
def test_wrong_requests_are_refused(w_plus: tuple[int, ...], resolution: int | None) -> None:
    with pytest.raises(ValueError, match="must be"):
        Generator(generator_tensors()).synthesis(torch.zeros(w_plus), resolution)
    with pytest.raises(ValueError, match="must be"):
        Discriminator(discriminator_tensors())(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16)])
def test_reduced_precision_only_where_it_is_native(
    capability: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator(generator_tensors(resolution=8))
    assert generator.reduced() is generator
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(Generator, "w_avg", SimpleNamespace(device=torch.device("cuda")), raising=False)
    assert generator.reduced().conv_dtype == dtype


def test_in_bfloat16_picture_and_slope_are_about_the_same() -> None:
    generator = Generator(generator_tensors(resolution=64, channels=16))
    latents = generator.mapping(torch.randn(2, generator.z_dim))[:, None].repeat(1, generator.num_ws, 1)
    results = []
    for version in (generator, generator.in_bfloat16()):
        w_plus = latents.clone().requires_grad_()
        picture = version.synthesis(w_plus)
        assert picture.dtype == torch.float32
        (slope,) = torch.autograd.grad(picture.square().sum(), w_plus)
        results.append((picture.detach(), slope.flatten()))
    (picture, slope), (rough, rough_slope) = results
    assert 1e-5 < float((rough - picture).square().mean() / picture.square().mean()) ** 0.5 < 0.02
    assert float(F.cosine_similarity(slope, rough_slope, dim=0)) > 0.995
    assert torch.equal(generator.synthesis(latents), picture)
