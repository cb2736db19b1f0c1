"""Which portraits are learned from, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from generator_archive import listed, read_faces, shrunk, to_image, write_faces
from generator_data import why_not
from generator_faces import FaceCrop, cheek_colour, cut_face, dark_eyes, sharpness, warp_mirrored
from painted_faces import painted_faces
from torch.nn import functional as F

import ostec
from ostec.geometry.sampling import warp
from ostec.registry.components import demo_photo


@pytest.fixture(scope="module")
def astronaut() -> FaceCrop:
    face = cut_face(demo_photo(), ostec.load_parts(completer="mirror"), 128)
    assert isinstance(face, FaceCrop)
    return face


def test_a_portrait_is_kept_and_cut_as_ffhq_is(astronaut: FaceCrop) -> None:
    assert why_not(astronaut) == "" and astronaut.picture.shape == (3, 128, 128)
    again = ostec.load_parts(completer="mirror")
    points = again.detector(ostec.Photo(astronaut.picture, "crop"))[0].points_px
    right_eye, left_eye, mouth = points[0], points[1], points[3]
    assert abs(float(right_eye[0] + left_eye[0]) / 2 - 64) < 6  # the eyes' middle lies at 46 to 50 % from the top
    assert 52 < float(right_eye[1]) < 68 and abs(float(right_eye[1] - left_eye[1])) < 5
    assert right_eye[0] < left_eye[0] and 80 < float(mouth[1]) < 105


def test_a_photo_without_a_face_says_so(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    write_picture(path, torch.full((3, 200, 200), 0.5))
    assert cut_face(path, ostec.load_parts(completer="mirror"), 128) == "no face found"


def write_picture(path: Path, picture: torch.Tensor) -> None:
    to_image(picture).save(path)


def test_every_reason_is_found(astronaut: FaceCrop) -> None:
    red, green, blue = astronaut.cheeks
    wrong = {
        "turned too far": replace(astronaut, yaw_deg=-70.0),
        "too near the photo's border": replace(astronaut, outside=0.4),
        "blurred": replace(astronaut, sharpness=sharpness(blurred(astronaut.picture))),
        "too dark": replace(astronaut, cheeks=(0.06, 0.05, 0.04)),
        "dark glasses": replace(astronaut, dark_eyes=0.9),
        "painted or in cold light": replace(astronaut, cheeks=(blue, green, red)),
    }
    assert {name: why_not(face) for name, face in wrong.items()} == {name: name for name in wrong}


def blurred(picture: torch.Tensor) -> torch.Tensor:
    for _ in range(3):
        picture = F.avg_pool2d(F.pad(picture[None], [2] * 4, mode="replicate"), 5, 1)[0]
    return picture


def test_dark_glasses_are_seen_over_skin_of_any_tone() -> None:
    points_px = load_landmarks()
    for skin in (torch.tensor([0.9, 0.7, 0.6]), torch.tensor([0.3, 0.2, 0.15])):
        face = skin[:, None, None].expand(3, 128, 128).clone()
        assert torch.allclose(cheek_colour(face, points_px), skin)
        assert dark_eyes(face, points_px, skin) == 0
        one, both = face.clone(), face.clone()
        one[:, 48:72, :64] *= 0.3
        both[:, 48:72] *= 0.3
        assert dark_eyes(one, points_px, skin) == 0, "one dark eye is no pair of glasses"
        assert dark_eyes(both, points_px, skin) > 0.9


def load_landmarks() -> torch.Tensor:
    """[68, 2]: eyes at (44, 60) and (84, 60), mouth at y = 95, of a crop of 128 px."""
    points_px = torch.zeros(68, 2)
    angle = torch.linspace(torch.pi, -torch.pi * 2 / 3, 6)
    eye = torch.stack([9 * angle.cos(), 4 * angle.sin()], dim=1)
    points_px[36:42], points_px[42:48] = eye + torch.tensor([44.0, 60]), eye + torch.tensor([84.0, 60])
    points_px[48], points_px[54] = torch.tensor([50.0, 95]), torch.tensor([78.0, 95])
    return points_px


def test_a_crop_goes_on_outside_the_photo() -> None:
    photo = torch.rand(3, 60, 50)
    shift = torch.tensor([[1.0, 0, 8], [0, 1, 0]])
    crop, inside = warp_mirrored(photo, shift, 48)
    assert inside[:, 10:].all() and not inside[:, :8].any()
    assert torch.allclose(crop[:, :, 16:], warp(photo, shift, (48, 48))[:, :, 16:], atol=1e-5)
    assert float((crop[:, :, :8].mean() - photo.mean()).abs()) < 0.1
    assert float(crop[:, :, :4].std()) < 0.5 * float(photo.std())


def test_an_archive_gives_back_pictures_and_origins(tmp_path: Path) -> None:
    pictures = painted_faces(3, 64).float() / 255
    rows = [
        {"file": f"train/{i}.jpg", "licence": "MIT", "source_repo": "a/b", "commit": "c", "source_path": f"p, {i}"}
        for i in range(3)
    ]
    write_faces(tmp_path / "faces.zip", list(zip(rows, pictures, strict=True)))
    assert listed(tmp_path / "faces.zip") == [{**row, "file": Path(row["file"]).name} for row in rows]
    whole, half = read_faces(tmp_path / "faces.zip", 64), read_faces(tmp_path / "faces.zip", 32)
    assert whole.dtype == torch.uint8 and whole.shape == (3, 3, 64, 64)
    assert float((whole / 255 - pictures).abs().mean()) < 0.03
    assert torch.equal(half, torch.stack([shrunk(picture, 32) for picture in whole]))
    with pytest.raises(ValueError, match="64 px cannot be brought to 48 px"):
        read_faces(tmp_path / "faces.zip", 48)
