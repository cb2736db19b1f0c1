"""FAN gives what the modules of its public definition give, from every container, and reads peaks between pixels."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from small_fan import SmallFan, small_fan
from torch import Tensor
from torch.nn import functional as F

from ostec.errors import BadWeights, MissingWeights
from ostec.landmarks.fan import Fan, fan_crop, load_fan, peaks


@pytest.fixture(scope="module")
def network() -> SmallFan:
    return small_fan()


@pytest.fixture(scope="module")
def script(network: SmallFan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the author's archives are: traced, with the program inside."""
    path = tmp_path_factory.mktemp("fan") / "2DFAN4-cd938726ad.zip"
    traced = torch.jit.trace(network, torch.zeros(1, 3, 64, 64), strict=False)
    traced.save(str(path))  # pyright: ignore[reportAttributeAccessIssue]
    return path


def pictures(size: int = 256, count: int = 1) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def differ(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, in units of the largest number."""
    return float(((ours - theirs).abs().max() / theirs.abs().max()).detach())


def test_heat_maps_and_slopes_are_those_of_the_definition(network: SmallFan) -> None:
    found = []
    fan = Fan(network.state_dict())
    assert (fan.stacks, fan.levels) == (2, 4)
    for net in (fan.heat_maps, lambda x: network(x)[-1]):
        crops = pictures().requires_grad_()
        heat = net(crops)
        found.append((heat, *torch.autograd.grad(heat.square().sum(), crops)))
    assert found[0][0].shape == (1, 68, 64, 64)
    for ours, theirs in zip(*found, strict=True):
        assert differ(ours, theirs) < 1e-5


@pytest.mark.parametrize("flipped", [1, 2, 3])
def test_the_definition_tells_axes_apart(network: SmallFan, flipped: int) -> None:
    heat = Fan(network.state_dict()).heat_maps(pictures().flip(flipped))
    assert differ(heat, network(pictures())[-1]) > 0.01


def test_every_container_holds_the_same_network(network: SmallFan, script: Path, tmp_path: Path) -> None:
    wanted = network(pictures())[-1]
    torch.save(network.state_dict(), tmp_path / "2DFAN4-11f355bf06.pth.tar", _use_new_zipfile_serialization=False)
    torch.save(network.state_dict(), tmp_path / "new.pth")
    for path in (script, tmp_path / "2DFAN4-11f355bf06.pth.tar", tmp_path / "new.pth"):
        assert differ(load_fan(path).heat_maps(pictures()), wanted) < 1e-5


def gaussian(x_px: Tensor, y_px: Tensor, sigma_px: float = 1.5) -> Tensor:
    """[P, 64, 64], one for each of P points; pixel centres at +0.5."""
    at = torch.arange(64) + 0.5
    row, column = (at - y_px[:, None]).square()[:, :, None], (at - x_px[:, None]).square()[:, None, :]
    return (-(row + column) / (2 * sigma_px**2)).exp()


def test_peaks_between_pixels_are_found() -> None:
    points = torch.rand(68, 2, generator=torch.Generator().manual_seed(2)) * 60 + 2
    heat = gaussian(points[:, 0], points[:, 1])[None]
    assert torch.allclose(peaks(heat)[0], points, atol=1e-3)
    assert torch.allclose(peaks(heat - 1e-4)[0], points, atol=0.02)


def test_peaks_have_a_slope() -> None:
    heat = gaussian(torch.tensor([20.3]), torch.tensor([40.8]))[None].requires_grad_()
    (slope,) = torch.autograd.grad(peaks(heat)[0, 0, 0], heat)
    assert float(slope[0, 0, 40, 21]) > 0 > float(slope[0, 0, 40, 19])
    assert bool(torch.isfinite(torch.autograd.grad(peaks(heat * 0).sum(), heat)[0]).all())


def test_peaks_at_the_border_stay_on_the_map() -> None:
    heat = torch.zeros(1, 4, 64, 64)
    for point, (row, column) in enumerate(((0, 0), (0, 63), (63, 0), (63, 63))):
        heat[0, point, row, column] = 1
    found = peaks(heat)
    assert bool(((found >= 0) & (found <= 64)).all())
    assert torch.allclose(found, torch.tensor([[0.5, 0.5], [63.5, 0.5], [0.5, 63.5], [63.5, 63.5]]), atol=0.51)


class Bright(Fan):
    """Takes for landmarks where the picture is bright."""

    def heat_maps(self, crops: Tensor) -> Tensor:
        return F.avg_pool2d(crops, 4).mean(dim=1, keepdim=True).expand(-1, 68, -1, -1)


@pytest.mark.parametrize("size", [112, 224, 512])
def test_landmarks_are_in_pixels_of_the_picture(network: SmallFan, size: int) -> None:
    """A bright blob is found where it lies, however large the picture: the crop is undone."""
    at = torch.arange(size) + 0.5
    x, y = 0.3 * size, 0.8 * size
    blob = (-((at - x).square()[None] + (at - y).square()[:, None]) / (2 * (0.03 * size) ** 2)).exp()
    picture = blob.expand(1, 3, size, size).clone().requires_grad_()
    found = Bright(network.state_dict())(picture)
    assert found.shape == (1, 68, 2)
    assert torch.allclose(found[0], torch.tensor([x, y]).expand(68, 2), atol=0.002 * size)
    (slope,) = torch.autograd.grad(found.sum(), picture)
    assert float(slope.abs().max()) > 0


@pytest.mark.parametrize("size", [96, 256])
def test_maps_are_drawn_where_the_landmarks_would_be_read(network: SmallFan, size: int) -> None:
    fan = Fan(network.state_dict())
    landmarks_px = size * (0.1 + 0.8 * torch.rand(2, 68, 2))
    maps = fan.target(landmarks_px, size)
    assert maps.shape == (2, 68, 64, 64) and float(maps.max()) <= 1
    fan.heat_maps = lambda crops: maps
    assert torch.allclose(fan(torch.zeros(2, 3, size, size)), landmarks_px, atol=0.01 * size)


def test_the_crop_is_the_picture_at_224_px_on_black() -> None:
    picture = pictures(224)
    crop = fan_crop(picture)
    assert torch.equal(crop[:, :, :224, 16:240], picture)
    assert float(crop.sum()) == pytest.approx(float(picture.sum()), rel=1e-5)


def test_other_networks_are_refused(network: SmallFan, tmp_path: Path) -> None:
    tensors = network.state_dict()
    path = tmp_path / "fan.pth"
    wrong: list[Mapping[str, Tensor]] = [
        {},
        {**tensors, "m0.b1_4.conv1.weight": torch.zeros(8, 7, 3, 3)},
        {**tensors, "conv1.weight": tensors["conv1.weight"] * torch.nan},
        {**tensors, "forward": tensors["conv1.weight"]},
        {name: tensor for name, tensor in tensors.items() if name != "m1.b3_2.bn2.weight"},
        small_fan(points=84).state_dict(),
    ]
    for each in wrong:
        torch.save(each, path)
        with pytest.raises(BadWeights, match=r"fan\.pth.*ostec models get fan"):
            load_fan(path)
    with pytest.raises(MissingWeights, match="ostec models get fan"):
        load_fan(tmp_path / "none.pth")


def rewritten(source: Path, target: Path, part: str, data: bytes, packing: int = zipfile.ZIP_STORED) -> Path:
    """An archive with `data` in place of every entry whose name has `part` in it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", packing) as new:
        assert any(part in name for name in old.namelist())
        for name in old.namelist():
            new.writestr(name, data if part in name else old.read(name))
    return target


class Attack:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_the_program_in_an_archive_is_not_run(network: SmallFan, script: Path, tmp_path: Path) -> None:
    """It is not even looked at: nonsense in its place changes nothing."""
    path = rewritten(script, tmp_path / "fan.zip", "/code/", b"import os; os.abort()")
    assert differ(load_fan(path).heat_maps(pictures()), network(pictures())[-1]) < 1e-5


def test_hostile_archives_are_refused(script: Path, tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "fan.zip"
    with zipfile.ZipFile(script) as archive:
        tree = next(archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl"))
    assert b"FloatStorage" in tree and b"X\x03\x00\x00\x00cpu" in tree
    first = b"K\x10t"
    assert first in tree
    wrong = {
        "code": pickle.dumps(Attack(mark), protocol=2),
        "a circle": b"\x80\x02c__torch__\nA\n)\x81q\x00}X\x01\x00\x00\x00mh\x00sb.",
        "no module": b"\x80\x02]q\x00.",
        "another kind": tree.replace(b"FloatStorage", b"CudaxStorage"),
        "shared storage": tree.replace(b"X\x01\x00\x00\x007", b"X\x01\x00\x00\x000"),
        "too many numbers": tree.replace(first, b"K\x11t"),
        "cut": tree[: len(tree) // 2],
    }
    for name, data in wrong.items():
        with pytest.raises(BadWeights, match=r"fan\.zip.*ostec models get fan"):
            load_fan(rewritten(script, path, "/data.pkl", data))
        assert not mark.exists(), name
    whole = script.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadWeights, match="truncated"):
        load_fan(path)


def test_archives_that_unpack_to_more_are_refused(script: Path, tmp_path: Path) -> None:
    path = rewritten(script, tmp_path / "fan.zip", "/data/", bytes(1 << 16), zipfile.ZIP_DEFLATED)
    with pytest.raises(BadWeights, match="more than its own size"):
        load_fan(path)
