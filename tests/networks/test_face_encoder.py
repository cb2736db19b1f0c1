"""The encoder of the small generator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_encoder import encoder_tensors
from torch import Tensor

from ostec.errors import BadWeights, MissingWeights
from ostec.networks.face_encoder import FaceEncoder, load_face_encoder


def test_sizes_come_from_the_tensors_and_any_picture_will_do() -> None:
    encoder = FaceEncoder(encoder_tensors())
    assert (encoder.size_px, encoder.num_ws, encoder.w_dim) == (16, 6, 8)
    picture = torch.rand(2, 3, 16, 16)
    latents = encoder(picture)
    assert latents.shape == (2, 6, 8)
    larger = encoder(picture.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3))
    assert torch.allclose(larger, latents, atol=0.2) and not torch.equal(latents[0], latents[1])
    for changed in (picture.flip(1), picture.flip(2), picture.flip(3)):
        assert not torch.allclose(encoder(changed), latents, atol=1e-3)


def test_without_evidence_it_says_the_mean_latent() -> None:
    nothing = {"out.weight": torch.zeros(6, 8, 7), "linear.weight": torch.zeros(8, 48), "linear.bias": torch.zeros(8)}
    tensors = encoder_tensors() | nothing
    assert torch.equal(FaceEncoder(tensors)(torch.rand(1, 3, 16, 16)), tensors["w_avg"].expand(1, 6, 8))


@pytest.mark.parametrize(
    "wrong",
    [
        {"out.weight": None},
        {"dense.weight": torch.zeros(7, 3)},
        {"linear.weight": torch.zeros(8, 40)},
        {"0.skip.weight": torch.full((5, 5, 1, 1), torch.nan)},
        {"extra": torch.zeros(1)},
    ],
    ids=["missing", "shape", "no square", "nan", "extra"],
)
def test_another_file_is_named(wrong: dict[str, Tensor | None], tmp_path: Path) -> None:
    tensors = {name: t for name, t in (encoder_tensors() | wrong).items() if t is not None}
    path = tmp_path / "face_encoder.safetensors"
    save_file(tensors, path)
    with pytest.raises(BadWeights, match=r"face_encoder\.safetensors"):
        load_face_encoder(path)


def test_a_network_deeper_than_any_is_refused_before_it_is_run(tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match="halves"):
        FaceEncoder(encoder_tensors(halvings=9, channels=1))


def test_no_file_and_a_truncated_one(tmp_path: Path) -> None:
    path = tmp_path / "face_encoder.safetensors"
    with pytest.raises(MissingWeights, match=r"train_encoder\.py"):
        load_face_encoder(path)
    save_file({name: t.half() for name, t in encoder_tensors().items()}, path)
    assert load_face_encoder(path)(torch.rand(1, 3, 8, 8)).dtype == torch.float32
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadWeights, match=r"train_encoder\.py"):
        load_face_encoder(path)
