"""Normals: known answers, and mirrored meshes have mirrored normals to the bit."""

from __future__ import annotations

import torch
from synthetic import head, mirrored_head
from trimesh.creation import icosphere

from ostec.geometry.mesh import face_normals, vertex_normals

FLIP = torch.tensor([-1.0, 1.0, 1.0])


def sphere() -> tuple[torch.Tensor, torch.Tensor]:
    mesh = icosphere(subdivisions=4)
    return torch.tensor(mesh.vertices).float(), torch.tensor(mesh.faces).long()


def test_a_spheres_normals_point_away_from_its_centre() -> None:
    vertices, faces = sphere()
    assert ((vertex_normals(vertices, faces) * vertices).sum(dim=1) > 0.9999).all()
    middles = vertices[faces].mean(dim=1)
    assert ((face_normals(vertices, faces) * middles).sum(dim=1) / middles.norm(dim=1) > 0.9999).all()


def test_a_cubes_corners_do_not_depend_on_how_its_sides_are_split() -> None:
    corners = torch.tensor([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
    split = torch.tensor([[0, 1, 3], [0, 3, 2], [0, 4, 5], [0, 5, 1], [0, 2, 6], [0, 6, 4]])
    expected = torch.tensor([-1.0, -1.0, -1.0]) / 3**0.5
    assert (vertex_normals(corners, split)[0] @ expected) > 0.97


def test_scale_does_not_matter() -> None:
    vertices, faces = sphere()
    for scale in (1e-4, 1e3):
        assert torch.allclose(vertex_normals(vertices * scale, faces), vertex_normals(vertices, faces), atol=1e-5)


def test_what_has_no_area_has_no_normal() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5], [0, 0, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 0, 1]])
    assert torch.equal(vertex_normals(vertices, faces)[[0, 3]], torch.tensor([[0.0, 0, 1], [0, 0, 0]]))
    assert torch.equal(face_normals(vertices, faces), torch.tensor([[0.0, 0, 1], [0, 0, 0]]))


def test_a_mirrored_mesh_has_mirrored_normals_bit_for_bit() -> None:
    face = head()
    vertices = face.vertices + 1e-3 * torch.randn_like(face.vertices)
    uneven = mirrored_head(type(face)(**{**vars(face), "vertices": vertices}))
    mirror, faces = face.topology.mirror, face.topology.faces
    assert mirror is not None
    expected = vertex_normals(vertices, faces)[mirror] * FLIP
    assert torch.equal(vertex_normals(uneven.vertices, faces), expected)


def test_the_order_of_triangles_does_not_matter() -> None:
    vertices, faces = sphere()
    shuffled = faces[torch.randperm(len(faces))].roll(1, dims=1)
    assert torch.equal(vertex_normals(vertices, shuffled), vertex_normals(vertices, faces))
