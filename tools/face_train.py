"""Train the face network: FaceMesh V2 goes on learning, with more points, their uncertainty, and a part map.

python tools/face_train.py SHARDS --start facemesh_v2.safetensors --weights ICT_FOLDER --out RUN [--minutes 60]
python tools/face_train.py SHARDS --test TEST_SHARDS --out RUN --measure

RUN/state.safetensors holds everything that is needed to go on, RUN/face.safetensors the mean of the last weights for
`ostec.networks.face.load_face_net` (float16). The same command goes on where the last one stopped, with whatever shards
there are by then. On one machine and from one state the steps are always the same.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from face_data import IGNORE
from face_geometry import ADDED_PAIRS, FaceShape, load_shape
from face_heads import MESH_POINTS
from face_scene import COVERED, HIDDEN, NET_PX, PICTURE_PX, VISIBLE
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from ostec.networks.face import INPUT_PX, PARTS, FaceNet

DECODER_WIDTH, LEVELS = 32, 5
_RATE, _NEW_RATE, _DECAY, _WARM_UP = 4e-4, 1.5e-3, 1e-4, 100
_MEAN_DECAY = 0.997
_POINT_WEIGHT, _DEPTH_SHARE, _PRESENCE_WEIGHT, _PARTS_WEIGHT = 1.0, 0.3, 0.05, 0.6
_PARTS_SHARE = 0.34
"""Share of each batch that the part map is learnt from, at half the size: it takes most of the time."""
_SEEN_WEIGHTS = {HIDDEN: 0.4, COVERED: 0.7, VISIBLE: 1.0}
_CLASS_WEIGHTS = (0.5, 0.7, 2.0, 1.0, 2.0, 2.5, 2.0, 0.8, 2.5, 1.2)
_ROLL_DEG, _SCALE, _SHIFT = 10.0, 0.12, 0.05
"""Spread of the crop: roll, log of its side, its centre over its side."""
_EYES = (33, 263)
_YAW_BINS = (0, 15, 30, 45, 60, 75, 95)


@dataclass(frozen=True)
class Batch:
    """Crops and what they show; px of the crop."""

    crops: Tensor
    """[N, 3, 256, 256], 0..1."""
    parts: Tensor
    """[N, 256, 256] int64, `IGNORE` where nobody knows."""
    points: Tensor
    """[N, P, 3]."""
    seen: Tensor
    """[N, P]."""
    present: Tensor
    """[N] bool."""
    unit_px: Tensor
    """[N]: the distance of the outer corners of the eyes, as seen from the front."""
    yaw_deg: Tensor
    """[N]."""


class Shard:
    """A file of pictures, kept packed."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        self._files = {
            name: np.split(arrays.pop(name), arrays.pop(ends)[:-1])
            for name, ends in (("pictures", "picture_ends"), ("parts", "parts_ends"))
        }
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays["points"])

    def picture(self, name: str, k: int) -> NDArray[np.uint8]:
        """[S, S, 3] or [S, S]."""
        return np.asarray(Image.open(io.BytesIO(self._files[name][k].tobytes())))


class Pictures:
    """All shards of a folder; looks for new ones when asked to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._shards = folder, dict[str, Shard]()
        self.refresh()

    def refresh(self) -> None:
        """Raises `SystemExit` where there is none."""
        for path in sorted(self.folder.glob("*.npz")):
            if path.name not in self._shards:
                self._shards[path.name] = Shard(path)
        self._places = [(shard, k) for shard in self._shards.values() for k in range(len(shard))]
        if not self._places:
            raise SystemExit(f"{self.folder} holds no shards; make some with tools/face_data.py.")

    def __len__(self) -> int:
        return len(self._places)

    def batch(self, which: list[int], draw: torch.Generator | None, mirror: Tensor) -> Batch:
        """Cropped and mirrored at random; with `draw` None neither, the usual crop."""
        rows = [self._places[n] for n in which]
        pictures, parts = ([shard.picture(name, k) for shard, k in rows] for name in ("pictures", "parts"))
        arrays = {name: torch.from_numpy(np.stack([s.arrays[name][k] for s, k in rows])) for name in rows[0][0].arrays}
        rgb = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        label = torch.from_numpy(np.stack(parts))[:, None].float()
        crops, label, points = _cropped(rgb, label, arrays["points"], _affines(len(rows), draw))
        unit_px = _units(arrays)
        seen, yaw_deg = arrays["seen"], _yaws_deg(arrays["R"])
        if draw is not None:
            flip = torch.rand(len(rows), generator=draw) < 0.5
            crops[flip], label[flip] = crops[flip].flip(-1), label[flip].flip(-1)
            other = points[:, mirror].clone()
            other[..., 0] = INPUT_PX - other[..., 0]
            points = torch.where(flip[:, None, None], other, points)
            seen = torch.where(flip[:, None], seen[:, mirror], seen)
            crops = _recoloured(crops, draw)
        return Batch(crops, label[:, 0].long(), points, seen, arrays["present"], unit_px, yaw_deg)


def _affines(count: int, draw: torch.Generator | None) -> Tensor:
    """[N, 2, 3]: px of the crop -> px of the picture."""
    normal = torch.zeros(count, 4) if draw is None else torch.randn(count, 4, generator=draw)
    angle = torch.deg2rad(_ROLL_DEG * normal[:, 0])
    scale = NET_PX / INPUT_PX * (_SCALE * normal[:, 1]).exp()
    turn = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)], 1).view(-1, 2, 2)
    linear = turn * scale[:, None, None]
    centre = PICTURE_PX / 2 + _SHIFT * NET_PX * normal[:, 2:]
    return torch.cat([linear, (centre - linear.sum(dim=2) * INPUT_PX / 2)[..., None]], dim=2)


def _cropped(rgb: Tensor, label: Tensor, points: Tensor, affines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, labels and points seen in crops."""
    axis = torch.arange(INPUT_PX) + 0.5
    place = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
    at = torch.einsum("hwk,nck->nhwc", place, affines[:, :, :2]) + affines[:, None, None, :, 2]
    grid = at * (2 / PICTURE_PX) - 1
    crops = F.grid_sample(rgb, grid, "bilinear", "border", align_corners=False)
    inside = (grid.abs() <= 1).all(dim=-1)[:, None]
    label = torch.where(inside, F.grid_sample(label, grid, "nearest", "border", align_corners=False), float(IGNORE))
    back = torch.linalg.inv(affines[:, :, :2])
    xy = torch.einsum("nck,npk->npc", back, points[..., :2] - affines[:, None, :, 2])
    z = points[..., 2:] * back.det().sqrt()[:, None, None]
    return crops, label, torch.cat([xy, z], dim=2)


def _units(arrays: Mapping[str, Tensor]) -> Tensor:
    """[N] px of the usual crop: length in 3D of the line between the outer corners of the eyes."""
    a, b = (arrays["points"][:, k] for k in _EYES)
    return (a - b).norm(dim=1) * (INPUT_PX / NET_PX)


def _yaws_deg(R: Tensor) -> Tensor:
    return torch.rad2deg(torch.asin(R[:, 2, 0].clamp(-1, 1)))


def _recoloured(crops: Tensor, draw: torch.Generator) -> Tensor:
    """Brightness, contrast and colour a little off; here and there a patch of one colour."""
    n = len(crops)
    gain = (0.15 * torch.randn(n, 1, 1, 1, generator=draw) + 0.05 * torch.randn(n, 3, 1, 1, generator=draw)).exp()
    mean = crops.mean(dim=(1, 2, 3), keepdim=True)
    contrast = (0.15 * torch.randn(n, 1, 1, 1, generator=draw)).exp()
    return (((crops - mean) * contrast + mean) * gain).clamp(0, 1)


def new_tensors(start: Mapping[str, Tensor], shape: FaceShape, seed: int) -> dict[str, Tensor]:
    """FaceMesh V2's tensors and those that are to be learnt. An added point starts as that affine combination of
    FaceMesh's points that it is on the mean head."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {name: tensor.float() for name, tensor in start.items()}
    at = np.c_[shape.points_on(shape.mean), np.ones(MESH_POINTS)]
    wanted = np.c_[shape.mean[shape.added], np.ones(2 * ADDED_PAIRS)]
    mix = torch.from_numpy(wanted @ np.linalg.pinv(at)).float()
    for part in ("weight", "bias"):
        known = tensors[f"points.{part}"]
        rows = known.view(-1, 3, *known.shape[1:])
        added = torch.einsum("ap,pd...->ad...", mix, rows[:MESH_POINTS])
        tensors[f"points.{part}"] = torch.cat([rows, added]).flatten(0, 1).contiguous()
    count, last = len(tensors["points.bias"]) // 3, tensors["points.weight"].shape[1]
    tensors["spread.weight"], tensors["spread.bias"] = torch.zeros(count, last, 2, 2), torch.full((count,), 1.0)
    width = DECODER_WIDTH

    def layer(name: str, *sizes: int) -> None:
        gain = math.sqrt(2 / math.prod(sizes[1:]))
        tensors[f"{name}.weight"] = gain * torch.randn(sizes, generator=draw)
        tensors[f"{name}.bias"] = torch.zeros(sizes[0])

    for k in range(LEVELS):
        layer(f"decoder.lateral.{k}", width, tensors[f"stages.{k}.0.widen.weight"].shape[0], 1, 1)
        tensors[f"decoder.lateral.{k}.weight"] *= 0.3
    for k in range(LEVELS - 1):
        layer(f"decoder.mix.{k}.0", width, 1, 3, 3)
        layer(f"decoder.mix.{k}.1", width, width, 1, 1)
        tensors[f"decoder.mix.{k}.2.weight"] = torch.full((width,), 0.25)
    layer("decoder.out", len(PARTS), width, 1, 1)
    return tensors


def loss_of(net: FaceNet, batch: Batch) -> dict[str, Tensor]:
    """The terms by name, "loss" their weighted sum. The trunk and the decoder are computed in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        features = net.features(batch.crops)
    points, spread, presence = _heads(net, features[-1].float())
    weight = torch.zeros(batch.seen.shape)
    for state, own in _SEEN_WEIGHTS.items():
        weight[batch.seen == state] = own
    weight = weight * batch.present[:, None]
    total = weight.sum().clamp(min=1)
    miss = (points - batch.points) / batch.unit_px[:, None, None] * 100
    apart = (miss[..., :2].square().sum(dim=2) + 0.01).sqrt()
    xy = (weight * apart).sum() / total
    depth = (weight * (miss[..., 2].square() + 0.01).sqrt()).sum() / total
    sure = (weight * (apart.detach() * (-spread).exp() + 2 * spread)).sum() / total
    some = max(1, round(_PARTS_SHARE * len(points)))
    assert net.decoder is not None
    with torch.autocast("cpu", torch.bfloat16):
        parts = net.decoder.coarse([level[:some] for level in features[:LEVELS]])
    fine = batch.parts[:some, 1::2, 1::2]
    classes = F.cross_entropy(parts.float(), fine, torch.tensor(_CLASS_WEIGHTS), ignore_index=IGNORE)
    there = F.binary_cross_entropy_with_logits(presence, batch.present.float())
    loss = _POINT_WEIGHT * (xy + _DEPTH_SHARE * depth) / 4 + 0.1 * sure
    loss = loss + _PARTS_WEIGHT * classes + _PRESENCE_WEIGHT * there
    return {"loss": loss, "points": xy, "depth": depth, "spread": sure, "parts": classes, "presence": there}


def outputs(net: FaceNet, crops: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points [N, P, 3]; log of their spread in % of the eyes' distance [N, P]; presence logits [N]; part logits."""
    assert net.decoder is not None
    features = net.features(crops)
    return *_heads(net, features[-1]), net.decoder(features[:LEVELS])


def _heads(net: FaceNet, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first three of `outputs`, from the coarsest features."""
    assert net.spread is not None
    spread = net.spread(last).flatten(1).clamp(-3, 6)
    return net.points(last).view(len(last), -1, 3), spread, net.presence(last).view(-1)


class Run:
    """A network in training, its optimiser and the mean of its last weights."""

    def __init__(self, tensors: dict[str, Tensor], out: Path) -> None:
        self.out, self.step = out, 0
        self.net = FaceNet(tensors).requires_grad_(True).train()
        self.mean = {name: p.detach().clone() for name, p in self.net.named_parameters()}
        new = ("spread", "decoder")
        groups = {False: list[torch.nn.Parameter](), True: list[torch.nn.Parameter]()}
        for name, p in self.net.named_parameters():
            groups[name.startswith(new)].append(p)
        self.optimiser = torch.optim.AdamW(
            [{"params": groups[False], "base": _RATE}, {"params": groups[True], "base": _NEW_RATE}], weight_decay=_DECAY
        )

    def learn(self, batch: Batch, steps: int) -> dict[str, float]:
        """One step of `steps` in all, the last fifth of which gets ever smaller."""
        share = min(1.0, (self.step + 1) / _WARM_UP) * min(1.0, max(0.02, (steps - self.step) / (0.2 * steps)))
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * share
        terms = loss_of(self.net, batch)
        self.optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        decay = min(_MEAN_DECAY, self.step / (self.step + 10))
        for name, p in self.net.named_parameters():
            self.mean[name].lerp_(p.detach(), 1 - decay)
        return {name: float(term.detach()) for name, term in terms.items()}

    def save(self) -> None:
        """Both files, each whole or not at all."""
        tensors = {f"net.{name}": p.detach() for name, p in self.net.named_parameters()}
        tensors |= {f"mean.{name}": p for name, p in self.mean.items()}
        for name, p in self.net.named_parameters():
            for key, value in self.optimiser.state[p].items():
                tensors[f"{key}.{name}"] = torch.as_tensor(value)
        self._write("state.safetensors", tensors)
        self._write("face.safetensors", {name: p.half() for name, p in self.mean.items()})

    def _write(self, name: str, tensors: dict[str, Tensor]) -> None:
        partial = self.out / f"{name}.partial"
        save_file({n: t.contiguous() for n, t in tensors.items()}, partial, {"step": str(self.step)})
        os.replace(partial, self.out / name)

    @classmethod
    def resumed(cls, out: Path) -> Run:
        """From RUN/state.safetensors."""
        tensors = load_file(out / "state.safetensors")
        run = cls({n.removeprefix("net."): t for n, t in tensors.items() if n.startswith("net.")}, out)
        with safe_open(out / "state.safetensors", "pt") as file:
            run.step = int(file.metadata()["step"])
        for name, p in run.net.named_parameters():
            run.mean[name] = tensors[f"mean.{name}"].clone()
            keys = ("step", "exp_avg", "exp_avg_sq")
            if f"step.{name}" in tensors:
                run.optimiser.state[p] = {key: tensors[f"{key}.{name}"].clone() for key in keys}
        return run


def picked(step: int, count: int, batch: int, seed: int) -> tuple[list[int], torch.Generator]:
    """Which pictures step `step` sees, and the random numbers it sees them with."""
    draw = torch.Generator().manual_seed(seed * 1_000_003 + step)
    return torch.randint(count, (batch,), generator=draw).tolist(), draw


@torch.inference_mode()
def figures(net: FaceNet, pictures: Pictures, mirror: Tensor, batch: int = 25) -> dict[str, float]:
    """Median error of points that can be seen by |yaw|, in % of the eyes' distance, and IoU by part."""
    errors: dict[int, list[float]] = {low: [] for low in _YAW_BINS[:-1]}
    both, either = np.zeros(len(PARTS)), np.zeros(len(PARTS))
    for start in range(0, len(pictures), batch):
        given = pictures.batch([*range(start, min(start + batch, len(pictures)))], None, mirror)
        points, _, _, parts = outputs(net, given.crops)
        found = parts.argmax(dim=1)
        known = given.parts != IGNORE
        for k in range(len(PARTS)):
            a, b = (found == k) & known, (given.parts == k) & known
            both[k] += int((a & b).sum())
            either[k] += int((a | b).sum())
        apart = (points - given.points)[..., :2].norm(dim=2) / given.unit_px[:, None] * 100
        for n in range(len(points)):
            shown = given.seen[n] == VISIBLE
            if bool(given.present[n]) and bool(shown.any()):
                low = max(b for b in _YAW_BINS[:-1] if b <= abs(float(given.yaw_deg[n])) or b == 0)
                errors[low].append(float(apart[n][shown].mean()))
    named = {f"points {low}": round(float(np.median(some)), 2) for low, some in errors.items() if some}
    return named | {
        f"IoU {name}": round(float(b / max(e, 1)), 3) for name, b, e in zip(PARTS, both, either, strict=True)
    }


def mirror_of(net: FaceNet) -> Tensor:
    """[P] int64."""
    from face_measure import full_mirror

    return full_mirror(net)


def _steps_until(deadline: float, run: Run, last: int) -> Iterator[int]:
    while run.step < last and time.monotonic() < deadline:
        yield run.step


def train(run: Run, options: argparse.Namespace) -> None:
    """Until the time is over or the last step is done; saved every `options.every` steps."""
    pictures, mirror = Pictures(options.shards), mirror_of(run.net)
    seen: list[dict[str, float]] = []
    for step in _steps_until(time.monotonic() + 60 * options.minutes, run, options.steps):
        which, draw = picked(step, len(pictures), options.batch, options.seed)
        seen.append(run.learn(pictures.batch(which, draw, mirror), options.steps))
        if run.step % options.every == 0:
            run.save()
            means = {name: round(float(np.mean([row[name] for row in seen])), 4) for name in seen[0]}
            line = {"step": run.step, "pictures": len(pictures), "time": round(time.time()), **means}
            with (options.out / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)
            seen = []
            pictures.refresh()
    run.save()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--start", type=Path, default=None, help="what tools/convert_face_landmarker.py wrote")
    parser.add_argument("--weights", type=Path, default=None, help="folder with ict_face_model.npz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12000, help="in all")
    parser.add_argument("--minutes", type=float, default=60.0, help="of this call")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", type=Path, default=None, help="shards to measure on")
    parser.add_argument("--measure", action="store_true", help="only measure")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if (options.out / "state.safetensors").exists():
        run = Run.resumed(options.out)
    else:
        run = Run(new_tensors(load_file(options.start), load_shape(options.weights), options.seed), options.out)
    if not options.measure:
        train(run, options)
    if options.test:
        net = FaceNet(run.mean)
        line = {"step": run.step, **figures(net, Pictures(options.test), mirror_of(net))}
        with (options.out / "figures.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line)


if __name__ == "__main__":
    main()
