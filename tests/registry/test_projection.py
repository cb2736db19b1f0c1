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
from ostec.errors import BadSettings, BadWeights, MissingWeights
from ostec.files.photos import load_photo
from ostec.geometry.raster import rasterise
from ostec.interfaces import LossNetworks
from ostec.registry.components import build, demo_photo, select_parts
from ostec.registry.projection import makes_faces
from ostec.registry.sources import find_generator, named_generator
from ostec.registry.table import rows
from ostec.settings import Settings
from ostec.texture.views import plan_views, shoot
from ostec.weights import locate
from ostec.weights.catalogue import FILES, WeightFile
from ostec.weights.locate import weights_folders

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
GENERATORS = list(rows("generator"))


def projection(folder: Path, generator: Path | None = None) -> ProjectionCompleter:
    return build("completer", "projection", folder, generator=generator)


def files_of(folder: Path) -> dict[str, str]:
    """File -> licence, of the networks that the projection completer would be put together from."""
    sources = select_parts("projection", weights_dir=folder).networks.values()
    return {file.file: file.licence for source in sources for file, _ in source.files()}


def test_without_a_generator_everything_needed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "DATA_DIR", tmp_path / "package")
    with pytest.raises(MissingWeights) as error:
        ostec.load_parts(completer="projection", weights_dir=tmp_path)
    first = GENERATORS[0].files[0]
    for part in (first.file, str(first.url), first.licence, str(tmp_path), "ostec models get", "--completer prior"):
        assert part in str(error.value)
    assert select_parts(weights_dir=tmp_path).names["completer"] == "prior"


def test_auto_takes_a_generator_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(GOLDEN / "stylegan2_ada_32px.pkl", tmp_path / "ffhq.pkl")
    monkeypatch.setenv("OSTEC_WEIGHTS", str(tmp_path))
    selection = select_parts()
    assert selection.names["completer"] == "projection" and "ffhq.pkl" in selection.statement
    parts = selection.load()
    assert (
        isinstance(parts.completer, ProjectionCompleter) and parts.completer.search.networks.discriminator is not None
    )
    assert "non-commercial" in parts.licences["ffhq.pkl"]
    assert select_parts("prior").names["completer"] == "prior"


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
    monkeypatch.setattr(locate, "DATA_DIR", folder)
    pair = {f"generator.{n}": t for n, t in generator_tensors(32, width=8).items()}
    pair |= {f"discriminator.{n}": t for n, t in discriminator_tensors(32).items()}
    save_file({n: t.half() for n, t in pair.items()}, folder / "face_generator.safetensors")
    return folder


def test_a_generator_in_the_package_is_there_for_the_asking_and_another_goes_first(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert select_parts().names["completer"] == "prior"
    selection = select_parts(completer="projection")
    assert "face_generator.safetensors" in selection.statement
    parts = selection.load()
    assert (
        isinstance(parts.completer, ProjectionCompleter) and parts.completer.search.networks.discriminator is not None
    )
    assert parts.completer.search.generator.resolution == 32 and parts.completer.search.encoder is None
    assert parts.licences["face_generator.safetensors"] == "Apache-2.0"
    shutil.copy(GOLDEN / "stylegan2_ada_32px.pkl", tmp_path / "ffhq.pkl")
    monkeypatch.setenv("OSTEC_WEIGHTS", str(tmp_path))
    selection = select_parts()
    assert selection.names["completer"] == "projection" and "ffhq.pkl" in selection.statement
    completer = selection.load().completer
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
        projection(tmp_path)


def test_a_discriminator_of_another_size_is_left_out(tmp_path: Path) -> None:
    pair = {f"generator.{n}": t for n, t in generator_tensors(32).items()}
    pair |= {f"discriminator.{n}": t for n, t in discriminator_tensors(16).items()}
    save_file(pair, tmp_path / "stylegan2-ffhq.safetensors")
    assert projection(tmp_path).search.networks.discriminator is None


def test_a_download_that_broke_off_is_no_weight_file(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "stylegan2_ada_32px.pkl", tmp_path / "ffhq.pkl")
    for name in ("vgg16-397923af.pth", "lpips_v0.1_vgg.pth.part", "arcface.pth.part"):
        (tmp_path / name).touch()
    loss_networks = projection(tmp_path).search.networks
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
    touched(tmp_path, *[entry.files[0].file for entry in GENERATORS[first:]], *IDENTITY[first:], *pairs)
    named = files_of(tmp_path)
    perceptual = LPIPS[first] if first < len(LPIPS) else ()
    assert set(named) == {GENERATORS[first].files[0].file, IDENTITY[first], *perceptual}
    assert all(named[entry.file] == entry.licence for entry in FILES.values() if entry.file in named)


def test_half_of_a_pair_is_not_used(tmp_path: Path) -> None:
    touched(tmp_path, "ffhq.pkl", "vgg16-397923af.pth")
    assert set(files_of(tmp_path)) == {"ffhq.pkl"}
    touched(tmp_path, "vgg16.pt")
    assert set(files_of(tmp_path)) == {"ffhq.pkl", "vgg16.pt"}


def networks_of(folder: Path) -> tuple[LossNetworks, set[str]]:
    """The networks that a folder gives, and the files that are named as used."""
    shutil.copy(GOLDEN / "stylegan2_ada_32px.pkl", folder / "ffhq.pkl")
    return projection(folder).search.networks, set(files_of(folder)) - {"ffhq.pkl"}


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
    completer = projection(tmp_path)
    assert completer.search.encoder is not None and completer.search.encoder(torch.rand(2, 3, 64, 64)).ndim == 3


def test_a_generator_of_something_else_is_remarked_on(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "stylegan2_ada_32px.pkl", tmp_path / "ffhq.pkl")
    (remark,) = projection(tmp_path).remarks
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
    for weights_dir, folder in ((given.parent, given), (None, named)):
        source = find_generator(weights_folders(weights_dir))
        assert source is not None and source.paths == (folder / "ffhq.pkl",)


def test_every_file_says_whose_it_is_and_how_to_get_it() -> None:
    assert len({entry.file for entry in FILES.values()}) == len(FILES)
    for entry in FILES.values():
        assert entry.licence and entry.what and (entry.url or entry.how)
        assert entry.url is None or entry.url.startswith("https://")


def test_a_part_names_every_file_that_it_lacks(tmp_path: Path) -> None:
    there, form, public = (
        WeightFile("a", "a.bin", "first", "MIT", "https://example.org/a"),
        WeightFile("b", "b.bin", "second", "by a form", None, "Fill in the form"),
        WeightFile("c", "c.bin", "third", "MIT", "https://example.org/c"),
    )
    (tmp_path / "a.bin").write_bytes(b"")
    assert locate.find_all((there, form, public), (tmp_path,)) is None
    with pytest.raises(
        MissingWeights, match="(?s)b.bin.*second; by a form.*Fill in the form\n.*c.bin.*models get c"
    ) as refused:
        locate.require("head", (there, form, public), (tmp_path,))
    assert "a.bin" not in str(refused.value)
    for file in ("b.bin", "c.bin"):
        (tmp_path / file).write_bytes(b"")
    assert locate.require("head", (there, form, public), (tmp_path,)) == tuple(tmp_path / f"{x}.bin" for x in "abc")


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


def test_a_folder_that_a_user_names_goes_before_the_rank_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, own = tmp_path / "named", tmp_path / "own"
    for folder, file in ((named, "stylegan2-ffhq-256x256.pkl"), (own, "stylegan2-ffhq-config-f.pkl")):
        folder.mkdir()
        touched(folder, file)
    monkeypatch.setenv("OSTEC_WEIGHTS", str(own))
    source = find_generator(weights_folders(named))
    assert source is not None and source.paths == (named / "stylegan2-ffhq-256x256.pkl",)
    touched(named, "ffhq.pkl")
    source = find_generator(weights_folders(named))
    assert source is not None and source.paths == (named / "ffhq.pkl",)


def test_a_file_in_the_folder_goes_before_one_a_folder_deeper(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    touched(tmp_path / "archive", "ffhq.pkl")
    assert locate.find("ffhq.pkl", (tmp_path,)) == tmp_path / "archive" / "ffhq.pkl"
    touched(tmp_path, "ffhq.pkl")
    assert locate.find("ffhq.pkl", (tmp_path,)) == tmp_path / "ffhq.pkl"


@pytest.mark.parametrize("layout", ["stylegan2_ada_32px.pkl", "stylegan2_tf_32px.pkl"])
def test_a_named_generator_is_used_whatever_it_is_called(tmp_path: Path, layout: str) -> None:
    own = shutil.copy(GOLDEN / layout, tmp_path / "own.bin")
    touched(tmp_path, "ffhq.pkl")
    selection = select_parts(weights_dir=tmp_path, generator=Path(own))
    assert selection.names["completer"] == "projection" and "own.bin" in selection.statement
    assert "own.bin" in selection.licences and "ffhq.pkl" not in selection.licences
    parts = ostec.load_parts(weights_dir=tmp_path, generator=own)
    assert isinstance(parts.completer, ProjectionCompleter) and parts.completer.search.generator.resolution == 32
    with pytest.raises(BadSettings, match="mirror"):
        select_parts("mirror", generator=Path(own))


def test_a_named_generator_of_a_known_file_is_known(tmp_path: Path) -> None:
    source = named_generator(touched(tmp_path, "ffhq.pkl") / "ffhq.pkl")
    assert source.entry.name == "stylegan2-ffhq-ada"


@pytest.mark.parametrize(("content", "word"), [(None, "no such file"), (b"<html>", "own.pkl")])
def test_a_named_generator_that_is_none_is_a_set_up_error(
    tmp_path: Path, content: bytes | None, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "own.pkl").write_bytes(content)
    places = ["--source_dir", str(demo_photo()), "--save_dir", str(tmp_path / "out")]
    assert main(["run", *places, "--generator", str(tmp_path / "own.pkl")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert word in line


def test_the_encoder_of_one_generator_is_not_used_with_another(package: Path, tmp_path: Path) -> None:
    save_file(encoder_tensors(num_ws=8, width=8, halvings=3), package / "face_encoder.safetensors")
    touched(tmp_path, "resnet_18_20191231.h5")
    assert "face_encoder.safetensors" in files_of(tmp_path) and "resnet_18_20191231.h5" not in files_of(tmp_path)
    shutil.copy(GOLDEN / "stylegan2_ada_32px.pkl", tmp_path / "ffhq.pkl")
    assert "resnet_18_20191231.h5" in files_of(tmp_path) and "face_encoder.safetensors" not in files_of(tmp_path)
