"""The pretended GPU: it refuses what CUDA refuses, counts what CUDA waits for, and computes what the CPU computes."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from fake_cuda import FakeCuda
from fake_cuda_operations import device_of
from torch import Tensor, nn
from torch.nn import functional as F


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    with FakeCuda() as fake:
        yield fake


def test_a_tensor_says_where_it_is(cuda: FakeCuda) -> None:
    here, there = torch.ones(2), torch.ones(2).to("cuda")
    assert (here.device.type, there.device.type) == ("cpu", "cuda")
    assert there.is_cuda and not there.is_cpu and here.is_cpu and there.get_device() == 0
    for same in (there[1:], there.view(2, 1), there.detach(), there + 1, there.float(), there.to(here.dtype)):
        assert same.device == torch.device("cuda", 0)
    for made in (
        torch.zeros(2, device="cuda"),
        torch.zeros_like(there),
        there.new_ones(3),
        torch.arange(3.0).to(there),
    ):
        assert made.is_cuda
    for back in (there.cpu(), there.to("cpu"), torch.zeros_like(there, device="cpu"), torch.eye(2)):
        assert back.is_cpu
    assert torch.ones(2).cuda().is_cuda and torch.cuda.is_available()


def test_outside_nothing_is_left_of_it() -> None:
    available = torch.cuda.is_available()
    with FakeCuda():
        there = torch.ones(2).to("cuda")
    assert there.device.type == "cpu" and torch.cuda.is_available() == available


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, there: here + there,
        lambda here, there: there @ here,
        lambda here, there: torch.stack([here, there]),
        lambda here, there: torch.where(here > 0, there, 0.0),
        lambda here, there: F.conv2d(there[None, None], here[None, None]),
        lambda here, there: here.add_(there),
        lambda here, there: here[there.long()],
        lambda here, there: torch.stack([torch.tensor(1.0), there[0, 0]]),
        lambda here, there: here[0, 0].add_(there[0, 0]),
        lambda here, there: torch.add(there, there, out=here),
        lambda here, there: F.interpolate(there[None, None], (4, 4)) + F.interpolate(here[None, None], (4, 4)),
    ],
)
def test_devices_do_not_mix(cuda: FakeCuda, mixed: Callable[[Tensor, Tensor], Tensor]) -> None:
    here, there = torch.ones(2, 2), torch.ones(2, 2, device="cuda")
    mixed(here.clone(), here.clone())
    with pytest.raises(RuntimeError, match="same device"):
        mixed(here, there)


def test_a_number_on_the_cpu_mixes(cuda: FakeCuda) -> None:
    there = torch.ones(3, device="cuda")
    assert (there * torch.tensor(2.0)).is_cuda and torch.where(there > 0, torch.tensor(0.5), there).is_cuda
    assert there.mul_(torch.tensor(2.0)).is_cuda and there.clamp(min=0).is_cuda
    assert there.expand_as(torch.zeros(2, 3)).is_cuda and cuda.to_device == 0


def test_gradients_lie_where_their_leaves_do(cuda: FakeCuda) -> None:
    leaf, other = torch.ones(3, requires_grad=True), torch.ones(3, device="cuda", requires_grad=True)
    loss = (leaf.to("cuda") * other).square().sum()
    on_cpu, on_cuda = torch.autograd.grad(loss, (leaf, other))
    assert on_cpu.is_cpu and on_cuda.is_cuda
    (other.exp().unbind()[0] + other.std()).backward()
    assert other.grad is not None and other.grad.is_cuda
    assert cuda.to_device == 1 and cuda.to_host == 1


def test_numpy_does_not_see_it(cuda: FakeCuda) -> None:
    there = torch.ones(2, device="cuda")
    for see in (lambda: there.numpy(), lambda: np.asarray(there), lambda: np.from_dlpack(there)):
        with pytest.raises(TypeError, match="cuda:0"):
            see()
    assert there.cpu().numpy().sum() == 2 and np.asarray(torch.ones(2)).sum() == 2


def test_draws_need_a_generator_of_their_device(cuda: FakeCuda) -> None:
    draw = torch.Generator().manual_seed(0)
    for wrong in (
        lambda: torch.randn(2, generator=draw, device="cuda"),
        lambda: torch.zeros(2, device="cuda").normal_(generator=draw),
    ):
        with pytest.raises(RuntimeError, match="generator"):
            wrong()
    assert torch.randn(2, generator=draw).to("cuda").is_cuda
    draw = torch.Generator("cuda").manual_seed(0)
    assert torch.randn(2, generator=draw, device="cuda").is_cuda
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(2, generator=draw)


def test_copies_are_counted(cuda: FakeCuda) -> None:
    there = torch.ones(4, 2).to("cuda")
    assert (cuda.to_device, cuda.to_host, cuda.syncs) == (1, 0, 0) and cuda.bytes["to_device"] == 32
    torch.tensor([1.0, 2.0], device="cuda")
    there.new_tensor([1.0])
    there.copy_(torch.zeros(4, 2))
    there[torch.tensor([0, 1])]
    assert cuda.to_device == 5
    there.cpu()
    torch.zeros(4, 2).copy_(there)
    assert cuda.to_host == 2
    assert all(x.is_cuda for x in (there.to("cuda"), torch.zeros(3, device="cuda"), there[1:, None]))
    assert (cuda.to_device, cuda.to_host, cuda.syncs) == (5, 2, 0)
    assert set(cuda.lines("to_host")) == {line for line in cuda.lines("to_host") if "test_fake_cuda.py" in line}


def test_waits_are_counted(cuda: FakeCuda) -> None:
    there = torch.eye(3, device="cuda")
    waits = [
        lambda: float(there[0, 0]),
        lambda: bool((there > 0).any()),
        lambda: there[0, 0].item(),
        lambda: there.tolist(),
        lambda: there.nonzero(),
        lambda: there[there > 0],
        lambda: torch.linalg.cholesky(there),
        lambda: torch.linalg.eigh(there),
        lambda: torch.equal(there, there),
        lambda: torch.cuda.synchronize(),
    ]
    for number, wait in enumerate(waits, start=1):
        wait()
        assert cuda.syncs == number
    here = torch.eye(3)
    for free in (here.tolist, here[0, 0].item, here.nonzero, lambda: torch.where(there > 0, 1.0, there)):
        free()
    assert cuda.syncs == len(waits) and cuda.to_host == 0
    cuda.reset()
    assert cuda.syncs == 0


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2)
    return nn.Sequential(*layers).eval()


def test_modules_move_with_their_weights(cuda: FakeCuda) -> None:
    moved = net().to("cuda")
    assert all(x.is_cuda for x in moved.state_dict().values())
    assert all(isinstance(x, nn.Parameter) for x in moved.parameters())
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(moved(x.to("cuda")).cpu(), net()(x), rtol=0, atol=2e-3)
    with pytest.raises(RuntimeError, match="same device"):
        moved(x)
    copied = copy.deepcopy(moved)
    assert all(x.is_cuda for x in copied.state_dict().values())
    copied.load_state_dict(net().state_dict())
    assert all(x.is_cuda for x in copied.state_dict().values()) and copied.to("cpu")(x).is_cpu


@pytest.mark.parametrize("name", ["Adam", "LBFGS"])
def test_an_optimiser_takes_the_steps_that_it_takes_on_the_cpu(cuda: FakeCuda, name: str) -> None:
    def searched(device: str) -> Tensor:
        w, target = torch.zeros(2, 3, device=device, requires_grad=True), torch.arange(6.0).view(2, 3).to(device)
        optimiser = getattr(torch.optim, name)([w], 0.05)

        def measure() -> Tensor:
            optimiser.zero_grad()
            loss = (w.exp() - target).square().sum()
            loss.backward()
            return loss

        for _ in range(5):
            optimiser.step(measure)
        return w.detach()

    here, there = searched("cpu"), searched("cuda")
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), here)


def test_autocast_rounds(cuda: FakeCuda) -> None:
    x, weight = torch.rand(1, 3, 8, 8, device="cuda"), torch.rand(4, 3, 3, 3, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        out = F.conv2d(x, weight)
    assert out.dtype == torch.bfloat16 and out.is_cuda


def test_convolutions_round_to_tf32_where_they_may(cuda: FakeCuda) -> None:
    x, weight = torch.rand(1, 3, 8, 8), torch.rand(4, 3, 3, 3)
    here, there = F.conv2d(x, weight), F.conv2d(x.to("cuda"), weight.to("cuda")).cpu()
    assert 2e-5 < float((there / here - 1).abs().max()) < 2**-10
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        assert torch.equal(F.conv2d(x.to("cuda"), weight.to("cuda")).cpu(), here)
    assert torch.equal((x.to("cuda") @ x.to("cuda")).cpu(), x @ x)


def test_threads_take_part(cuda: FakeCuda) -> None:
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(str((torch.ones(2).to("cuda") + 1).device)))
    thread.start()
    thread.join()
    assert seen == ["cuda:0"] and cuda.to_device == 1


def test_sampling_and_batches_of_vectors(cuda: FakeCuda) -> None:
    x = torch.rand(1, 3, 8, 8, device="cuda")
    grid = torch.zeros(1, 4, 4, 2)
    with pytest.raises(RuntimeError, match="same device"):
        F.grid_sample(x, grid, align_corners=False)
    assert F.grid_sample(x, grid.to(x), align_corners=False).is_cuda
    rows = torch.func.vmap(lambda row: (row * 2).sum() + torch.zeros((), device=row.device))(x[0, 0])
    assert rows.is_cuda and device_of(rows) == "cuda"
