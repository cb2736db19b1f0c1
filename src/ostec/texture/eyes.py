"""Eyeballs: iris and sclera estimated from what the photo shows between the lids, the rest painted to match."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.geometry.mesh import sphere

IRIS_RADIUS_M = 0.0060
"""Half the horizontal visible iris diameter of adults, 11.8 mm in the mean (Rüfer et al., Cornea 2005)."""
SCLERA = torch.tensor([0.86, 0.82, 0.80])
IRIS, PUPIL = torch.tensor([0.30, 0.20, 0.14]), torch.tensor([0.06, 0.05, 0.05])
"""sRGB colours for closed eyes, chosen by eye."""
_PUPIL_SHARE = 0.36
_MOST_TURN_DEG, _TURN_STEPS = 36.0, 25
_RINGS = 10
_LEAST_SEEN, _SURE = 60, 0.9
_OWN_SHARE = 0.5
"""An eye of which less than this share of the other is visible is painted like the other."""
_GAZE_PENALTY = 0.02
"""Luminance that a gaze at the end of the searched range must gain over one straight ahead."""
_LEAST_CONTRAST = 0.04
_EDGE = 0.08
"""Half the width of the iris' soft edge, in radii."""


@dataclass(frozen=True)
class EyeModel:
    """Gaze and colours of an eye."""

    gaze: Tensor
    """[3], head frame."""
    radius_m: float
    """Of the iris."""
    white: Tensor
    """[3]: the sclera."""
    rings: Tensor
    """[R, 3]: the iris from the middle outward."""


def painted_eyes(
    balls: Sequence[Tensor], points: Sequence[Tensor], colours: Sequence[Tensor], trust: Sequence[Tensor], light: float
) -> list[Tensor]:
    """For each eye [N, 3]: colours of the eyeball's texels.

    `balls` [M, 3] are the eyeball's vertices and `points` [N, 3] its texels, head frame, metres; `colours` [N, 3] are
    the photo's there, reliable where `trust` [N] is near 1; `light` is the photo's brightness, normally 1. An eye that
    the photo hardly shows is painted like the other.
    """
    spheres = [sphere(ball) for ball in balls]
    seen = [int((share > _SURE).sum()) for share in trust]
    eyes = [_estimated(*given, light) for given in zip(spheres, points, colours, trust, strict=True)]
    best = max(range(len(seen)), key=seen.__getitem__)
    painted = []
    for index, (centre, radius_m) in enumerate(spheres):
        eye = eyes[index] if seen[index] >= _OWN_SHARE * seen[best] else eyes[best]
        believed = trust[index] if seen[index] >= _OWN_SHARE / 2 * seen[best] else 0 * trust[index]
        directions = F.normalize(points[index] - centre, dim=1)
        painted.append(torch.lerp(_painted(eye, directions, radius_m), colours[index], believed[:, None]))
    return painted


def _estimated(ball: tuple[Tensor, float], points: Tensor, colours: Tensor, trust: Tensor, light: float) -> EyeModel:
    """One eye estimated from the photo's colours at its texels; a default one where there are few."""
    sure = trust > _SURE
    directions, seen = F.normalize(points[sure] - ball[0], dim=1), colours[sure]
    ahead, size = torch.tensor([0.0, 0.0, 1.0]), IRIS_RADIUS_M / ball[1]
    if len(seen) < _LEAST_SEEN:
        nothing = seen[:0], seen[:0, 0]
        return EyeModel(ahead, IRIS_RADIUS_M, sclera_colour(*nothing, light), ring_colours(*nothing, light))
    found = find_iris(directions, seen.mean(dim=1), size)
    if found is None:  # closed: the photo shows lids
        lid = seen.median(dim=0).values
        return EyeModel(ahead, IRIS_RADIUS_M, lid, lid.expand(_RINGS, 3))
    gaze, size = found
    away = torch.acos((directions @ gaze).clamp(-1, 1)) / size
    iris = away < 1
    return EyeModel(gaze, size * ball[1], sclera_colour(seen, away, light), ring_colours(seen[iris], away[iris], light))


def _painted(eye: EyeModel, directions: Tensor, radius_m: float) -> Tensor:
    """[N, 3]: the painted eye at `directions` [N, 3] from the centre of an eyeball."""
    away = torch.acos((directions @ eye.gaze).clamp(-1, 1)) * (radius_m / eye.radius_m)
    at = (away * _RINGS - 0.5).clamp(0, _RINGS - 1)
    low = at.long().clamp(max=_RINGS - 2)
    disc = torch.lerp(eye.rings[low], eye.rings[low + 1], (at - low)[:, None])
    return torch.lerp(disc, eye.white.expand_as(disc), ((away - 1) / (2 * _EDGE) + 0.5).clamp(0, 1)[:, None])


def find_iris(directions: Tensor, luminance: Tensor, size: float) -> tuple[Tensor, float] | None:
    """Direction [3] of the iris, the dark disc on the eyeball, and its angular radius; None where there is none.

    `directions` [N, 3], unit, head frame; `size` is the expected radius in radians.
    """
    turns = torch.linspace(-_MOST_TURN_DEG, _MOST_TURN_DEG, _TURN_STEPS) * (math.pi / 180)
    across, down = torch.meshgrid(turns, 0.7 * turns, indexing="ij")
    gazes = torch.stack([across.sin() * down.cos(), down.sin(), across.cos() * down.cos()], dim=-1).view(-1, 3)
    at_the_end = ((across.abs() == turns[-1]) | (down.abs() == 0.7 * turns[-1])).flatten()
    stride = max(1, len(directions) // 1500)
    angle = torch.acos((gazes @ directions[::stride].T).clamp(-1, 1))
    sample = luminance[::stride]
    best, found = _LEAST_CONTRAST, None
    for radius in (0.85 * size, 0.95 * size, 1.05 * size):
        within, around = (angle < 0.92 * radius).float(), ((angle > 1.08 * radius) & (angle < 2 * radius)).float()
        counts = within.sum(dim=1), around.sum(dim=1)
        contrast = around @ sample / counts[1].clamp(min=1) - within @ sample / counts[0].clamp(min=1)
        share = (torch.minimum(*counts) / (0.08 * len(sample))).clamp(max=1)
        score = contrast * share - _GAZE_PENALTY * (across.square() + down.square()).flatten() / turns[-1] ** 2
        score[at_the_end] = 0.0  # eyelashes or a shadow in the corner
        index = int(score.argmax())
        if float(score[index]) > best:
            best, found = float(score[index]), (gazes[index], radius)
    return found


def sclera_colour(colours: Tensor, away: Tensor, light: float) -> Tensor:
    """[3]: the white of the eye, from the brighter half of the colours outside the iris."""
    white = colours[away > 1.15]
    usual = (SCLERA * light).clamp(max=0.92)
    if len(white) < _LEAST_SEEN // 4:
        return usual
    brighter = white[white.mean(dim=1) >= white.mean(dim=1).median()]
    colour = brighter.median(dim=0).values
    return colour.mean() * (0.5 * colour / colour.mean() + 0.5 * usual / usual.mean())


def ring_colours(colours: Tensor, away: Tensor, light: float) -> Tensor:
    """[R, 3]: the median of each ring of the iris; `colours` [N, 3], `away` [N] from its middle in radii. Rings
    that are not visible take the colour of the next inner one, or a default."""
    ring = (away * _RINGS).long().clamp(0, _RINGS - 1)
    rows: list[Tensor] = []
    for index in range(_RINGS):
        of_ring, dark = colours[ring == index], index < _PUPIL_SHARE * _RINGS
        if len(of_ring) >= 4:
            rows.append(of_ring.median(dim=0).values)
        else:
            rows.append(rows[-1] if rows and not dark else (PUPIL if dark else IRIS * light))
    return torch.stack(rows)
