"""The built-in segmenter: which pixels show this person's face, from the person mask, the mesh and skin colour."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from torch import Tensor
from torch.nn import functional as F

from ostec.geometry.align import apply_affine
from ostec.geometry.camera import cropped, to_clip, to_pixels, toward_camera
from ostec.geometry.mesh import vertex_normals
from ostec.geometry.raster import interpolate, rasterise
from ostec.geometry.sampling import pixels_inside, warp
from ostec.light.shading import fit_shading, log_colour
from ostec.masking.selfie import SelfieNet, load_selfie_net, person_mask
from ostec.types import Camera, Photo, Reconstruction, SkinMask

MASK_PX = 256
_MARGIN = 1.12
_LUMINANCE_STD, _CHROMA_STD = 0.13, 0.055
"""Least standard deviation of skin about its shading, log units; a face that varies more has its own."""
_EDGE_PX = 3
_TONGUE_PX = 5
"""Strips of skin between strands that are narrower than twice this are hidden too."""
_THIN_PX = 11
LEAST_FACING = 0.45
"""Outside the face (ears, neck) a pixel with a smaller cosine to the camera is hidden."""
_ROUGH = 3.0
_LEAST_STRAND = 0.02
_ALIKE = 0.15
"""Largest distance of log colours that count as alike."""


class SkinSegmenter:
    """Keeps what matches the person's own skin colour under the light of the photo; hides what is uncertain."""

    def __init__(self, net: SelfieNet) -> None:
        self._net = net

    def __call__(self, photo: Photo, reconstruction: Reconstruction) -> SkinMask:
        mask_from_photo = head_square(reconstruction)
        size = (MASK_PX, MASK_PX)
        rgb, valid = warp(photo.rgb, mask_from_photo, size), pixels_inside(mask_from_photo, photo.size, size)
        person = person_mask(self._net, rgb)
        camera = cropped(reconstruction.camera, mask_from_photo, size)
        normals, facing = seen_normals(reconstruction, camera)
        zones = Zones(apply_affine(mask_from_photo, reconstruction.landmarks.points_px))
        misfit = skin_misfit(rgb, normals, zones.sure_skin & (facing > 0.3) & (person > 0.5))
        hidden = occluders(rgb, misfit, person, zones) | ~valid | (~zones.face & (facing < LEAST_FACING))
        shown = ~hidden & (facing > 0)
        core = zones.sure_skin if bool((zones.sure_skin & shown).any()) else zones.face
        alpha = softened(connected(shown, core))
        return SkinMask(alpha, mask_from_photo, person)


def head_square(reconstruction: Reconstruction) -> Tensor:
    """[2, 3] affine from photo px to an upright square mask that contains the mesh; of a mesh with crown and shoulders,
    the part that the FaceMesh head has."""
    vertices, uv = reconstruction.vertices, reconstruction.topology.facemesh_uv
    vertices = vertices if uv is None else vertices[uv.isfinite().all(dim=1)]
    points_px = to_pixels(vertices, reconstruction.camera).double()
    angle = math.radians(reconstruction.roll_deg)
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    upright = points_px @ turn.T
    low, high = upright.amin(dim=0), upright.amax(dim=0)
    scale = MASK_PX / (_MARGIN * float((high - low).max()))
    shift = MASK_PX / 2 - scale * (low + high) / 2
    return torch.cat([scale * turn, shift[:, None]], dim=1).float()


class Zones:
    """Regions of the face in mask pixels, [S, S] bool, from iBUG landmarks [68, 2] in mask px."""

    def __init__(self, points: Tensor) -> None:
        unit = float((points[27:31].mean(dim=0) - points[8]).norm()) / 100
        up = points[27] - points[8]
        up = up / up.norm()
        brows = _hull(points[17:22]) | _hull(points[22:27])
        eyes = _hull(points[36:42]) | _hull(points[42:48])
        sockets = _hull(points[[*range(17, 22), *range(36, 42)]]) | _hull(points[[*range(22, 27), *range(42, 48)]])
        mouth = _hull(points[48:60])
        nostrils = dilated(_hull(points[31:36]), 7 * unit)
        self.brows = dilated(brows, 2 * unit) & ~dilated(eyes, 3 * unit)
        self.features = dilated(brows, 2 * unit) | dilated(eyes, 3 * unit) | dilated(mouth, 5 * unit) | nostrils
        """Brows, eyes, lips, nostrils: part of the face, but not skin-coloured."""
        self.shadows = dilated(brows, 6 * unit) | dilated(eyes, 7 * unit) | dilated(sockets, 2 * unit) | self.features
        """The same with the lids and folds around them, darker than skin but not as dark as frames or hair."""
        forehead = points[17:27].flip(0) + up * 55 * unit
        self.forehead = _polygon(torch.cat([points[17:27] + up * 4 * unit, forehead]))
        self.face = _hull(torch.cat([points, forehead]))
        """Inside the jaw line and up to the middle of the forehead."""
        below_nose = (_pixels() - points[33]) @ up < 0
        chin = dilated(_hull(points[[4, 5, 6, 7, 8, 9, 10, 11, 12, 48, 54]]), 3 * unit)
        self.beard = below_nose & (chin | ~dilated(~self.face, 9 * unit))
        """Where a beard may be; without the sides of the jaw, where long hair hangs."""
        sides = points[30] + 0.72 * (points[[1, 2, 3, 13, 14, 15]] - points[30])
        cheeks = torch.cat([sides[:3], points[[48, 33, 54]], sides[3:], points[[46, 47, 42, 27, 39, 40, 41]]])
        self.sure_skin = _polygon(cheeks) & ~dilated(self.shadows, 2 * unit) & ~below_nose
        """Cheeks and nose, which hair seldom covers."""
        self.ring = dilated(self.face, 30 * unit) & ~dilated(self.face, 4 * unit) & ~below_nose
        """Around the upper face: hair, hat, hood, background."""
        middle = ((_pixels() - (points[27] + points[28]) / 2).abs() <= 0.5).all(dim=-1)
        self.bridge = dilated(middle, 5 * unit)
        """The ridge of the nose between the eyes, which only glasses cross."""


def skin_misfit(rgb: Tensor, normals: Tensor, sure: Tensor) -> Tensor:
    """[S, S, 4]: how each pixel of `rgb` [3, S, S] differs from the skin at `sure` [S, S] bool under the same light.

    Luminance (negative = darker) and three chroma components, in standard deviations of this skin. `normals`
    [S, S, 3], head frame, 0 off the mesh, where they are taken to point forward.
    """
    smooth = F.avg_pool2d(F.pad(rgb[None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0]
    log_rgb = log_colour(smooth).movedim(0, -1)
    forward = torch.tensor([0.0, 0.0, 1.0])
    unit = F.normalize(torch.where(normals.norm(dim=-1, keepdim=True) > 0.1, normals, forward), dim=-1)
    if int(sure.sum()) < 50:
        return torch.zeros(MASK_PX, MASK_PX, 4)
    shading = fit_shading(log_rgb[sure], unit[sure], torch.ones(int(sure.sum())))
    misfit = log_rgb - shading.log_skin(unit)
    luminance = misfit.mean(dim=-1, keepdim=True)
    chroma = misfit - luminance
    luminance_std = max(_LUMINANCE_STD, _spread(luminance[sure]))
    chroma_std = max(_CHROMA_STD, _spread(chroma[sure].norm(dim=-1)))
    return torch.cat([luminance / luminance_std, chroma / chroma_std], dim=-1)


def likelihood(misfit: Tensor) -> Tensor:
    """[S, S] in 0..1: 1 where `misfit` [S, S, 4] is that of skin."""
    return torch.exp(-0.5 * (misfit.norm(dim=-1) - 1.5).clamp(min=0).square() / 1.5**2)


def occluders(rgb: Tensor, misfit: Tensor, person: Tensor, zones: Zones) -> Tensor:
    """[S, S] bool: hair, hands, glasses, background.

    A region unlike skin that extends outside the face is an occluder; so is a thin dark line across the bridge of the
    nose. Wrinkles, shadows and moles are unlike skin too, but lie inside the face. Highlights can extend outside as
    well, so a region brighter than skin counts only if its colour also occurs around the face.
    """
    skin = likelihood(misfit)
    thin = (skin < 0.15) & _thin_and_dark(misfit[..., 0])
    unlike = (skin < 0.4) & ~zones.shadows & ~zones.beard | thin & zones.shadows & ~zones.features
    strands = _strands(rgb, zones.sure_skin)
    unlike = unlike | (zones.forehead & strands)
    bright = unlike & (misfit[..., 0] > 0) & zones.face
    around = zones.ring & (person > 0.5) & ((skin < 0.4) | strands)
    unlike = unlike & ~(bright & ~_resembles(rgb, bright, around))
    occluding = connected(unlike, ~zones.face | thin & zones.bridge)
    roughness = _roughness(rgb)
    beyond = ~zones.face & ((skin < 0.4) | (roughness > _ROUGH * roughness[zones.sure_skin].median()))
    hidden = occluding | (person < 0.5) | beyond
    clear = dilated(~dilated(hidden, _EDGE_PX + _TONGUE_PX), _TONGUE_PX)
    covered = zones.brows & (_share_around(hidden, ~zones.features) > 0.35)
    return ~clear & ~(zones.features & ~covered & zones.face & (person > 0.5))


def frames(misfit: Tensor, zones: Zones) -> Tensor:
    """[S, S] bool: frames of glasses, found as thin dark lines that cross the bridge of the nose."""
    thin = (likelihood(misfit) < 0.15) & _thin_and_dark(misfit[..., 0]) & ~zones.features
    return dilated(connected(thin, zones.bridge), _EDGE_PX)


def _thin_and_dark(luminance: Tensor) -> Tensor:
    """[S, S] bool: darker than a few pixels away on both sides, like frames and strands but unlike shadows."""
    closed = torch.from_numpy(ndimage.grey_closing(luminance.numpy(), size=_THIN_PX))
    return closed - luminance > 2.5


def _roughness(rgb: Tensor) -> Tensor:
    """[S, S]: standard deviation of log luminance in a small window; strands are rougher than skin."""
    light = log_colour(rgb).mean(dim=0)[None, None]
    mean, square = (F.avg_pool2d(F.pad(x, (3, 3, 3, 3), mode="replicate"), 7, 1) for x in (light, light * light))
    return (square - mean * mean).clamp(min=0).sqrt()[0, 0] + 0.01


def _strands(rgb: Tensor, skin: Tensor) -> Tensor:
    """[S, S] bool: horizontal gradients much stronger than on `skin` [S, S] bool. They show fair hair, which has nearly
    the colour of skin; wrinkles of the forehead have vertical gradients."""
    step = F.pad(log_colour(rgb).mean(dim=0).diff(dim=1).abs()[None, None], (4, 3, 3, 3), mode="replicate")
    energy = F.avg_pool2d(step, 7, 1)[0, 0]
    return energy > max(_LEAST_STRAND, _ROUGH * float(energy[skin].median())) if bool(skin.any()) else energy < 0


def connected(keep: Tensor, core: Tensor) -> Tensor:
    """[S, S] bool: the 8-connected parts of `keep` that touch `core`."""
    labels, _ = ndimage.label(keep.numpy(), structure=np.ones((3, 3)))  # pyright: ignore[reportGeneralTypeIssues]
    return torch.from_numpy(np.isin(labels, labels[(core & keep).numpy()]))


def _share_around(mask: Tensor, counted: Tensor) -> Tensor:
    """[S, S]: share of the `counted` pixels in a window around each pixel that are in `mask`."""
    share, total = (F.avg_pool2d(x.float()[None, None], 25, 1, 12)[0, 0] for x in (mask & counted, counted))
    return share / total.clamp(min=1e-6)


def _resembles(rgb: Tensor, which: Tensor, samples: Tensor) -> Tensor:
    """[S, S] bool: pixels of `which` whose colour is close to at least a fiftieth of the `samples`."""
    out = torch.zeros_like(which)
    if bool(which.any()) and int(samples.sum()) >= 50:
        log_rgb = log_colour(rgb).movedim(0, -1)
        pool = log_rgb[samples]
        pool = pool[:: max(1, len(pool) // 400)]
        near = torch.cdist(log_rgb[which], pool) < _ALIKE
        out[which] = near.float().mean(dim=1) > 0.02
    return out


def softened(keep: Tensor) -> Tensor:
    """[S, S] in 0..1: 1 inside `keep`, falling to 0 at its border, so that the texture fades there."""
    soft = F.avg_pool2d(keep.float()[None, None], 9, 1, 4)[0, 0]
    return ((soft - 0.5) * 2).clamp(0, 1)


def seen_normals(reconstruction: Reconstruction, camera: Camera) -> tuple[Tensor, Tensor]:
    """(normals [S, S, 3] in the head frame, cosines to the camera [S, S]) of what each pixel shows; 0 off the mesh."""
    topology, vertices = reconstruction.topology, reconstruction.vertices
    fragments = rasterise(to_clip(vertices, camera), topology.faces, camera.size)
    normals = vertex_normals(vertices, topology.faces)
    facing = (normals * toward_camera(vertices, camera)).sum(dim=-1, keepdim=True)
    picture = interpolate(fragments, torch.cat([normals, facing], dim=1), topology.faces).movedim(-1, 0)
    return picture[:3].movedim(0, -1), picture[3]


def _spread(values: Tensor) -> float:
    """Robust standard deviation: 1.48 times the median distance from the median."""
    return 1.48 * float((values - values.median()).abs().median())


def _pixels() -> Tensor:
    """[S, S, 2] pixel centres."""
    axis = torch.arange(MASK_PX) + 0.5
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)


def _polygon(corners: Tensor) -> Tensor:
    """[S, S] bool: pixel centres inside the polygon [N, 2], by the even-odd rule."""
    x, y = _pixels()[..., None, :].unbind(-1)
    (x0, y0), (x1, y1) = corners.T, corners.roll(-1, dims=0).T
    rise = torch.where(y1 == y0, torch.ones_like(y0), y1 - y0)
    crosses = ((y0 <= y) != (y1 <= y)) & (x < x0 + (y - y0) / rise * (x1 - x0))
    return crosses.sum(dim=-1) % 2 == 1


def _hull(points: Tensor) -> Tensor:
    """[S, S] bool: pixel centres inside the convex hull of points [N, 2]; nothing where they lie on a line."""
    try:
        return _polygon(points[torch.from_numpy(ConvexHull(points.numpy()).vertices).long()])
    except QhullError:
        return torch.zeros(MASK_PX, MASK_PX, dtype=torch.bool)


def dilated(mask: Tensor, reach_px: float) -> Tensor:
    """The mask [S, S] bool dilated by a disc of this radius."""
    if not bool(mask.any()):
        return mask
    distance = np.empty(mask.shape)
    ndimage.distance_transform_edt(~mask.numpy(), distances=distance)
    return torch.from_numpy(distance <= reach_px)


def load_segmenter() -> SkinSegmenter:
    """The segmenter with the shipped person network. Raises `MissingWeights`, `BadWeights`."""
    return SkinSegmenter(load_selfie_net())
