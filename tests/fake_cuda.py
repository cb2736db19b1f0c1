"""A pretended GPU: tensors in CPU memory that say they are on `cuda:0`, for machines that have none.

Inside `with FakeCuda() as cuda:`

- `.to("cuda")`, `.cuda()`, `torch.zeros(..., device="cuda")` and the like give tensors whose `.device` is `cuda:0`, and
  so does every operation on them, also those of the backward pass. Their numbers are computed by the CPU.
- An operation on tensors of both devices raises what CUDA raises. Only CPU tensors without dimensions may take part,
  and CPU indices may select from a CUDA tensor.
- `.numpy()` and `np.asarray` of a CUDA tensor raise, and so does a draw from a generator of the other device.
- Copies between the devices and operations that make the CPU wait for the GPU are counted, by the line that asked.
- `torch.autocast("cuda")` is autocast of the CPU, so that bfloat16 is real, and convolutions round to TF32 where torch
  is allowed to, as it is by default.
- `torch.cuda.is_available()` is true.
- Threads that are started inside take part.

How it works: the device is a mark on a tensor's storage, so that views share it. A `TorchFunctionMode` rewrites what
names a device in Python, and a `TorchDispatchMode` looks at every operation below autograd. Tensors that torch itself
makes on the way, without any input, belong to whichever device they first meet. What it cannot show: the kernels,
rounding and memory of a real GPU, and Python code that the backward pass runs reads `cpu` as the device.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Literal
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

_functorch: Any = torch._C.__dict__["_functorch"]
Kind = Literal["to_device", "to_host", "sync"]

_CPU, _CUDA, _EITHER = "cpu", "cuda", "either"
_FACTORIES = frozenset(
    "arange as_tensor asarray empty empty_strided eye frombuffer full linspace logspace normal ones rand randint randn "
    "randperm scalar_tensor tensor tril_indices triu_indices zeros".split()
)
_COPYING_FACTORIES = frozenset({"tensor", "as_tensor", "asarray", "new_tensor"})
"""Those that copy numbers of the CPU."""
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


class FakeCuda:
    """The context; `counts` holds what happened in it, by kind and line."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[Kind, str]] = Counter()
        self.bytes: Counter[Kind] = Counter()
        """Copied in each direction."""
        self._lock = threading.Lock()
        self._patches = ExitStack()
        self._modes = ExitStack()

    def __enter__(self) -> FakeCuda:
        run, autocast = threading.Thread.run, torch.autocast

        def run_inside(thread: threading.Thread) -> None:
            with self._in_this_thread():
                run(thread)

        def autocast_on_cpu(device_type: str, *args: Any, **kwargs: Any) -> Any:
            return autocast(_CPU if device_type == _CUDA else device_type, *args, **kwargs)

        self._patches.enter_context(patch.object(threading.Thread, "run", run_inside))
        self._patches.enter_context(patch.object(torch, "autocast", autocast_on_cpu))
        self._patches.enter_context(patch.object(torch, "Generator", _Generator))
        for name, function in self._module().items():
            self._patches.enter_context(patch.object(torch.cuda, name, function))
        self._modes.enter_context(self._in_this_thread())
        return self

    def __exit__(self, *exception: object) -> None:
        self._modes.close()
        self._patches.close()

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
            self.counts[kind, _line()] += 1
            self.bytes[kind] += size_bytes

    def _total(self, kind: Kind) -> int:
        return sum(count for (each, _), count in self.counts.items() if each == kind)

    @contextmanager
    def _in_this_thread(self) -> Iterator[None]:
        with _Operations(self) as operations, _Functions(self, operations):
            yield

    def _module(self) -> dict[str, Callable[..., Any]]:
        """What `torch.cuda` answers."""
        return {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "get_device_name": lambda *_: "a pretended GPU",
            "get_device_capability": lambda *_: (9, 0),
            "get_device_properties": lambda *_: SimpleNamespace(name="a pretended GPU", total_memory=1 << 34),
            "is_bf16_supported": lambda *_, **__: True,
            "is_current_stream_capturing": lambda: False,
            "synchronize": lambda *_: self.count("sync"),
            "empty_cache": lambda: None,
            "reset_peak_memory_stats": lambda *_: None,
            "max_memory_allocated": lambda *_: 0,
        }


class _Generator(torch.Generator):
    """One of the CPU that says where it is."""

    def __new__(cls, device: Any = _CPU) -> _Generator:
        return super().__new__(cls, _CPU if _kind(device) == _CUDA else device)  # pyright: ignore[reportCallIssue]

    def __init__(self, device: Any = _CPU) -> None:
        self.fake_device = _kind(device)


class _Functions(TorchFunctionMode):
    """Rewrites what names a device."""

    def __init__(self, fake: FakeCuda, operations: _Operations) -> None:
        super().__init__()
        self.fake, self.operations = fake, operations
        tensor: Any = Tensor
        self.special: dict[Any, Callable[..., Any]] = {
            tensor.device.__get__: lambda x: torch.device("cuda", 0) if device_of(x) == _CUDA else x.device,
            tensor.is_cuda.__get__: lambda x: device_of(x) == _CUDA,
            tensor.is_cpu.__get__: lambda x: device_of(x) != _CUDA and x.is_cpu,
            tensor.get_device: lambda x: 0 if device_of(x) == _CUDA else x.get_device(),
            tensor.to: self._to,
            tensor.cuda: lambda x, *_, **__: self._moved(x, _CUDA),
            tensor.cpu: lambda x, *_, **__: self._moved(x, _CPU),
            tensor.type_as: lambda x, other: self._to(x, other),
            tensor.numpy: lambda x, *args, **kwargs: _readable(x).numpy(*args, **kwargs),
            tensor.__array__: lambda x, *args, **kwargs: _readable(x).__array__(*args, **kwargs),
            tensor.__dlpack__: lambda x, *args, **kwargs: _readable(x).__dlpack__(*args, **kwargs),
            tensor.tolist: self._tolist,
            tensor.__deepcopy__: _deepcopied,
        }

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if (special := self.special.get(func)) is not None:
            return special(*args, **kwargs)
        name = getattr(func, "__name__", "")
        named = _kind(kwargs.get("device"))
        if named is None and name not in _FACTORIES and name != "new_tensor":
            self._check_generator(args, kwargs, None)
            return func(*args, **kwargs)
        if named not in (None, _CPU, _CUDA):
            return func(*args, **kwargs)
        if name == "as_tensor" and isinstance(args[0], Tensor):
            return self._to(*args, **kwargs)
        own = device_of(args[0]) if name == "new_tensor" else _CPU
        return self._made(func, name, args, kwargs, named or own)

    def _made(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], device: str) -> Any:
        """A new tensor on a device."""
        self._check_generator(args, kwargs, device)
        if kwargs.get("device") is not None:
            kwargs["device"] = _CPU
        with self.operations.making(device):
            made = func(*args, **kwargs)
        for each in _tensors(made):
            mark(each, device)
            if device == _CUDA and name in _COPYING_FACTORIES:
                self.fake.count("to_device", each.nbytes)
        return made

    def _check_generator(self, args: tuple[Any, ...], kwargs: dict[str, Any], device: str | None) -> None:
        generator = kwargs.get("generator")
        if generator is None:
            return
        drawn = device or next((device_of(x) for x in _tensors(args)), _CPU)
        if drawn != (own := getattr(generator, "fake_device", _CPU)):
            raise RuntimeError(f"Expected a '{drawn}' device type for generator but found '{own}'")

    def _to(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        device, plain = None, []
        if (other := kwargs.pop("other", None)) is not None:
            args = (other, *args)
        for arg in args:
            if isinstance(arg, Tensor):
                device = device_of(arg)
                plain += [torch.device(_CPU), arg.dtype]
            elif isinstance(arg, str | torch.device) or type(arg) is int:
                device = _kind(arg)
                plain.append(torch.device(_CPU) if device == _CUDA else arg)
            else:
                plain.append(arg)
        if kwargs.get("device") is not None:
            device = _kind(kwargs["device"])
            kwargs["device"] = _CPU if device == _CUDA else kwargs["device"]
        return self._moved(x.to(*plain, **kwargs), device)

    def _moved(self, x: Tensor, device: str | None) -> Tensor:
        if device not in (_CPU, _CUDA) or device == device_of(x) or x.is_meta:
            return x
        return _Transfer.apply(x, device, self.fake)  # pyright: ignore[reportReturnType]

    def _tolist(self, x: Tensor) -> Any:
        if device_of(x) == _CUDA:
            self.fake.count("sync")
        return x.tolist()


class _Transfer(torch.autograd.Function):
    """A copy on the other device; the gradient goes back the same way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, device: str, fake: FakeCuda) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.origin, ctx.fake = device_of(x), fake
        return _copied(x, device, fake)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _copied(gradient, ctx.origin, ctx.fake), None, None


def _deepcopied(x: Tensor, memo: dict[int, Any]) -> Tensor:
    with _disable_current_modes():
        return mark(x.__deepcopy__(memo), device_of(x))


def _copied(x: Tensor, device: str, fake: FakeCuda) -> Tensor:
    fake.count("to_device" if device == _CUDA else "to_host", x.nbytes)
    with _disable_current_modes():
        return mark(x.detach().clone(), device)


class _Operations(TorchDispatchMode):
    """Refuses operations across devices and marks what operations give."""

    def __init__(self, fake: FakeCuda) -> None:
        super().__init__()
        self.fake = fake
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
            by_device: dict[str, list[Tensor]] = {_CPU: [], _CUDA: [], _EITHER: []}
            for x in _tensors((args, kwargs)):
                by_device[device_of(x)].append(x)
            if by_device[_CUDA]:
                if by_device[_CPU]:
                    self._check(func, name, args, by_device[_CPU])
                self._count(name, args)
            rounded = by_device[_CUDA] and name in _TF32 and _allows_tf32(_TF32[name])
            out = func(*(_in_tf32(x) for x in args), **kwargs) if rounded else func(*args, **kwargs)
            device = next((device for device in (_CUDA, _CPU) if by_device[device]), _EITHER)
            for x in by_device[_EITHER]:
                mark(x, device if x.ndim else _EITHER)
            return _marked(out, device) if device != _CPU else out

    def _copy_into(self, func: Any, target: Tensor, source: Tensor, *args: Any, **kwargs: Any) -> Any:
        to, of = device_of(target), device_of(source)
        if to == _EITHER:
            mark(target, of)
        elif of != _EITHER and to != of:
            self.fake.count("to_device" if to == _CUDA else "to_host", source.nbytes)
        return func(target, source, *args, **kwargs)

    def _check(self, func: Any, name: str, args: tuple[Any, ...], on_cpu: list[Tensor]) -> None:
        """`on_cpu`: the operation's inputs there, beside those of the GPU."""
        index = _tensors(args[1]) if name in _INDEXING else []
        written = [
            x
            for arg, about in zip(args, func._schema.arguments, strict=False)
            if about.alias_info is not None and about.alias_info.is_write
            for x in _tensors(arg)
        ]
        for x in on_cpu:
            if any(x is i for i in index):
                continue
            if x.ndim or name in _STRICT or any(x is w for w in written):
                raise RuntimeError(
                    f"{name}: Expected all tensors to be on the same device, but found at least two devices, "
                    f"cuda:0 and cpu! (cpu: {list(x.shape)}, at {_line()})"
                )
        if index and device_of(args[0]) == _CPU and args[0].ndim:
            raise RuntimeError(f"{name}: indices should be on the CPU or on the same device as the indexed tensor")

    def _count(self, name: str, args: Sequence[Any]) -> None:
        if name in _WAITING or (name == "repeat_interleave" and len(args) < 2):
            self.fake.count("sync")
        if name in _INDEXING:
            indices = _tensors(args[1])
            for i in indices:
                if device_of(i) != _CUDA:
                    self.fake.count("to_device", i.nbytes)
            selects = any(i.dtype in (torch.bool, torch.uint8) for i in indices)
            if selects and (name == "index" or args[2].numel() > 1):
                self.fake.count("sync")


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
    return getattr(x.untyped_storage(), "fake_device", _CPU) if x.layout == torch.strided else _CPU


def mark(x: Tensor, device: str) -> Tensor:
    """Put a tensor's storage on a device."""
    storage: Any = x.untyped_storage()
    storage.fake_device = device
    return x


def _marked(out: Any, device: str) -> Any:
    for x in _tensors(out):
        mark(x, device)
    return out


def _tensors(value: Any) -> list[Tensor]:
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


def _kind(device: Any) -> str | None:
    """The type of what names a device."""
    if device is None:
        return None
    return _CUDA if isinstance(device, int) else torch.device(device).type


def _readable(x: Tensor) -> Tensor:
    if device_of(x) == _CUDA:
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )
    return x


def _line() -> str:
    """The innermost line of code that is neither torch's nor of this file."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        path = frame.f_code.co_filename
        if path != __file__ and "/torch/" not in path and not path.endswith("contextlib.py"):
            break
        frame = frame.f_back
    return f"{'/'.join(frame.f_code.co_filename.split('/')[-2:])}:{frame.f_lineno}"
