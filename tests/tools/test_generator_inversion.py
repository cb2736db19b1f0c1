"""A generator gives back what it can make, also where it is not shown."""

from __future__ import annotations

from pathlib import Path

import generator_inversion
import pytest
import torch
from generator_inversion import Inverter, decibels
from safetensors.torch import save_file
from small_stylegan2 import generator_tensors
from synthetic import head

from ostec.geometry.render import portrait_camera
from ostec.networks.stylegan2 import Generator
from ostec.texture.views import FRONT
from ostec.types import Shot

TENSORS = generator_tensors(16, channels=12, width=16, z=16)


def shot(image: torch.Tensor) -> Shot:
    camera = portrait_camera(head(0.0), 0.0, 0.0, 0.0, 16)
    return Shot(FRONT, image, torch.ones(16, 16), torch.zeros(68, 2), camera)


def test_a_search_finds_what_a_generator_made_and_what_of_it_is_hidden() -> None:
    generator = Generator(TENSORS)
    z = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    latents = generator.mapping(z)[:, None].expand(-1, generator.num_ws, -1)
    pictures = (generator.synthesis(latents).detach() / 2 + 0.5).clamp(0, 1)
    half = torch.zeros(16, 16, dtype=torch.bool)
    half[:, 8:] = True
    shots = [shot(picture) for picture in pictures]
    for hidden, counted in ((torch.zeros_like(half), ~torch.zeros_like(half)), (half, half)):
        ways = Inverter(generator, None, steps=60)(shots, hidden)
        scores = {way: float(decibels(made, pictures, counted.expand(3, -1, -1)).mean()) for way, made in ways.items()}
        assert scores["search"] > scores["mean face"] + 3
    changed = pictures.clone()
    changed[:, :, half] = 0.5
    again = Inverter(generator, None, steps=60)([shot(picture) for picture in changed], half)
    assert torch.equal(again["search"], ways["search"])


def test_decibels_count_only_where_they_are_told_to() -> None:
    wanted, half = torch.zeros(1, 3, 4, 4), torch.zeros(4, 4, dtype=torch.bool)
    half[:, 2:] = True
    made = wanted.clone()
    made[..., 2:] = 0.1
    assert float(decibels(made, wanted, half[None])) == pytest.approx(20)
    assert float(decibels(made, wanted, ~half[None])) == pytest.approx(100)


def test_the_command_prints_every_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({f"generator.{name}": t for name, t in TENSORS.items()}, tmp_path / "face_generator.safetensors")
    (tmp_path / "a.jpg").touch()
    some = shot(torch.rand(3, 16, 16))
    monkeypatch.setattr(generator_inversion, "views_of", lambda path, parts, size_px: [some, some, some])
    arguments = [str(tmp_path / "face_generator.safetensors"), str(tmp_path), "--steps", "2"]
    generator_inversion.main([*arguments, "--sheet", str(tmp_path / "sheet.png")])
    printed = [line.rsplit(maxsplit=2)[0] for line in capsys.readouterr().out.splitlines()]
    assert [" ".join(line.split()) for line in printed] == [
        "whole mean face",
        "whole search",
        "half hidden mirror",
        "half hidden mean face",
        "half hidden search",
    ]
    assert (tmp_path / "sheet.png").is_file()
