"""What a pretended GPU does below autograd: the device of a tensor's storage, and a look at every operation."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_functorch: Any = torch._C.__dict__["_functorch"]
Kind = Literal["to_device", "to_host", "sync"]

CPU, CUDA, EITHER = "cpu", "cuda", "either"
_WAITING = frozenset(
    "_local_scalar_dense nonzero masked_select equal bincount _unique _unique2 unique_dim unique_consecutive "
    "_linalg_check_errors _linalg_eigh _linalg_svd linalg_lstsq".split()
)
"""Operations after which the CPU knows something of the GPU."""
_TF32 = {"convolution": "cudnn", "convolution_backward": "cudnn", "mm": "matmul", "bmm": "matmul", "addmm": "matmul"}
"""Operations that a GPU computes in TF32, and the flag that allows it."""
_INDEXING = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})
_STRICT = frozenset({"stack", "cat", "gather", "index_select", "scatter", "scatter_add", "index_add", "index_copy"})
"""Operations that take no CPU tensors, not even without dimensions."""


class Counts:
    """Of copies and waits, by kind and line."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[Kind, str]] = Counter()
        self.bytes: Counter[Kind] = Counter()
        """Copied in each direction."""
        self._lock = threading.Lock()

    @property
    def to_device(self) -> int:
        """Copies from the CPU to the GPU."""
        return self._total("to_device")

    @property
    def to_host(self) -> int:
        """Copies from the GPU to the CPU; the CPU waits for each."""
        return self._total("to_host")

    @property
    def syncs(self) -> int:
        """How often the CPU waited for a number or a size, without copies of tensors."""
        return self._total("sync")

    def lines(self, kind: Kind) -> dict[str, int]:
        """Line of code -> how often, the most frequent first."""
        return {line: count for (each, line), count in self.counts.most_common() if each == kind}

    def reset(self) -> None:
        """Count from zero."""
        self.counts.clear()
        self.bytes.clear()

    def count(self, kind: Kind, size_bytes: int = 0) -> None:
        """Note one event."""
        with self._lock:
            self.counts[kind, line_of_code()] += 1
            self.bytes[kind] += size_bytes

    def _total(self, kind: Kind) -> int:
        return sum(count for (each, _), count in self.counts.items() if each == kind)


class Operations(TorchDispatchMode):
    """Refuses operations across devices and marks what operations give."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts
        self.device: str | None = None

    @contextmanager
    def making(self, device: str) -> Iterator[None]:
        """What is made now belongs to a device, whatever it is made of."""
        before, self.device = self.device, device
        try:
            yield
        finally:
            self.device = before

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            if self.device is not None:
                return _marked(func(*args, **kwargs), self.device)
            name = func.overloadpacket.__name__
            if name == "set_":
                return func(*args, **kwargs)
            if name == "copy_":
                return self._copy_into(func, *args, **kwargs)
            by_device: dict[str, list[Tensor]] = {CPU: [], CUDA: [], EITHER: []}
            for x in tensors_in((args, kwargs)):
                by_device[device_of(x)].append(x)
            if by_device[CUDA]:
                if by_device[CPU]:
                    self._check(func, name, args, by_device[CPU])
                self._count(name, args)
            rounded = by_device[CUDA] and name in _TF32 and _allows_tf32(_TF32[name])
            out = func(*(_in_tf32(x) for x in args), **kwargs) if rounded else func(*args, **kwargs)
            device = next((device for device in (CUDA, CPU) if by_device[device]), EITHER)
            for x in by_device[EITHER]:
                mark(x, device if x.ndim else EITHER)
            return _marked(out, device) if device != CPU else out

    def _copy_into(self, func: Any, target: Tensor, source: Tensor, *args: Any, **kwargs: Any) -> Any:
        to, of = device_of(target), device_of(source)
        if to == EITHER:
            mark(target, of)
        elif of != EITHER and to != of:
            self.counts.count("to_device" if to == CUDA else "to_host", source.nbytes)
        return func(target, source, *args, **kwargs)

    def _check(self, func: Any, name: str, args: tuple[Any, ...], on_cpu: list[Tensor]) -> None:
        """`on_cpu`: the operation's inputs there, beside those of the GPU."""
        index = tensors_in(args[1]) if name in _INDEXING else []
        written = [
            x
            for arg, about in zip(args, func._schema.arguments, strict=False)
            if about.alias_info is not None and about.alias_info.is_write
            for x in tensors_in(arg)
        ]
        for x in on_cpu:
            if any(x is i for i in index):
                continue
            if x.ndim or name in _STRICT or any(x is w for w in written):
                raise RuntimeError(
                    f"{name}: Expected all tensors to be on the same device, but found at least two devices, "
                    f"cuda:0 and cpu! (cpu: {list(x.shape)}, at {line_of_code()})"
                )
        if index and device_of(args[0]) == CPU and args[0].ndim:
            raise RuntimeError(f"{name}: indices should be on the CPU or on the same device as the indexed tensor")

    def _count(self, name: str, args: Sequence[Any]) -> None:
        if name in _WAITING or (name == "repeat_interleave" and len(args) < 2):
            self.counts.count("sync")
        if name in _INDEXING:
            indices = tensors_in(args[1])
            for i in indices:
                if device_of(i) != CUDA:
                    self.counts.count("to_device", i.nbytes)
            selects = any(i.dtype in (torch.bool, torch.uint8) for i in indices)
            if selects and (name == "index" or args[2].numel() > 1):
                self.counts.count("sync")


def _allows_tf32(flag: str) -> bool:
    return bool(torch.backends.cudnn.allow_tf32 if flag == "cudnn" else torch.backends.cuda.matmul.allow_tf32)


def _in_tf32(x: Any) -> Any:
    """A float32 tensor with 10 bits of mantissa, to nearest."""
    if not isinstance(x, Tensor) or x.dtype != torch.float32:
        return x
    return ((x.contiguous().view(torch.int32) + (1 << 12)) & ~((1 << 13) - 1)).view(torch.float32).view_as(x)


def device_of(x: Tensor) -> str:
    """ "cpu", "cuda", or "either" of what torch made by itself."""
    while _functorch.is_functorch_wrapped_tensor(x):
        x = _functorch.get_unwrapped(x)
    return getattr(x.untyped_storage(), "fake_device", CPU) if x.layout == torch.strided else CPU


def mark(x: Tensor, device: str) -> Tensor:
    """Put a tensor's storage on a device."""
    storage: Any = x.untyped_storage()
    storage.fake_device = device
    return x


def _marked(out: Any, device: str) -> Any:
    for x in tensors_in(out):
        mark(x, device)
    return out


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    found: list[Tensor] = []
    _gather(value, found)
    return found


def _gather(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, tuple | list):
        for each in value:
            _gather(each, found)
    elif isinstance(value, dict):
        _gather(list(value.values()), found)


def line_of_code() -> str:
    """The innermost line of code that is neither torch's nor of these files."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        path = Path(frame.f_code.co_filename)
        if path.stem not in ("fake_cuda", "fake_cuda_operations", "contextlib") and "torch" not in path.parts:
            break
        frame = frame.f_back
    return f"{'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{frame.f_lineno}"
