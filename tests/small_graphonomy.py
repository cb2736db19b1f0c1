"""Graphonomy with random weights, by the names of the public state dict, and what it says, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.original.graphonomy_graphs import graphs

Tensors = dict[str, Tensor]
Shapes = Iterator[tuple[str, tuple[int, ...]]]
PUBLIC_WIDTHS = (32, 64, 128, 256, 728, 1024, 1536, 2048)
SMALL_WIDTHS = (3, 4, 5, 6, 7, 8, 9, 10)


def _norm(name: str, width: int) -> Shapes:
    yield from ((f"{name}.{part}", (width,)) for part in ("weight", "bias", "running_mean", "running_var"))


def _separable(name: str, given: int, made: int) -> Shapes:
    yield f"{name}.depthwise.weight", (given, 1, 3, 3)
    yield from _norm(f"{name}.depthwise_bn", given)
    yield f"{name}.pointwise.weight", (made, given, 1, 1)
    yield from _norm(f"{name}.pointwise_bn", made)


def block_names(index: int) -> list[str]:
    places = {1: ("rep.0", "rep.2", "rep.4"), 2: ("rep.1", "rep.3", "block2_lastconv.1")}
    return [f"xception_features.block{index}.{at}" for at in places.get(index, ("rep.1", "rep.3", "rep.5"))]


def _trunk_shapes(widths: tuple[int, ...]) -> Shapes:
    stem, wider, *ends = widths
    yield "xception_features.conv1.weight", (stem, 3, 3, 3)
    yield from _norm("xception_features.bn1", stem)
    yield "xception_features.conv2.weight", (wider, stem, 3, 3)
    yield from _norm("xception_features.bn2", wider)
    given = wider
    for index in range(1, 21):
        made = {1: ends[0], 2: ends[1], 20: ends[3]}.get(index, ends[2])
        middle = given if index == 20 else made
        first, second, last = block_names(index)
        yield from _separable(first, given, middle)
        yield from _separable(second, middle, made)
        yield from _separable(last, made, made)
        if given != made:
            yield f"xception_features.block{index}.skip.weight", (made, given, 1, 1)
            yield from _norm(f"xception_features.block{index}.skipbn", made)
        given = made
    for name, made in (("conv3", ends[4]), ("conv4", ends[4]), ("conv5", ends[5])):
        yield from _separable(f"xception_features.{name}", given, made)
        given = made


def shapes(widths: tuple[int, ...], features: int, fine: int, nodes: int, classes: int = 20, coarse: int = 7) -> Shapes:
    """(name, shape) of every tensor; `features`, `fine` and `nodes` are 256, 48 and 128 in the public file."""
    yield from _trunk_shapes(widths)
    seen, square = widths[-1], (nodes, nodes)
    yield "aspp1.atrous_convolution.weight", (features, seen, 1, 1)
    yield from _norm("aspp1.bn", features)
    for index in (2, 3, 4):
        yield from _separable(f"aspp{index}.atrous_convolution", seen, features)
    for conv, norm, given, made in (
        ("global_avg_pool.1", "global_avg_pool.2", seen, features),
        ("concat_projection_conv1", "concat_projection_bn1", 5 * features, features),
        ("feature_projection_conv1", "feature_projection_bn1", widths[3], fine),
    ):
        yield f"{conv}.weight", (made, given, 1, 1)
        yield from _norm(norm, made)
    yield from _separable("decoder.0.atrous_convolution", features + fine, features)
    yield from _separable("decoder.1.atrous_convolution", features, features)
    for name, made in (("semantic", classes), ("target_skip_conv.0", features)):
        yield f"{name}.weight", (made, features, 1, 1)
        yield f"{name}.bias", (made,)
    for graph, count in (("source", coarse), ("target", classes)):
        yield f"{graph}_featuremap_2_graph.pre_fea", (features, count)
        yield f"{graph}_featuremap_2_graph.weight", (features, nodes)
        yield from ((f"{graph}_graph_conv{index}.weight", square) for index in (1, 2, 3))
    yield "transpose_graph.weight", square
    yield "transpose_graph.adj", (classes, coarse)
    yield "fc_graph.weight", (3 * nodes, nodes)
    yield "target_graph_2_fea.node_fea_for_res", (features, 1)
    yield "target_graph_2_fea.node_fea_for_hidden", (nodes, 1)
    yield "target_graph_2_fea.weight", (nodes, features)


def small_state(seed: int = 1, classes: int = 20, coarse: int = 7) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes(SMALL_WIDTHS, 10, 4, 8, classes, coarse):
        numbers = torch.randn(shape, generator=generator)
        if name.endswith("running_var"):
            numbers = 0.5 + numbers.abs()
        elif len(shape) > 1:
            numbers = 1.25 * numbers / (math.prod(shape[1:]) if len(shape) == 4 else shape[0]) ** 0.5
        else:
            numbers = name.endswith("weight") + 0.2 * numbers
        state[name] = 0.05 * numbers if "featuremap_2_graph.weight" in name else numbers
    return state


class Slowly:
    """The definition: batch norms apart, and every node's message to every pixel written out."""

    def __init__(self, state: Tensors) -> None:
        self.state = {name: tensor.double() for name, tensor in state.items()}

    def logits(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] RGB 0..1 -> [N, 20, H, W]."""
        x = self.conv((pictures.double()[:, [2, 1, 0]] - 0.5) / 0.5, "xception_features.conv1", "bn1", 2, 1).relu()
        x = self.conv(x, "xception_features.conv2", "bn2", 1, 1).relu()
        for index in range(1, 21):
            x, before = self.block(x, index)
            if index == 2:
                fine = before
        for name in ("conv3", "conv4", "conv5"):
            x = self.separable(x, f"xception_features.{name}", 1, 2, True).relu()
        x = self.around(x)
        x = F.interpolate(x, fine.shape[2:], mode="bilinear", align_corners=True)
        fine = self.conv(fine, "feature_projection_conv1", "feature_projection_bn1").relu()
        x = torch.cat([x, fine], 1)
        for name in ("decoder.0", "decoder.1"):
            x = self.separable(x, f"{name}.atrous_convolution", 1, 1, True).relu()
        x = self.conv(x, "target_skip_conv.0").relu() + self.messages(x)
        return F.interpolate(self.conv(x, "semantic"), pictures.shape[2:], mode="bilinear", align_corners=True)

    def block(self, x: Tensor, index: int) -> tuple[Tensor, Tensor]:
        stride = 2 if index < 4 else 1
        if index > 1:
            x = x.relu()
        short, names = f"xception_features.block{index}.skip", block_names(index)
        straight = self.conv(x, short, "skipbn", stride) if f"{short}.weight" in self.state else x
        x = self.separable(x, names[0])
        before = self.separable(x.relu(), names[1])
        return self.separable(before.relu(), names[2], stride) + straight, before

    def around(self, x: Tensor) -> Tensor:
        seen = [self.conv(x, "aspp1.atrous_convolution", "bn")]
        seen += [
            self.separable(x, f"aspp{i}.atrous_convolution", 1, rate, True) for i, rate in ((2, 6), (3, 12), (4, 18))
        ]
        whole = self.conv(F.adaptive_avg_pool2d(x, 1), "global_avg_pool.1", "2")
        seen.append(F.interpolate(whole, x.shape[2:], mode="bilinear", align_corners=True))
        return self.conv(torch.cat(seen, 1).relu(), "concat_projection_conv1", "concat_projection_bn1").relu()

    def messages(self, x: Tensor) -> Tensor:
        s, (count, channels, height, width) = self.state, x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(count, height * width, channels)
        coarse, fine = (
            torch.einsum("npk,npd->nkd", (pixels @ s[f"{g}.pre_fea"]).softmax(2), pixels @ s[f"{g}.weight"]).relu()
            for g in ("source_featuremap_2_graph", "target_featuremap_2_graph")
        )
        among, near, told = (graph.double() for graph in graphs().values())
        for step in (1, 2, 3):
            coarse = (near @ (coarse @ s[f"source_graph_conv{min(step, 2)}.weight"])).relu()
            cosines = F.cosine_similarity(fine[:, :, None], coarse[:, None], dim=3)
            alike = torch.einsum("nfc,ncd->nfd", cosines.softmax(2), coarse)
            moved = (told @ (coarse @ s["transpose_graph.weight"])).relu()
            fine = (torch.cat([fine, alike, moved], 2) @ s["fc_graph.weight"]).relu()
            fine = (among @ (fine @ s[f"target_graph_conv{step}.weight"])).relu()
        own = pixels @ s["target_graph_2_fea.node_fea_for_res"]
        share = (own + (fine @ s["target_graph_2_fea.node_fea_for_hidden"]).transpose(1, 2)).softmax(2)
        sent = (share @ (fine @ s["target_graph_2_fea.weight"])).relu()
        return sent.transpose(1, 2).reshape(count, channels, height, width)

    def separable(self, x: Tensor, name: str, stride: int = 1, rate: int = 1, relu_between: bool = False) -> Tensor:
        x = self.conv(x, f"{name}.depthwise", "depthwise_bn", stride, rate, rate, x.shape[1])
        return self.conv(x.relu() if relu_between else x, f"{name}.pointwise", "pointwise_bn")

    def conv(
        self, x: Tensor, name: str, norm: str = "", stride: int = 1, padding: int = 0, rate: int = 1, groups: int = 1
    ) -> Tensor:
        """`norm` is the name of the batch norm beside the convolution, "" for none."""
        state = self.state
        x = F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), stride, padding, rate, groups)
        if not norm:
            return x
        beside = ".".join([*name.split(".")[:-1], norm])
        mean, variance = state[f"{beside}.running_mean"], state[f"{beside}.running_var"]
        return F.batch_norm(x, mean, variance, state[f"{beside}.weight"], state[f"{beside}.bias"], eps=1e-5)
