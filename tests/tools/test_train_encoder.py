"""The encoder's training in miniature."""

from __future__ import annotations

from pathlib import Path

import torch
import train_encoder
from generator_archive import write_faces
from generator_portraits import damaged
from painted_faces import painted_faces
from safetensors.torch import save_file
from small_stylegan2 import generator_tensors
from train_encoder import linear_part, new_encoder, picture_loss, train

from ostec.networks.face_encoder import load_face_encoder
from ostec.networks.stylegan2 import Generator

TENSORS = generator_tensors(16, channels=12, width=16, z=16)


def test_it_learns_to_find_latents_and_can_be_repeated() -> None:
    generator, faces = Generator(TENSORS), painted_faces(20, 16)
    encoder, again = new_encoder(generator, 0.1, seed=0), new_encoder(generator, 0.1, seed=0)
    draw = torch.Generator().manual_seed(5)
    w = generator.mapping(torch.randn(32, generator.z_dim, generator=draw))
    pictures = generator.synthesis(w[:, None].expand(-1, generator.num_ws, -1)).clamp(-1, 1)

    def miss() -> float:
        with torch.no_grad():
            return float(picture_loss(generator.synthesis(encoder(pictures / 2 + 0.5)), pictures).mean())

    mean = generator.synthesis(generator.w_avg.expand(32, generator.num_ws, -1))
    of_mean = float(picture_loss(mean, pictures).mean())
    losses = train(encoder, generator, faces, steps=100, batch=8)
    assert losses[-1] < 0.85 * losses[0] and miss() < 0.8 * of_mean
    assert train(again, generator, faces, steps=1, batch=8) == losses[:1]
    assert torch.equal(encoder.get_parameter("w_avg"), generator.w_avg)


def test_the_linear_part_alone_is_better_than_the_mean() -> None:
    generator = Generator(TENSORS)
    w_std = torch.full((16,), 0.5)
    part = linear_part(generator, w_std, samples=400, seed=0)
    w = generator.mapping(torch.randn(64, generator.z_dim, generator=torch.Generator().manual_seed(7)))
    pictures = generator.synthesis(w[:, None].expand(-1, generator.num_ws, -1)).clamp(-1, 1)
    wanted = (w - generator.w_avg) / w_std
    guess = pictures.flatten(1) @ part["linear.weight"].T + part["linear.bias"]
    assert float((guess - wanted).square().mean()) < 0.7 * float(wanted.square().mean())


def test_the_command_writes_what_the_package_loads(tmp_path: Path) -> None:
    save_file({f"generator.{name}": t for name, t in TENSORS.items()}, tmp_path / "face_generator.safetensors")
    row = {"file": "a.jpg", "licence": "MIT", "source_repo": "", "commit": "", "source_path": ""}
    write_faces(tmp_path / "faces.zip", [(row, painted_faces(1, 16)[0] / 255)])
    out = tmp_path / "face_encoder.safetensors"
    paths = [str(tmp_path / "face_generator.safetensors"), str(tmp_path / "faces.zip"), "--out", str(out)]
    train_encoder.main([*paths, "--steps", "2", "--batch", "4", "--device", "cpu"])
    encoder = load_face_encoder(out)
    assert (encoder.size_px, encoder.num_ws, encoder.w_dim) == (16, 6, 16)


def test_it_is_as_small_as_promised() -> None:
    tensors = generator_tensors(128, channels=4, width=240, z=240)
    encoder = new_encoder(Generator(tensors), 1.0, seed=0, samples=8)
    assert 4 < 2 * sum(t.numel() for t in encoder.state_dict().values()) / 1e6 <= 8


def test_damage_leaves_what_a_view_knows_and_hides_the_rest() -> None:
    pictures = painted_faces(200, 32).float() / 127.5 - 1
    hurt = damaged(pictures, torch.Generator().manual_seed(0))
    changed = (hurt - pictures).abs().amax(dim=1) > 0.02
    share = changed.flatten(1).float().mean(dim=1)
    assert 0.4 < float((share > 0.05).float().mean()) < 0.8
    assert float(share.max()) < 0.95
