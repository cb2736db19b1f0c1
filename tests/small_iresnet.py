"""A small IResNet put together from torch's own modules, as the public definition has it, and files of it."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F


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
    """Two blocks in each stage, as IResNet-18, and few channels. Takes -1..1, as the original does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.prelu = nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.PReLU(4)
        channels = 4
        for stage, out in enumerate((4, 6, 8, 10), start=1):
            setattr(self, f"layer{stage}", nn.Sequential(Block(channels, out, 2), Block(out, out, 1)))
            channels = out
        self.bn2, self.fc, self.features = nn.BatchNorm2d(10), nn.Linear(490, 16), nn.BatchNorm1d(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(self.fc(self.bn2(self.maps(x)).flatten(1)))

    def maps(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return x


def small_iresnet() -> Small:
    """With statistics and weights that all differ."""
    torch.manual_seed(0)
    net = Small()
    for name, buffer in net.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.uniform_(0.5, 1.5)
    for parameter in net.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return net.eval()


def embedded(net: Small, pictures: Tensor) -> Tensor:
    """Embeddings of pictures in 0..1, length 1."""
    return F.normalize(net(pictures * 2 - 1), dim=1)


def exported(net: Small) -> bytes:
    """What torch's exporter makes of it, which is what InsightFace's file was made with."""
    stored = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pictures = torch.zeros(1, 3, 112, 112)
        torch.onnx.export(net, (pictures,), stored, dynamo=False, opset_version=11)  # pyright: ignore[reportArgumentType]
    return stored.getvalue()


class _Writer:
    """Nodes and tensors with numbers for names."""

    def __init__(self, fold: bool, raw: bool) -> None:
        self.fold, self.raw = fold, raw
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []

    def tensor(self, values: Tensor) -> str:
        name = str(685 + len(self.tensors))
        array = values.detach().numpy()
        if self.raw:
            self.tensors.append(numpy_helper.from_array(array, name))
        else:
            self.tensors.append(helper.make_tensor(name, TensorProto.FLOAT, array.shape, array.flatten().tolist()))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def norm(self, x: str, norm: Any) -> str:
        parts = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        return self.node("BatchNormalization", x, *map(self.tensor, parts), epsilon=norm.eps, momentum=0.9)

    def conv(self, x: str, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> str:
        """The two of them, folded into one or as they are."""
        kernel, stride, pad = conv.kernel_size, conv.stride, conv.padding[0]
        assert isinstance(pad, int)
        layout = {"kernel_shape": kernel, "strides": stride, "pads": [pad] * 4, "dilations": [1, 1], "group": 1}
        if not self.fold:
            return self.norm(self.node("Conv", x, self.tensor(conv.weight), **layout), norm)
        assert norm.running_var is not None and norm.running_mean is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        folded = conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
        return self.node("Conv", x, *map(self.tensor, folded), **layout)

    def prelu(self, x: str, prelu: nn.PReLU) -> str:
        return self.node("PRelu", x, self.tensor(prelu.weight[:, None, None]))


def written(net: Small, fold: bool = True, raw: bool = True) -> ModelProto:
    """It as ONNX, written by hand; `raw`: numbers as bytes."""
    to = _Writer(fold, raw)
    x = to.prelu(to.conv("input.1", net.conv1, net.bn1), net.prelu)
    for stage in range(1, 5):
        for block in getattr(net, f"layer{stage}"):
            straight = x if block.downsample is None else to.conv(x, *block.downsample)
            y = to.prelu(to.conv(to.norm(x, block.bn1), block.conv1, block.bn2), block.prelu)
            x = to.node("Add", to.conv(y, block.conv2, block.bn3), straight)
    x = to.node("Flatten", to.norm(x, net.bn2), axis=1)
    x = to.node("Gemm", x, to.tensor(net.fc.weight), to.tensor(net.fc.bias), alpha=1.0, beta=1.0, transB=1)
    to.nodes.append(helper.make_node("Identity", [to.norm(x, net.features)], ["683"]))
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("input.1", ["None", 3, 112, 112]), ("683", ["None", 16]))
    ]
    return helper.make_model(helper.make_graph(to.nodes, "torch-jit-export", *ends, initializer=to.tensors))


def table(net: Small) -> dict[str, dict[str, np.ndarray]]:
    """Layer -> arrays, in the layout of `arcface50.npy`. Normalisations with weights of 1 have no scale."""
    found: dict[str, dict[str, np.ndarray]] = {
        "minusscalar0_second": {"value": np.array([127.5], np.float32)},
        "mulscalar0_second": {"value": np.array([0.0078125], np.float32)},
    }

    def norm(name: str, layer: Any) -> None:
        parts = {"mean": layer.running_mean, "var": layer.running_var, "bias": layer.bias}
        if not bool((layer.weight == 1).all()):
            parts["scale"] = layer.weight
        found[name] = {part: values.detach().numpy() for part, values in parts.items()}

    def conv(name: str, layer: nn.Conv2d) -> None:
        found[name] = {"weights": layer.weight.detach().permute(2, 3, 1, 0).contiguous().numpy()}

    def prelu(name: str, layer: nn.PReLU) -> None:
        found[name] = {"gamma": layer.weight.detach().numpy()}

    conv("conv0", net.conv1)
    norm("bn0", net.bn1)
    prelu("relu0", net.prelu)
    for stage in range(1, 5):
        for number, block in enumerate(getattr(net, f"layer{stage}"), start=1):
            unit = f"stage{stage}_unit{number}_"
            for name in ("conv1", "conv2"):
                conv(f"{unit}{name}", getattr(block, name))
            for name in ("bn1", "bn2", "bn3"):
                norm(f"{unit}{name}", getattr(block, name))
            prelu(f"{unit}relu1", block.prelu)
            if block.downsample is not None:
                conv(f"{unit}conv1sc", block.downsample[0])
                norm(f"{unit}sc", block.downsample[1])
    norm("bn1", net.bn2)
    rows = net.fc.weight.detach().reshape(16, 10, 7, 7).permute(2, 3, 1, 0).reshape(490, 16)
    found["pre_fc1"] = {"weights": rows.contiguous().numpy(), "bias": net.fc.bias.detach().numpy()}
    norm("fc1", net.features)
    return found
