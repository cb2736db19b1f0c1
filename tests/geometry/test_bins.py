"""Means by bin, against a loop."""

from __future__ import annotations

import torch

from ostec.geometry.bins import means_by_bin


def test_means_are_those_of_a_loop() -> None:
    draw = torch.Generator().manual_seed(0)
    values, weight = torch.randn(3, 500, generator=draw), torch.rand(500, generator=draw)
    index = torch.randint(7, (500,), generator=draw)
    weight[:50], values[:, :25], index[:50] = 0.0, torch.nan, 10**6
    means, total = means_by_bin(values, weight, index, 9)
    for bin_ in range(9):
        here = (index == bin_) & (weight > 0)
        assert torch.allclose(total[bin_], weight[here].sum(), atol=1e-4)
        expected = (values[:, here] * weight[here]).sum(dim=1) / weight[here].sum() if here.any() else torch.zeros(3)
        assert torch.allclose(means[:, bin_], expected, atol=1e-5)
    assert not means[:, 7:].any() and not total[7:].any()


def test_planes_need_not_lie_in_one_piece() -> None:
    values = torch.arange(12.0).view(4, 3).T
    means, total = means_by_bin(values, torch.ones(4), torch.tensor([0, 1, 0, 1]), 2)
    assert means.tolist() == [[3, 6], [4, 7], [5, 8]] and total.tolist() == [2, 2]
