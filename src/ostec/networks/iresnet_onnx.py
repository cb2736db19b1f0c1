"""ArcFace's IResNet as InsightFace exports it: `w600k_r50.onnx` of the pack `buffalo_l`.

The exporter of torch folds a batch normalisation into the convolution before it and gives tensors numbers for names. So
the operations of the file are carried out as they stand in it, each by its definition in onnx/onnx `docs/Operators.md`;
there are the eight kinds that exports of `iresnet` of insightface's arcface_torch have. Input as there and in
insightface's `arcface_onnx.py`: RGB, (x - 127.5) / 127.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ostec.errors import BadWeights
from ostec.weights.onnx_files import OnnxGraph, OnnxNode
from ostec.weights.open import read_stored
from ostec.weights.tensors import require_finite

MEMBER = "w600k_r50.onnx"
"""The network in the archive `buffalo_l.zip`."""
_SIDE_PX = 112
_MOST_NUMBERS = 1 << 28
"""Of all steps together, for two pictures; an IResNet-50 has a tenth of it."""
_REMEDY = f"`ostec models get arcface` downloads buffalo_l.zip, which holds {MEMBER}."


class IResNetOnnx(nn.Module):
    """Pictures to embeddings. Raises `BadWeights` naming `source` where the graph is that of another network."""

    def __init__(self, graph: OnnxGraph, source: str = "the network") -> None:
        super().__init__()
        variances = {
            node.inputs[4] for node in graph.nodes if node.op == "BatchNormalization" and len(node.inputs) == 5
        }
        marked = {f"{name}.running_var" if name in variances else name: t for name, t in graph.tensors.items()}
        require_finite(marked, source)
        self._graph = replace(graph, tensors={})
        self._names = {name: f"tensor{index}" for index, name in enumerate(graph.tensors)}
        for name, safe in self._names.items():
            self.register_buffer(safe, graph.tensors[name])
        shapes = {name: tensor.to("meta") for name, tensor in graph.tensors.items()}
        try:
            shape = self._run(torch.zeros(2, 3, _SIDE_PX, _SIDE_PX, device="meta"), shapes, _MOST_NUMBERS).shape
        except (ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
            what = f"it has no value {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
            raise BadWeights(f"{source} is not an IResNet: {what}.") from error
        if len(shape) != 2 or shape[0] != 2 or shape[1] == 0:
            raise BadWeights(f"{source} is not an IResNet: of two pictures it makes {list(shape)}.")

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, 112, 112] sRGB 0..1, cut by `arcface_crop` -> embeddings [N, E] of length 1; compare by cosine."""
        tensors = {name: self.get_buffer(safe) for name, safe in self._names.items()}
        return F.normalize(self._run(pictures * 2 - 1, tensors), dim=1)

    def _run(self, x: Tensor, tensors: Mapping[str, Tensor], most_numbers: float = math.inf) -> Tensor:
        values, made = {**tensors, self._graph.input: x}, 0
        for node in self._graph.nodes:
            if node.op not in _OPERATIONS:
                raise ValueError(f"it has the operation {node.op!r}")
            result = _OPERATIONS[node.op](node, *(values[name] for name in node.inputs if name))
            made += result.numel()
            if made > most_numbers:
                raise ValueError("its steps are too large")
            values[node.output] = result
        return values[self._graph.output]


def _require(node: OnnxNode, **wanted: object) -> None:
    """Raises `ValueError` where an attribute that is there is another than the only one known here."""
    for name, value in wanted.items():
        if node.numbers.get(name, value) != value:
            raise ValueError(f"the operation {node.op!r} has {name} {node.numbers[name]}")


def _ints(node: OnnxNode, name: str, default: tuple[int, ...]) -> list[int]:
    value = node.numbers.get(name, default)
    if not isinstance(value, tuple) or len(value) != len(default) or not all(0 <= n < _SIDE_PX for n in value):
        raise ValueError(f"the operation {node.op!r} has {name} {value}")
    return list(value)


def _epsilon(node: OnnxNode) -> float:
    value = node.numbers.get("epsilon", 1e-5)
    if not isinstance(value, float) or not 0 < value < 1:
        raise ValueError(f"the operation {node.op!r} has epsilon {value}")
    return value


def _conv(node: OnnxNode, x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    _require(node, group=1, dilations=(1, 1), kernel_shape=tuple(kernel.shape[2:]))
    before, after = (_ints(node, "pads", (0, 0, 0, 0))[i : i + 2] for i in (0, 2))
    if before != after:
        raise ValueError("a convolution pads one side more than the other")
    if bias is not None and bias.shape != kernel.shape[:1]:
        raise ValueError(f"a convolution of {len(kernel)} channels has {list(bias.shape)} numbers to add")
    return F.conv2d(x, kernel, bias, _ints(node, "strides", (1, 1)), before)


def _norm(node: OnnxNode, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    _require(node, training_mode=0)
    return F.batch_norm(x, mean, variance, weight, bias, eps=_epsilon(node))


def _prelu(node: OnnxNode, x: Tensor, slope: Tensor) -> Tensor:
    if slope.shape[1:] != (1, 1):
        raise ValueError(f"the operation {node.op!r} has slopes of shape {list(slope.shape)}")
    return F.prelu(x, slope.flatten())


def _flatten(node: OnnxNode, x: Tensor) -> Tensor:
    _require(node, axis=1)
    return x.flatten(1)


def _gemm(node: OnnxNode, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    _require(node, alpha=1.0, beta=1.0, transA=0)
    return F.linear(x, weight if node.numbers.get("transB", 0) else weight.T, bias)


_OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "Conv": _conv,
    "BatchNormalization": _norm,
    "PRelu": _prelu,
    "Add": lambda _, first, second: first + second,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "Identity": lambda _, x: x,
    "Dropout": lambda _, x: x,
}


def load_iresnet_onnx(path: Path) -> IResNetOnnx:
    """The network in an ONNX file, or in the archive `buffalo_l.zip`. Raises `MissingWeights`, `BadWeights`."""
    graph = read_stored(path, _REMEDY, MEMBER)
    if not isinstance(graph, OnnxGraph):
        raise BadWeights(f"{path} is not an ONNX file. {_REMEDY}")
    try:
        return IResNetOnnx(graph, str(path))
    except BadWeights as error:
        raise BadWeights(f"{error} {_REMEDY}") from error
