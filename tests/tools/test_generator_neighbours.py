"""Faces that were learned by heart are found."""

from __future__ import annotations

from pathlib import Path

import generator_neighbours
import pytest
import torch
from generator_archive import write_faces
from generator_neighbours import compare
from painted_faces import painted_faces
from torch import nn
from torch.nn import functional as F


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_a_copy_of_a_face_or_of_its_mirror_image_counts_and_strangers_do_not() -> None:
    real = unit(50, 64)
    mirrored, copies = (F.normalize(real + share * unit(50, 64, seed=1), dim=1) for share in (0.2, 0.4))
    made = unit(20, 64, seed=2)
    made[3], made[7] = real[11], F.normalize(mirrored[23] + 0.2 * made[7], dim=0)
    found = compare(made, real, mirrored, copies)
    assert found.reproduced().nonzero()[:, 0].tolist() == [3, 7]
    assert found.index[3] == 11 and found.index[7] == 23
    assert float(found.copies.min()) > found.limit - 0.1 > float(found.strangers.max())


@pytest.mark.parametrize(("copies", "code"), [(0, 0), (2, 1)])
def test_the_command_says_which(
    copies: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = painted_faces(30).float() / 255
    made = torch.cat([real[5 : 5 + copies], painted_faces(10, seed=9)[copies:].float() / 255])

    class Colours(nn.Module):
        """Eight by eight pixels for an embedding; an image and its mirror image are alike enough."""

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            small = F.adaptive_avg_pool2d(pictures + 0.99 * pictures.flip(3), 8).flatten(1)
            return F.normalize(small - small.mean(dim=1, keepdim=True), dim=1)

    row = {"licence": "MIT", "source_repo": "", "commit": "", "source_path": ""}
    write_faces(tmp_path / "faces.zip", [({"file": f"{i}.jpg", **row}, picture) for i, picture in enumerate(real)])
    monkeypatch.setattr(generator_neighbours, "load_generator", lambda path: type("G", (), {"resolution": 32})())
    monkeypatch.setattr(generator_neighbours, "generated_faces", lambda *_, **__: made)
    monkeypatch.setattr(generator_neighbours, "load_mobilefacenet", lambda path: Colours())
    monkeypatch.setattr(generator_neighbours, "load_mesh_landmarks", lambda: lambda pictures: pictures)
    monkeypatch.setattr(generator_neighbours, "embeddings", lambda net, pictures, _: net(pictures))
    with pytest.raises(SystemExit) as end:
        paths = ["g.safetensors", str(tmp_path / "faces.zip"), "--identity", "n.safetensors"]
        generator_neighbours.main([*paths, "--sheet", str(tmp_path / "pairs.png")])
    assert end.value.code == code
    text = capsys.readouterr().out
    assert f"{copies} of 10" in text and ("picture 0: 5.jpg" in text) is bool(copies)
    assert (tmp_path / "pairs.png").is_file()
