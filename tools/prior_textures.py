"""Textures of the training photos on the prior's coarse grid, and masks of what turned heads show."""

from __future__ import annotations

import csv
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

import ostec
from ostec.bench.holdout import shown_from
from ostec.files.photos import load_photo
from ostec.geometry.camera import rotation
from ostec.geometry.raster import rasterise
from ostec.geometry.texels import bake_texels
from ostec.heads.facemesh import load_facemesh_model
from ostec.light.shading import log_colour
from ostec.texture.unwrap import TRUSTED, unwrap, without_islands
from ostec.types import Camera, Landmarks, Reconstruction

_TEXTURE_PX = 256
_NOT_FROM = "SelfishGene/SFHQ-dataset"
"""Pictures made with StyleGAN2 weights that are for non-commercial use."""
_POSED_FACES, _POSES = 60, 6
_LARGEST_YAW_DEG, _PITCH_STD_DEG = 80.0, 10.0
_WORKERS = 2


@dataclass(frozen=True)
class Textures:
    """N faces on a G x G grid."""

    names: list[str]
    log_rgb: Tensor
    """[N, 3, G, G], 0 where not seen."""
    seen: Tensor
    """[N, 1, G, G], 0 or 1."""
    normals: Tensor
    """[N, 3, G, G]."""
    vertices: Tensor
    """[N, V, 3]."""


def training_photos(faces: Path) -> list[Path]:
    """The photos of `index.csv` in the folder `faces` that may shape what is shipped."""
    with (faces / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith("train/")]
    return [faces / row["file"] for row in rows if row["source_repo"] != _NOT_FROM]


def collect_textures(photos: list[Path], grid_px: int) -> Textures:
    """Fit and unwrap every photo; those without a face are left out."""
    chunks = [photos[i : i + 20] for i in range(0, len(photos), 20)]
    faces = []
    with ProcessPoolExecutor(_WORKERS) as pool:
        for done, found in enumerate(pool.map(_unwrap_all, chunks, [grid_px] * len(chunks))):
            faces += found
            print(f"unwrapped {min(20 * done + 20, len(photos))} of {len(photos)} photos", flush=True)
    names, log_rgb, seen, normals, vertices = zip(*faces, strict=True)
    return Textures(list(names), *(torch.stack(part) for part in (log_rgb, seen, normals, vertices)))


def _unwrap_all(photos: list[Path], grid_px: int) -> list[tuple[str, Tensor, Tensor, Tensor, Tensor]]:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    parts = ostec.load_parts(completer="mirror")
    faces = []
    for path in photos:
        try:
            photo = load_photo(path)
            detection = next(iter(parts.detector(photo)), None)
            if detection is None:
                continue
            face = parts.reconstructor(photo, detection)
        except ostec.OstecError as error:
            print(f"left out: {error}", flush=True)
            continue
        texels = bake_texels(face, (_TEXTURE_PX, _TEXTURE_PX), rasterise)
        skin = parts.segmenter(photo, face)
        texture = without_islands(unwrap(photo.rgb, face.camera, face, texels, rasterise, skin))
        trusted = (texels.inside & (texture.confidence >= TRUSTED)).float()[None]
        share = F.adaptive_avg_pool2d(trusted, grid_px)
        colour = F.adaptive_avg_pool2d(log_colour(texture.rgb) * trusted, grid_px) / share.clamp(min=1e-6)
        seen = share > 0.5
        normals = F.adaptive_avg_pool2d(texels.normals.movedim(-1, 0) * texels.inside, grid_px)
        faces.append((path.name, colour * seen, seen.float(), F.normalize(normals, dim=0), face.vertices))
    return faces


def pose_masks(vertices: Tensor, grid_px: int, seed: int) -> Tensor:
    """[M, 1, G, G], 0 or 1: what random heads [N, V, 3], turned at random, show of themselves."""
    draw = torch.Generator().manual_seed(seed)
    heads = vertices[torch.randperm(len(vertices), generator=draw)[:_POSED_FACES]]
    yaw_deg = (torch.rand(len(heads), _POSES, generator=draw) * 2 - 1) * _LARGEST_YAW_DEG
    pitch_deg = torch.randn(len(heads), _POSES, generator=draw) * _PITCH_STD_DEG
    with ProcessPoolExecutor(_WORKERS) as pool:
        jobs = zip(heads, pitch_deg.tolist(), yaw_deg.tolist(), strict=True)
        return torch.cat(list(pool.map(_shown_turned, jobs, [grid_px] * len(heads))))


def _shown_turned(job: tuple[Tensor, list[float], list[float]], grid_px: int) -> Tensor:
    torch.set_num_threads(1)
    vertices, pitches_deg, yaws_deg = job
    topology = load_facemesh_model().topology
    K = torch.tensor([[3000.0, 0, 500], [0, 3000, 500], [0, 0, 1]])
    camera = Camera(K, rotation(0, 0, 0), torch.tensor([0.0, 0, 1]), (1000, 1000), "orthographic")
    landmarks = Landmarks(torch.zeros(68, 2), 1.0)
    face = Reconstruction(vertices, topology, camera, landmarks, 0.0, 0.0, 0.0)
    texels = bake_texels(face, (grid_px, grid_px), rasterise)
    masks = []
    for pitch_deg, yaw_deg in zip(pitches_deg, yaws_deg, strict=True):
        turned = replace(camera, R=rotation(pitch_deg, yaw_deg, 0.0))
        masks.append((shown_from(face, turned, texels, rasterise) >= TRUSTED).float()[None])
    return torch.stack(masks)
