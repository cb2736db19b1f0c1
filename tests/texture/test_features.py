"""Eyes and mouth of a flat face with two round eyes and a mouth, photographed with known colours."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ostec.geometry.raster import rasterise
from ostec.geometry.texels import bake_texels
from ostec.heads.facemesh import fit_head, load_facemesh_model
from ostec.texture.features import MOUTH, chart_of_parts, feature_texture, with_features
from ostec.texture.unwrap import unwrap
from ostec.types import Camera, Face, FacePart, Landmarks, Photo, Reconstruction, SkinMask, Topology

PX, PX_PER_M, SIZE = 240, 1600.0, (256, 256)
EYES, EYE_M, BALL_M = {FacePart.RIGHT_EYE: (-0.03, 0.03), FacePart.LEFT_EYE: (0.03, 0.03)}, 0.009, 0.0125
LIPS_M, MOUTH_M = (0.02, 0.006), (0.03, 0.012)
MOUTH_Y, BEHIND_M = -0.03, 0.004
SKIN, TEETH_SEEN, WHITE, DARK = (
    torch.tensor(c) for c in ((0.7, 0.5, 0.4), (0.9, 0.9, 0.7), (0.8,) * 3, (0.1, 0.2, 0.1))
)


def grid(low: tuple[float, float], high: tuple[float, float], count: int) -> tuple[Tensor, Tensor]:
    """([N, 2] places, [F, 3] counter-clockwise triangles) of a grid of `count` x `count` cells."""
    x, y = (torch.linspace(a, b, count + 1) for a, b in zip(low, high, strict=True))
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 2)
    corner = torch.arange((count + 1) ** 2).view(count + 1, -1)
    a, b, c, d = (part.flatten() for part in (corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]))
    return places, torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])


def in_mouth(xy: Tensor, size: tuple[float, float] = LIPS_M) -> Tensor:
    return (xy[:, 0].abs() < size[0]) & ((xy[:, 1] - MOUTH_Y).abs() < size[1])


def flat_head(open_mouth: bool) -> Reconstruction:
    """Skin in the plane z = 0 with holes; caps of eyeballs and, behind the lips, a sheet of teeth."""
    xy, cells = grid((-0.06, -0.06), (0.06, 0.06), 60)
    middle = xy[cells].mean(dim=1)
    hole = in_mouth(middle)
    for centre in EYES.values():
        hole |= (middle - torch.tensor(centre)).norm(dim=1) < EYE_M
    sheets = [(torch.nn.functional.pad(xy, (0, 1)), cells[~hole], FacePart.SKIN, (0.0, 0.0, 1.0, 0.7))]
    for part, centre in EYES.items():
        places, own = grid((-1.0, -1.0), (1.0, 1.0), 30)
        turn = 1.3 * places
        cap = torch.stack(
            [turn[:, 0].sin() * turn[:, 1].cos(), turn[:, 1].sin(), turn[:, 0].cos() * turn[:, 1].cos()], 1
        )
        u = 0.0 if part == FacePart.RIGHT_EYE else 0.3
        ball = BALL_M * cap + torch.tensor([*centre, -BALL_M * 0.7])
        sheets.append((ball, own, part, (u, 0.75, u + 0.2, 0.95)))
    places, own = grid((-MOUTH_M[0], MOUTH_Y - MOUTH_M[1]), (MOUTH_M[0], MOUTH_Y + MOUTH_M[1]), 20)
    teeth = torch.nn.functional.pad(places, (0, 1), value=-BEHIND_M)
    sheets.append((teeth, own, FacePart.TEETH, (0.6, 0.75, 0.9, 0.95)))
    return assembled(sheets, open_mouth)


def assembled(sheets: list[tuple[Tensor, Tensor, FacePart, tuple[float, ...]]], open_mouth: bool) -> Reconstruction:
    vertices, faces, uv, parts, first = [], [], [], [], 0
    for points, cells, part, (u0, v0, u1, v1) in sheets:
        flat = grid((0.0, 1.0), (1.0, 0.0), round(len(points) ** 0.5) - 1)[0]
        uv.append(torch.tensor([u0, v0]) + flat * torch.tensor([u1 - u0, v1 - v0]))
        vertices.append(points)
        faces.append(cells + first)
        parts.append(torch.full((len(cells),), int(part)))
        first += len(points)
    shape, corners = torch.cat(vertices), torch.cat(faces)
    skin = torch.arange(len(shape)) < len(vertices[0])
    landmarks = torch.zeros(68, dtype=torch.int64)
    gap = LIPS_M[1] if open_mouth else 0.0
    around = [(-2, 0), (-1, 1), (0, 1), (1, 1), (2, 0), (1, -1), (0, -1), (-1, -1)]
    for index, (x, y) in enumerate(around, 60):
        place = torch.tensor([x * LIPS_M[0] / 2, MOUTH_Y + y * gap, 0.0])
        landmarks[index] = (vertices[0] - place).norm(dim=1).argmin()
    topology = Topology(corners, torch.cat(uv), corners, landmarks, skin, None, "flat", parts=torch.cat(parts))
    K = torch.diag(torch.tensor([PX_PER_M, PX_PER_M, 1.0]))
    K[:2, 2] = PX / 2
    camera = Camera(K, torch.diag(torch.tensor([1.0, -1, -1])), torch.tensor([0.0, 0, 1]), (PX, PX), "orthographic")
    return Reconstruction(shape, topology, camera, Landmarks(torch.zeros(68, 2), 1.0), 0.0, 0.0, 0.0)


def flat_photo() -> Photo:
    """What that head looks like: irises 4 mm wide of the middle of each eye, teeth between the lips."""
    axis = (torch.arange(PX) + 0.5 - PX / 2) / PX_PER_M
    xy = torch.stack(torch.meshgrid(axis, -axis, indexing="xy"), dim=-1).view(-1, 2)
    rgb = SKIN.expand(len(xy), 3).clone()
    rgb[in_mouth(xy)] = TEETH_SEEN
    for centre in EYES.values():
        away = (xy - torch.tensor(centre)).norm(dim=1)
        rgb[away < EYE_M] = WHITE
        rgb[away < 0.005] = DARK
    return Photo(rgb.T.reshape(3, PX, PX), "flat")


def flat_face(open_mouth: bool = True) -> Face:
    head = flat_head(open_mouth)
    texels = bake_texels(head, SIZE, rasterise)
    skin = SkinMask(torch.ones(8, 8), torch.tensor([[8 / PX, 0, 0], [0, 8 / PX, 0]]))
    return Face(flat_photo(), head, skin, texels, "soft")


def painted(face: Face) -> tuple[Tensor, Tensor, Tensor]:
    """(colours [N, 3], confidence [N], points [N, 3]) of the teeth's texels, after checking what must always hold."""
    seen = unwrap(face.photo.rgb, face.reconstruction.camera, face.reconstruction, face.texels, rasterise)
    features = feature_texture(face, seen, rasterise)
    assert features is not None
    texture = with_features(seen, replace(face, features=features))
    assert torch.equal(texture.rgb[:, face.texels.inside], seen.rgb[:, face.texels.inside])
    assert (features.rgb[:, face.texels.inside] == 0).all()
    topology = face.reconstruction.topology
    assert topology.parts is not None
    teeth = (face.texels.triangle >= 0) & (topology.parts[face.texels.triangle.clamp(min=0)] == int(FacePart.TEETH))
    assert chart_of_parts(face.texels, topology)[teeth].all()
    return texture.rgb[:, teeth].T, texture.confidence[teeth], face.texels.points[teeth]


def test_teeth_are_the_photos_where_lips_leave_them_bare() -> None:
    colours, confidence, points = painted(flat_face())
    bare = in_mouth(points[:, :2])
    assert torch.allclose(colours[bare], TEETH_SEEN.expand(int(bare.sum()), 3), atol=0.02)
    assert (confidence[bare] > 0).float().mean() > 0.95
    hidden = ~in_mouth(points[:, :2], (LIPS_M[0] + 0.006, LIPS_M[1] + 0.005))
    assert (confidence[hidden] < 0).all()
    assert (colours[hidden] - SKIN).abs().amax(dim=1).min() > 0.05  # no lips on the teeth


def test_a_shut_mouth_shows_nothing_of_the_photo() -> None:
    face = flat_face(open_mouth=False)
    colours, confidence, points = painted(face)
    assert (confidence == -1).all()
    bare = (face.photo.rgb == TEETH_SEEN[:, None, None]).all(dim=0)
    assert int(bare.sum()) > 1000
    painted_black = replace(face.photo, rgb=face.photo.rgb * ~bare)
    assert torch.equal(painted(replace(face, photo=painted_black))[0], colours)
    assert colours.mean() > MOUTH.mean() * 0.8
    middle, far = in_mouth(points[:, :2]), ~in_mouth(points[:, :2], (0.025, 0.009))
    assert colours[middle].mean() > 1.1 * colours[far].mean()


def test_eyes_carry_the_photos_iris_and_white() -> None:
    face = flat_face()
    seen = unwrap(face.photo.rgb, face.reconstruction.camera, face.reconstruction, face.texels, rasterise)
    features = feature_texture(face, seen, rasterise)
    parts = face.reconstruction.topology.parts
    assert features is not None and parts is not None
    for part, centre in EYES.items():
        eye = (face.texels.triangle >= 0) & (parts[face.texels.triangle.clamp(min=0)] == int(part))
        colours, away = features.rgb[:, eye].T, (face.texels.points[eye][:, :2] - torch.tensor(centre)).norm(dim=1)
        assert torch.allclose(colours[away < 0.003], DARK.expand(int((away < 0.003).sum()), 3), atol=0.03)
        ring = (away > 0.007) & (away < 0.008)
        assert torch.allclose(colours[ring].median(dim=0).values, WHITE, atol=0.03)
        under_lids = away > 0.0105
        assert under_lids.any()
        assert colours[under_lids].min() > 0.6


def test_what_lies_before_the_eyes_is_not_painted_on_them() -> None:
    face = flat_face()
    hidden = replace(face, skin=replace(face.skin, alpha=torch.zeros(8, 8)))
    seen = unwrap(face.photo.rgb, face.reconstruction.camera, face.reconstruction, face.texels, rasterise)
    features = feature_texture(hidden, seen, rasterise)
    assert features is not None
    assert (features.confidence == -1).all()


@pytest.mark.parametrize("size", [SIZE])
def test_heads_that_are_all_skin_stay_as_they_are(size: tuple[int, int]) -> None:
    model = load_facemesh_model()
    points = 1500 * model.face_mean * torch.tensor([1.0, -1, -1]) + torch.tensor([PX / 2, PX / 2, 0.0])
    head = fit_head(model, points, 1.0, (PX, PX))
    texels = bake_texels(head, size, rasterise)
    face = replace(flat_face(), reconstruction=head, texels=texels)
    seen = unwrap(face.photo.rgb, head.camera, head, texels, rasterise)
    assert feature_texture(face, seen, rasterise) is None
    assert with_features(seen, face) is seen
    assert chart_of_parts(texels, head.topology) is texels.inside
