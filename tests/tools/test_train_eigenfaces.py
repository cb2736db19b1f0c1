"""The training on a CPU in miniature: it learns, goes on as if it had not stopped, and the package runs the result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import train_eigenfaces
from generator_archive import write_faces
from generator_eigenfaces import Eigenfaces, Recipe, Stage, Trainer
from generator_portraits import difference, varied
from generator_training import to_pictures
from painted_faces import painted_faces
from train_eigenfaces import NETWORK, train

from ostec.networks.stylegan2_files import load_generator

FACES = painted_faces(60, 32)
RECIPE = Recipe((Stage(16, 80, 0.02), Stage(32, 80, 0.02)), batch=8, share=0.1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training, whole."""
    folder = tmp_path_factory.mktemp("run")
    train(Trainer(RECIPE, FACES), folder, every=80, minutes=5)
    return folder


def test_it_gives_portraits_back(run: Path) -> None:
    faces, generator = to_pictures(FACES), load_generator(run / NETWORK)
    w = Trainer(RECIPE, FACES).eigenfaces.latents(faces)
    made = generator.synthesis(w[:, None].expand(-1, generator.num_ws, -1))
    others = generator.synthesis(w.roll(1, 0)[:, None].expand(-1, generator.num_ws, -1))
    assert float(difference(made, faces)) < 0.9 * float(difference(others, faces))
    mean = generator.synthesis(generator.w_avg.expand(1, generator.num_ws, -1))[0]
    assert float((mean - faces.mean(dim=0)).abs().mean()) < 0.25


def test_the_same_seed_gives_the_same_bits_and_a_pause_changes_nothing(run: Path, tmp_path: Path) -> None:
    first = Trainer(RECIPE, FACES)
    for _ in range(150):
        first.step()
    train_eigenfaces.save(first, tmp_path)
    train(Trainer(RECIPE, FACES), tmp_path, every=160, minutes=5)
    assert (tmp_path / NETWORK).read_bytes() == (run / NETWORK).read_bytes()
    assert {"faces.png", "samples.png", "log.csv"} <= {path.name for path in tmp_path.iterdir()}


def test_the_package_makes_the_pictures_that_were_learned(run: Path) -> None:
    trainer = Trainer(RECIPE, FACES)
    train_eigenfaces.resume(trainer, run)
    generator, own = load_generator(run / NETWORK), trainer.average
    w_plus = torch.randn(3, own.num_ws, own.z_dim, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(generator.synthesis(w_plus), own.synthesis(w_plus), atol=0.02)
    z = torch.randn(4, generator.z_dim)
    assert torch.allclose(generator.mapping(z), z / z.square().mean(dim=1, keepdim=True).sqrt(), atol=1e-5)


def test_the_command_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"licence": "Apache-2.0", "source_repo": "painted", "commit": "", "source_path": ""}
    write_faces(tmp_path / "faces.zip", [({"file": f"{i}.jpg", **row}, f / 255) for i, f in enumerate(FACES[:20])])
    monkeypatch.setattr(train_eigenfaces, "Recipe", lambda stages: Recipe((Stage(16, 3, 0.01),), share=0.05))
    for _ in range(2):
        train_eigenfaces.main([str(tmp_path / "faces.zip"), "--out", str(tmp_path / "run"), "--every", "2"])
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == [
        "step 2",
        "step 3",
        "3 of 3 steps",
        "3 of 3 steps",
    ]


def test_latents_of_faces_are_standard_normal_and_tell_faces_apart() -> None:
    faces = to_pictures(FACES)
    latents = Eigenfaces.of([faces], 10, 32, seed=0).latents(faces)
    assert torch.allclose(latents.mean(dim=0), torch.zeros(10), atol=1e-3)
    assert torch.allclose(latents.T @ latents / len(faces), torch.eye(10), atol=1e-2)


def test_stages_follow_one_another() -> None:
    assert [RECIPE.stage(step)[0].size_px for step in (0, 79, 80, 159)] == [16, 16, 32, 32] and RECIPE.steps == 160
    assert [RECIPE.stage(step)[1] for step in (0, 40, 60, 80, 160)] == pytest.approx([0.02, 0.02, 0.01, 0.02, 0])


def test_portraits_are_varied_a_little() -> None:
    faces, draw = to_pictures(FACES), torch.Generator().manual_seed(0)
    moved = varied(faces, draw)
    straight, mirrored = ((moved - other).abs().mean(dim=(1, 2, 3)) for other in (faces, faces.flip(3)))
    assert 0 < float(torch.minimum(straight, mirrored).mean()) < float((faces - faces.roll(1, 0)).abs().mean())


def test_the_difference_counts_the_middle_most_and_sees_slopes() -> None:
    blank = torch.zeros(1, 3, 32, 32)
    middle, corner = blank.clone(), blank.clone()
    middle[..., 16:20, 14:18] = corner[..., :4, :4] = 1.0
    assert float(difference(blank, blank)) == 0
    assert float(difference(middle, blank)) > 2 * float(difference(corner, blank))
    checks = (torch.arange(32) % 2 * 2.0 - 1).expand(1, 3, 32, 32) * 0.1
    assert float(difference(checks, blank)) > float(difference(blank + 0.1, blank)) / 2
