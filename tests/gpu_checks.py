"""What a GPU must compute as the CPU does. `test_devices.py` runs these checks on a pretended one, `test_cuda.py` on a
real one: their classes inherit `GpuChecks`, and their fixture `gpu` makes `.to("cuda")` possible.
"""

from __future__ import annotations

import copy
import gc
import json
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_encoder import encoder_tensors
from small_fan import small_fan
from small_iresnet import small_iresnet
from small_lpips import Weights
from small_mobilefacenet import small_weights
from small_stylegan2 import discriminator_tensors, generator_tensors, without_mapping
from synthetic import all_skin, head, paint, photograph
from torch import Tensor, nn

from ostec import cli
from ostec.bench.scores import psnr_db
from ostec.completion.mirror import MirrorCompleter
from ostec.completion.projection.completer import ProjectionCompleter
from ostec.completion.projection.loss import WEIGHTS, Target, ViewLoss
from ostec.completion.projection.pivotal_tuning import tuned_pictures
from ostec.completion.projection.pyramid import Pyramid
from ostec.completion.projection.search import ORIGINAL, PLANS, Plan, SearchResult, search
from ostec.completion.projection.starts import MapStart, best_random_latents
from ostec.completion.projection.view_search import SearchRequest, ViewSearch
from ostec.geometry.raster import rasterise
from ostec.geometry.texels import bake_texels
from ostec.interfaces import LossNetworks
from ostec.landmarks.facemesh_landmarks import load_mesh_landmarks
from ostec.landmarks.fan import Fan
from ostec.networks.face_encoder import FaceEncoder
from ostec.networks.identity import embeddings
from ostec.networks.iresnet import IResNet
from ostec.networks.mobilefacenet import MobileFaceNet
from ostec.networks.stylegan2 import Generator
from ostec.networks.stylegan2_discriminator import Discriminator
from ostec.settings import SearchSettings, Settings
from ostec.texture.unwrap import TRUSTED, unwrap
from ostec.texture.views import PHOTO_PRIORITY, plan_views, shoot
from ostec.types import Atlas, Completed, Face
from ostec.weights.shipped import DATA_DIR

SIDE_PX, TEXTURE_PX = 64, 96
STEPS = 5


def exactly() -> AbstractContextManager[None]:
    """Convolutions in float32; a GPU otherwise rounds to TF32, with 10 bits."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


@cache
def generator(normal_latents: bool = False) -> Generator:
    """A small one with random weights, on the CPU."""
    tensors = generator_tensors(resolution=SIDE_PX, channels=8)
    return Generator(without_mapping(tensors) if normal_latents else tensors)


@cache
def modules() -> dict[str, nn.Module]:
    """Name -> network of the loss or of its start, small, with random weights, on the CPU."""
    torch.manual_seed(0)
    return {
        "encoder": FaceEncoder(encoder_tensors(generator().num_ws)).eval(),
        "mobilefacenet": MobileFaceNet(small_weights()),
        "landmarks": load_mesh_landmarks(),
        "heat_maps": Fan(small_fan().state_dict()),
        "identity": IResNet(small_iresnet().state_dict()),
        "perception": Weights().lpips(),
        "discriminator": Discriminator(discriminator_tensors(resolution=SIDE_PX, channels=8)),
    }


def loss_networks(device: str, *others: str) -> LossNetworks:
    """Those of identity and perception, which take little time, and others by name."""
    names = ("identity", "perception", *others)
    moved: dict[str, Any] = {name: on(modules()[name], device) for name in names}
    identity = moved.pop("identity")
    return LossNetworks(identity=lambda pictures, landmarks_px: embeddings(identity, pictures, landmarks_px), **moved)


def on(module: nn.Module, device: str) -> Any:
    """A copy of a network on a device."""
    return copy.deepcopy(module).to(device).requires_grad_(False)


@cache
def scene(yaw_deg: float = 20.0) -> tuple[Face, Atlas]:
    """The painted head, and what its photo shows."""
    reconstruction = head(yaw_deg)
    photo = photograph(reconstruction, paint(TEXTURE_PX))
    texels = bake_texels(reconstruction, (TEXTURE_PX, TEXTURE_PX), rasterise)
    seen = unwrap(photo.rgb, reconstruction.camera, reconstruction, texels, rasterise, all_skin())
    face = Face(photo, reconstruction, all_skin(), texels, "soft")
    return face, Atlas().add("photo", seen, PHOTO_PRIORITY["soft"], "photo")


@cache
def shots(count: int = 2) -> Any:
    """Views of the painted head, rendered."""
    face, atlas = scene()
    known, rgb = (atlas.photo.confidence >= TRUSTED).float(), atlas.photo.rgb
    return tuple(shoot(face.reconstruction, rgb, known, v, SIDE_PX, rasterise) for v in plan_views("hard")[:count])


def target(device: str) -> Target:
    """Of two views, with identities."""
    identity = torch.nn.functional.normalize(torch.arange(16.0) - 7.3, dim=0)[None]
    return Target.from_shots(shots(), identity, torch.device(device))


def view_loss(device: str, *others: str) -> ViewLoss:
    return ViewLoss(target(device), loss_networks(device, *others), on(generator(), device).w_avg, WEIGHTS)


def latents(device: str, views: int = 2, seed: int = 3) -> Tensor:
    """[N, L, W]: near the mean one, alike on all devices."""
    draw = torch.randn(views, generator().num_ws, 8, generator=torch.Generator().manual_seed(seed))
    return (generator().w_avg + 0.5 * draw).to(device)


def prepared(device: str) -> Callable[[Plan, int], SearchResult]:
    """A search of two views from the mean latent, its networks and target already on the device."""
    pyramid, loss = Pyramid(on(generator(), device)), view_loss(device)
    start = pyramid.generator.w_avg.repeat(2, generator().num_ws, 1)
    return lambda plan, steps: search(pyramid, loss, start, plan, steps, seed=0)


def completer(device: str, *networks: str, normal_latents: bool = False) -> ProjectionCompleter:
    """With a search by these networks too."""
    made, encoder = on(generator(normal_latents), device), on(modules()["encoder"], device)
    views = ViewSearch(made, loss_networks(device, *networks), encoder)
    return ProjectionCompleter(views, MirrorCompleter(), rasterise)


def settings(frontalize: bool = False, **changes: Any) -> Settings:
    searches = SearchSettings(**{"iterations": STEPS, "iterations_frontalize": 2, **changes})
    return Settings(texture_size=TEXTURE_PX, frontalize=frontalize, frontal_size=SIDE_PX, search=searches)


@torch.no_grad()
def completed(parts: Any, chosen: Settings, yaw_deg: float = 20.0) -> Completed:
    return parts(*scene(yaw_deg), chosen, lambda *_: None)


def alike_db(one: Tensor, other: Tensor) -> float:
    """PSNR of two pictures [..., 3, H, W] in 0..1."""
    one, other = (x.detach().float().cpu().reshape(1, -1) for x in (one, other))
    return psnr_db(one, other, torch.ones_like(one[0], dtype=torch.bool))


def close(one: Any, other: Any, rtol: float = 2e-3) -> None:
    """Numbers agree, relative to the largest."""
    one, other = (torch.as_tensor(x).detach().float().cpu() for x in (one, other))
    torch.testing.assert_close(one, other, rtol=rtol, atol=rtol * float(other.abs().max()))


class GpuChecks:
    """The checks. Bits may differ from those of the CPU, so what is compared after many steps is compared loosely."""

    @pytest.mark.parametrize("name", sorted(modules()))
    def test_a_network_and_its_gradient(self, gpu: Any, name: str) -> None:
        def values(device: str) -> list[Tensor]:
            net, pictures = on(modules()[name], device), torch.rand(2, 3, SIDE_PX, SIDE_PX, generator=seeded())
            landmarks_px = target("cpu").landmarks_px
            pictures = pictures.to(device).requires_grad_()
            out: dict[str, Callable[[], Any]] = {
                "landmarks": lambda: net(pictures),
                "encoder": lambda: net(pictures),
                "mobilefacenet": lambda: embeddings(net, pictures, landmarks_px.to(device)),
                "heat_maps": lambda: net.predict(pictures) * net.target(landmarks_px.to(device), SIDE_PX),
                "identity": lambda: embeddings(net, pictures, landmarks_px.to(device)),
                "perception": lambda: net(pictures, pictures.detach().flip(3)),
                "discriminator": lambda: torch.cat([net(picture[None] * 2 - 1) for picture in pictures]),
            }
            found = out[name]()
            (gradient,) = torch.autograd.grad(found.square().sum(), pictures)
            assert found.device.type == gradient.device.type == device
            return [found, gradient]

        with exactly():
            for there, here in zip(values("cuda"), values("cpu"), strict=True):
                close(there, here)

    @pytest.mark.parametrize("points", ["landmarks", "heat_maps"])
    def test_the_loss_and_its_gradient(self, gpu: Any, points: str) -> None:
        def values(device: str) -> tuple[dict[str, Tensor], Tensor]:
            w_plus, made = latents(device).requires_grad_(), on(generator(), device)
            terms = view_loss(device, points, "discriminator").terms(made.synthesis(w_plus) / 2 + 0.5, w_plus)
            loss = torch.stack([WEIGHTS[name] * value for name, value in terms.items()]).sum()
            return terms, torch.autograd.grad(loss, w_plus)[0]

        with exactly():
            (there, slope_there), (here, slope_here) = values("cuda"), values("cpu")
        assert there.keys() == here.keys() and len(there) == len(WEIGHTS) - 1
        for name, value in there.items():
            close(value, here[name])
        close(slope_there, slope_here, rtol=2e-2)

    @pytest.mark.parametrize("plan", [*PLANS.values(), ORIGINAL], ids=[*PLANS, "original"])
    def test_a_search(self, gpu: Any, plan: Plan) -> None:
        with exactly():
            there, here = (prepared(device)(plan, STEPS) for device in ("cuda", "cpu"))
        for ours, theirs in zip(there.history, here.history, strict=True):
            close(ours[:2], theirs[:2], rtol=5e-3)
            assert min(ours) == pytest.approx(min(theirs), rel=0.1) and len(ours) == len(theirs)
        pictures = [on(generator(), "cpu").synthesis(found.w_plus.cpu()) / 2 + 0.5 for found in (there, here)]
        assert alike_db(*pictures) > 25

    def test_random_starts(self, gpu: Any) -> None:
        def start(device: str) -> Tensor:
            pyramid = Pyramid(on(generator(), device))
            return best_random_latents(pyramid, view_loss(device), views=2, count=8, seed=0)

        with exactly():
            close(start("cuda"), start("cpu"))

    def test_the_map_start_needs_no_settings_to_be_exact(self, gpu: Any) -> None:
        def start(device: str) -> tuple[Tensor, Tensor]:
            start_of = MapStart(Pyramid(on(generator(normal_latents=True), device)))
            found = start_of(target(device).image, target(device).trust, latents(device))
            return start_of.jacobian.cpu(), found

        (jacobian, there), (wanted, here) = start("cuda"), start("cpu")
        assert float((jacobian - wanted).norm() / wanted.norm()) < 1e-3
        close(there, here, rtol=5e-3)

    def test_tuning(self, gpu: Any) -> None:
        def tuned(device: str) -> tuple[Tensor, Tensor]:
            return tuned_pictures(on(generator(), device), view_loss(device), latents(device), steps=4)

        with exactly():
            (there, loss_there), (here, loss_here) = tuned("cuda"), tuned("cpu")
        assert alike_db(there / 2 + 0.5, here / 2 + 0.5) > 40
        close(loss_there, loss_here, rtol=1e-2)

    def test_a_shot_is_completed(self, gpu: Any) -> None:
        """At the precision that a GPU works with by default."""
        request = SearchRequest(shots(1), None, settings(film=True))
        there, here = (
            completer(device, "landmarks", "discriminator").search.submit(request).completions[0]
            for device in ("cuda", "cpu")
        )
        assert there.image.device.type == "cpu" and there.film is not None and here.film is not None
        assert there.film.shape == here.film.shape and there.history[0] == pytest.approx(here.history[0], rel=0.05)
        assert min(there.history) < there.history[0]
        assert min(there.history) == pytest.approx(min(here.history), rel=0.2)

    @pytest.mark.parametrize("normal_latents", [False, True])
    def test_a_face_is_completed(self, gpu: Any, normal_latents: bool) -> None:
        chosen = settings(frontalize=True, tune=2 * normal_latents, film=normal_latents)
        there, here = (
            completed(completer(device, normal_latents=normal_latents), chosen) for device in ("cuda", "cpu")
        )
        assert there.frontal is not None and here.frontal is not None
        assert not there.notes["warnings"] and there.notes["loss_terms"] == here.notes["loss_terms"]
        assert alike_db(there.texture.rgb, here.texture.rgb) > 25
        for view, losses in here.notes["loss_history"].items():
            assert min(there.notes["loss_history"][view]) == pytest.approx(min(losses), rel=0.2)

    def test_two_faces_share_a_batch(self, gpu: Any) -> None:
        yaws_deg, chosen = (20.0, -10.0), settings(iterations=2)
        shared = completer("cuda", normal_latents=True)

        def one(yaw_deg: float, slot: AbstractContextManager[Any]) -> Completed:
            with slot as parts:
                return completed(parts, chosen, yaw_deg)

        with ThreadPoolExecutor(2) as pool:
            together = list(pool.map(one, yaws_deg, shared.slots(2)))
        alone = completed(completer("cuda", normal_latents=True), chosen, yaws_deg[1])
        assert alike_db(together[1].texture.rgb, alone.texture.rgb) > 30
        assert alike_db(together[0].texture.rgb, alone.texture.rgb) < 25

    def test_a_dropped_generator_is_freed(self, gpu: Any) -> None:
        parts = completer("cuda")
        parts.search.submit(SearchRequest(shots(1), None, settings(iterations=1)))
        dropped = weakref.ref(parts.search.generator)
        del parts
        gc.collect()
        assert dropped() is None

    def test_the_command_line(self, gpu: Any, tmp_path: Path) -> None:
        made = tmp_path / "made.safetensors"
        tensors = without_mapping(generator_tensors(resolution=SIDE_PX, channels=8))
        stored = {f"generator.{name}": tensor for name, tensor in tensors.items()}
        save_file(stored, made)
        flags = ["--source_dir", str(DATA_DIR / "astronaut.jpg"), "--save_dir", str(tmp_path / "out")]
        flags += ["--device", "cuda", "--completer", "projection", "--generator", str(made)]
        flags += ["--iterations", "3", "--texture_size", "64", "--formats", "png"]
        assert cli.main(["run", *flags]) == 0
        report = json.loads((tmp_path / "out" / "astronaut.json").read_text())
        assert report["components"]["completer"] == "projection"
        assert any("made.safetensors: no face" in warning for warning in report["warnings"])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
