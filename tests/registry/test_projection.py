"""The projection completer is put together from the files that are there, and `auto` takes it."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_encoder import encoder_tensors
from small_fan import small_fan
from small_iresnet import exported, small_iresnet, table, written
from small_keras import unpacked
from small_lpips import Weights, save_script
from small_stylegan2 import discriminator_tensors, generator_tensors
from torch.nn import functional as F

import ostec
from ostec.cli.commands import main
from ostec.completion.prior.completer import load_prior_completer
from ostec.completion.projection.completer import ProjectionCompleter
from ostec.errors import BadWeights, MissingWeights
from ostec.files.photos import load_photo
from ostec.geometry.raster import rasterise
from ostec.interfaces import LossNetworks
from ostec.registry import sources
from ostec.registry.components import choose, demo_photo
from ostec.registry.projection import licences, load_projection_completer, makes_faces
from ostec.settings import Settings
from ostec.texture.shoot import shoot
from ostec.texture.views import plan_views
from ostec.weights import locate
from ostec.weights.catalogue import GENERATORS, LIBRARY, WeightFile
from ostec.weights.locate import find_generator, weights_folders

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def test_without_a_generator_everything_needed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "PACKAGE", tmp_path / "package")
    with pytest.raises(MissingWeights) as error:
        ostec.load_parts(completer="projection", weights_dir=tmp_path)
    first = GENERATORS[0]
    for part in (first.file, str(first.url), first.licence, str(tmp_path), "ostec models get", "--completer prior"):
        assert part in str(error.value)
    assert choose(weights_dir=tmp_path).names["completer"] == "prior"


def test_auto_takes_a_generator_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(GOLDEN / "stylegan2_ada_32px.pkl", tmp_path / "ffhq.pkl")
    monkeypatch.setenv("OSTEC_WEIGHTS", str(tmp_path))
    choice = choose()
    assert choice.names["completer"] == "projection" and "ffhq.pkl" in choice.statement
    parts = choice.load()
    assert (
        isinstance(parts.completer, ProjectionCompleter) and parts.completer.search.networks.discriminator is not None
    )
    assert "non-commercial" in parts.licences["ffhq.pkl"]
    assert choose("prior").names["completer"] == "prior"


def test_a_photo_is_completed_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(GOLDEN / "stylegan2_tf_32px.pkl", tmp_path / "stylegan2-ffhq-config-f.pkl")
    monkeypatch.setenv("OSTEC_WEIGHTS", str(tmp_path))
    options = [
        "--texture-size",
        "128",
        "-i",
        "3",
        "--iterations-frontalize",
        "2",
        "-f",
        "-p",
        "--completer",
        "projection",
    ]
    assert main(["run", "--source_dir", str(demo_photo()), "--save_dir", str(tmp_path / "out"), *options]) == 0
    report = json.loads((tmp_path / "out" / "astronaut.json").read_text())
    assert report["components"]["completer"] == "projection"
    assert report["loss_terms"]["landmarks"] == "on" and "off" in report["loss_terms"]["identity"]
    assert "stylegan2-ffhq-config-f.pkl" in report["licences"]
    assert (tmp_path / "out" / "astronaut_frontal.png").is_file()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that holds a small generator."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(locate, "PACKAGE", folder)
    pair = {f"generator.{n}": t for n, t in generator_tensors(32, width=8).items()}
    pair |= {f"discriminator.{n}": t for n, t in discriminator_tensors(32).items()}
    save_file({n: t.half() for n, t in pair.items()}, folder / "face_generator.safetensors")
    return folder


def test_a_generator_in_the_package_is_there_for_the_asking_and_another_goes_first(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose().names["completer"] == "prior"
    choice = choose(completer="projection")
    assert "face_generator.safetensors" in choice.statement
    parts = choice.load()
    assert (
        isinstance(parts.completer, ProjectionCompleter) and parts.completer.search.networks.discriminator is not None
    )
    assert parts.completer.search.generator.resolution == 32 and parts.completer.search.encoder is None
    assert parts.licences["face_generator.safetensors"] == "Apache-2.0"
    shutil.copy(GOLDEN / "stylegan2_ada_32px.pkl", tmp_path / "ffhq.pkl")
    monkeypatch.setenv("OSTEC_WEIGHTS", str(tmp_path))
    choice = choose()
    assert choice.names["completer"] == "projection" and "ffhq.pkl" in choice.statement
    completer = choice.load().completer
    assert isinstance(completer, ProjectionCompleter) and completer.search.generator.w_avg.shape != (8,)


def test_the_search_starts_where_the_encoder_of_that_generator_says(package: Path, tmp_path: Path) -> None:
    tensors = encoder_tensors(num_ws=8, width=8, halvings=3)
    save_file(tensors, package / "face_encoder.safetensors")
    parts = ostec.load_parts(completer="projection", device="cpu")
    completer = parts.completer
    assert isinstance(completer, ProjectionCompleter) and completer.search.encoder is not None
    assert parts.licences["face_encoder.safetensors"] == "Apache-2.0"
    seen = []
    completer.search.encoder = lambda pictures: seen.append(pictures) or torch.zeros(len(pictures), 8, 8)
    settings = ostec.Settings(texture_size=128, search=ostec.SearchSettings(iterations=1, preset="original"))
    result = ostec.complete(demo_photo(), parts=parts, settings=settings)
    views = [c for c in result.completions if c.latent is not None]
    assert views and all(bool((c.latent == 0).all()) for c in views)
    assert all(p.shape[1:] == (3, 32, 32) and 0 <= float(p.min()) <= float(p.max()) <= 1 for p in seen)


def test_a_damaged_generator_is_named(tmp_path: Path) -> None:
    (tmp_path / "ffhq.pkl").write_bytes(b"<html>")
    with pytest.raises(BadWeights, match=r"ffhq\.pkl"):
        load_projection_completer(tmp_path, "cpu")


def test_a_discriminator_of_another_size_is_left_out(tmp_path: Path) -> None:
    pair = {f"generator.{n}": t for n, t in generator_tensors(32).items()}
    pair |= {f"discriminator.{n}": t for n, t in discriminator_tensors(16).items()}
    save_file(pair, tmp_path / "stylegan2-ffhq.safetensors")
    assert load_projection_completer(tmp_path, "cpu").search.networks.discriminator is None


def test_a_download_that_broke_off_is_no_weight_file(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "stylegan2_ada_32px.pkl", tmp_path / "ffhq.pkl")
    for name in ("vgg16-397923af.pth", "lpips_v0.1_vgg.pth.part", "arcface.pth.part"):
        (tmp_path / name).touch()
    loss_networks = load_projection_completer(tmp_path, "cpu").search.networks
    assert loss_networks.perception is None and loss_networks.identity is None


def touched(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).touch()
    return folder


IDENTITY = ("arcface.pth", "w600k_r50.onnx", "buffalo_l.zip", "arcface50.npy", "mobilefacenet_arcface.safetensors")
LPIPS = (
    ("vgg16-397923af.pth", "lpips_v0.1_vgg.pth"),
    ("vgg16-397923af.pth", "lpips_v0.1_vgg.safetensors"),
    ("vgg16.pt",),
    ("vgg16_zhang_perceptual.pkl",),
)


@pytest.mark.parametrize("first", range(5))
def test_licences_name_what_is_used_and_nothing_that_is_outranked(tmp_path: Path, first: int) -> None:
    pairs = [file for files in LPIPS[first:] for file in files]
    touched(tmp_path, *[entry.file for entry in GENERATORS[first:]], *IDENTITY[first:], *pairs)
    named = licences("projection", tmp_path)
    perceptual = LPIPS[first] if first < len(LPIPS) else ()
    assert set(named) == {GENERATORS[first].file, IDENTITY[first], *perceptual}
    assert all(named[entry.file] == entry.licence for entry in LIBRARY if entry.file in named)


def test_half_of_a_pair_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "PACKAGE", tmp_path / "package")
    touched(tmp_path, "vgg16-397923af.pth")
    assert licences("projection", tmp_path) == {}
    touched(tmp_path, "vgg16.pt")
    assert set(licences("projection", tmp_path)) == {"vgg16.pt"}


def test_every_source_is_in_the_library() -> None:
    files = {file for part in sources.NETWORKS.values() for source in part for file in source.files}
    assert files <= {entry.file for entry in LIBRARY}


def networks_of(folder: Path) -> tuple[LossNetworks, set[str]]:
    """The networks that a folder gives, and the files that are named as used."""
    shutil.copy(GOLDEN / "stylegan2_ada_32px.pkl", folder / "ffhq.pkl")
    return load_projection_completer(folder, "cpu").search.networks, set(licences("projection", folder)) - {"ffhq.pkl"}


def test_faces_are_compared_by_an_arcface_in_any_file(tmp_path: Path) -> None:
    net = small_iresnet()
    torch.save(net.state_dict(), tmp_path / "arcface.pth")
    (tmp_path / "w600k_r50.onnx").write_bytes(written(net).SerializeToString())
    with zipfile.ZipFile(tmp_path / "buffalo_l.zip", "w") as archive:
        archive.writestr("w600k_r50.onnx", exported(net))
    pictures, landmarks_px = torch.rand(1, 3, 64, 64), torch.rand(1, 68, 2) * 64
    found = []
    for file in IDENTITY[:3]:
        loss_networks, used = networks_of(tmp_path)
        assert used == {file} and loss_networks.identity is not None
        found.append(loss_networks.identity(pictures, landmarks_px))
        (tmp_path / file).unlink()
    assert all(torch.allclose(found[0], other, atol=1e-5) for other in found)
    np.save(tmp_path / "arcface50.npy", np.array(table(net), dtype=object))
    loss_networks, used = networks_of(tmp_path)
    assert used == {"arcface50.npy"} and loss_networks.identity is not None
    assert loss_networks.identity(pictures, landmarks_px).shape == (1, 16)


def test_pictures_are_compared_by_nvidias_file_where_it_is_the_only_one(tmp_path: Path) -> None:
    weights = Weights()
    save_script(weights, tmp_path / "vgg16.pt")
    loss_networks, used = networks_of(tmp_path)
    pictures = torch.rand(2, 1, 3, 32, 32)
    assert used == {"vgg16.pt"} and loss_networks.perception is not None
    first, second = (loss_networks.perception.features(x) for x in pictures)
    assert torch.allclose(loss_networks.perception.compare(first, second), weights.lpips()(*pictures), atol=1e-5)
    assert first[len(first) // 2].shape == (1, 16, 8, 8)


def test_heat_maps_and_encoder_are_used_where_they_are(tmp_path: Path) -> None:
    torch.save(small_fan().state_dict(), tmp_path / "2DFAN4-11f355bf06.pth.tar")
    unpacked("keras_dense", tmp_path / "resnet_18_20191231.h5")
    loss_networks, used = networks_of(tmp_path)
    assert used == {"2DFAN4-11f355bf06.pth.tar", "resnet_18_20191231.h5"}
    assert loss_networks.heat_maps is not None
    assert loss_networks.heat_maps.predict(torch.rand(1, 3, 64, 64)).shape == (1, 68, 64, 64)
    completer = load_projection_completer(tmp_path, "cpu")
    assert completer.search.encoder is not None and completer.search.encoder(torch.rand(2, 3, 64, 64)).ndim == 3


def test_a_generator_of_something_else_is_remarked_on(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "stylegan2_ada_32px.pkl", tmp_path / "ffhq.pkl")
    (remark,) = load_projection_completer(tmp_path, "cpu").remarks
    assert "ffhq.pkl" in remark and "no face" in remark


def test_a_generator_whose_mean_is_a_face_is_not() -> None:
    class Portraits:
        num_ws, w_avg = 2, torch.zeros(4)

        def synthesis(self, w_plus: torch.Tensor) -> torch.Tensor:
            face = load_photo(demo_photo()).rgb[None]
            return F.interpolate(face[..., :400, 56:456], (64, 64), mode="area") * 2 - 1

    assert makes_faces(Portraits())  # pyright: ignore[reportArgumentType]


def test_folders_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, given = tmp_path / "named", tmp_path / "given" / "deeper"
    for folder in (named, given):
        folder.mkdir(parents=True)
        (folder / "ffhq.pkl").touch()
    monkeypatch.setenv("OSTEC_WEIGHTS", str(named))
    assert find_generator(weights_folders(given.parent)) == given / "ffhq.pkl"
    assert find_generator(weights_folders()) == named / "ffhq.pkl"


def test_every_file_says_whose_it_is_and_how_to_get_it() -> None:
    assert len({entry.name for entry in LIBRARY}) == len({entry.file for entry in LIBRARY}) == len(LIBRARY)
    for entry in LIBRARY:
        assert entry.licence and entry.what and (entry.url or entry.how)
        assert entry.url is None or entry.url.startswith("https://")


def test_a_part_names_every_file_that_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, form, public = (
        WeightFile("a", "a.bin", "first", "MIT", "https://example.org/a"),
        WeightFile("b", "b.bin", "second", "by a form", None, "Fill in the form"),
        WeightFile("c", "c.bin", "third", "MIT", "https://example.org/c"),
    )
    monkeypatch.setattr(locate, "PARTS", {"head": (there, form, public)})
    (tmp_path / "a.bin").write_bytes(b"")
    assert not locate.has("head", (tmp_path,))
    with pytest.raises(
        MissingWeights, match="(?s)b.bin.*second; by a form.*Fill in the form\n.*c.bin.*models get c"
    ) as refused:
        locate.require("head", (tmp_path,))
    assert "a.bin" not in str(refused.value)
    for file in ("b.bin", "c.bin"):
        (tmp_path / file).write_bytes(b"")
    assert locate.has("head", (tmp_path,))
    assert locate.require("head", (tmp_path,)) == {f"{x}.bin": tmp_path / f"{x}.bin" for x in "abc"}


def test_the_generator_in_the_package_draws_heads_and_its_encoder_knows_them(tmp_path: Path) -> None:
    parts = ostec.load_parts(completer="projection", reconstructor="mediapipe", weights_dir=tmp_path, device="cpu")
    completer = parts.completer
    assert isinstance(completer, ProjectionCompleter) and completer.remarks == ()
    assert not completer.traits.portraits and completer.search.generator.resolution == 128
    generator, encoder = completer.search.generator, completer.search.encoder
    assert encoder is not None
    result = ostec.complete(demo_photo(), replace(parts, completer=load_prior_completer()), Settings(texture_size=256))
    known = (result.seen.confidence > 0).float()
    shots = [shoot(result.reconstruction, result.texture.rgb, known, v, 128, rasterise) for v in plan_views("hard")]
    pictures = torch.stack([shot.image for shot in shots])
    mean = generator.synthesis(generator.w_avg.expand(1, generator.num_ws, -1)) / 2 + 0.5
    guessed = generator.synthesis(encoder(pictures)) / 2 + 0.5
    for picture, own, other in zip(pictures, guessed, guessed.roll(1, 0), strict=True):
        error = (own - picture).abs().mean()
        assert float(error) < 0.6 * float((mean[0] - picture).abs().mean())
        assert float(error) < 0.7 * float((other - picture).abs().mean())
