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

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from fake_cuda_operations import CPU, CUDA, Counts, Operations, device_of, mark, tensors_in
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

_FACTORIES = frozenset(
    "arange as_tensor asarray empty empty_strided eye frombuffer full linspace logspace normal ones rand randint randn "
    "randperm scalar_tensor tensor tril_indices triu_indices zeros".split()
)
_COPYING_FACTORIES = frozenset({"tensor", "as_tensor", "asarray", "new_tensor"})
"""Those that copy numbers of the CPU."""


class FakeCuda(Counts):
    """The context, and what happened in it."""

    def __init__(self) -> None:
        super().__init__()
        self._patches = ExitStack()
        self._modes = ExitStack()

    def __enter__(self) -> FakeCuda:
        run, autocast = threading.Thread.run, torch.autocast

        def run_inside(thread: threading.Thread) -> None:
            with self._in_this_thread():
                run(thread)

        def autocast_on_cpu(device_type: str, *args: Any, **kwargs: Any) -> Any:
            return autocast(CPU if device_type == CUDA else device_type, *args, **kwargs)

        self._patches.enter_context(patch.object(threading.Thread, "run", run_inside))
        self._patches.enter_context(patch.object(torch, "autocast", autocast_on_cpu))
        self._patches.enter_context(patch.object(torch, "Generator", _Generator))
        for name, function in self._module().items():
            self._patches.enter_context(patch.object(torch.cuda, name, function))
        # Builds of torch with CUDA would ask the driver, which is not there, whether a graph is being captured.
        no_accelerator = patch.object(torch.accelerator, "current_accelerator", lambda check_available=False: None)
        self._patches.enter_context(no_accelerator)
        self._modes.enter_context(self._in_this_thread())
        return self

    def __exit__(self, *exception: object) -> None:
        self._modes.close()
        self._patches.close()

    @contextmanager
    def _in_this_thread(self) -> Iterator[None]:
        with Operations(self) as operations, _Functions(self, operations):
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

    def __new__(cls, device: Any = CPU) -> _Generator:
        return super().__new__(cls, CPU if _kind(device) == CUDA else device)  # pyright: ignore[reportCallIssue]

    def __init__(self, device: Any = CPU) -> None:
        self.fake_device = _kind(device)


class _Functions(TorchFunctionMode):
    """Rewrites what names a device."""

    def __init__(self, fake: FakeCuda, operations: Operations) -> None:
        super().__init__()
        self.fake, self.operations = fake, operations
        tensor: Any = Tensor
        self.special: dict[Any, Callable[..., Any]] = {
            tensor.device.__get__: lambda x: torch.device("cuda", 0) if device_of(x) == CUDA else x.device,
            tensor.is_cuda.__get__: lambda x: device_of(x) == CUDA,
            tensor.is_cpu.__get__: lambda x: device_of(x) != CUDA and x.is_cpu,
            tensor.get_device: lambda x: 0 if device_of(x) == CUDA else x.get_device(),
            tensor.to: self._to,
            tensor.cuda: lambda x, *_, **__: self._moved(x, CUDA),
            tensor.cpu: lambda x, *_, **__: self._moved(x, CPU),
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
        if named not in (None, CPU, CUDA):
            return func(*args, **kwargs)
        if name == "as_tensor" and isinstance(args[0], Tensor):
            return self._to(*args, **kwargs)
        own = device_of(args[0]) if name == "new_tensor" else CPU
        return self._made(func, name, args, kwargs, named or own)

    def _made(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], device: str) -> Any:
        """A new tensor on a device."""
        self._check_generator(args, kwargs, device)
        if kwargs.get("device") is not None:
            kwargs["device"] = CPU
        with self.operations.making(device):
            made = func(*args, **kwargs)
        for each in tensors_in(made):
            mark(each, device)
            if device == CUDA and name in _COPYING_FACTORIES:
                self.fake.count("to_device", each.nbytes)
        return made

    def _check_generator(self, args: tuple[Any, ...], kwargs: dict[str, Any], device: str | None) -> None:
        generator = kwargs.get("generator")
        if generator is None:
            return
        drawn = device or next((device_of(x) for x in tensors_in(args)), CPU)
        if drawn != (own := getattr(generator, "fake_device", CPU)):
            raise RuntimeError(f"Expected a '{drawn}' device type for generator but found '{own}'")

    def _to(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        device, plain = None, []
        if (other := kwargs.pop("other", None)) is not None:
            args = (other, *args)
        for arg in args:
            if isinstance(arg, Tensor):
                device = device_of(arg)
                plain += [torch.device(CPU), arg.dtype]
            elif isinstance(arg, str | torch.device) or type(arg) is int:
                device = _kind(arg)
                plain.append(torch.device(CPU) if device == CUDA else arg)
            else:
                plain.append(arg)
        if kwargs.get("device") is not None:
            device = _kind(kwargs["device"])
            kwargs["device"] = CPU if device == CUDA else kwargs["device"]
        return self._moved(x.to(*plain, **kwargs), device)

    def _moved(self, x: Tensor, device: str | None) -> Tensor:
        if device not in (CPU, CUDA) or device == device_of(x) or x.is_meta:
            return x
        return _Transfer.apply(x, device, self.fake)  # pyright: ignore[reportReturnType]

    def _tolist(self, x: Tensor) -> Any:
        if device_of(x) == CUDA:
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
    fake.count("to_device" if device == CUDA else "to_host", x.nbytes)
    with _disable_current_modes():
        return mark(x.detach().clone(), device)


def _kind(device: Any) -> str | None:
    """The type of what names a device."""
    if device is None:
        return None
    return CUDA if isinstance(device, int) else torch.device(device).type


def _readable(x: Tensor) -> Tensor:
    if device_of(x) == CUDA:
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )
    return x
