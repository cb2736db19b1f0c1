"""The shipped FaceMesh model: what must be true of its mesh, chart, extension, subdivision and regions."""

from __future__ import annotations

import torch
from torch import Tensor

from ostec.heads.facemesh import load_facemesh_model
from ostec.networks.facemesh_net import load_facemesh_net

FLIP = torch.tensor([-1.0, 1.0, 1.0])
IBUG_MIRROR = torch.tensor(
    [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46]
    + [39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65]
)

MODEL = load_facemesh_model()
TOPOLOGY = MODEL.topology
MEAN_HEAD = MODEL.head(MODEL.face_mean)


def mirror_map() -> Tensor:
    assert TOPOLOGY.mirror is not None
    return TOPOLOGY.mirror


def edges() -> Tensor:
    """[3F, 2]: every side of every triangle, in its direction."""
    return TOPOLOGY.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)


def rows(values: Tensor) -> set[tuple[int, ...]]:
    return set(map(tuple, values.tolist()))


def test_the_mesh_is_one_oriented_disc_of_enough_triangles() -> None:
    directed = rows(edges())
    assert len(TOPOLOGY.faces) >= 20_000
    assert len(directed) == len(edges()), "two triangles run along an edge in the same direction"
    following = {a: b for a, b in directed if (b, a) not in directed}
    start = vertex = next(iter(following))
    border = [start]
    while (vertex := following[vertex]) != start:
        border.append(vertex)
    assert len(border) == len(following), "more than one border"
    edge_count = len(rows(edges().sort(dim=1).values))
    assert len(TOPOLOGY.uv) - edge_count + len(TOPOLOGY.faces) == 1
    assert TOPOLOGY.faces.unique().numel() == len(TOPOLOGY.uv) == len(MEAN_HEAD)


def test_triangles_face_outward() -> None:
    a, b, c = MEAN_HEAD[TOPOLOGY.faces].unbind(dim=1)
    volume = (torch.linalg.cross(a, b) * c).sum()
    assert volume > 0
    assert torch.linalg.cross(b - a, c - a)[:, 2].sum() > 0


def test_mirroring_is_an_involution_that_keeps_the_mesh() -> None:
    mirror = mirror_map()
    assert torch.equal(mirror[mirror], torch.arange(len(mirror)))
    assert torch.equal(mirror[:468], load_facemesh_net().mirror)
    turned = mirror[TOPOLOGY.faces].flip(1)
    least_first = [t.gather(1, (t.argmin(dim=1)[:, None] + torch.arange(3)) % 3) for t in (TOPOLOGY.faces, turned)]
    assert rows(least_first[0]) == rows(least_first[1])


def test_the_mean_head_is_symmetric_and_measured_in_metres() -> None:
    assert torch.equal(MODEL.face_mean[mirror_map()[:468]] * FLIP, MODEL.face_mean)
    assert (MEAN_HEAD[mirror_map()] * FLIP - MEAN_HEAD).abs().max() < 1e-7
    right, left = (MODEL.face_mean[ring].mean(dim=0) for ring in ([33, 133, 159, 145], [263, 362, 386, 374]))
    assert abs(float((left - right).norm()) - 0.063) < 1e-4
    assert left[0] > 0
    assert MODEL.face_mean[10, 1] > MODEL.face_mean[152, 1]
    assert MODEL.face_mean[4, 2] == MODEL.face_mean[:, 2].max()


def test_mirrored_vertices_have_exactly_mirrored_uv() -> None:
    uv = TOPOLOGY.uv
    assert torch.equal(1 - uv[mirror_map(), 0], uv[:, 0])
    assert torch.equal(uv[mirror_map(), 1], uv[:, 1])
    assert torch.equal(TOPOLOGY.uv_faces, TOPOLOGY.faces)


def test_no_triangle_is_flipped_on_the_chart_and_the_square_is_used() -> None:
    uv = TOPOLOGY.uv.double()
    a, b, c = uv[TOPOLOGY.uv_faces].unbind(dim=1)
    double_area = (c - a)[:, 0] * (b - a)[:, 1] - (b - a)[:, 0] * (c - a)[:, 1]
    assert double_area.min() > 0
    assert double_area.sum() / 2 > 0.8
    assert uv.min() > 0.014
    assert uv.max() < 0.986
    face = (MODEL.face_weight == 1)[TOPOLOGY.faces].all(dim=1)
    assert double_area[face].sum() > 0.55 * double_area.sum()
    assert uv[10, 1] < uv[152, 1], "the forehead is at the top"
    assert uv[263, 0] > 0.5, "the subject's left is on the right"


def test_landmarks_are_mirror_symmetric() -> None:
    landmarks = TOPOLOGY.landmark_vertices
    assert landmarks.shape == (68,)
    assert torch.equal(mirror_map()[landmarks], landmarks[IBUG_MIRROR])
    assert int(landmarks.max()) < 468


def test_affine_motions_of_the_face_move_the_whole_head() -> None:
    affine = torch.eye(3, dtype=torch.float64) + 0.2 * torch.randn(3, 3, dtype=torch.float64)
    shift = torch.randn(3, dtype=torch.float64)
    moved = MODEL.head(MODEL.face_mean.double() @ affine.T + shift)
    assert (moved - (MEAN_HEAD @ affine.T + shift)).abs().max() < 1e-5


def test_subdivision_keeps_the_vertices_it_starts_from() -> None:
    face = MODEL.face_mean + 0.003 * torch.randn(468, 3)
    head = MODEL.head(face)
    assert (head[:468] - face).abs().max() < 1e-8
    coarse = len(MODEL.face_mean) + len(MODEL.extension_mean)
    kept = MODEL.subdivision[:coarse].toarray()
    assert (kept == torch.eye(coarse).numpy()).all()
    assert abs(MODEL.subdivision.sum(axis=1) - 1).max() < 1e-12


def test_the_extension_goes_on_smoothly() -> None:
    """No crease beyond the face oval, on the mean head and on random wide, narrow, long and crooked ones."""
    beyond = (MODEL.face_weight < 1)[TOPOLOGY.faces].any(dim=1)
    of_edge: dict[tuple[int, ...], int] = {}
    pairs = []
    for side, edge in enumerate(map(tuple, edges().sort(dim=1).values.tolist())):
        if edge in of_edge:
            pairs.append((of_edge[edge] // 3, side // 3))
        of_edge[edge] = side
    one, other = torch.tensor(pairs).T
    both = beyond[one] & beyond[other]
    smooth = torch.randn(3, 3) @ MODEL.face_mean.T
    for face in (MODEL.face_mean, MODEL.face_mean + 0.004 * torch.sin(25 * smooth.T)):
        a, b, c = MODEL.head(face)[TOPOLOGY.faces].unbind(dim=1)
        normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
        cosine = (normals[one] * normals[other]).sum(dim=1)[both]
        assert cosine.min() > 0.9


def test_regions_are_symmetric_and_where_they_are_said_to_be() -> None:
    regions, mean = MODEL.regions, MEAN_HEAD
    names = {"eyes", "mouth_opening", "lips", "brows", "nostrils", "cheeks_nose_chin_skin", "forehead", "jaw_border"}
    assert set(regions) == names | {"extension"}
    for name, group in regions.items():
        assert group.dtype == torch.bool and group.shape == (len(mean),) and group.any(), name
        assert torch.equal(group[mirror_map()], group), name
    height = {name: float(mean[group, 1].mean()) for name, group in regions.items()}
    order = ["forehead", "brows", "eyes", "nostrils", "lips", "jaw_border"]
    assert [height[name] for name in order] == sorted((height[name] for name in order), reverse=True)
    bare = regions["cheeks_nose_chin_skin"]
    assert not (bare & (regions["brows"] | regions["eyes"] | regions["lips"] | regions["nostrils"])).any()
    assert torch.equal(regions["extension"], MODEL.face_weight < 1)
    assert not (regions["forehead"] & regions["extension"]).any()


def test_weights_are_symmetric_and_fall_smoothly_outward() -> None:
    weight = MODEL.face_weight
    assert torch.equal(weight[mirror_map()], weight)
    assert weight.min() == 0
    assert (weight[:468] == 1).all()
    step = (weight[edges()[:, 0]] - weight[edges()[:, 1]]).abs()
    assert step.max() < 0.1
    assert torch.equal(MODEL.pose_weights[mirror_map()[:468]], MODEL.pose_weights)
    assert MODEL.pose_weights.min() > 0
    assert MODEL.pose_weights[168] == 1
    assert MODEL.pose_weights[152] < 0.05
