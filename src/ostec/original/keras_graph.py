"""A Keras 2 model in torch: its layers as its file writes them down, in the order in which they are computed.

Source: the documentation of Keras 2 (keras.io/2.15), layer by layer. Values are [N, H, W, C], as in Keras.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ostec.errors import BadWeights
from ostec.original.keras_files import KerasFile
from ostec.original.keras_layers import LAYERS, MEASURED, TRAINED, Layer, compute

_MODELS = ("Model", "Functional", "Sequential")
_CODE = ("Lambda", "TensorFlowOpLayer", "TFOpLambda")
_SWITCHES = {"bias": "use_bias", "gamma": "scale", "beta": "center"}
"""Weight -> what in the configuration says whether there is one."""
_MOST_SIDE_PX = 1024
_MOST_NUMBERS = 1 << 28
"""Of all values together, for one picture."""


class _Step(NamedTuple):
    name: str
    layer: Layer
    sources: tuple[str, ...]
    """Whose values it takes; "" is the picture."""
    group: str
    """The layer of the outermost model that it is or is in: where its weights are."""


class KerasGraph(nn.Module):
    """A model with one input, a picture, and one output. Raises `BadWeights` naming `source`."""

    input_px: tuple[int, int]
    """Height and width."""
    output_shape: tuple[int, ...]
    """Without the batch."""

    def __init__(self, file: KerasFile, source: str, remedy: str) -> None:
        super().__init__()
        try:
            self.input_px = _input_px(file.config)
            self._steps, self._last = _flattened(file.config, "", ("",), None)
            self._places: dict[str, dict[str, str]] = {step.name: {} for step in self._steps}
            for index, (step, role, tensor) in enumerate(_handed_out(self._steps, file.weights)):
                self.register_buffer(f"weight{index}", tensor)
                self._places[step.name][role] = f"weight{index}"
            self.output_shape = self._dry_run()
        except Exception as error:  # a hostile file can be wrong in any way
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BadWeights(f"{source} is not a model that can be read: {reason}. {remedy}") from error

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, H, W, 3] of `input_px` to [N, ...]."""
        values = {"": pictures}
        for step in self._steps:
            values[step.name] = compute(step.layer, self._weights(step), [values[name] for name in step.sources])
        return values[self._last]

    def _weights(self, step: _Step) -> dict[str, Tensor]:
        return {role: self.get_buffer(place) for role, place in self._places[step.name].items()}

    def _dry_run(self) -> tuple[int, ...]:
        """The output's shape, found with no picture at all, so that no layer can ask for too much memory."""
        values = {"": torch.empty(0, *self.input_px, 3)}
        numbers = 0
        for step in self._steps:
            try:
                value = compute(step.layer, self._weights(step), [values[name] for name in step.sources])
            except Exception as error:  # whatever is wrong with it
                raise ValueError(f"layer {step.name!r} ({step.layer.kind}): {error or type(error).__name__}") from error
            numbers += math.prod(value.shape[1:])
            if numbers > _MOST_NUMBERS:
                raise ValueError(f"layer {step.name!r} gives {list(value.shape)}, more than any encoder does")
            values[step.name] = value
        return tuple(values[self._last].shape[1:])


def _input_px(model: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of what a model takes."""
    first = _layers_of(model)[0]
    if first["class_name"] in _MODELS and "batch_input_shape" not in _config(first):
        return _input_px(first)
    _, height, width, channels = _config(first)["batch_input_shape"]
    if channels != 3 or not all(isinstance(n, int) and 0 < n <= _MOST_SIDE_PX for n in (height, width)):
        raise ValueError(f"its input is of shape {[height, width, channels]}")
    return height, width


def _config(stated: Mapping[str, Any]) -> Mapping[str, Any]:
    """A layer's configuration; a sequential model's is the bare list of its layers in old files."""
    config = stated["config"]
    return config if isinstance(config, dict) else {"layers": config}


def _layers_of(model: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return _config(model)["layers"]


def _name(stated: Mapping[str, Any]) -> str:
    return str(stated.get("name") or _config(stated)["name"])


def _flattened(
    model: Mapping[str, Any], prefix: str, inputs: tuple[str, ...], group: str | None
) -> tuple[list[_Step], str]:
    """A model's layers, those of models in it included, and whose value is the model's.

    `inputs` are the values that the model takes, `group` the outermost layer that it is in.
    """
    if model["class_name"] not in _MODELS or len(inputs) != 1:
        raise ValueError(f"{model['class_name']!r} with {len(inputs)} inputs is not a model of one picture")
    steps: list[_Step] = []
    values: dict[str, str] = {}
    last = inputs[0]
    for stated, sources in _wired(model):
        name, kind = _name(stated), stated["class_name"]
        taken = (last,) if sources is None else tuple(values[source] for source in sources)
        if name in values:
            raise ValueError(f"two layers are called {name!r}")
        if kind == "InputLayer":
            last = inputs[0]
        elif kind in _MODELS:
            inner, last = _flattened(stated, f"{prefix}{name}/", taken, group or name)
            steps += inner
        else:
            last = prefix + name
            steps.append(_Step(last, _layer(kind, name, stated), taken, group or name))
        values[name] = last
    return steps, values[_end(model, "output_layers")] if model["class_name"] != "Sequential" else last


def _layer(kind: str, name: str, stated: Mapping[str, Any]) -> Layer:
    if kind in _CODE:
        raise ValueError(f"layer {name!r} is a {kind}: it holds program code, which is never run")
    if kind not in LAYERS:
        raise ValueError(f"layer {name!r} is a {kind}, which is not known; known are {', '.join(sorted(LAYERS))}")
    return Layer(kind, _config(stated))


def _wired(model: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], list[str] | None]]:
    """(layer, whose values it takes); None stands for the layer before it."""
    if model["class_name"] != "Sequential":
        _end(model, "input_layers")
    for stated in _layers_of(model):
        if model["class_name"] == "Sequential":
            yield stated, None
            continue
        nodes = stated["inbound_nodes"]
        if len(nodes) > 1:
            raise ValueError(f"layer {_name(stated)!r} is used {len(nodes)} times")
        sources = nodes[0] if nodes else []
        if any(index != 0 for _, _, index, *_ in sources):
            raise ValueError(f"layer {_name(stated)!r} takes the second value of another")
        yield stated, [source for source, *_ in sources]


def _end(model: Mapping[str, Any], key: str) -> str:
    """The one layer under "input_layers" or "output_layers"."""
    ends = _config(model)[key]
    if len(ends) != 1:
        raise ValueError(f"it has {len(ends)} {key.replace('_', ' ')}, not one")
    return ends[0][0]


def _handed_out(
    steps: Sequence[_Step], weights: Mapping[str, list[tuple[str, Tensor]]]
) -> Iterator[tuple[_Step, str, Tensor]]:
    """(layer, role, weight) in Keras's order.

    That is by position, as Keras itself reads them: names may bear the marks of the session that wrote them. In each
    group come what is trained in layers that are, then the rest layer by layer.
    """
    for group in dict.fromkeys(step.group for step in steps):
        inside = [step for step in steps if step.group == group]
        free = {step.name: step.layer.config.get("trainable", True) for step in inside}
        wanted = [(step, role) for step in inside if free[step.name] for role in _trained(step)]
        for step in inside:
            roles = MEASURED.get(step.layer.kind, ())
            wanted += [(step, role) for role in (roles if free[step.name] else (*_trained(step), *roles))]
        found = weights.get(group, [])
        if len(found) != len(wanted):
            raise ValueError(f"layer {group!r} has {len(found)} weights instead of {len(wanted)}")
        for (step, role), (name, tensor) in zip(wanted, found, strict=True):
            if not name.rpartition("/")[2].startswith(role):
                raise ValueError(f"{name!r} stands where the {role} of {step.name!r} should")
            yield step, role, tensor


def _trained(step: _Step) -> tuple[str, ...]:
    roles = TRAINED.get(step.layer.kind, ())
    return tuple(role for role in roles if step.layer.config.get(_SWITCHES.get(role, ""), True))
