"""Small files with the structure of Deep3DFaceRecon's, BFM09's and the original's, about the synthetic head."""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from scipy.io import savemat
from synthetic import SHAPE, head
from torch import Tensor, nn

EXTRA = 40
"""Vertices of the model of 2009 that have no expressions."""
KEPT = len(SHAPE.uv)
TRIM = np.delete(np.arange(KEPT + EXTRA), np.arange(5, 5 + 3 * EXTRA, 3))
FRONT = np.arange(0, KEPT, 2)
IDENTITIES, EXPRESSIONS = 6, 5
"""Components in the files; the network asks for fewer."""


def menpo_object(module: str, name: str, **state: Any) -> Any:
    """What pickles as an object of menpo's does; `pickled` has to write it."""
    instance: Any = type(name, (), {"__module__": module})()
    for attribute, value in state.items():
        setattr(instance, attribute, value)
    return instance


def points(values: np.ndarray) -> Any:
    return menpo_object("menpo.shape.pointcloud", "PointCloud", _landmarks=None, points=values)


def pickled(value: Any) -> bytes:
    """As menpo writes it, with protocol 2; its modules are there only for as long as that takes."""
    kinds = [type(v) for v in (value, *(value.values() if isinstance(value, dict) else ()))]
    kinds = [kind for kind in kinds if kind.__module__.startswith("menpo")]
    for kind in kinds:
        names = kind.__module__.split(".")
        for depth in range(1, len(names) + 1):
            sys.modules.setdefault(".".join(names[:depth]), ModuleType(names[depth - 1]))
        setattr(sys.modules[kind.__module__], kind.__name__, kind)
    try:
        return pickle.dumps(value, protocol=2)
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "menpo"]:
            del sys.modules[name]


@dataclass
class Numbers:
    """What the files hold, in the files' own units."""

    mean: np.ndarray
    components: np.ndarray
    deviations: np.ndarray
    expressions: np.ndarray
    expression_deviations: np.ndarray
    standard: np.ndarray


def draw_numbers() -> Numbers:
    draw = np.random.default_rng(0)
    rows = 3 * (KEPT + EXTRA)
    mean = draw.normal(size=(KEPT + EXTRA, 3)) * 1e4
    mean[TRIM] = head().vertices.numpy() * 1e6
    standard = head().vertices[SHAPE.landmark_vertices].numpy() * 10
    return Numbers(
        mean.reshape(-1, 1).astype(np.float32),
        draw.normal(size=(rows, IDENTITIES)).astype(np.float32),
        draw.uniform(500, 2000, (IDENTITIES, 1)).astype(np.float32),
        draw.normal(size=(EXPRESSIONS, 3 * KEPT)).astype(np.float32),
        draw.uniform(500, 2000, EXPRESSIONS),
        standard.astype(np.float64),
    )


def write_topology(folder: Path) -> None:
    uv = SHAPE.uv.numpy().copy()
    uv[:, 1] = 1 - uv[:, 1]
    faces = SHAPE.faces.numpy().astype(np.uint16)
    mask = np.ones(KEPT, dtype=bool)
    mask[:61] = False
    (folder / "trilist_full.pkl").write_bytes(pickled(faces))
    (folder / "tcoords_alex.pkl").write_bytes(pickled(points(uv)))
    (folder / "mask_full2crop.pkl").write_bytes(pickled(mask))
    (folder / "all_all_all_lands_ids.pkl").write_bytes(pickled(SHAPE.landmark_vertices.tolist()))


def write_bfm(folder: Path, numbers: Numbers) -> None:
    model = {"shapeMU": numbers.mean, "shapePC": numbers.components, "shapeEV": numbers.deviations}
    other = {"texMU": numbers.mean, "texPC": numbers.components, "texEV": numbers.deviations}
    savemat(folder / "01_MorphableModel.mat", model | other)
    count = np.array([EXPRESSIONS], dtype=np.int32)
    unused_mean = np.full(3 * KEPT, 7, dtype=np.float32)
    (folder / "Exp_Pca.bin").write_bytes(count.tobytes() + unused_mean.tobytes() + numbers.expressions.tobytes())
    (folder / "std_exp.txt").write_text(" ".join(repr(float(n)) for n in numbers.expression_deviations))
    savemat(folder / "BFM_exp_idx.mat", {"trimIndex": (TRIM + 1).astype(np.uint16)[:, None]})
    savemat(folder / "BFM_front_idx.mat", {"idx": (FRONT + 1).astype(np.float32)[:, None]})
    savemat(folder / "similarity_Lm3D_all.mat", {"lm": numbers.standard})


class Bottleneck(nn.Module):
    """torchvision's, stride in the 3 x 3 convolution."""

    def __init__(self, channels: int, inner: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = None
        if stride > 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn1(self.conv1(x)).relu()
        branch = self.bn3(self.conv3(self.bn2(self.conv2(branch)).relu()))
        return (branch + (x if self.downsample is None else self.downsample(x))).relu()


class Backbone(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        channels = width
        for stage, blocks in enumerate((3, 4, 6, 3)):
            inner = width << stage
            layers = [Bottleneck(channels, inner, 4 * inner, 2 if stage else 1)]
            layers += [Bottleneck(4 * inner, inner, 4 * inner, 1) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
            channels = 4 * inner

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return nn.functional.adaptive_avg_pool2d(x, 1)


class Regressor(nn.Module):
    """The definition of `net_recon`; `width` is 64 in the published one."""

    def __init__(self, width: int, identities: int, expressions: int) -> None:
        super().__init__()
        self.backbone = Backbone(width)
        sizes = (identities, expressions, 80, 3, 27, 2, 1)
        self.final_layers = nn.ModuleList(nn.Conv2d(32 * width, size, 1) for size in sizes)
        generator = torch.Generator().manual_seed(1)
        for name, buffer in self.named_buffers():
            if name.endswith("mean"):
                buffer.uniform_(-0.2, 0.2, generator=generator)
            if name.endswith("var"):
                buffer.uniform_(0.5, 1.5, generator=generator)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 4 and "final" not in name:
                nn.init.kaiming_normal_(parameter, generator=generator)
            elif "bn" in name or "downsample.1" in name:
                parameter.data.uniform_(0.2, 0.8, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        return torch.cat([layer(features) for layer in self.final_layers], dim=1).flatten(1)


def checkpoint(net: Regressor) -> dict[str, Any]:
    """As the training saves it."""
    optimiser = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 10, 0.2)
    return {"net_recon": net.state_dict(), "opt_00": optimiser.state_dict(), "sched_00": schedule.state_dict()}


def known_answer_net(coefficients: list[float], identities: int, expressions: int) -> Regressor:
    """A network that says these coefficients of every picture."""
    net = Regressor(2, identities, expressions)
    for layer, part in zip(
        net.final_layers, torch.tensor(coefficients).split([identities, expressions, 80, 3, 27, 2, 1]), strict=True
    ):
        layer.weight.data.zero_()  # type: ignore[operator]
        layer.bias.data.copy_(part)  # type: ignore[operator]
    return net


def write_all(folder: Path, net: Regressor) -> Numbers:
    numbers = draw_numbers()
    folder.mkdir(parents=True, exist_ok=True)
    write_topology(folder)
    write_bfm(folder, numbers)
    torch.save(checkpoint(net), folder / "epoch_latest.pth")
    return numbers
