"""Training goes on as if it had never stopped, and makes what it is to make smaller."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from face_pictures import Pictures
from face_train import Run, figures, picked, solved
from safetensors.torch import load_file
from small_face_net import small_tensors
from small_shard import POINTS, write_small_shard

from ostec.networks.face import FaceNet, load_face_net


def tensors() -> dict[str, torch.Tensor]:
    """Of a network with few channels, FaceMesh's points and ten parts."""
    found = {name: 0.3 * tensor for name, tensor in small_tensors().items()}
    draw = torch.Generator().manual_seed(1)
    for name, rows in (("points", 3 * POINTS), ("spread", POINTS), ("decoder.out", 10)):
        found[f"{name}.weight"] = 0.05 * torch.randn(rows, *found[f"{name}.weight"].shape[1:], generator=draw)
        found[f"{name}.bias"] = torch.full((rows,), 128.0 if name == "points" else 0.0)
    return found


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    write_small_shard(tmp_path / "000.npz")
    return Pictures(tmp_path)


def _steps(run: Run, pictures: Pictures, count: int) -> list[float]:
    mirror = torch.arange(POINTS)
    losses = []
    for _ in range(count):
        which, draw = picked(run.step, len(pictures), 2, seed=0)
        losses.append(run.learn(pictures.batch(which, draw, mirror), steps=1000)["loss"])
    return losses


def test_stopped_and_resumed_is_the_same_as_in_one_go(pictures: Pictures, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole = Run(tensors(), tmp_path / "a")
    _steps(whole, pictures, 4)
    whole.save()
    parts = Run(tensors(), tmp_path / "b")
    _steps(parts, pictures, 2)
    parts.save()
    parts = Run.resumed(tmp_path / "b")
    assert parts.step == 2
    _steps(parts, pictures, 2)
    parts.save()
    for file in ("state.safetensors", "face.safetensors"):
        a, b = load_file(tmp_path / "a" / file), load_file(tmp_path / "b" / file)
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert isinstance(load_face_net(tmp_path / "a" / "face.safetensors"), FaceNet)


def test_a_batch_seen_again_and_again_is_learnt(pictures: Pictures, tmp_path: Path) -> None:
    run, batch = Run(tensors(), tmp_path), pictures.batch([0, 1], None, torch.arange(POINTS))
    run.step = 200
    terms = [run.learn(batch, steps=1000) for _ in range(21)]
    for name in ("loss", "points", "parts"):
        assert terms[20][name] < terms[10][name] < terms[0][name]


def test_the_last_layer_is_solved_for_the_points(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("face_train.full_mirror", lambda net: torch.arange(POINTS))
    before, batch = tensors(), pictures.batch([0, 1], None, torch.arange(POINTS))
    after = solved(before, pictures, crops=96, seed=1)
    apart = [float((FaceNet(t)(batch.crops)[0] - batch.points).abs().mean()) for t in (before, after)]
    assert apart[1] < 0.8 * apart[0]
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("points"))


def test_figures_of_perfect_points_are_zero(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    net = FaceNet(tensors())
    given = pictures.batch([0, 1, 2], None, torch.arange(POINTS))
    logits = torch.nn.functional.one_hot(given.parts.clamp(max=9), 10).permute(0, 3, 1, 2).float()
    perfect = given.points, torch.zeros(3, POINTS), torch.zeros(3), logits
    monkeypatch.setattr("face_train.outputs", lambda net, crops: perfect)
    found = figures(net, pictures, torch.arange(POINTS))
    assert found["points 0"] == found["points 15"] == 0
    assert found["IoU background"] == found["IoU skin"] == 1
