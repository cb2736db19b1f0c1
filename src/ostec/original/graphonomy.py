"""Graphonomy: which part of a person each pixel shows, by the 20 classes of CIHP.

Sources: "Graphonomy: Universal Human Parsing via Graph Transfer Learning" (Gong et al., CVPR 2019, arXiv 1904.04536),
section 3; the trunk is DeepLabv3+ on Xception ("Encoder-Decoder with Atrous Separable Convolution", arXiv 1802.02611,
section 3) with output stride 16. Names, order and quirks of the layers as in Gaoyiminggithub/Graphonomy @ 09e5dd4
(`networks/deeplab_xception*.py`, `networks/gcn.py`): the class `deeplab_xception_transfer_projection_savemem` with 20
classes, 128 graph channels and 7 coarse classes. Quirks that the weights were trained with: shortcuts start behind the
block's first ReLU, which works in place; the second graph convolution of the coarse classes serves as the third, too;
what a node gives to a pixel does not depend on the pixel, since the pixel's own term is the same for all nodes and
falls out of the softmax. Pictures are BGR, as in training and in `exp/inference/inference.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.errors import BadWeights
from ostec.networks.named_tensors import NamedTensors
from ostec.original.graphonomy_graphs import CLASSES, COARSE_CLASSES, MIRRORED, graphs
from ostec.weights.open import expecting
from ostec.weights.tensors import read_weights, require_finite

_TRUNK = "xception_features"
_BLOCKS = 20
_HALVING = (1, 2, 3)
"""Blocks that halve the picture."""
_RATES = {"aspp2": 6, "aspp3": 12, "aspp4": 18}
_REMEDY = (
    "`inference.pth` is a common name: give the 'CIHP trained model' of Graphonomy; `ostec models list` says where it "
    "comes from."
)


def _block_layers(index: int) -> tuple[str, str, str]:
    """The three separable convolutions of a block: between them are ReLUs, which count in the names."""
    block = f"{_TRUNK}.block{index}"
    if index == 1:
        return f"{block}.rep.0", f"{block}.rep.2", f"{block}.rep.4"
    return f"{block}.rep.1", f"{block}.rep.3", f"{block}.block2_lastconv.1" if index == 2 else f"{block}.rep.5"


_SEPARABLE = (
    *(layer for index in range(1, _BLOCKS + 1) for layer in _block_layers(index)),
    *(f"{_TRUNK}.conv{index}" for index in (3, 4, 5)),
    *(f"{layer}.atrous_convolution" for layer in (*_RATES, "decoder.0", "decoder.1")),
)
_SHORTCUTS = tuple(f"{_TRUNK}.block{index}.skip" for index in (*_HALVING, _BLOCKS))
_NORMALISED = (
    *((f"{_TRUNK}.conv{index}", f"{_TRUNK}.bn{index}") for index in (1, 2)),
    *((f"{layer}.{part}", f"{layer}.{part}_bn") for layer in _SEPARABLE for part in ("depthwise", "pointwise")),
    *((shortcut, f"{shortcut}bn") for shortcut in _SHORTCUTS),
    ("aspp1.atrous_convolution", "aspp1.bn"),
    ("global_avg_pool.1", "global_avg_pool.2"),
    *((f"{layer}_projection_conv1", f"{layer}_projection_bn1") for layer in ("concat", "feature")),
)
"""(convolution, the batch norm behind it)."""
_PLAIN = tuple(f"{layer}.{part}" for layer in ("target_skip_conv.0", "semantic") for part in ("weight", "bias"))
_MATRICES = (
    *(f"{graph}_featuremap_2_graph.{part}" for graph in ("source", "target") for part in ("pre_fea", "weight")),
    *(f"source_graph_conv{index}.weight" for index in (1, 2)),
    *(f"target_graph_conv{index}.weight" for index in (1, 2, 3)),
    "transpose_graph.weight",
    "fc_graph.weight",
    "target_graph_2_fea.node_fea_for_hidden",
    "target_graph_2_fea.weight",
)
_WITHOUT_INFLUENCE = ("source_graph_conv3.weight", "target_graph_2_fea.node_fea_for_res", "transpose_graph.adj")
"""In every file, and never trained: `adj` is whatever lay in memory, perhaps not even numbers."""


class Graphonomy(NamedTensors):
    """Pictures to logits. `tensors` is the state dict; raises `BadWeights` naming `source` where it is another's.

    Batch norms are folded into the convolutions before them.
    """

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the network") -> None:
        super().__init__()
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
        absent = [name for name in (*_MATRICES, *_PLAIN, *_WITHOUT_INFLUENCE) if name not in tensors]
        absent += [f"{conv}.weight" for conv, _ in _NORMALISED if f"{conv}.weight" not in tensors]
        if absent:
            raise BadWeights(f"{source} is not Graphonomy: it lacks {absent[0]!r}{_what_else(tensors)}. {_REMEDY}")
        require_finite({n: t for n, t in tensors.items() if n not in _WITHOUT_INFLUENCE}, source, _REMEDY)
        with expecting("Graphonomy for CIHP", source, _REMEDY):
            for conv, norm in _NORMALISED:
                self.fold(tensors, conv, norm)
            for name in (*_PLAIN, *_MATRICES):
                self.keep(name, tensors[name])
            for name, graph in graphs().items():
                self.keep(name, graph)
            shares = [self.get(f"{graph}_featuremap_2_graph.pre_fea") for graph in ("target", "source")]
            found = [len(self.get("semantic.weight")), *(share.shape[-1] for share in shares)]
            if found != (wanted := [len(CLASSES), len(CLASSES), len(COARSE_CLASSES)]):
                raise ValueError(f"it has {found} classes, pixels', fine and coarse, instead of {wanted}")
            with torch.no_grad():
                self(torch.zeros(1, 3, 32, 32))
        self.requires_grad_(False).eval()

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] RGB, sRGB 0..1 -> logits [N, 20, H, W]. Sides of at least 32 px."""
        x, fine = self._trunk(pictures.flip(1) * 2 - 1)
        x = self._pyramid(x)
        x = F.interpolate(x, size=fine.shape[2:], mode="bilinear", align_corners=True)
        x = torch.cat([x, self.conv(fine, "feature_projection_conv1").relu_()], dim=1)
        for layer in ("decoder.0", "decoder.1"):
            x = self._separable(x, f"{layer}.atrous_convolution", between=True).relu_()
        from_graph = self._graph(x.flatten(2).transpose(1, 2))
        x = self.conv(x, "target_skip_conv.0").relu_() + from_graph[:, :, None, None]
        return F.interpolate(self.conv(x, "semantic"), size=pictures.shape[2:], mode="bilinear", align_corners=True)

    def _trunk(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] -> features at a sixteenth, and at a fourth of the size."""
        x = self.conv(x, f"{_TRUNK}.conv1", stride=2).relu_()
        x = self.conv(x, f"{_TRUNK}.conv2").relu_()
        fine = x
        for index in range(1, _BLOCKS + 1):
            x, before_last = self._block(x, index)
            fine = before_last if index == 2 else fine
        for layer in ("conv3", "conv4", "conv5"):
            x = self._separable(x, f"{_TRUNK}.{layer}", dilation=2, between=True).relu_()
        return x, fine

    def _block(self, x: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """What it gives, and what came before its last convolution."""
        stride = 2 if index in _HALVING else 1
        x = x if index == 1 else x.relu()
        shortcut = f"{_TRUNK}.block{index}.skip"
        straight = self.conv(x, shortcut, stride) if shortcut in _SHORTCUTS else x
        first, second, last = _block_layers(index)
        x = self._separable(self._separable(x, first).relu_(), second)
        return self._separable(x.relu(), last, stride) + straight, x

    def _pyramid(self, x: Tensor) -> Tensor:
        """Atrous spatial pyramid pooling: [N, C, h, w] at four rates, and the mean over the picture."""
        seen = [self.conv(x, "aspp1.atrous_convolution").relu_()]
        for layer, rate in _RATES.items():
            seen.append(self._separable(x, f"{layer}.atrous_convolution", dilation=rate, between=True).relu_())
        mean = self.conv(x.mean(dim=(2, 3), keepdim=True), "global_avg_pool.1").relu_()
        seen.append(mean.expand(-1, -1, *x.shape[2:]))
        return self.conv(torch.cat(seen, dim=1), "concat_projection_conv1").relu_()

    def _graph(self, pixels: Tensor) -> Tensor:
        """[N, P, C] -> [N, C]: what the graphs of classes add to every pixel."""
        nodes, coarse = self._nodes(pixels, "target"), [self._nodes(pixels, "source")]
        for layer in (1, 2, 2):
            coarse.append((self.get("coarse") @ coarse[-1] @ self.get(f"source_graph_conv{layer}.weight")).relu())
        for step in (1, 2, 3):
            carried = (self.get("to_fine") @ coarse[step] @ self.get("transpose_graph.weight")).relu()
            nodes = torch.cat([nodes, _from_alike(nodes, coarse[step]), carried], dim=2)
            nodes = (nodes @ self.get("fc_graph.weight")).relu()
            nodes = (self.get("fine") @ nodes @ self.get(f"target_graph_conv{step}.weight")).relu()
        share = (nodes @ self.get("target_graph_2_fea.node_fea_for_hidden")).softmax(dim=1)
        return ((share * nodes).sum(dim=1) @ self.get("target_graph_2_fea.weight")).relu()

    def _nodes(self, pixels: Tensor, graph: str) -> Tensor:
        """[N, P, C] -> [N, classes, D]: sums over the pixels, each of which is shared out among the classes."""
        share = (pixels @ self.get(f"{graph}_featuremap_2_graph.pre_fea")).softmax(dim=2)
        return (share.transpose(1, 2) @ pixels @ self.get(f"{graph}_featuremap_2_graph.weight")).relu()

    def _separable(self, x: Tensor, name: str, stride: int = 1, dilation: int = 1, between: bool = False) -> Tensor:
        """A depthwise 3 x 3 convolution and a pointwise one, with a ReLU `between` them or not."""
        x = self.conv(x, f"{name}.depthwise", stride, dilation)
        return self.conv(x.relu_() if between else x, f"{name}.pointwise")


def _from_alike(nodes: Tensor, others: Tensor) -> Tensor:
    """[N, A, D], [N, B, D] -> [N, A, D]: of `others`, most of what resembles the node most."""
    alike = F.normalize(nodes, dim=2) @ F.normalize(others, dim=2).transpose(1, 2)
    return alike.softmax(dim=2) @ others


def parse(net: Graphonomy, rgb: Tensor, scales: Sequence[float]) -> Tensor:
    """[3, S, S] sRGB 0..1 -> logits [20, S, S], the mean over the picture in these scales and their mirror images.

    The original's scales are 1, 0.5, 0.75, 1.25, 1.5, 1.75 (`exp/inference/inference.py`).
    """
    total = rgb.new_zeros(len(CLASSES), *rgb.shape[1:])
    for scale in scales:
        size = [int(side * scale) for side in rgb.shape[1:]]
        picture = F.interpolate(rgb[None], size, mode="bilinear", align_corners=False, antialias=True)
        straight, mirrored = net(torch.cat([picture, picture.flip(3)]))
        mean = (straight + mirrored[MIRRORED].flip(2)) / 2
        total += F.interpolate(mean[None], rgb.shape[1:], mode="bilinear", align_corners=True)[0] / len(scales)
    return total


def load_graphonomy(path: Path) -> Graphonomy:
    """The network in `inference.pth`. Raises `MissingWeights`, `BadWeights`."""
    return Graphonomy(read_weights(path, _REMEDY), str(path))


def _what_else(tensors: Mapping[str, Tensor]) -> str:
    """What a file seems to be that lacks a tensor."""
    if any(name.startswith("middle_") for name in tensors):
        return "; it is Graphonomy's universal model"
    if any(name.startswith(_TRUNK) for name in tensors):
        return ""
    return f"; it is another network, whose first tensors are {', '.join(list(tensors)[:3]) or 'none'}"
