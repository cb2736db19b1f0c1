"""An exported IResNet gives what the network gives that it was exported from; other graphs are refused unrun."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from small_iresnet import Small, embedded, exported, small_iresnet, written

from ostec.errors import BadWeights, MissingWeights
from ostec.networks.iresnet_onnx import load_iresnet_onnx

FILES: dict[str, Callable[[Small], bytes]] = {
    "exported by torch": exported,
    "folded": lambda net: written(net).SerializeToString(),
    "not folded": lambda net: written(net, fold=False).SerializeToString(),
    "numbers in a list": lambda net: written(net, raw=False).SerializeToString(),
}


@pytest.fixture(scope="module")
def network() -> Small:
    return small_iresnet()


@pytest.mark.parametrize("kind", FILES)
def test_embeddings_and_slopes_are_those_of_the_network(network: Small, kind: str, tmp_path: Path) -> None:
    (tmp_path / "w600k_r50.onnx").write_bytes(FILES[kind](network))
    found = []
    for net in (load_iresnet_onnx(tmp_path / "w600k_r50.onnx"), lambda pictures: embedded(network, pictures)):
        pictures = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1)).requires_grad_()
        result = net(pictures)
        found.append((result, *torch.autograd.grad(result[0, 0], pictures)))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    with torch.no_grad():
        for turned in (pictures.flip(1), pictures.mT):
            assert not torch.allclose(embedded(network, turned), found[0][0], atol=1e-3)


def test_equal_tensors_that_the_exporter_stores_once_are_found(tmp_path: Path) -> None:
    """A network with the weights it begins with: all its slopes and biases are the same numbers."""
    net, path, pictures = Small().eval(), tmp_path / "w600k_r50.onnx", torch.rand(1, 3, 112, 112)
    path.write_bytes(exported(net))
    assert any(node.op_type == "Identity" for node in ModelProto.FromString(path.read_bytes()).graph.node)
    assert torch.allclose(load_iresnet_onnx(path)(pictures), embedded(net, pictures), atol=1e-5)


def test_the_exporter_folds_as_the_file_by_hand_does(network: Small) -> None:
    kinds = [
        [node.op_type for node in ModelProto.FromString(data).graph.node]
        for data in (FILES["folded"](network), exported(network))
    ]
    by_hand, by_torch = ({op: ops.count(op) for op in ops if op != "Identity"} for ops in kinds)
    assert by_hand == by_torch and by_hand["BatchNormalization"] == 10 and by_hand["Conv"] == 21


@pytest.mark.parametrize("folder", ["", "buffalo_l/"])
def test_the_network_is_read_from_its_archive(network: Small, folder: str, tmp_path: Path) -> None:
    path = tmp_path / "buffalo_l.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder}det_10g.onnx", b"not looked at")
        archive.writestr(f"{folder}w600k_r50.onnx", exported(network))
    pictures = torch.rand(1, 3, 112, 112)
    assert torch.allclose(load_iresnet_onnx(path)(pictures), embedded(network, pictures), atol=1e-5)


def test_moving_it_moves_all_of_it(network: Small, tmp_path: Path) -> None:
    (tmp_path / "w600k_r50.onnx").write_bytes(exported(network))
    net = load_iresnet_onnx(tmp_path / "w600k_r50.onnx").double()
    assert net(torch.rand(1, 3, 112, 112, dtype=torch.float64)).dtype == torch.float64


def refusal(path: Path) -> str:
    with pytest.raises(BadWeights) as caught:
        load_iresnet_onnx(path)
    assert str(path) in str(caught.value) and "ostec models get arcface" in str(caught.value)
    return str(caught.value)


def _other_operation(model: ModelProto) -> None:
    model.graph.node[0].op_type = "Sub"


def _foreign(model: ModelProto) -> None:
    model.graph.node[0].domain = "com.example"


def _elsewhere(model: ModelProto) -> None:
    stored = model.graph.initializer[0]
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    stored.external_data.add(key="location", value="/etc/passwd")


def _halves(model: ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float16), "685"))


def _short(model: ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 1 << 40


def _negative(model: ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [-4, -3, 3, 3]


def _nan(model: ModelProto) -> None:
    model.graph.initializer[0].raw_data = np.full(108, np.nan, np.float32).tobytes()


def _program(model: ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("body", inner))


def _set(model: ModelProto, name: str, value: object) -> None:
    """An attribute of the first convolution."""
    attribute = next(a for a in model.graph.node[0].attribute if a.name == name)
    attribute.CopyFrom(helper.make_attribute(name, value))


def _uneven(model: ModelProto) -> None:
    _set(model, "pads", [0, 1, 1, 1])


def _wide(model: ModelProto) -> None:
    _set(model, "pads", [1 << 30] * 4)


def _grouped(model: ModelProto) -> None:
    _set(model, "group", 3)


def _loose(model: ModelProto) -> None:
    model.graph.node[0].input[0] = "nowhere"


def _few(model: ModelProto) -> None:
    del model.graph.node[0].input[1:]


def _two_inputs(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def _map(model: ModelProto) -> None:
    model.graph.output[0].name = model.graph.node[0].output[0]


def _skipping(model: ModelProto) -> None:
    """The last shortcut begins one block too early."""
    adds = [node for node in model.graph.node if node.op_type == "Add"]
    adds[-1].input[1] = adds[-3].output[0]


def _narrow(model: ModelProto) -> None:
    """The first block shrinks nothing, as if it belonged to no stage."""
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    adds = [node for node in model.graph.node if node.op_type == "Add"]
    first = next(node for node in convs if node.output[0] == adds[0].input[1])
    adds[0].input[1] = first.input[0]
    model.graph.node.remove(first)
    branch = next(node for node in convs if node.output[0] == adds[0].input[0])
    strides = next(a for a in branch.attribute if a.name == "strides")
    strides.CopyFrom(helper.make_attribute("strides", [1, 1]))


def _training(model: ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    node.attribute.append(helper.make_attribute("training_mode", 1))


CHANGES: dict[Callable[[ModelProto], None], str] = {
    _other_operation: "['Sub'], not to 'Conv'",
    _foreign: "com.example",
    _elsewhere: "in another file",
    _halves: "not of float32",
    _short: "has 108 numbers",
    _negative: "has 108 numbers",
    _nan: "not finite",
    _program: "the attribute 'body'",
    _uneven: "has pads [0, 1, 1, 1]",
    _wide: "pads",
    _grouped: "group",
    _loose: "not to 'Conv'",
    _few: "not an IResNet",
    _two_inputs: "2 inputs",
    _map: "another value than its last",
    _skipping: "not to 'Flatten'",
    _narrow: "3 stages",
    _training: "training_mode",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_other_graphs_are_refused(network: Small, change: Callable[[ModelProto], None], tmp_path: Path) -> None:
    model = written(network)
    change(model)
    path = tmp_path / "w600k_r50.onnx"
    path.write_bytes(model.SerializeToString())
    assert CHANGES[change] in refusal(path)


def test_operations_without_influence_are_not_carried_out(network: Small, tmp_path: Path) -> None:
    """They may ask for any amount of memory."""
    model, path = written(network), tmp_path / "w600k_r50.onnx"
    for name, shape in (("column", (1 << 16, 1)), ("row", (1, 1 << 16))):
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
    model.graph.node.insert(0, helper.make_node("Add", ["column", "row"], ["unused"]))
    path.write_bytes(model.SerializeToString())
    pictures = torch.rand(1, 3, 112, 112)
    assert torch.allclose(load_iresnet_onnx(path)(pictures), embedded(network, pictures), atol=1e-5)


def test_the_order_of_a_sum_does_not_matter(network: Small, tmp_path: Path) -> None:
    model, path = written(network), tmp_path / "w600k_r50.onnx"
    for node in model.graph.node:
        if node.op_type == "Add":
            node.input[:] = [node.input[1], node.input[0]]
    path.write_bytes(model.SerializeToString())
    pictures = torch.rand(1, 3, 112, 112)
    assert torch.allclose(load_iresnet_onnx(path)(pictures), embedded(network, pictures), atol=1e-5)


def test_truncated_and_foreign_files_are_refused(network: Small, tmp_path: Path) -> None:
    path, whole = tmp_path / "w600k_r50.onnx", exported(network)
    for data in (b"", b"<html>sign in</html>", *(whole[:size] for size in (1, 100, len(whole) // 2, len(whole) - 1))):
        path.write_bytes(data)
        refusal(path)
    with pytest.raises(MissingWeights, match="ostec models get arcface"):
        load_iresnet_onnx(tmp_path / "none.onnx")


def test_a_file_of_many_small_messages_takes_little_memory(tmp_path: Path) -> None:
    """Parsed, each of them takes many times its two bytes."""
    path, data = tmp_path / "w600k_r50.onnx", b"\x08\x06\x3a\x80\x80\x80\x01" + b"\x0a\x00" * (1 << 20)
    assert len(ModelProto.FromString(data).graph.node) == 1 << 20
    path.write_bytes(data)
    assert "more than numbers" in refusal(path)
    path.write_bytes(b"\x08" + b"\xff" * 1000)
    refusal(path)


def test_other_archives_are_refused(network: Small, tmp_path: Path) -> None:
    path = tmp_path / "buffalo_l.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("det_10g.onnx", b"")
    assert "0 files" in refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w600k_r50.onnx", bytes(10 << 20))
    assert "own size" in refusal(path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace((10 << 20).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w600k_r50.onnx", exported(network))
    path.write_bytes(path.read_bytes()[:-100])
    refusal(path)
    torch.save(network.state_dict(), tmp_path / "arcface.pth")
    with pytest.raises(BadWeights, match="0 files"):
        load_iresnet_onnx(tmp_path / "arcface.pth")
