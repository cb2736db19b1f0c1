"""Graphonomy says what its definition says, knows left from right, and refuses what is not its file."""

from __future__ import annotations

import hashlib
import math
import pickle
from pathlib import Path

import pytest
import torch
from small_graphonomy import PUBLIC_WIDTHS, Slowly, Tensors, shapes, small_state
from torch import Tensor, nn

from ostec.errors import BadWeights, MissingWeights
from ostec.original.graphonomy import Graphonomy, load_graphonomy, parse
from ostec.original.graphonomy_graphs import CLASSES, COARSE_CLASSES, graphs

STATE = small_state()
PICTURES = torch.rand(2, 3, 67, 80, generator=torch.Generator().manual_seed(3))
WITHOUT_INFLUENCE = ("source_graph_conv3.weight", "transpose_graph.adj", "target_graph_2_fea.node_fea_for_res")


def test_the_names_and_shapes_are_the_public_ones() -> None:
    """The checksum is of what `deeplab_xception_transfer_projection_savemem(20, source_classes=7)` lists."""
    lines = [f"{name} {list(shape)}" for name, shape in sorted(shapes(PUBLIC_WIDTHS, 256, 48, 128))]
    assert len(lines) == 750
    listed = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert listed == "c8a37d5019d6450b510b3126e6b18254f26f78e53274e5e850c1427b37938ce9"


def test_logits_are_those_of_the_definition() -> None:
    expected = Slowly(STATE).logits(PICTURES)
    found = Graphonomy(STATE)(PICTURES)
    assert found.shape == (2, 20, 67, 80)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (expected[0] - expected[1]).abs().max() > 1e-2 * expected.abs().max(), "the picture makes a difference"


def test_everything_that_could_be_mixed_up_makes_a_difference() -> None:
    """Colour order, up and down, left and right, and each of the graphs' matrices."""
    net, expected = Graphonomy(STATE), Slowly(STATE).logits(PICTURES)
    for flipped in (net(PICTURES.flip(1)), net(PICTURES.flip(2)).flip(2), net(PICTURES.flip(3)).flip(3)):
        assert (flipped - expected).abs().max() > 1e-3 * expected.abs().max()
    for name in (name for name in STATE if "graph" in name):
        other = {**STATE, name: STATE[name].flip(0) + 0.5}
        different = bool((Graphonomy(other)(PICTURES) - expected).abs().max() > 1e-4 * expected.abs().max())
        assert different != (name in WITHOUT_INFLUENCE), name


def test_graphs_are_those_of_the_paper() -> None:
    """By hand: one over the roots of how many neighbours both have, themselves included."""
    parts, coarse, told = graphs().values()
    number = {name: CLASSES.index(name) for name in CLASSES}
    assert parts.shape == (20, 20) and torch.equal(parts, parts.T) and torch.equal(coarse, coarse.T)
    assert parts[0].tolist() == [1.0, *[0.0] * 19]
    assert parts[number["hat"], number["hair"]] == pytest.approx(1 / 3)
    assert parts[number["sunglasses"], number["face"]] == pytest.approx(1 / math.sqrt(2 * 6))
    assert parts[number["hat"], number["sunglasses"]] == 0
    assert int((parts > 0).sum()) == 20 + 2 * 48
    assert coarse[1, :3].tolist() == pytest.approx([0, 2 / 3, 1 / math.sqrt(3 * 5)])
    assert told.shape == (20, 7) and torch.allclose(told.sum(dim=1), torch.ones(20))
    likeliest = {"background": "background", "face": "head", "left arm": "lower arms", "right leg": "lower legs"}
    for fine, expected in likeliest.items():
        assert COARSE_CLASSES[int(told[number[fine]].argmax())] == expected


class Sides(nn.Module):
    """Calls the left half of any picture a left arm, the right half a right arm."""

    def forward(self, pictures: Tensor) -> Tensor:
        logits = torch.zeros(len(pictures), 20, *pictures.shape[2:])
        half = pictures.shape[3] // 2
        logits[:, CLASSES.index("left arm"), :, :half] = 1
        logits[:, CLASSES.index("right arm"), :, half:] = 1
        return logits


def test_left_and_right_change_places_in_the_mirror() -> None:
    logits = parse(Sides(), torch.rand(3, 64, 64), (1.0,))  # pyright: ignore[reportArgumentType]
    assert (logits[CLASSES.index("left arm"), :, :32] == 1).all()
    assert (logits[CLASSES.index("right arm"), :, 32:] == 1).all()
    net, rgb = Graphonomy(STATE), PICTURES[0, :, :64, :64]
    mirrored = [*range(14), 15, 14, 17, 16, 19, 18]
    for scales in ((1.0,), (0.5, 1.0)):
        logits = parse(net, rgb, scales)
        assert logits.shape == (20, 64, 64)
        assert torch.allclose(parse(net, rgb.flip(2), scales)[mirrored].flip(2), logits, atol=1e-4)


def test_scales_are_averaged() -> None:
    net, rgb = Graphonomy(STATE), PICTURES[0, :, :64, :64]
    one, half, both = (parse(net, rgb, scales) for scales in ((1.0,), (0.5,), (0.5, 1.0)))
    assert torch.allclose(both, (one + half) / 2, atol=1e-4)
    assert (one - half).abs().max() > 1e-2


def saved(tmp_path: Path, stored: object, **options: bool) -> Path:
    path = tmp_path / "inference.pth"
    torch.save(stored, path, **options)
    return path


@pytest.mark.parametrize("new", [True, False])
def test_files_of_both_layouts_are_read(tmp_path: Path, new: bool) -> None:
    counted = {**STATE, "aspp1.bn.num_batches_tracked": torch.tensor(7)}
    path = saved(tmp_path, counted, _use_new_zipfile_serialization=new)
    assert torch.equal(load_graphonomy(path)(PICTURES), Graphonomy(STATE)(PICTURES))


def test_what_was_never_trained_may_be_no_number() -> None:
    """`adj` was never given a value before it was saved."""
    state = {f"module.{name}": tensor for name, tensor in STATE.items()}
    state["module.transpose_graph.adj"] = torch.full((20, 7), math.nan)
    assert torch.equal(Graphonomy(state)(PICTURES), Graphonomy(STATE)(PICTURES))


def complaint(tmp_path: Path, stored: object) -> str:
    with pytest.raises(BadWeights, match="inference.pth") as refused:
        load_graphonomy(saved(tmp_path, stored))
    assert "'CIHP trained model' of Graphonomy" in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("name", sorted(STATE)[::60] + ["transpose_graph.adj", "semantic.bias", "fc_graph.weight"])
def test_a_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    lacking = {other: tensor for other, tensor in STATE.items() if other != name}
    assert f"lacks '{name}'" in complaint(tmp_path, lacking)


def changed(name: str, value: Tensor) -> Tensors:
    return {**STATE, name: value}


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (changed("aspp3.atrous_convolution.depthwise_bn.bias", torch.full((10,), math.nan)), "depthwise_bn.bias"),
        (changed("semantic.bias", torch.full((20,), math.inf)), "'semantic.bias' holds numbers that are not finite"),
        (changed("xception_features.bn2.running_var", torch.full((4,), -1.0)), "negative variance"),
        (changed("xception_features.conv1.weight", torch.zeros(3, 4, 3, 3)), "not Graphonomy for CIHP"),
        (changed("semantic.weight", torch.zeros(20, 7, 1, 1)), "not Graphonomy for CIHP"),
        (changed("semantic.bias", torch.tensor(1.0)), "not Graphonomy for CIHP"),
        (changed("fc_graph.weight", torch.zeros(3, 5)), "not Graphonomy for CIHP"),
        (changed("xception_features.bn1.weight", torch.zeros(9)), "not Graphonomy for CIHP"),
        (small_state(classes=7, coarse=20), "[7, 7, 20] classes"),
        ({**{n: t for n, t in STATE.items() if n != "fc_graph.weight"}, "middle_graph_conv1.weight": torch.ones(1)},
         "Graphonomy's universal model"),
        ({"layer1.0.conv1.weight": torch.ones(1), "fc.bias": torch.ones(1)}, "whose first tensors are layer1.0.conv1"),
        ({}, "another network"),
        ({"epoch": 3, "state_dict": STATE}, "does not hold tensors by name"),
        ([1, 2], "does not hold tensors by name"),
    ],
)  # fmt: skip
def test_other_files_are_refused_by_what_they_hold(tmp_path: Path, stored: object, expected: str) -> None:
    assert expected in complaint(tmp_path, stored)


def test_truncated_and_absent_files_are_told(tmp_path: Path) -> None:
    for new in (True, False):
        path = saved(tmp_path, STATE, _use_new_zipfile_serialization=new)
        whole = path.read_bytes()
        for length in (0, 10, 1000, len(whole) // 2, len(whole) - 100):
            path.write_bytes(whole[:length])
            with pytest.raises(BadWeights, match=r"inference\.pth.*CIHP trained model"):
                load_graphonomy(path)
    path.unlink()
    with pytest.raises(MissingWeights, match="CIHP trained model"):
        load_graphonomy(path)


class Trap:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.victim,)


def test_nothing_in_a_hostile_file_is_run(tmp_path: Path) -> None:
    victim, path = tmp_path / "touched", tmp_path / "inference.pth"
    trapped = {**STATE, "semantic.bias": Trap(victim)}
    for new in (True, False):
        saved(tmp_path, trapped, _use_new_zipfile_serialization=new)
        with pytest.raises(BadWeights, match="inference.pth"):
            load_graphonomy(path)
    path.write_bytes(pickle.dumps(Trap(victim)))
    with pytest.raises(BadWeights, match="inference.pth"):
        load_graphonomy(path)
    assert not victim.exists()


def test_a_small_file_cannot_claim_a_large_network(tmp_path: Path) -> None:
    vast = torch.zeros(1).expand(1 << 36)
    assert "larger than the file" in complaint(tmp_path, changed("semantic.bias", vast))
