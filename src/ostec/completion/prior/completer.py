"""Completion by a learned prior: it predicts the large features; the fine ones come from this face's own skin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional as F

from ostec.completion.prior.face_prior import FacePrior, ReferenceHead, load_face_prior
from ostec.geometry.raster import interpolate
from ostec.geometry.registration import transfer_attributes
from ostec.geometry.sampling import means_by_bin, sample
from ostec.interfaces import Progress
from ostec.light.even import plain_skin, with_colours_of, with_even_light
from ostec.light.shading import cavity_shade, log_colour
from ostec.settings import Settings
from ostec.texture.fill import push_pull
from ostec.texture.grain import skin_grain
from ostec.texture.stitch import stitch
from ostec.texture.unwrap import TRUSTED
from ostec.types import Atlas, Completed, Face, Texels, UVTexture

_NO_SYMMETRY = "the face model has no mirror map: completed skin has grain but no detail from the other side"
_CONFIDENCE = 0.5
"""Of the prior's texels; the photo's have twice their cosine."""
_DETAIL_FROM, _DETAIL_FULL = 0.25, 0.45
"""Confidence from which the other side's detail is used, and from which fully."""
_DETAIL_GAIN = 0.87
"""Mirrored detail is made fainter, because it is slightly out of place and its errors count twice."""
_MIRROR_SHARE = 0.4
"""Of the large features: from one side, light and skin colour cannot be told apart, and prior and mirror err on
different faces."""
_RIM_CELLS = 4
"""The mirror's influence fades out this far beyond the rim of what was seen."""
_CALM_AT_64, _RIM_FROM_AT_64, _RIM_DEPTH_AT_64 = 3, 2.0, 5.0
"""In cells of a grid of 64: radius of the smoothing at the rim, depth to which it is full, and width of its fade."""
_FULLY_SEEN = 0.9
_SEEN_SHARE = 0.5
_REACH_PX_AT_1024 = 80.0


class PriorCompleter:
    """Fills hidden texels with the prior's prediction from the seen ones, at the prior's resolution, and adds the finer
    detail of the other side of the face; where that was not seen either, the grain of the person's skin.

    In soft mode the photo's trusted texels are kept bit for bit. In hard mode the whole photo is relit evenly from both
    sides, and only its colours remain.
    """

    def __init__(self, prior: FacePrior) -> None:
        self.prior = prior

    def __call__(self, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        texels, inside, soft = face.texels, face.texels.inside, face.mode == "soft"
        symmetric = face.reconstruction.topology.mirror is not None
        light = plain_skin(atlas.photo, texels, symmetric)
        photo, light = (atlas.photo, light) if soft else with_even_light(atlas.photo, light, symmetric)
        progress("light", 0.3)
        log_rgb = log_colour(photo.rgb)
        cells = Cells.under(face, self.prior.head, self.prior.gaussian.grid_px)
        guess, std, low = self._predict(photo, log_rgb, light, texels, cells, symmetric)
        progress("prior", 0.6)
        detail, shade = skin_grain(photo, log_rgb, settings.seed), cavity_shade(face)
        if symmetric:
            share = other_side(photo.confidence)
            detail = _DETAIL_GAIN * share * (log_rgb - low).flip(2) + (1 - share.square()).sqrt() * detail
            shade = (1 - share) * shade
        view = UVTexture((guess + detail + shade).exp().clamp(0, 1), torch.where(inside, _CONFIDENCE, -1.0))
        views = Atlas().add("photo", photo, atlas.photos[0].priority if soft else 1.0, "photo").add("prior", view, 1.0)
        keep = inside & (photo.confidence >= TRUSTED) if soft else torch.zeros_like(inside)
        texture = stitch(views, inside, keep, view.rgb, _REACH_PX_AT_1024)
        if not soft:
            texture = with_colours_of(texture, atlas.photo, inside & (photo.confidence >= TRUSTED))
        owned = inside & (views.owner() == 0)
        confidence = torch.where(owned, photo.confidence, -1.0)
        unsure = std * torch.where(owned, 1 - (confidence / TRUSTED).clamp(0, 1), 1.0)
        texture = replace(texture, confidence=confidence, std=torch.where(inside, unsure, 0.0))
        warnings = [*([] if symmetric else [_NO_SYMMETRY]), *settings.search.unused_warnings()]
        return Completed(texture, notes={"warnings": warnings})

    def _predict(
        self, photo: UVTexture, log_rgb: Tensor, light: Tensor, texels: Texels, cells: Cells, symmetric: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The large features: the prediction of prior and mirror, log colour [3, Hu, Wu]; its standard deviation
        [Hu, Wu]; and the photo's own log colour at the same resolution [3, Hu, Wu]."""
        domain = self.prior.gaussian.domain
        trusted = texels.inside & (photo.confidence >= TRUSTED)
        colour, seen = cells.mean(log_rgb, trusted.float())
        normals, covered = cells.mean(texels.normals.movedim(-1, 0), texels.inside.float())
        skin, _ = cells.mean(light, texels.inside.float())
        portion = seen / covered.clamp(min=1)
        guess, std = self.prior.predict(colour, portion > _SEEN_SHARE, F.normalize(normals, dim=0))
        known, chart = domain & (covered > 0), (covered > 0).float()
        guess = push_pull(skin + calm_at_rim(push_pull((guess - skin) * known, known.float()), domain), chart)
        low = push_pull(colour, (4 * portion).clamp(max=1))
        if symmetric:
            share, _ = cells.mean(other_side(photo.confidence)[None], texels.inside.float())
            guess = guess + with_mirror(low.flip(2) + skin - skin.flip(2) - guess, share[0], known)
        std = push_pull(torch.where(domain, std, 0.0)[None], domain.float())
        guess, std, low = cells.spread(torch.cat([guess, std, low])).split([3, 1, 3])
        if not torch.equal(cells.near, texels.inside):
            guess = light + push_pull(guess - light, cells.near.float())
        return guess, std[0].clamp(min=0), low


@dataclass(frozen=True)
class Cells:
    """Which cell of the prior's grid each texel of a texture lies in."""

    uv: Tensor
    """[Hu, Wu, 2]: the texel's place on the prior's chart."""
    near: Tensor
    """[Hu, Wu] bool: whether it lies on that chart."""
    grid_px: int

    @classmethod
    def under(cls, face: Face, head: ReferenceHead, grid_px: int) -> Cells:
        """The cells of a face of any topology; by correspondence where it is not the prior's own."""
        inside, reconstruction = face.texels.inside, face.reconstruction
        topology = reconstruction.topology
        if topology.name == head.topology:
            y, x = ((torch.arange(n) + 0.5) / n for n in inside.shape)
            return cls(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1), inside, grid_px)
        uv = topology.facemesh_uv
        if uv is None or head.topology != "facemesh":
            anchors = reconstruction.vertices[topology.landmark_vertices]
            uv = transfer_attributes(head.points, head.landmarks, reconstruction.vertices, anchors, head.uv)
        uv = interpolate(face.texels, uv, topology.faces)
        near = inside & torch.isfinite(uv).all(dim=-1)
        return cls(torch.where(near[..., None], uv, 0.0), near, grid_px)

    def mean(self, picture: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """([C, G, G] weighted mean of [C, Hu, Wu] over the texels of each cell, [G, G] sum of the weights)."""
        size = self.grid_px
        weight = torch.where(self.near, weight, 0.0).flatten()
        means, total = means_by_bin(picture.flatten(1), weight, self._cell, size * size)
        return means.view(-1, size, size), total.view(size, size)

    @cached_property
    def _cell(self) -> Tensor:
        """[Hu · Wu]: the number of each texel's cell."""
        column, row = (self.uv * self.grid_px).long().clamp(0, self.grid_px - 1).unbind(dim=-1)
        return (row * self.grid_px + column).flatten()

    def spread(self, grid: Tensor) -> Tensor:
        """[C, Hu, Wu]: a grid [C, G, G] at the texels, bicubic."""
        return sample(grid, self.uv * 2 - 1, "bicubic")


def with_mirror(difference: Tensor, share: Tensor, known: Tensor) -> Tensor:
    """[3, G, G] to add to the prior's prediction, from the mirror's `difference` to it [3, G, G].

    It applies where the other side was seen (`share` [G, G] 0..1) and a little around: inside the prior's domain
    (`known` [G, G] bool) a part of the difference, beyond it all by which the difference departs from that inside."""
    seen = share > _FULLY_SEEN
    carried = push_pull(difference, (known & seen).float())
    offset = push_pull(difference - (1 - _MIRROR_SHARE) * carried, seen.float())
    return offset * torch.maximum(share, _around(share))


def calm_at_rim(difference: Tensor, domain: Tensor) -> Tensor:
    """[3, G, G] without small features near the rim of `domain` [G, G] bool: no face has any there, but the prior has
    learned some from strands of hair that were taken for skin."""
    cell = len(domain) / 64
    reach, soft = max(1, round(_CALM_AT_64 * cell)), difference[None]
    for _ in range(2):
        soft = F.avg_pool2d(F.pad(soft, [reach] * 4, mode="replicate"), 2 * reach + 1, 1)
    depth = torch.from_numpy(distance_transform_edt(F.pad(domain, [1] * 4).numpy())).float()[1:-1, 1:-1] / cell
    return torch.lerp(soft[0], difference, ((depth - _RIM_FROM_AT_64) / _RIM_DEPTH_AT_64).clamp(0, 1))


def _around(plane: Tensor) -> Tensor:
    return F.avg_pool2d(plane[None], 2 * _RIM_CELLS + 1, 1, _RIM_CELLS)[0]


def other_side(confidence: Tensor) -> Tensor:
    """[Hu, Wu], 0..1: the weight of the mirrored texel, by how well it was seen."""
    return ((confidence.flip(1) - _DETAIL_FROM) / (_DETAIL_FULL - _DETAIL_FROM)).clamp(0, 1)


def load_prior_completer() -> PriorCompleter:
    """The completer with the shipped prior. Raises `MissingWeights`, `BadWeights`."""
    return PriorCompleter(load_face_prior())
