"""The networks of a benchmark are read from the files that `ostec models get` writes, wherever weight files lie."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_lpips import Weights, save_script

from ostec.bench.metric_networks import load_metric_networks
from ostec.networks.lpips import Lpips
from ostec.weights.locate import weights_folders


def saved(weights: Weights, folder: Path) -> None:
    """As `ostec models get vgg16` and `get lpips-vgg` write them."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(weights.trunk(), folder / "vgg16-397923af.pth")
    torch.save(weights.named_heads(), folder / "lpips_v0.1_vgg.pth")


@pytest.mark.parametrize("where", ["given", "named", "own"])
def test_lpips_is_found_where_it_was_downloaded_to(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    own = weights_folders()[-1]
    monkeypatch.setenv("OSTEC_WEIGHTS", str(tmp_path / "named"))
    given = tmp_path / "given"
    for folder in (given, tmp_path / "named"):
        folder.mkdir()
    weights = Weights()
    saved(weights, {"given": given, "named": tmp_path / "named", "own": own}[where])
    first, second = torch.rand(2, 3, 32, 32)
    found = load_metric_networks(given).lpips_between(first, second)
    assert found == pytest.approx(float(weights.lpips()(first[None], second[None])), abs=1e-6)


def test_nvidias_file_will_do(tmp_path: Path) -> None:
    assert load_metric_networks(tmp_path).lpips is None
    save_script(Weights(), tmp_path / "vgg16.pt")
    assert load_metric_networks(tmp_path).lpips is not None


def test_another_trunk_is_used_where_there_is_no_vgg16(tmp_path: Path) -> None:
    layers = {0: (4, 3, 11), 3: (12, 4, 5), 6: (24, 12, 3), 8: (16, 24, 3), 10: (16, 16, 3)}
    trunk = {f"features.{i}.weight": torch.randn(o, c, k, k) for i, (o, c, k) in layers.items()}
    trunk |= {f"features.{i}.bias": torch.zeros(o) for i, (o, _, _) in layers.items()}
    torch.save(trunk, tmp_path / "alexnet-owt-7be5be79.pth")
    heads = {f"lin{i}.model.1.weight": torch.rand(1, o, 1, 1) for i, (o, _, _) in enumerate(layers.values())}
    save_file(heads, tmp_path / "lpips_v0.1_alex.safetensors")
    assert _trunk(load_metric_networks(tmp_path).lpips) == "alex"
    saved(Weights(), tmp_path / "deeper")
    assert _trunk(load_metric_networks(tmp_path).lpips) == "vgg"


def _trunk(lpips: object) -> str:
    assert isinstance(lpips, Lpips)
    return lpips.trunk.kind
