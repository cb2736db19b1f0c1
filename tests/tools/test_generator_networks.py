"""What is trained is what the package runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from generator_networks import Scaled, Sizes, Styled, TrainedDiscriminator, TrainedGenerator, mixed
from safetensors.torch import save_file

from ostec.networks.stylegan2 import Generator
from ostec.networks.stylegan2_discriminator import Discriminator
from ostec.networks.stylegan2_files import load_networks

SIZES = Sizes.of(32, 0.1)


def networks(sizes: Sizes = SIZES) -> tuple[TrainedGenerator, TrainedDiscriminator]:
    """With biases and noise that are not 0, as they become in training."""
    generator, discriminator = TrainedGenerator(sizes), TrainedDiscriminator(sizes)
    with torch.no_grad():
        for layer in (*generator.modules(), *discriminator.modules()):
            if isinstance(layer, Scaled) and layer.own_bias is not None:
                layer.own_bias.add_(torch.randn_like(layer.own_bias))
            if isinstance(layer, Styled) and layer.strength is not None:
                layer.strength.fill_(0.3)
    return generator, discriminator


def test_pictures_and_logits_are_those_of_the_package() -> None:
    trained_g, trained_d = networks()
    generator, discriminator = Generator(trained_g.tensors(64)), Discriminator(trained_d.tensors())
    assert generator.num_ws == trained_g.num_ws
    z, w_plus = torch.randn(8, SIZES.latent), torch.randn(8, generator.num_ws, SIZES.latent)
    with torch.no_grad():
        assert torch.allclose(trained_g.mapping(z), generator.mapping(z), atol=1e-5)
        pictures = trained_g.synthesis(w_plus)
        for generator.fused_from in (0, torch.inf):
            assert torch.allclose(pictures, generator.synthesis(w_plus), atol=1e-4)
        assert float(pictures.std()) > 0.3
        logits = trained_d(pictures)
        assert torch.allclose(logits, discriminator(pictures)[:, 0], atol=1e-4) and float(logits.std()) > 0.1


def test_noise_differs_from_picture_to_picture_and_comes_from_the_seed() -> None:
    trained, _ = networks()
    w_plus = torch.randn(1, trained.num_ws, SIZES.latent).expand(2, -1, -1)
    one, same, other = (trained.synthesis(w_plus, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, same) and not torch.allclose(one, other, atol=1e-2)
    assert not torch.allclose(one[0], one[1], atol=1e-2)


def test_half_precision_is_close() -> None:
    trained, discriminator = networks()
    w_plus = torch.randn(4, trained.num_ws, SIZES.latent)
    with torch.no_grad():
        pictures = trained.synthesis(w_plus)
        logits = discriminator(pictures)
        trained.large_dtype = discriminator.large_dtype = torch.bfloat16
        assert (trained.synthesis(w_plus) - pictures).abs().mean() < 0.02 * pictures.abs().mean()
        assert (discriminator(pictures) - logits).abs().max() < 0.1 * logits.abs().max()


@pytest.mark.parametrize("size_px", [128, 256])
def test_the_file_is_as_small_as_promised_and_loads(size_px: int, tmp_path: Path) -> None:
    sizes = Sizes.of(size_px)
    generator, discriminator = TrainedGenerator(sizes), TrainedDiscriminator(sizes)
    parts = {"generator.": generator.tensors(64), "discriminator.": discriminator.tensors()}
    for tensors, megabytes in zip(parts.values(), (10, 5), strict=True):
        assert 0.9 * megabytes < 2 * sum(t.numel() for t in tensors.values()) / 1e6 <= megabytes
    flat = {f"{prefix}{name}": t.half() for prefix, tensors in parts.items() for name, t in tensors.items()}
    save_file(flat, tmp_path / "face_generator.safetensors")
    loaded, judge = load_networks(tmp_path / "face_generator.safetensors")
    assert judge is not None and loaded.resolution == judge.resolution == size_px


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="not 100"):
        Sizes.of(100)


def test_styles_are_mixed_at_one_layer() -> None:
    draw, zeros, ones = torch.Generator().manual_seed(0), torch.zeros(200, 3), torch.ones(200, 3)
    assert torch.equal(mixed(zeros, ones, 6, 0.0, draw), zeros[:, None].expand(-1, 6, -1))
    latents = mixed(zeros, ones, 6, 1.0, draw)[..., 0]
    assert bool((latents[:, 0] == 0).all()) and bool((latents[:, -1] == 1).all())
    assert bool((latents.diff(dim=1) >= 0).all()) and set(latents.sum(dim=1).tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
