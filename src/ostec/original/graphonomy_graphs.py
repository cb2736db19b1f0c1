"""Graphonomy's fixed graphs: which parts of a person touch, and how similar the names of two parts are.

Source: "Graphonomy: Universal Human Parsing via Graph Transfer Learning" (Gong et al., CVPR 2019, arXiv 1904.04536),
sections 3.1 and 3.2; the edges and the similarities are those of Gaoyiminggithub/Graphonomy @ 09e5dd4 (MIT),
`networks/graph.py`, as `exp/inference/inference.py` passes them to the network.
"""

from __future__ import annotations

import torch
from torch import Tensor

CLASSES = (
    "background", "hat", "hair", "glove", "sunglasses", "upper clothes", "dress", "coat", "socks", "trousers",
    "torso skin", "scarf", "skirt", "face", "left arm", "right arm", "left leg", "right leg", "left shoe", "right shoe",
)  # fmt: skip
"""Of CIHP, which the network tells apart; left and right are the person's."""
MIRRORED = torch.tensor([*range(14), 15, 14, 17, 16, 19, 18])
"""[20] class -> what it is in the flipped picture."""
COARSE_CLASSES = ("background", "head", "torso", "upper arms", "lower arms", "upper legs", "lower legs")
"""Of PASCAL-Person-Part, from which knowledge was transferred."""

_TOUCHING = (
    (1, 2), (1, 13), (2, 13), (3, 14), (3, 15), (4, 13), (5, 6), (5, 7), (5, 9), (5, 10), (5, 11), (5, 12), (5, 14),
    (5, 15), (6, 7), (6, 10), (6, 11), (6, 14), (6, 15), (6, 16), (6, 17), (7, 9), (7, 10), (7, 11), (7, 12), (7, 14),
    (7, 15), (8, 16), (8, 17), (8, 18), (8, 19), (9, 10), (9, 16), (9, 17), (9, 18), (9, 19), (10, 11), (10, 12),
    (10, 13), (10, 14), (10, 15), (10, 16), (10, 17), (11, 13), (12, 16), (12, 17), (16, 18), (17, 19),
)  # fmt: skip
_COARSE_TOUCHING = ((1, 2), (2, 3), (2, 5), (3, 4), (5, 6))

_ALIKE_1E8 = (
    (100000000, 35333052, 32727194, 17418084, 18757584, 40608522, 37503981, 35448462, 22598555, 23893579,
     33064262, 28923404, 27986573, 42115530, 36915778, 41377746, 32485771, 37248222, 36865639, 41500332),
    (39615879, 46201529, 52321467, 30826114, 25669527, 54747773, 36705230, 39019830, 27519473, 34333250,
     52728509, 32771333, 34819325, 63882953, 68042925, 69368576, 63395791, 65344337, 59538781, 60713750),
    (16373166, 21663339, 30538720, 28377612, 13724350, 44488080, 29479995, 31092595, 22703953, 33983576,
     75778818, 26198180, 37069392, 35184867, 49877512, 49979437, 51853277, 52517541, 32517741, 32377309),
    (32687232, 38482461, 37693463, 41610834, 20415749, 76749079, 35139853, 37874110, 28411737, 35155421,
     58792618, 31141718, 40585111, 51189218, 82042737, 83424130, 70732188, 72752501, 60327325, 61431337),
    (34069369, 34817292, 37525998, 36497069, 17841617, 69746208, 31731463, 34628951, 25167277, 32072379,
     56711286, 24894776, 37000453, 52600859, 82483993, 84966274, 70339910, 73449378, 56649608, 58888791),
    (28477487, 35139564, 42742352, 41664321, 20004676, 78566833, 42237487, 41048549, 37933812, 46542516,
     62444759, 32744930, 49466009, 49314658, 71244233, 71497003, 82347870, 83566589, 62597135, 62626812),
    (30113780, 31775977, 42922647, 36896257, 17597556, 72214655, 39162804, 38137872, 34980296, 43818419,
     60879174, 26762545, 46271161, 51150476, 72318109, 73678399, 82620388, 84942166, 59438110, 60607602),
)  # fmt: skip
"""Cosines of the word vectors of the 7 coarse names and the 20 fine ones."""


def graphs() -> dict[str, Tensor]:
    """By name, for CIHP's classes and the coarse ones:

    - "fine" [20, 20] and "coarse" [7, 7]: normalised adjacency. Each coarse class counts twice for itself: it is listed
      as touching itself, and the normalisation adds every class once more.
    - "to_fine" [20, 7]: the weight of each coarse class for each fine one; each row sums to 1.
    """
    alike = torch.tensor(_ALIKE_1E8, dtype=torch.float64).T * 1e-8
    return {
        "fine": _normalised(torch.eye(len(CLASSES), dtype=torch.float64), _TOUCHING),
        "coarse": _normalised(2 * torch.eye(len(COARSE_CLASSES), dtype=torch.float64), _COARSE_TOUCHING),
        "to_fine": alike.softmax(dim=1).float(),
    }


def _normalised(itself: Tensor, touching: tuple[tuple[int, int], ...]) -> Tensor:
    """D^-1/2 A D^-1/2, where D are the sums of A's rows (arXiv 1609.02907, section 2)."""
    adjacency = itself.clone()
    first, second = torch.tensor(touching).T
    adjacency[first, second] = adjacency[second, first] = 1.0
    scale = adjacency.sum(dim=1).rsqrt()
    return (scale[:, None] * adjacency * scale).float()
