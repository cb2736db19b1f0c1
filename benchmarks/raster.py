"""How long does drawing a mesh take, beside a ray tracer?

python benchmarks/raster.py [--size PX] [--repeats N] [--threads N]

Draws an ellipsoid that fills most of the picture, with the triangle counts of the Basel face model and of the built-in
mesh, and prints medians. "Embree" is trimesh with embreex: building its tree and casting one ray per pixel. "same"
is the share of pixels in which Embree sees the same triangle.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from trimesh import Trimesh
from trimesh.ray.ray_pyembree import RayMeshIntersector

from ostec.geometry.camera import rotation
from ostec.geometry.raster import interpolate, rasterise

_GRIDS = ((252, 210), (110, 100))
"""Around and down: 105,840 and 22,000 triangles."""


def ellipsoid(around: int, down: int, size: int) -> tuple[Tensor, Tensor]:
    """Clip coordinates [V, 4] and faces [2 · around · down, 3] of a turned ellipsoid seen orthographically."""
    longitude = torch.arange(around) / around * 2 * torch.pi
    latitude = torch.linspace(-1, 1, down + 1) * torch.pi / 2
    latitude, longitude = torch.meshgrid(latitude, longitude, indexing="ij")
    points = torch.stack(
        [0.8 * latitude.cos() * longitude.cos(), latitude.sin(), 0.9 * latitude.cos() * longitude.sin()], dim=-1
    )
    points = points.reshape(-1, 3) @ rotation(11, 23, 7).T
    clip = torch.cat([points * 0.48 * size, torch.ones(len(points), 1)], dim=1)
    clip[:, :2] += size / 2
    index = torch.arange((down + 1) * around).view(down + 1, around)
    a, b, c, d = index[:-1], index[:-1].roll(-1, 1), index[1:], index[1:].roll(-1, 1)
    faces = torch.stack([torch.stack([a, b, c], dim=-1), torch.stack([b, d, c], dim=-1)], dim=2)
    return clip, faces.view(-1, 3)


def cast_rays(clip: Tensor, faces: Tensor, size: int) -> np.ndarray:
    """[size, size]: the triangle that a ray along z through each pixel centre hits first, by Embree."""
    mesh = Trimesh(clip[:, :3].numpy(), faces.numpy(), process=False)
    y, x = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5, indexing="ij")
    origins = np.stack([x, y, np.full_like(x, -size)], axis=-1).reshape(-1, 3)
    directions = np.zeros_like(origins) + [0, 0, 1]
    return np.asarray(RayMeshIntersector(mesh).intersects_first(origins, directions)).reshape(size, size)


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median of `repeats` calls after one that does not count."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    picture = (options.size, options.size)

    start = time.perf_counter()
    clip, faces = ellipsoid(*_GRIDS[1], options.size)
    rasterise(clip, faces, picture)
    print(f"first call (compiles, or loads what was compiled before): {time.perf_counter() - start:.2f} s")
    print(f"{options.size} x {options.size} px, {options.threads} threads, median of {options.repeats}, ms")
    print(f"{'triangles':>10} {'rasterise':>10} {'interpolate':>12} {'Embree':>8} {'same':>9}")
    for grid in _GRIDS:
        clip, faces = ellipsoid(*grid, options.size)
        seen = rasterise(clip, faces, picture)
        cells = (
            median_ms(lambda c=clip, f=faces: rasterise(c, f, picture), options.repeats),
            median_ms(lambda s=seen, c=clip, f=faces: interpolate(s, c[:, :3], f), options.repeats),
            median_ms(lambda c=clip, f=faces: cast_rays(c, f, options.size), 3),
        )
        same = (torch.from_numpy(cast_rays(clip, faces, options.size)) == seen.triangle).float().mean()
        times = f"{cells[0]:>10.1f} {cells[1]:>12.1f} {cells[2]:>8.0f}"
        print(f"{len(faces):>10,} {times} {same:>9.4%}")


if __name__ == "__main__":
    main()
