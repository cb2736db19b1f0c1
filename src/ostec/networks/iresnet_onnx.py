"""ArcFace's IResNet as InsightFace exports it: `w600k_r50.onnx` of the pack `buffalo_l`.

The exporter of torch folds a batch normalisation into the convolution before it and gives tensors numbers for names. So
the graph is followed from its input to its output, and the order of the operations tells which tensor is which; the
network that is computed is `iresnet`. Operations: onnx/onnx, `docs/Operators.md`. Input as in insightface's
`arcface_onnx.py`: RGB, (x - 127.5) / 127.5.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ostec.networks.iresnet import IResNet
from ostec.networks.named_tensors import EPS
from ostec.weights.onnx_files import onnx_tensors
from ostec.weights.open import expecting, read_stored
from ostec.weights.tensors import require_finite

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

MEMBER = "w600k_r50.onnx"
"""The network in the archive `buffalo_l.zip`."""
_PASSING = ("Identity", "Dropout")
_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "Conv": {"group": 1, "dilations": [1, 1], "kernel_shape": None, "pads": None, "strides": None},
    "BatchNormalization": {"training_mode": 0, "epsilon": None, "momentum": None},
    "Gemm": {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": None},
    "Flatten": {"axis": 1},
}
"""Operation -> attribute -> the only value that it may have; None where any will do, or where it is checked later."""
_REMEDY = f"`ostec models get arcface` downloads buffalo_l.zip, which holds {MEMBER}."


class _Walk:
    """Follows a graph and gathers tensors by the names of `iresnet`.

    Each method takes the name of a value, checks the operation that takes it, and returns the name of what that gives.
    Raises `ValueError`, `KeyError` where it is another network's graph.
    """

    def __init__(self, graph: GraphProto) -> None:
        self._stored = onnx_tensors(graph)
        self.found: dict[str, Tensor] = {}
        self._users: dict[tuple[str, str], NodeProto] = {}
        self._same: dict[str, str] = {}
        for node in graph.node:
            values = [self.value(name) for name in node.input]
            if node.op_type in _PASSING:
                self._same[node.output[0]] = values[0]
            else:
                self._users |= {(value, node.op_type): node for value in values if value not in self._stored}

    def value(self, name: str) -> str:
        """The name of a value before operations that change nothing: equal tensors are stored once by the exporter."""
        return self._same.get(name, name)

    def goes_to(self, value: str, op: str) -> bool:
        """Whether an operation of this kind takes a value, and has not been met yet."""
        return (value, op) in self._users

    def _take(self, value: str, op: str) -> tuple[str, list[Tensor], dict[str, Any]]:
        """What an operation gives, the tensors it takes besides the value, and its attributes."""
        from onnx.helper import get_attribute_value

        node = self._users.pop((value, op), None)
        if node is None:
            others = [other for name, other in self._users if name == value]
            raise ValueError(f"{value!r} goes to the operations {others}, not to {op!r}")
        if node.domain not in ("", "ai.onnx"):
            raise ValueError(f"the operation {op!r} is not one of ONNX but of {node.domain}")
        attributes = {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}
        for name, found in attributes.items():
            known = _ATTRIBUTES.get(op, {})
            if name not in known or known[name] not in (None, found):
                raise ValueError(f"the operation {op!r} has the attribute {name!r}, {str(found)[:40]}")
        values = [self.value(name) for name in node.input]
        tensors = [self._stored[name] for name in values if name in self._stored]
        return self.value(node.output[0]), tensors, attributes

    def norm(self, value: str, name: str) -> str:
        """A batch normalisation; with another epsilon it becomes one with ours."""
        result, (weight, bias, mean, variance), attributes = self._take(value, "BatchNormalization")
        require_finite({f"{name}.running_var": variance}, "it")
        variance = variance + (attributes.get("epsilon", EPS) - EPS)
        parts = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
        self.found |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
        return result

    def conv(self, value: str, name: str, norm: str, stride: int = 1) -> str:
        """A convolution, with a batch normalisation behind it or folded into it."""
        result, (weight, *bias), attributes = self._take(value, "Conv")
        side = weight.shape[-1]
        layout = {"kernel_shape": [side] * 2, "pads": [side // 2] * 4, "strides": [stride] * 2}
        found = {"kernel_shape": [side] * 2, "pads": [0] * 4, "strides": [1] * 2} | attributes
        for key, wanted in layout.items():
            if found[key] != wanted:
                raise ValueError(f"the convolution {name!r} has {key} {found[key]}, not {wanted}")
        self.found |= {f"{name}.weight": weight, **{f"{name}.bias": tensor for tensor in bias}}
        return self.norm(result, norm) if self.goes_to(result, "BatchNormalization") else result

    def prelu(self, value: str, name: str) -> str:
        result, (slopes,), _ = self._take(value, "PRelu")
        self.found[f"{name}.weight"] = slopes.flatten()
        return result

    def block(self, x: str, name: str) -> str:
        """A branch of two convolutions and a shortcut, with one of 1 x 1 or without any."""
        shrinks = self.goes_to(x, "Conv")
        shortcut = self.conv(x, f"{name}.downsample.0", f"{name}.downsample.1", stride=2) if shrinks else x
        y = self.conv(self.norm(x, f"{name}.bn1"), f"{name}.conv1", f"{name}.bn2")
        y = self.conv(self.prelu(y, f"{name}.prelu"), f"{name}.conv2", f"{name}.bn3", stride=2 if shrinks else 1)
        result, *_ = self._take(y, "Add")
        if self._take(shortcut, "Add")[0] != result:
            raise ValueError(f"the branch and the shortcut of {name!r} are not added to each other")
        return result

    def end(self, value: str) -> str:
        """The map's normalisation, the dense layer, and its normalisation if it is not folded."""
        value, *_ = self._take(self.norm(value, "bn2"), "Flatten")
        value, (weight, bias), attributes = self._take(value, "Gemm")
        self.found |= {"fc.weight": weight if attributes.get("transB", 0) else weight.T, "fc.bias": bias}
        return self.norm(value, "features") if self.goes_to(value, "BatchNormalization") else value


def iresnet_tensors(graph: GraphProto) -> dict[str, Tensor]:
    """The tensors of an exported graph by the names of `iresnet`. Raises `ValueError`, `KeyError`."""
    walk, stored = _Walk(graph), {tensor.name for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in stored]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ValueError(f"it has {len(inputs)} inputs and {len(graph.output)} outputs, not one of each")
    x = walk.prelu(walk.conv(inputs[0], "conv1", "bn1"), "prelu")
    stage = index = 0
    while walk.goes_to(x, "Conv") or walk.goes_to(x, "Add"):
        stage, index = (stage + 1, 0) if walk.goes_to(x, "Conv") else (stage, index + 1)
        x = walk.block(x, f"layer{stage}.{index}")
    if stage != 4 or walk.end(x) != walk.value(graph.output[0].name):
        raise ValueError(f"it has {stage} stages, not 4, or gives another value than its last")
    return walk.found


def load_iresnet_onnx(path: Path) -> IResNet:
    """The network in an ONNX file, or in the archive `buffalo_l.zip`. Raises `MissingWeights`, `BadWeights`."""
    graph = read_stored(path, _REMEDY, MEMBER)
    with expecting("an IResNet as ONNX", path, _REMEDY):
        return IResNet(iresnet_tensors(graph), str(path))
