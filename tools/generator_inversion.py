"""How well a face generator reproduces faces that it has not learned from, complete and with one half hidden.

python tools/generator_inversion.py GENERATOR.safetensors PHOTOS [--encoder ENCODER.safetensors] [--sheet sheet.png]

Views are rendered as by `tools/generator_views.py`. The search is the package's own, with pixels and latents as
its only terms. Figures are dB of what the photo shows of the face; where half is hidden, of that half.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from generator_archive import sheet
from generator_views import views_of
from torch import Tensor

import ostec
from ostec.completion.projection.pyramid import Pyramid
from ostec.completion.projection.starts import MapStart
from ostec.completion.projection.view_search import SearchRequest, ViewSearch
from ostec.interfaces import LossNetworks
from ostec.networks.face_encoder import FaceEncoder, load_face_encoder
from ostec.networks.stylegan2 import Generator
from ostec.networks.stylegan2_files import load_generator
from ostec.settings import SearchSettings, Settings
from ostec.types import Shot

_BATCH, _SEED = 8, 0
_SHOWN, _SHOWN_ABOVE = 16, 0.5


@dataclass(frozen=True)
class Inverter:
    """A generator that is to give pictures back, and where the search for them starts."""

    generator: Generator
    encoder: FaceEncoder | None
    steps: int

    @torch.no_grad()
    def __call__(self, shots: Sequence[Shot], hidden: Tensor) -> dict[str, Tensor]:
        """Way -> [N, 3, R, R], 0..1, of pictures like those of `shots`, of which `hidden` [R, R] is not looked at."""
        search, found = ViewSearch(self.generator, LossNetworks(), self.encoder), {}
        for start in range(0, len(shots), _BATCH):
            for way, made in self._ways(search, shots[start : start + _BATCH], hidden).items():
                found.setdefault(way, []).append(made)
        return {way: torch.cat(parts) for way, parts in found.items()}

    def _ways(self, search: ViewSearch, shots: Sequence[Shot], hidden: Tensor) -> dict[str, Tensor]:
        pictures, trust = torch.stack([shot.image for shot in shots]), (~hidden).float()
        mirrored = torch.where(hidden, pictures.flip(3), pictures)
        ways = {"mirror": mirrored} if bool(hidden.any()) else {}
        mean = self.generator.w_avg.repeat(len(shots), self.generator.num_ws, 1)
        ways["mean face"], start = self._made(mean), mean
        if self.encoder is not None:
            start = self.encoder(mirrored)
            ways["encoder's guess"] = self._made(start)
        if self.generator.has_normal_latents:
            known = trust.expand(len(shots), 1, -1, -1)
            ways["least squares"] = self._made(MapStart(Pyramid(self.generator))(mirrored, known, start))
        asked = tuple(replace(shot, image=image, trust=trust) for shot, image in zip(shots, mirrored, strict=True))
        settings = Settings(seed=_SEED, search=SearchSettings(iterations=self.steps))
        response = search.submit(SearchRequest(asked, None, settings))
        ways["search"] = torch.stack([completion.image for completion in response.completions])
        return ways

    def _made(self, w_plus: Tensor) -> Tensor:
        return (self.generator.synthesis(w_plus) / 2 + 0.5).clamp(0, 1)


def decibels(made: Tensor, wanted: Tensor, counted: Tensor) -> Tensor:
    """[N]: peak signal over error of pictures [N, 3, R, R], 0..1, where [N, R, R] says so."""
    error = ((made - wanted).square().mean(dim=1) * counted).sum(dim=(1, 2)) / counted.sum(dim=(1, 2)).clamp(min=1)
    return -10 * error.clamp(min=1e-10).log10()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--encoder", type=Path, default=None)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--limit", type=int, default=48, help="photos, evenly over the folder")
    parser.add_argument("--sheet", type=Path, default=None)
    options = parser.parse_args(arguments)
    generator = load_generator(options.generator)
    invert = Inverter(generator, options.encoder and load_face_encoder(options.encoder), options.steps)
    photos = sorted(path for path in options.photos.iterdir() if path.suffix in (".jpg", ".png"))
    parts, side = ostec.load_parts(completer="prior", reconstructor="mediapipe"), generator.resolution
    chosen = photos[:: max(1, len(photos) // options.limit)][: options.limit]
    views = [views_of(path, parts, side) for path in chosen]
    shots = [shot for shots in views for shot in (*shots[:1], *shots[1:][-1:])]
    pictures = torch.stack([shot.image for shot in shots])
    shown = torch.stack([shot.trust > _SHOWN_ABOVE for shot in shots])
    half = torch.zeros(side, side, dtype=torch.bool)
    half[:, side // 2 :] = True
    rows = [pictures]
    for name, hidden in (("whole", torch.zeros_like(half)), ("half hidden", half)):
        for way, made in invert(shots, hidden).items():
            value = decibels(made, pictures, shown & hidden if bool(hidden.any()) else shown)
            print(f"{name:12} {way:16} {float(value.mean()):6.2f} dB", flush=True)
            rows.append(made)
    if options.sheet:
        some = slice(None, None, max(1, len(pictures) // _SHOWN))
        columns = [row[some][:_SHOWN] for row in rows]
        sheet([picture for row in columns for picture in row], len(columns[0])).save(options.sheet)


if __name__ == "__main__":
    main()
