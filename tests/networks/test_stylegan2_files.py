"""Networks of every public layout give the pictures, latents and logits that the reference implementations gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_stylegan2 import discriminator_tensors, generator_tensors
from torch import Tensor

import ostec
from ostec.errors import BadWeights, MissingWeights
from ostec.networks.stylegan2_files import converted, load_discriminator, load_generator

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
FILES = ("stylegan2_tf_32px.pkl", "stylegan2_ada_32px.pkl", "stylegan2_rosinality_32px.pt")


def expected(file: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{Path(file).stem}_expected.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("file", FILES)
def test_reference_outputs_are_met(file: str) -> None:
    generator, truth = load_generator(GOLDEN / file), expected(file)
    w = truth["w"] if truth["w"].ndim == 2 else truth["w"][:, 0]
    assert torch.equal(generator.w_avg, truth["w_avg"])
    assert error(generator.mapping(truth["z"]), w) < 1e-5
    assert error(generator.synthesis(truth["w_plus"]), truth["image_const_noise"]) < 1e-5
    if "image_no_noise" in truth:
        assert error(generator.synthesis(truth["w_plus"], noise="none"), truth["image_no_noise"]) < 1e-5


@pytest.mark.parametrize("file", FILES[:2])
def test_reference_logits_are_met(file: str) -> None:
    truth = expected(file)
    logits = load_discriminator(GOLDEN / file)(truth["discriminator_input"])
    assert error(logits, truth["discriminator_logits"]) < 1e-5


@pytest.mark.parametrize("file", FILES)
def test_a_converted_file_gives_the_same_bits(file: str, tmp_path: Path) -> None:
    (tmp_path / "out.safetensors").write_bytes(converted(GOLDEN / file))
    w_plus = expected(file)["w_plus"]
    pictures = [load_generator(path).synthesis(w_plus) for path in (GOLDEN / file, tmp_path / "out.safetensors")]
    assert torch.equal(*pictures)


def test_a_checkpoint_without_a_discriminator_says_so() -> None:
    with pytest.raises(BadWeights, match="no discriminator"):
        load_discriminator(GOLDEN / FILES[2])


def test_the_loaders_are_public() -> None:
    assert ostec.load_generator is load_generator and ostec.load_discriminator is load_discriminator


def test_own_files_hold_either_network(tmp_path: Path) -> None:
    pair = {f"generator.{n}": t for n, t in generator_tensors().items()}
    pair |= {f"discriminator.{n}": t for n, t in discriminator_tensors().items()}
    save_file(pair, tmp_path / "both.safetensors")
    assert load_generator(tmp_path / "both.safetensors").resolution == 16
    assert load_discriminator(tmp_path / "both.safetensors").resolution == 16


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_truncated_files_are_refused(file: str, share: float, tmp_path: Path) -> None:
    data = (GOLDEN / file).read_bytes()
    (tmp_path / file).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadWeights, match=file):
        load_generator(tmp_path / file)


@pytest.mark.parametrize(
    "content", [{"a": torch.ones(1)}, [1, 2], torch.ones(3), {"g_ema": {}, "latent_avg": 3}, {"g_ema": 1}]
)
def test_foreign_checkpoints_are_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(BadWeights, match=r"foreign\.pt"):
        load_generator(tmp_path / "foreign.pt")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"none\.pkl"):
        load_generator(tmp_path / "none.pkl")
