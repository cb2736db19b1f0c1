"""ICT-FaceKit's head as the pictures for training need it: points with names, parts, shells of hair and cloth.

All in the head frame, metres, float64 numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from face_heads import MESH_POINTS, CachedHead
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, Delaunay, KDTree

from ostec.geometry.camera import to_pixels
from ostec.geometry.mesh import sphere
from ostec.heads.facemesh import load_facemesh_model
from ostec.heads.ict import ICTModel, read_ict_model
from ostec.networks.face import PARTS
from ostec.types import FacePart

Array = NDArray[np.float64]
Index = NDArray[np.int64]

ADDED_PAIRS = 32
"""Points on each side that FaceMesh does not have."""
_EAR_PAIRS = 8
_KERNEL_M, _KERNEL_FLOOR = 0.007, 0.3
_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377)
_OVAL += (152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
_OVAL_WEIGHT = 0.25
"""The face's outline slides over the skin as the head turns, so it tells less of where the skin is."""
_EAR_BOX_M = ((0.064, 0.11), (-0.032, 0.042), (-0.032, 0.022))
_EAR_OUT_M = 0.003
_NECK_TOP_M, _NECK_SLANT = -0.06, 0.4
"""The jaw's underside: y at z = 0, and how it falls towards the chin."""
_BUST_M = -0.125


@dataclass(frozen=True)
class Placed:
    """A head in the head frame, with its points."""

    vertices: Array
    """[V, 3]."""
    points: Array
    """[P, 3]: FaceMesh V2's 478, then the added ones, right before left."""


class FaceShape:
    """What all heads share."""

    def __init__(self, model: ICTModel) -> None:
        self.model, topology = model, model.topology
        self.mean: Array = model.mean.double().numpy()
        self.basis = model.basis.numpy()
        self.identities = len(self.basis) - len(model.names)
        assert topology.parts is not None and topology.mirror is not None
        self.faces: Index = topology.faces.numpy()
        self.face_parts: Index = topology.parts.numpy()
        self.mirror: Index = topology.mirror.numpy()
        self.skin: Index = np.unique(self.faces[self.face_parts == FacePart.SKIN])
        self.eyes = [np.unique(self.faces[self.face_parts == part]) for part in (FacePart.RIGHT_EYE, FacePart.LEFT_EYE)]
        self.corners, self.shares = _mesh_points(model)
        self.labels_of_vertices = self._labels_of_vertices()
        self.labels = self._labels()
        self.added = self._added()

    def points_on(self, vertices: Array) -> Array:
        """[468, 3]: FaceMesh's points of a head [V, 3]."""
        return np.einsum("pkd,pk->pd", vertices[self.corners], self.shares)

    def aligned(self, head: CachedHead) -> Placed:
        """The head of a portrait, shifted in the picture so that its points lie where the network saw them."""
        vertices = head.vertices.astype(np.float64)
        own = self.points_on(vertices)
        px = to_pixels(torch.from_numpy(own).float(), head.camera).double().numpy()
        R, t = head.camera.R.double().numpy(), head.camera.t.double().numpy()
        depth = own @ R[2] + t[2]
        miss = (head.points[:MESH_POINTS, :2] - px) * (depth / float(head.camera.K[0, 0]))[:, None]
        offset = np.c_[miss, np.zeros(len(miss))] @ R
        vertices = vertices + self._spread(offset)
        irises = self._irises(vertices, head)
        return self.placed(vertices, irises)

    def placed(self, vertices: Array, irises: Array) -> Placed:
        """With points; `irises` [10, 3]."""
        return Placed(vertices, np.concatenate([self.points_on(vertices), irises, vertices[self.added]]))

    def moved(self, head: Placed, coefficients: Array, gaze: Array) -> Placed:
        """The head after `coefficients` [C] are added to its own and the eyes turned by the rotation `gaze` [3, 3]."""
        vertices = head.vertices + np.tensordot(coefficients.astype(np.float32), self.basis, 1)
        irises = head.points[MESH_POINTS : MESH_POINTS + 10].copy()
        for side, eye in enumerate(self.eyes):
            old, _ = sphere(torch.from_numpy(head.vertices[eye]))
            new, _ = sphere(torch.from_numpy(vertices[eye]))
            before, after = old.double().numpy(), new.double().numpy()
            own = slice(5 * side, 5 * side + 5)
            irises[own] = (irises[own] - before) @ gaze.T + after
            vertices[eye] = (vertices[eye] - after) @ gaze.T + after
        return self.placed(vertices, irises)

    def _spread(self, offset: Array) -> Array:
        """[V, 3]: offsets [468, 3] of the points, carried on smoothly to all vertices and fading away from them."""
        if not hasattr(self, "_kernel"):
            at = self.points_on(self.mean)
            near, weight = KDTree(at), np.ones(MESH_POINTS)
            weight[list(_OVAL)] = _OVAL_WEIGHT
            distance, index = near.query(self.mean, k=8)
            share = np.exp(-((distance / _KERNEL_M) ** 2) / 2) * weight[index]
            self._kernel = index, share / (share.sum(axis=1, keepdims=True) + _KERNEL_FLOOR * share.max())
        index, share = self._kernel
        return np.einsum("vkd,vk->vd", offset[index], share)

    def _irises(self, vertices: Array, head: CachedHead) -> Array:
        """[10, 3]: where the rays through the irises' pixels meet the eyeballs."""
        K, R, t = (part.double().numpy() for part in (head.camera.K, head.camera.R, head.camera.t))
        px = head.points[MESH_POINTS:, :2].astype(np.float64)
        rays = np.c_[(px - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones(len(px))] @ R
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        origin, found = -t @ R, np.zeros((10, 3))
        for side, eye in enumerate(self.eyes):
            middle, _ = sphere(torch.from_numpy(vertices[eye]))
            centre = middle.double().numpy()
            front = vertices[eye][vertices[eye][:, 2] > centre[2]]
            radius = float(np.linalg.norm(front - centre, axis=1).mean())
            own = slice(5 * side, 5 * side + 5)
            along = rays[own] @ (centre - origin)
            nearest = origin + along[:, None] * rays[own]
            miss = np.linalg.norm(nearest - centre, axis=1)
            back = np.sqrt(np.maximum(radius**2 - miss**2, 0.0))
            found[own] = nearest - back[:, None] * rays[own]
        return found

    def _labels_of_vertices(self) -> NDArray[np.uint8]:
        """[V]: index into `PARTS`."""
        model, chart = load_facemesh_model(), self.model.topology.facemesh_uv
        assert chart is not None
        known = np.flatnonzero(chart.isfinite().all(dim=1).numpy())
        _, nearest = KDTree(model.topology.uv.numpy()).query(chart[known].numpy())
        vertex = np.full(len(self.mean), PARTS.index("skin"), dtype=np.uint8)
        x, y, z = self.mean.T
        vertex[y < _NECK_TOP_M - _NECK_SLANT * np.maximum(z, 0)] = PARTS.index("neck")
        for region, label in (("lips", "lips"), ("brows", "brow")):
            vertex[known[model.regions[region].numpy()[nearest]]] = PARTS.index(label)
        vertex[self._ear_vertices()] = PARTS.index("ear")
        return np.maximum(vertex, vertex[self.mirror])

    def _labels(self) -> NDArray[np.uint8]:
        """[F]: index into `PARTS`."""
        labels = self.labels_of_vertices[self.faces].max(axis=1)
        for parts, label in (((1, 2), "eye"), ((3, 4), "eye"), ((5, 6, 7), "lips")):
            labels[np.isin(self.face_parts, parts)] = PARTS.index(label)
        return labels

    def _ear_vertices(self) -> NDArray[np.bool_]:
        """[V]: within the outline of what stands out of the side of the head, a smooth surface around the ears."""
        (x0, x1), (y0, y1), (z0, z1) = _EAR_BOX_M
        x, y, z = self.mean.T
        on_side = np.zeros(len(x), dtype=bool)
        on_side[self.skin] = (np.abs(x) > x0)[self.skin]
        box = on_side & (np.abs(x) < x1) & (y > y0) & (y < y1) & (z > z0) & (z < z1)
        around = on_side & ~box & (np.abs(y) < 0.06) & (np.abs(z) < 0.05)
        terms = np.c_[np.ones_like(y), y, z, y * y, y * z, z * z]
        side = terms @ np.linalg.lstsq(terms[around], np.abs(x)[around], rcond=None)[0]
        out = box & (np.abs(x) > side + _EAR_OUT_M)
        outline = Delaunay(np.c_[y, z][out][ConvexHull(np.c_[y, z][out]).vertices])
        return box & (outline.find_simplex(np.c_[y, z]) >= 0)

    def _added(self) -> Index:
        """[2 · ADDED_PAIRS]: vertices far from FaceMesh's points and from each other, each beside its mirror vertex."""
        right = self.skin[(self.mean[self.skin, 0] < -0.02) & (self.mean[self.skin, 1] > _BUST_M)]
        ear = right[self._ear_vertices()[right]]
        chosen: list[int] = []
        distance = KDTree(self.points_on(self.mean)).query(self.mean)[0]
        for pool, count in ((ear, _EAR_PAIRS), (right, ADDED_PAIRS)):
            while len(chosen) < count:
                best = pool[distance[pool].argmax()]
                chosen.append(int(best))
                distance = np.minimum(distance, np.linalg.norm(self.mean - self.mean[best], axis=1))
        return np.stack([np.array(chosen), self.mirror[chosen]], axis=1).ravel()


def load_shape(weights: Path) -> FaceShape:
    """With `ict_face_model.npz` in the folder."""
    return FaceShape(read_ict_model(weights / "ict_face_model.npz"))


def _mesh_points(model: ICTModel) -> tuple[Index, Array]:
    """Corners and shares [468, 3]."""
    from ostec.heads.ict_files import TOPOLOGY_FILE
    from ostec.weights.shipped import read_arrays

    arrays = read_arrays(TOPOLOGY_FILE)
    return arrays["point_corners"].astype(np.int64), arrays["point_shares"].astype(np.float64)
