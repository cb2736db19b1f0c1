"""Eyeballs: iris and sclera from what the photo shows between the lids, and the rest to match."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.geometry.mesh import sphere

IRIS_RADIUS_M = 0.0060
"""Half the horizontal visible iris diameter of adults, 11.8 mm in the mean (Rüfer et al., Cornea 2005)."""
SCLERA = torch.tensor([0.86, 0.82, 0.80])
IRIS, PUPIL = torch.tensor([0.30, 0.20, 0.14]), torch.tensor([0.06, 0.05, 0.05])
"""sRGB colours by eye, for eyes that are shut; no one's data."""
_PUPIL_SHARE = 0.36
_MOST_TURN_DEG, _TURN_STEPS = 36.0, 25
_RINGS = 10
_LEAST_SEEN = 60
_LOOKS_AHEAD = 0.02
"""What a direction at the end of the search must gain over the middle, in luminance."""
_LEAST_CONTRAST = 0.04
_EDGE = 0.08
"""Half the width of the iris' soft edge, in radii."""


def painted_eye(vertices: Tensor, points: Tensor, colours: Tensor, visible: Tensor, light: float) -> Tensor:
    """[N, 3]: colours of the eyeball's texels.

    `vertices` [M, 3] of the eyeball and `points` [N, 3] of its texels, head frame, metres; `colours` [N, 3] what the
    photo has there, true where `visible` [N] is near 1; `light` is the photo's brightness, 1 is usual.
    """
    centre, radius_m = sphere(vertices)
    directions = F.normalize(points - centre, dim=1)
    sure = visible > 0.9
    gaze, size = torch.tensor([0.0, 0.0, 1.0]), IRIS_RADIUS_M / radius_m
    found = None
    if int(sure.sum()) >= _LEAST_SEEN:
        found = find_iris(directions[sure], colours[sure].mean(dim=1), size)
    if found is not None:
        gaze, size = found
    away = torch.acos((directions @ gaze).clamp(-1, 1)) / size
    white = sclera_colour(colours[sure], away[sure], light)
    disc = iris_colours(away, colours, sure & (away < 1), light)
    plain = torch.lerp(disc, white.expand_as(disc), ((away - 1) / (2 * _EDGE) + 0.5).clamp(0, 1)[:, None])
    trust = visible if found is not None else torch.zeros_like(visible)
    return torch.lerp(plain, colours, trust[:, None])


def find_iris(directions: Tensor, luminance: Tensor, size: float) -> tuple[Tensor, float] | None:
    """The direction [3] in which the dark disc on the eyeball lies, and its angular radius; None where there is none.

    `directions` [N, 3], unit, head frame; `size` is the expected radius in radians.
    """
    turns = torch.linspace(-_MOST_TURN_DEG, _MOST_TURN_DEG, _TURN_STEPS) * (math.pi / 180)
    across, down = torch.meshgrid(turns, 0.7 * turns, indexing="ij")
    gazes = torch.stack([across.sin() * down.cos(), down.sin(), across.cos() * down.cos()], dim=-1).view(-1, 3)
    stride = max(1, len(directions) // 1500)
    angle = torch.acos((gazes @ directions[::stride].T).clamp(-1, 1))
    sample = luminance[::stride]
    best, found = _LEAST_CONTRAST, None
    for radius in (0.85 * size, 0.95 * size, 1.05 * size):
        within, around = (angle < 0.92 * radius).float(), ((angle > 1.08 * radius) & (angle < 2 * radius)).float()
        counts = within.sum(dim=1), around.sum(dim=1)
        contrast = around @ sample / counts[1].clamp(min=1) - within @ sample / counts[0].clamp(min=1)
        share = (torch.minimum(*counts) / (0.08 * len(sample))).clamp(max=1)
        score = contrast * share - _LOOKS_AHEAD * (across.square() + down.square()).flatten() / turns[-1] ** 2
        index = int(score.argmax())
        if float(score[index]) > best:
            best, found = float(score[index]), (gazes[index], radius)
    return found


def sclera_colour(colours: Tensor, away: Tensor, light: float) -> Tensor:
    """[3]: the white of the eye, from the brighter half of what is seen outside the iris."""
    white = colours[away > 1.15]
    usual = (SCLERA * light).clamp(max=0.92)
    if len(white) < _LEAST_SEEN // 4:
        return usual
    brighter = white[white.mean(dim=1) >= white.mean(dim=1).median()]
    colour = brighter.median(dim=0).values
    return colour.mean() * (0.5 * colour / colour.mean() + 0.5 * usual / usual.mean())


def iris_colours(away: Tensor, colours: Tensor, seen: Tensor, light: float) -> Tensor:
    """[N, 3]: the iris, the same all around: the median of each ring that is `seen` [N] bool; `away` [N] in radii."""
    ring = (away * _RINGS).long().clamp(0, _RINGS - 1)
    rows: list[Tensor] = []
    for index in range(_RINGS):
        of_ring = colours[seen & (ring == index)]
        dark = index < _PUPIL_SHARE * _RINGS
        if len(of_ring) >= 4:
            rows.append(of_ring.median(dim=0).values)
        else:
            rows.append(rows[-1] if rows and not dark else (PUPIL if dark else IRIS * light))
    profile = torch.stack(rows)
    at = (away * _RINGS - 0.5).clamp(0, _RINGS - 1)
    low = at.long().clamp(max=_RINGS - 2)
    return torch.lerp(profile[low], profile[low + 1], (at - low)[:, None])
