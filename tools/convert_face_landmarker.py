"""Writes FaceMesh V2's weights from MediaPipe's face_landmarker.task, for `ostec.networks.face.FaceNet`.

    pip install tflite flatbuffers numpy safetensors
    python tools/convert_face_landmarker.py face_landmarker.task facemesh_v2.safetensors

The weights are stored as the file holds them (float16). Source of the layout: the public TensorFlow Lite schema. The
output for a tongue that is out is left away.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy as np
import tflite
from convert_selfie_segmentation import TO_TORCH, constants, operator_code
from safetensors.numpy import save_file

MEMBER = "face_landmarks_detector.tflite"
STAGES, BLOCKS = 7, 5
_HEADS = ("tongue", "presence", "points")


def layer_names() -> list[str]:
    """Convolutions of `FaceNet` in the order in which the graph computes them; "tongue" has no place in it."""
    blocks = [f"stages.{s}.{b}" for s in range(STAGES) for b in range(BLOCKS - (s == 0))]
    return ["stem.0", *(f"{block}.{part}" for block in blocks for part in ("narrow.0", "depthwise", "widen")), *_HEADS]


def slope_names() -> list[str]:
    """PReLUs of `FaceNet` in that order."""
    blocks = [f"stages.{s}.{b}" for s in range(STAGES) for b in range(BLOCKS - (s == 0))]
    return ["stem.1", *(f"{block}.{part}" for block in blocks for part in ("narrow.1", "act"))]


def convert(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of `FaceNet` by name."""
    model = tflite.Model.GetRootAsModel(content, 0)
    graph, arrays = model.Subgraphs(0), constants(model)
    operators = [graph.Operators(k) for k in range(graph.OperatorsLength())]
    layers = [op for op in operators if operator_code(model, op) in TO_TORCH]
    slopes = [op for op in operators if operator_code(model, op) == tflite.BuiltinOperator.PRELU]
    if len(layers) != len(layer_names()) or len(slopes) != len(slope_names()):
        raise SystemExit(f"{len(layers)} convolutions and {len(slopes)} PReLUs: this is another model.")
    tensors = {}
    for name, op in zip(layer_names(), layers, strict=True):
        if name != "tongue":
            weight = arrays[op.Inputs(1)].transpose(TO_TORCH[operator_code(model, op)])
            tensors[f"{name}.weight"] = np.ascontiguousarray(weight)
            tensors[f"{name}.bias"] = arrays[op.Inputs(2)].copy()
    for name, op in zip(slope_names(), slopes, strict=True):
        tensors[f"{name}.weight"] = arrays[op.Inputs(1)].reshape(-1).copy()
    return tensors


def main() -> None:
    task, target = map(Path, sys.argv[1:])
    with zipfile.ZipFile(task) as archive:
        tensors = convert(archive.read(MEMBER))
    save_file(tensors, target, {"licence": "Apache-2.0", "source": f"MediaPipe face_landmarker, {MEMBER}"})


if __name__ == "__main__":
    main()
