"""Writes src/ostec/data/selfie_segmentation.safetensors from MediaPipe's selfie_segmentation.tflite.

    pip install tflite flatbuffers numpy safetensors
    python tools/convert_selfie_segmentation.py mediapipe-0.10.21-*.whl src/ostec/data/selfie_segmentation.safetensors

The weights are stored as the file holds them (float16). Source of the layout: the public TensorFlow Lite schema.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy as np
import tflite
from safetensors.numpy import save_file

MEMBER = "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite"
_RESIDUAL = ("expand", "depthwise", "gate.squeeze", "gate.excite", "project")
_PLAIN_RESIDUAL = ("expand", "depthwise", "project")
_UP = ("project", "gate.squeeze", "gate.excite", "mix", "depthwise")
LAYERS = [
    "stem.0",
    *(f"to_64.{part}" for part in _RESIDUAL),
    *(f"to_32.{block}.{part}" for block in range(2) for part in _PLAIN_RESIDUAL),
    *(f"to_16.{block}.{part}" for block in range(5) for part in _RESIDUAL),
    *(f"head.{part}" for part in ("features", "gate")),
    *(f"from_{size}.{part}" for size in (16, 32, 64) for part in _UP),
    "mask",
]
"""Layers of `ostec.masking.selfie.SelfieNet` in the order in which the graph computes them."""
TO_TORCH = {
    tflite.BuiltinOperator.CONV_2D: (0, 3, 1, 2),
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D: (3, 0, 1, 2),
    tflite.BuiltinOperator.CUSTOM: (3, 0, 1, 2),
}
"""Order of axes of the weights; the one custom operator is MediaPipe's Convolution2DTransposeBias."""


def constants(model: tflite.Model) -> dict[int, np.ndarray]:
    """Tensor index -> float16 array, for what the file holds and under the index it has after DEQUANTIZE."""
    graph = model.Subgraphs(0)
    arrays = {}
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        data = model.Buffers(tensor.Buffer()).DataAsNumpy()
        if tensor.Type() == tflite.TensorType.FLOAT16 and isinstance(data, np.ndarray):
            arrays[index] = data.view(np.float16).reshape(tensor.ShapeAsNumpy())
    for op in map(graph.Operators, range(graph.OperatorsLength())):
        if operator_code(model, op) == tflite.BuiltinOperator.DEQUANTIZE:
            arrays[op.Outputs(0)] = arrays[op.Inputs(0)]
    return arrays


def operator_code(model: tflite.Model, op: tflite.Operator) -> int:
    """The operator's builtin code, from the newer of the two fields that files use."""
    code = model.OperatorCodes(op.OpcodeIndex())
    return max(code.BuiltinCode(), code.DeprecatedBuiltinCode())


def convert(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of `SelfieNet` by name."""
    model = tflite.Model.GetRootAsModel(content, 0)
    graph, arrays = model.Subgraphs(0), constants(model)
    operators = [graph.Operators(k) for k in range(graph.OperatorsLength())]
    layers = [op for op in operators if operator_code(model, op) in TO_TORCH]
    if len(layers) != len(LAYERS):
        raise SystemExit(f"{len(layers)} layers with weights, wanted {len(LAYERS)}: this is another model.")
    tensors = {}
    for name, op in zip(LAYERS, layers, strict=True):
        weight = arrays[op.Inputs(1)].transpose(TO_TORCH[operator_code(model, op)])
        tensors[f"{name}.weight"] = np.ascontiguousarray(weight)
        tensors[f"{name}.bias"] = arrays[op.Inputs(2)]
    return tensors


def main() -> None:
    wheel, target = map(Path, sys.argv[1:])
    with zipfile.ZipFile(wheel) as archive:
        tensors = convert(archive.read(MEMBER))
    metadata = {"licence": "Apache-2.0", "source": f"mediapipe 0.10.21, {MEMBER}"}
    save_file(tensors, target, metadata)


if __name__ == "__main__":
    main()
