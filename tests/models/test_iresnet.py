"""IResNet gives what the modules of its public definition give, put together here from torch's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ostec.errors import BadWeights, MissingWeights
from ostec.models.identity import embeddings
from ostec.models.iresnet import IResNet, load_iresnet


class Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, out, 3, 1, 1, bias=False)
        self.bn2, self.prelu = nn.BatchNorm2d(out), nn.PReLU(out)
        self.conv2 = nn.Conv2d(out, out, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return branch + (x if self.downsample is None else self.downsample(x))


class Small(nn.Module):
    """Two blocks in each stage, as IResNet-18, and few channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.prelu = nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.PReLU(4)
        channels = 4
        for stage, out in enumerate((4, 6, 8, 10), start=1):
            setattr(self, f"layer{stage}", nn.Sequential(Block(channels, out, 2), Block(out, out, 1)))
            channels = out
        self.bn2, self.fc, self.features = nn.BatchNorm2d(10), nn.Linear(490, 16), nn.BatchNorm1d(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x * 2 - 1)))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return F.normalize(self.features(self.fc(self.bn2(x).flatten(1))), dim=1)


@pytest.fixture
def network() -> Small:
    torch.manual_seed(0)
    net = Small()
    for name, buffer in net.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.uniform_(0.5, 1.5)
    for parameter in net.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return net.eval()


def test_embeddings_and_slopes_are_those_of_the_definition(network: Small) -> None:
    found = []
    for net in (IResNet(network.state_dict()), network):
        pictures = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1)).requires_grad_()
        embedded = net(pictures)
        found.append((embedded, *torch.autograd.grad(embedded[0, 0], pictures)))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert torch.allclose(found[0][0].norm(dim=1), torch.ones(2))


def test_it_serves_as_an_identity_network(network: Small) -> None:
    landmarks_px = torch.rand(68, 2) * 100 + 50
    found = embeddings(IResNet(network.state_dict()), torch.rand(1, 3, 200, 200), landmarks_px[None])
    assert found.shape == (1, 16)


def test_other_files_are_refused(network: Small, tmp_path: Path) -> None:
    tensors = network.state_dict()
    for wrong in (
        {},
        {**tensors, "fc.weight": torch.zeros(16, 7)},
        {**tensors, "conv1.weight": tensors["conv1.weight"] * torch.nan},
    ):
        torch.save(wrong, tmp_path / "arcface.pth")
        with pytest.raises(BadWeights, match=r"arcface\.pth"):
            load_iresnet(tmp_path / "arcface.pth")
    with pytest.raises(MissingWeights):
        load_iresnet(tmp_path / "none.pth")
