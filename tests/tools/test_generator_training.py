"""A training in miniature: it learns, it can be repeated, and it goes on as if it had not stopped."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import generator_state
import pytest
import torch
import train_generator
from generator_archive import write_faces
from generator_training import Recipe, Trainer
from painted_faces import painted_faces

from ostec.networks.stylegan2_files import load_networks

SIZE_PX, FACES = 32, 200


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of painted faces."""
    path = tmp_path_factory.mktemp("faces") / "faces.zip"
    row = {"licence": "Apache-2.0", "source_repo": "painted", "commit": "", "source_path": ""}
    pictures = painted_faces(FACES, SIZE_PX).float() / 255
    write_faces(path, [({"file": f"{i}.jpg", **row}, picture) for i, picture in enumerate(pictures)])
    return path


def run(faces: Path, out: Path, steps: int, every: int, *more: str) -> dict[str, bytes]:
    """What a training leaves in its state."""
    numbers = ("--size", str(SIZE_PX), "--batch", "8", "--channels", "0.07", "--steps", str(steps))
    train_generator.main(
        [str(faces), "--out", str(out), "--device", "cpu", *numbers, "--every", str(every), "--minutes", "5", *more]
    )
    return {path.name: path.read_bytes() for path in (out / "state").iterdir()}


def log(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_score_falls_and_the_package_runs_the_result(faces: Path, tmp_path: Path) -> None:
    recipe = Recipe(SIZE_PX, batch=8, share=0.07)
    trainer = Trainer(recipe, train_generator.load(faces, SIZE_PX)[0], torch.device("cpu"))
    tmp_path.joinpath("run").mkdir()
    before = float(train_generator.Reports(trainer, tmp_path / "run").add(0)["score"])
    run(faces, tmp_path / "run", steps=300, every=150)
    rows = log(tmp_path / "run")
    assert [row["step"] for row in rows] == ["0", "150", "300"]
    assert float(rows[-1]["score"]) < 0.55 * before
    generator, discriminator = load_networks(tmp_path / "run" / train_generator.NETWORKS)
    assert discriminator is not None and generator.resolution == discriminator.resolution == SIZE_PX
    picture = generator.synthesis(generator.w_avg.expand(1, generator.num_ws, -1))[0].clamp(-1, 1) / 2 + 0.5
    real = train_generator.load(faces, SIZE_PX)[0].float().mean(dim=0) / 255
    assert float((picture - real).abs().mean()) < 0.2


def test_the_same_seed_gives_the_same_bits_and_a_pause_changes_nothing(faces: Path, tmp_path: Path) -> None:
    whole = run(faces, tmp_path / "whole", 20, 10)
    assert run(faces, tmp_path / "again", 20, 10) == whole
    run(faces, tmp_path / "parts", 10, 10)
    assert run(faces, tmp_path / "parts", 20, 10) == whole
    assert [row["score"] for row in log(tmp_path / "parts")] == [row["score"] for row in log(tmp_path / "whole")]
    assert run(faces, tmp_path / "parts", 20, 10) == whole, "nothing remains"


def test_a_state_of_another_run_or_with_a_piece_missing_is_refused(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator_state, "_PIECE_BYTES", 50_000)
    pieces = run(faces, tmp_path / "run", 1, 1)
    assert len(pieces) > 2 and all(len(piece) < 70_000 for piece in pieces.values())
    with pytest.raises(ValueError, match="another run"):
        run(faces, tmp_path / "run", 2, 1, "--seed", "1")
    (tmp_path / "run" / "state" / "piece_1.safetensors").unlink()
    with pytest.raises(ValueError, match=f"{len(pieces) - 1} of {len(pieces)} pieces"):
        run(faces, tmp_path / "run", 2, 1)


def test_a_state_is_found_when_its_replacement_broke_off(faces: Path, tmp_path: Path) -> None:
    kept = run(faces, tmp_path / "run", 4, 4)
    (tmp_path / "run" / "state").rename(tmp_path / "run" / "state.old")
    (tmp_path / "run" / "state.new").mkdir()
    (tmp_path / "run" / "state.new" / "piece_0.safetensors").write_bytes(b"half")
    assert run(faces, tmp_path / "run", 8, 4) == run(faces, tmp_path / "other", 8, 4) != kept


def test_faces_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="not 32 px"):
        Trainer(Recipe(32, 4, 0.07), painted_faces(4, 16), torch.device("cpu"))


def test_a_step_in_half_precision_is_sound() -> None:
    trainer = Trainer(Recipe(SIZE_PX, 8, 0.07), painted_faces(8), torch.device("cpu"))
    trainer.generator.large_dtype = trainer.discriminator.large_dtype = torch.bfloat16
    trainer.p = 0.5
    trainer.step()
    assert all(bool(torch.isfinite(loss)) and float(loss) > 0 for loss in trainer.losses.values())
    parameters = [*trainer.generator.parameters(), *trainer.discriminator.parameters()]
    assert all(bool(torch.isfinite(p).all()) and p.dtype == torch.float32 for p in parameters)


def test_p_follows_how_sure_the_discriminator_is() -> None:
    trainer = Trainer(Recipe(SIZE_PX, 8, 0.07), painted_faces(8), torch.device("cpu"))
    for certainty, rises in ((1.0, True), (1.0, True), (0.2, False)):
        before, trainer.certainty = trainer.p, torch.tensor(4 * certainty)
        trainer._correct_p()
        assert (trainer.p > before) is rises and float(trainer.certainty) == 0
    trainer.p, trainer.certainty = 0.8, torch.tensor(4.0)
    trainer._correct_p()
    assert trainer.p == 0.8


def test_it_needs_no_more_than_torch_and_what_a_gpu_machine_has() -> None:
    """Trainings run on machines where this package is not installed."""
    code = "import sys, train_generator, train_encoder; print(*{name.partition('.')[0] for name in sys.modules})"
    folders = [Path(__file__).resolve().parents[2] / name for name in ("tools", "src")]
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"trimesh", "tyro", "rich", "requests", "platformdirs"} & set(found.stdout.split())
