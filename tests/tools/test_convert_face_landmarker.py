"""The converted FaceMesh V2 computes what its own file does."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ostec.networks.face import FaceNet

pytest.importorskip("tflite", reason="needs the package tflite, which only the conversion does")
litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs the package ai-edge-litert as a referee")


def test_points_and_presence_are_those_of_the_file(assets: Path, tmp_path: Path) -> None:
    from convert_face_landmarker import MEMBER, convert

    with zipfile.ZipFile(assets / "nets" / "face_landmarker" / "face_landmarker.task") as archive:
        content = archive.read(MEMBER)
    net = FaceNet({name: torch.from_numpy(array.copy()) for name, array in convert(content).items()})
    referee = litert.Interpreter(model_content=content)
    referee.allocate_tensors()
    outputs = {detail["name"]: detail["index"] for detail in referee.get_output_details()}
    crop = np.random.default_rng(0).random((256, 256, 3), dtype=np.float32)
    referee.set_tensor(referee.get_input_details()[0]["index"], crop[None])
    referee.invoke()
    points, presence = net(torch.from_numpy(crop).permute(2, 0, 1)[None])
    wanted = referee.get_tensor(outputs["Identity"]).reshape(478, 3)
    assert np.allclose(points[0].numpy(), wanted, atol=2e-3)
    assert presence.item() == pytest.approx(float(referee.get_tensor(outputs["Identity_1"]).item()), abs=1e-3)
