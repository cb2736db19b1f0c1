"""IResNet gives what the modules of its public definition give, put together from torch's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_iresnet import Small, embedded, small_iresnet

from ostec.errors import BadWeights, MissingWeights
from ostec.networks.identity import embeddings
from ostec.networks.iresnet import IResNet, load_iresnet


@pytest.fixture
def network() -> Small:
    return small_iresnet()


def test_embeddings_and_slopes_are_those_of_the_definition(network: Small) -> None:
    found = []
    for net in (IResNet(network.state_dict()), lambda pictures: embedded(network, pictures)):
        pictures = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1)).requires_grad_()
        result = net(pictures)
        found.append((result, *torch.autograd.grad(result[0, 0], pictures)))
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
        with pytest.raises(BadWeights, match=r"arcface\.pth.*arcface_torch"):
            load_iresnet(tmp_path / "arcface.pth")
    with pytest.raises(MissingWeights):
        load_iresnet(tmp_path / "none.pth")
