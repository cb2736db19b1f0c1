"""The style encoder: a guess of the latents that make a picture, where the search of W+ starts.

The file of the released OSTeC is `resnet_18_20191231.h5`: ResNet-50 (He et al., arXiv 1512.03385) as in Keras, then one
dense layer to 18 x 512, made as the networks of pbaylies/stylegan-encoder and rolux/stylegan2encoder (issue 2) are. Any
Keras 2 model from a picture to [layers, W] will do. Input as of `keras.applications.resnet50.preprocess_input`, "caffe"
mode: channels blue, green, red in 0..255, less ImageNet's means; resized by Lanczos in the released code, here by
the antialiased bicubic kernel, which is torch's nearest.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ostec.errors import BadWeights
from ostec.original.keras_files import read_keras
from ostec.original.keras_graph import KerasGraph

_MEAN_BGR = (103.939, 116.779, 123.68)
_REMEDY = "It comes with the models of https://github.com/barisgecer/OSTeC; see `ostec models list`."


class StyleEncoder(nn.Module):
    """Pictures to latents."""

    mean_bgr: Tensor

    def __init__(self, graph: KerasGraph) -> None:
        super().__init__()
        self.graph = graph
        self.num_ws, self.w_dim = graph.output_shape
        self.register_buffer("mean_bgr", torch.tensor(_MEAN_BGR)[:, None, None], persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, S, S] sRGB 0..1, cropped as FFHQ is, to latents [N, num_ws, w_dim]."""
        small = F.interpolate(pictures, self.graph.input_px, mode="bicubic", antialias=True, align_corners=False)
        inputs = small.clamp(0, 1).flip(1) * 255 - self.mean_bgr
        return self.graph(inputs.permute(0, 2, 3, 1))


def load_style_encoder(path: Path) -> StyleEncoder:
    """The encoder in a Keras 2 model file. Raises `MissingWeights`, `BadWeights`."""
    graph = KerasGraph(read_keras(path, _REMEDY), str(path), _REMEDY)
    if len(graph.output_shape) != 2:
        raise BadWeights(f"{path} gives {list(graph.output_shape)}, not [layers, latent]. {_REMEDY}")
    return StyleEncoder(graph)
