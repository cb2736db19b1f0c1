"""The base of networks that call their tensors by the names they have in a file."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-5
"""What torch's batch normalisations add to the variance."""
NORM_PARTS = ("running_mean", "running_var", "weight", "bias")
"""The tensors of a batch normalisation."""


class NamedTensors(nn.Module):
    """Tensors by name, as float32 buffers, and the layers that they make up."""

    def keep(self, name: str, tensor: Tensor) -> None:
        """Store a tensor. Names may contain dots."""
        self.register_buffer(name.replace(".", "_"), tensor.detach().float())

    def get(self, name: str) -> Tensor:
        """The tensor of a name. Raises `KeyError`."""
        found = self._buffers.get(name.replace(".", "_"))
        if found is None:
            raise KeyError(name)
        return found

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return self._buffers.get(name.replace(".", "_")) is not None

    def fold(self, tensors: Mapping[str, Tensor], conv: str, norm: str, eps: float = EPS) -> None:
        """Store a convolution or dense layer and the batch normalisation behind it as one layer, `conv`.

        Where there is no `norm` among the tensors, it has been folded already. Raises `KeyError`, or `ValueError` where
        a tensor is empty or of a wrong shape.
        """
        weight, bias = tensors[f"{conv}.weight"], tensors.get(f"{conv}.bias")
        if weight.numel() == 0 or (weight.ndim == 4 and weight.shape[2] != weight.shape[3]):
            raise ValueError(f"the tensor '{conv}.weight' is {list(weight.shape)}")
        names = [f"{norm}.{part}" for part in NORM_PARTS] if bias is None or f"{norm}.running_mean" in tensors else []
        for name in (*names, *([] if bias is None else [f"{conv}.bias"])):
            if tensors[name].shape != weight.shape[:1]:
                raise ValueError(f"the tensor {name!r} is {list(tensors[name].shape)}, not [{len(weight)}]")
        if names:
            mean, variance, gain, shift = (tensors[name].double() for name in names)
            gain = gain / (variance + eps).sqrt()
            weight = weight.double() * gain.view(-1, *[1] * (weight.ndim - 1))
            bias = shift + ((0 if bias is None else bias.double()) - mean) * gain
        assert bias is not None
        self.keep(f"{conv}.weight", weight)
        self.keep(f"{conv}.bias", bias)

    def conv(self, x: Tensor, name: str, stride: int = 1, dilation: int = 1) -> Tensor:
        """A convolution, depthwise where the kernel is, of as many pixels as came in (over the stride)."""
        weight, bias = self.get(f"{name}.weight"), f"{name}.bias"
        padding = dilation * (weight.shape[-1] // 2)
        groups = x.shape[1] if weight.shape[1] == 1 else 1
        return F.conv2d(x, weight, self.get(bias) if self.has(bias) else None, stride, padding, dilation, groups)

    def norm(self, x: Tensor, name: str) -> Tensor:
        """A batch normalisation by its stored statistics."""
        mean, variance, weight, bias = (self.get(f"{name}.{part}") for part in NORM_PARTS)
        return F.batch_norm(x, mean, variance, weight, bias, eps=EPS)
