"""Train the face network: FaceMesh V2 goes on learning, with more points, their uncertainty, and a part map.

python tools/face_train.py SHARDS --start facemesh_v2.safetensors --weights ICT_FOLDER --out RUN [--minutes 60]
python tools/face_train.py SHARDS --test TEST_SHARDS --out RUN --measure

RUN/state.safetensors holds everything that is needed to go on, RUN/face.safetensors the mean of the last weights for
`ostec.networks.face.load_face_net` (float16). The same command goes on where the last one stopped, with whatever shards
there are by then. On one machine and from one state the steps are always the same.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from face_geometry import ADDED_PAIRS, FaceShape, load_shape
from face_heads import MESH_POINTS
from face_measure import full_mirror
from face_pictures import Batch, Pictures
from face_scene import COVERED, HIDDEN, IGNORE, UNKNOWN, VISIBLE
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from ostec.networks.face import PARTS, FaceNet

DECODER_WIDTH, LEVELS = 32, 5
_RATES = {"trunk": 1.5e-4, "heads": 3e-5, "decoder": 1e-3}
"""Heads add up 512 features, so that small steps move their points far."""
_HEADS = ("points", "spread", "presence")
_DECAY, _WARM_UP = 1e-4, 40
_MEAN_DECAY = 0.997
_POINT_WEIGHT, _DEPTH_SHARE, _PRESENCE_WEIGHT, _PARTS_WEIGHT = 1.0, 0.3, 0.05, 0.6
_DAMPING, _SOLVED_CROPS = 0.1, 4000
_PARTS_SHARE = 0.34
"""Share of each batch that the part map is learnt from, at half the size: it takes most of the time."""
_SEEN_WEIGHTS = {HIDDEN: 0.4, COVERED: 0.7, VISIBLE: 1.0}
_CLASS_WEIGHTS = (0.5, 0.7, 2.0, 1.0, 2.0, 2.5, 2.0, 0.8, 2.5, 1.2)
_YAW_BINS = (0, 15, 30, 45, 60, 75)


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


@torch.no_grad()
def solved(tensors: dict[str, Tensor], pictures: Pictures, crops: int, seed: int) -> dict[str, Tensor]:
    """The tensors with the last layer of the points changed by damped least squares, on so many random crops."""
    net = FaceNet(tensors)
    mirror, batch = full_mirror(net), 24
    rows: list[Tensor] = []
    misses: list[Tensor] = []
    known: list[Tensor] = []
    for step in range(-(-crops // batch)):
        which, draw = picked(step, len(pictures), batch, seed)
        given = pictures.batch(which, draw, mirror, parts_share=0.0)
        last = net.features(given.crops)[-1]
        miss = given.points - net.points(last).view(batch, -1, 3)
        rows.append(F.pad(last.flatten(1), (0, 1), value=1.0)[given.present].double())
        misses.append(miss[given.present].double())
        known.append((given.seen != UNKNOWN)[given.present])
    x, y, there = torch.cat(rows), torch.cat(misses), torch.cat(known)
    change = torch.zeros(x.shape[1], *y.shape[1:], dtype=torch.float64)
    for own in (slice(0, MESH_POINTS + 10), slice(MESH_POINTS + 10, None)):
        some = there[:, own].all(dim=1)
        square = x[some].T @ x[some]
        square.diagonal().add_(_DAMPING * float(square.diagonal().mean()) + 1e-9)
        change[:, own] = torch.linalg.solve(square, x[some].T @ y[some][:, own].flatten(1)).view(*change[:, own].shape)
    flat = change.flatten(1).T.float()
    weight, bias = tensors["points.weight"], tensors["points.bias"]
    return tensors | {"points.weight": weight + flat[:, :-1].reshape(weight.shape), "points.bias": bias + flat[:, -1]}


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
    some = min(len(batch.parts), max(1, round(_PARTS_SHARE * len(points))))
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

    def __init__(self, tensors: dict[str, Tensor], out: Path, frozen: int = 0) -> None:
        """`frozen`: how many stages stay as they are, from the finest on; those take most of the time."""
        self.out, self.step = out, 0
        self.net = FaceNet({name: tensor.clone() for name, tensor in tensors.items()}).requires_grad_(True).train()
        for part in [self.net.stem, *self.net.stages][: frozen + 1 if frozen else 0]:
            part.requires_grad_(False)
        self.mean = {name: p.detach().clone() for name, p in self.net.named_parameters()}
        groups = {name: list[torch.nn.Parameter]() for name in _RATES}
        for name, p in self.net.named_parameters():
            part = name.split(".")[0]
            if p.requires_grad:
                groups[part if part in groups else "heads" if part in _HEADS else "trunk"].append(p)
        rates = [{"params": own, "base": _RATES[name]} for name, own in groups.items()]
        self.optimiser = torch.optim.AdamW(rates, weight_decay=_DECAY)

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
            for key, value in self.optimiser.state.get(p, {}).items():
                tensors[f"{key}.{name}"] = torch.as_tensor(value)
        self._write("state.safetensors", tensors)
        self._write("face.safetensors", {name: p.half() for name, p in self.mean.items()})

    def _write(self, name: str, tensors: dict[str, Tensor]) -> None:
        partial = self.out / f"{name}.partial"
        save_file({n: t.contiguous() for n, t in tensors.items()}, partial, {"step": str(self.step)})
        os.replace(partial, self.out / name)

    @classmethod
    def resumed(cls, out: Path, frozen: int = 0) -> Run:
        """From RUN/state.safetensors."""
        tensors = load_file(out / "state.safetensors")
        run = cls({n.removeprefix("net."): t for n, t in tensors.items() if n.startswith("net.")}, out, frozen)
        with safe_open(out / "state.safetensors", "pt") as file:
            run.step = int(file.metadata()["step"])
        for name, p in run.net.named_parameters():
            run.mean[name] = tensors[f"mean.{name}"].clone()
            keys = ("step", "exp_avg", "exp_avg_sq")
            if f"step.{name}" in tensors and p.requires_grad:
                run.optimiser.state[p] = {key: tensors[f"{key}.{name}"].clone() for key in keys}
        return run


def picked(step: int, count: int, batch: int, seed: int) -> tuple[list[int], torch.Generator]:
    """Which pictures step `step` sees, and the random numbers it sees them with."""
    draw = torch.Generator().manual_seed(seed * 1_000_003 + step)
    return torch.randint(count, (batch,), generator=draw).tolist(), draw


@torch.inference_mode()
def figures(net: FaceNet, pictures: Pictures, mirror: Tensor, batch: int = 25) -> dict[str, float]:
    """Median over pictures of the mean error of points that can be seen, FaceMesh's and the added ones, by least |yaw|
    in degrees, in % of the eyes' distance; and IoU by part."""
    errors: dict[str, list[float]] = {}
    both, either = np.zeros(len(PARTS)), np.zeros(len(PARTS))
    for start in range(0, len(pictures), batch):
        given = pictures.batch([*range(start, min(start + batch, len(pictures)))], None, mirror)
        points, _, _, parts = outputs(net, given.crops)
        found, known = parts.argmax(dim=1), given.parts != IGNORE
        for k in range(len(PARTS)):
            a, b = (found == k) & known, (given.parts == k) & known
            both[k] += int((a & b).sum())
            either[k] += int((a | b).sum())
        apart = (points - given.points)[..., :2].norm(dim=2) / given.unit_px[:, None] * 100
        shown = (given.seen == VISIBLE) & given.present[:, None]
        for n, yaw in enumerate(given.yaw_deg.abs().tolist()):
            low = max(bound for bound in _YAW_BINS if bound <= yaw)
            for name, own in (("points", slice(0, MESH_POINTS)), ("added", slice(MESH_POINTS + 10, None))):
                if bool(shown[n, own].any()):
                    errors.setdefault(f"{name} {low}", []).append(float(apart[n, own][shown[n, own]].mean()))
    named = {name: round(float(np.median(some)), 2) for name, some in sorted(errors.items())}
    iou = {f"IoU {part}": round(float(both[k] / max(either[k], 1)), 3) for k, part in enumerate(PARTS)}
    return named | iou


def _steps_until(deadline: float, run: Run, last: int) -> Iterator[int]:
    while run.step < last and time.monotonic() < deadline:
        yield run.step


def train(run: Run, options: argparse.Namespace) -> None:
    """Until the time is over or the last step is done; saved every `options.every` steps."""
    pictures, mirror = Pictures(options.shards), full_mirror(run.net)
    seen: list[dict[str, float]] = []
    for step in _steps_until(time.monotonic() + 60 * options.minutes, run, options.steps):
        which, draw = picked(step, len(pictures), options.batch, options.seed)
        seen.append(run.learn(pictures.batch(which, draw, mirror, _PARTS_SHARE), options.steps))
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
    parser.add_argument("--frozen", type=int, default=0, help="stages that do not learn, from the finest on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", type=Path, default=None, help="shards to measure on")
    parser.add_argument("--measure", action="store_true", help="only measure")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if (options.out / "state.safetensors").exists():
        run = Run.resumed(options.out, options.frozen)
    else:
        tensors = new_tensors(load_file(options.start), load_shape(options.weights), options.seed)
        tensors = solved(tensors, Pictures(options.shards), _SOLVED_CROPS, options.seed)
        run = Run(tensors, options.out, options.frozen)
    if not options.measure:
        train(run, options)
    if options.test:
        net = FaceNet(run.mean)
        line = {"step": run.step, **figures(net, Pictures(options.test), full_mirror(net))}
        with (options.out / "figures.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line)


if __name__ == "__main__":
    main()
