"""The segmenter keeps parsed skin at the original's distances, and the mask lies where the photo's pixels go."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_graphonomy import small_state
from synthetic import head, mirrored_head, photograph
from torch import Tensor, nn

from ostec.errors import BadWeights, MissingWeights, UnknownComponent
from ostec.geometry.align import apply_affine
from ostec.geometry.camera import to_pixels
from ostec.original.graphonomy import Graphonomy
from ostec.original.graphonomy_graphs import CLASSES
from ostec.original.graphonomy_segmenter import GraphonomySegmenter, skin_of
from ostec.registry.components import build, select_parts
from ostec.types import Photo, SkinMask

FACE, HAIR, GLASSES = (CLASSES.index(name) for name in ("face", "hair", "sunglasses"))
HEAD = head(size=400)
SKIN = torch.tensor([0.78, 0.58, 0.48])[:, None, None].expand(3, 64, 64)
PHOTO = photograph(HEAD, SKIN, background=0.0)
SETTINGS = [(256, (1.0,)), (512, (0.5, 1.0))]


class ByColour(nn.Module):
    """Black is background, blue is hair, all else is face."""

    def forward(self, pictures: Tensor) -> Tensor:
        logits = torch.zeros(len(pictures), 20, *pictures.shape[2:])
        red, _, blue = pictures.unbind(1)
        logits[:, FACE] = 2.0 * (red > 0.1)
        logits[:, HAIR] = 4.0 * (blue - red > 0.3)
        logits[:, 0] = 1.0
        return 10 * logits


def masked(photo: Photo, face=HEAD, side_px: int = 256, scales: tuple[float, ...] = (1.0,)) -> SkinMask:
    return GraphonomySegmenter(ByColour(), side_px, scales)(photo, face)  # pyright: ignore[reportArgumentType]


def alpha_at(mask: SkinMask, point_px: Tensor) -> float:
    column, row = apply_affine(mask.mask_from_photo, point_px).long().tolist()
    return float(mask.alpha[row, column])


def painted(where_px: Tensor, colour: tuple[float, float, float], width: int, height: int) -> Photo:
    rgb = PHOTO.rgb.clone()
    x, y = where_px.long().tolist()
    box = rgb[:, y - height : y + height + 1, x - width : x + width + 1]
    box.copy_(torch.tensor(colour)[:, None, None].expand_as(box))
    return Photo(rgb, "painted")


CHEEK = HEAD.landmarks.points_px[[31, 3]].mean(dim=0).round()
OTHER_CHEEK = HEAD.landmarks.points_px[[35, 13]].mean(dim=0).round()


def test_the_face_shrinks_and_the_hair_grows_as_in_the_original() -> None:
    """In its crop of 1120 px: by hand, for OpenCV's ellipses of 10 and 35 px."""
    classes = torch.zeros(1120, 1120, dtype=torch.int64)
    classes[100:1000, 100:1000] = FACE
    classes[500, 600] = HAIR
    skin = skin_of(classes)
    assert skin[300, 103:107].tolist() == [False, False, True, True]
    assert skin[300, 993:997].tolist() == [True, True, False, False]
    assert skin[103:107, 300].tolist() == [False, False, True, True]
    assert skin[500, 616:620].tolist() == [False, False, True, True]
    assert skin[516:520, 600].tolist() == [False, False, True, True]
    assert not skin[512, 612] and skin[513, 612]
    assert int(skin.sum()) == 890**2 - sum(x * x + y * y <= 17**2 for x in range(-17, 18) for y in range(-17, 18))


def test_distances_follow_the_size_of_the_crop_and_hats_and_sunglasses_count() -> None:
    for name in ("hair", "hat", "sunglasses"):
        classes = torch.full((256, 256), FACE)
        classes[128, 128] = CLASSES.index(name)
        classes[0] = CLASSES.index("coat")
        skin = skin_of(classes)
        assert skin[128, 130:134].tolist() == [False, False, True, True]
        assert skin[0:4, 50].tolist() == [False, False, True, True]
    neck = torch.full((256, 256), CLASSES.index("torso skin"))
    neck[:128] = FACE
    assert skin_of(neck).all()
    for name in ("background", "left arm", "scarf", "glove"):
        assert not skin_of(torch.full((64, 64), CLASSES.index(name))).any()


@pytest.mark.parametrize(("side_px", "scales"), SETTINGS)
def test_a_pixel_of_the_photo_lies_where_the_affine_says(side_px: int, scales: tuple[float, ...]) -> None:
    hairy = painted(CHEEK, (0.1, 0.1, 0.9), 6, 6)
    mask = masked(hairy, HEAD, side_px, scales)
    assert mask.alpha.shape == (side_px, side_px) and mask.mask_from_photo.shape == (2, 3)
    assert alpha_at(mask, CHEEK) == 0 and alpha_at(mask, OTHER_CHEEK) == 1
    corners = to_pixels(HEAD.vertices, HEAD.camera)
    inside = apply_affine(mask.mask_from_photo, corners) / side_px
    assert 0.02 < inside.min() < 0.1 and 0.9 < inside.max() < 0.98
    bare = masked(PHOTO, HEAD, side_px, scales)
    assert alpha_at(bare, CHEEK) == 1


@pytest.mark.parametrize(("side_px", "scales"), SETTINGS)
def test_the_mask_is_soft_and_leaves_out_the_background(side_px: int, scales: tuple[float, ...]) -> None:
    mask = masked(PHOTO, head(25.0, size=400), side_px, scales)
    assert mask.alpha.min() == 0 and mask.alpha.max() == 1
    assert bool(((mask.alpha > 0) & (mask.alpha < 1)).any())
    assert mask.person is not None
    whole = masked(PHOTO, HEAD, side_px, scales)
    assert whole.person is not None
    assert (whole.alpha[whole.person < 0.5] == 0).all()
    share = float((whole.person > 0.5).float().mean())
    assert 0.2 < share < 0.7 and whole.person[0, 0] < 0.01


def test_hair_is_a_person_but_no_skin() -> None:
    mask = masked(painted(CHEEK, (0.1, 0.1, 0.9), 12, 12))
    column, row = apply_affine(mask.mask_from_photo, CHEEK).long().tolist()
    assert mask.person is not None and mask.person[row, column] > 0.99


def test_the_mirrored_photo_has_the_mirrored_mask() -> None:
    hairy = painted(CHEEK, (0.1, 0.1, 0.9), 10, 10)
    mirrored = masked(Photo(hairy.rgb.flip(2), "mirrored"), mirrored_head(HEAD))
    assert (mirrored.alpha.flip(1) - masked(hairy).alpha).abs().mean() < 0.01
    assert (mirrored.alpha - masked(hairy).alpha).abs().mean() > 0.01


def test_thin_frames_are_hidden_though_the_parser_calls_them_face() -> None:
    bridge = HEAD.landmarks.points_px[27:29].mean(dim=0).round()
    framed = masked(painted(bridge, (0.02, 0.02, 0.02), 14, 1))
    assert alpha_at(framed, bridge) == 0
    assert alpha_at(masked(PHOTO), bridge) == 1
    assert alpha_at(framed, CHEEK) == 1


def test_skin_that_is_not_this_faces_is_left_out() -> None:
    """An island beside the face: somebody else."""
    apart = PHOTO.rgb.clone()
    nose = HEAD.landmarks.points_px[30].long().tolist()
    apart[:, :, nose[0] + 30 : nose[0] + 60] = torch.tensor([0.1, 0.1, 0.9])[:, None, None]
    mask = masked(Photo(apart, "apart"))
    assert alpha_at(mask, OTHER_CHEEK + torch.tensor([90.0, 0.0])) == 0
    assert alpha_at(mask, CHEEK) == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.save(small_state(), tmp_path / "inference.pth")
    return tmp_path


@pytest.mark.parametrize(("name", "side_px"), [("graphonomy", 256), ("graphonomy-512", 512)])
def test_it_is_built_by_name_and_never_unasked(folder: Path, name: str, side_px: int) -> None:
    segmenter = build("segmenter", name, folder)
    assert isinstance(segmenter, GraphonomySegmenter) and isinstance(segmenter._net, Graphonomy)
    mask = segmenter(PHOTO, HEAD)
    assert mask.alpha.shape == (side_px, side_px) and bool(mask.alpha.isfinite().all())
    assert select_parts(weights_dir=folder).names["segmenter"] == "built-in"
    parts = select_parts(segmenter=name, completer="prior", reconstructor="mediapipe", weights_dir=folder).load()
    assert "not stated" in parts.licences["inference.pth"]


def test_what_is_missing_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"inference\.pth.*1eUe18HoH05p0yFUd_sN6GXdTj82aW0m9"):
        build("segmenter", "graphonomy", tmp_path)
    torch.save({"encoder.weight": torch.ones(3)}, tmp_path / "inference.pth")
    with pytest.raises(BadWeights, match="encoder.weight"):
        build("segmenter", "graphonomy-512", tmp_path)
    with pytest.raises(UnknownComponent, match="graphonomy-512"):
        build("segmenter", "graphonomy-1024", tmp_path)
