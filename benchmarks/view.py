"""What does a view cost apart from its search: render, unwrap, colour, stitch?

THP_MEM_ALLOC_ENABLE=1 python benchmarks/view.py PHOTO [--texture 1024] [--size 1024]

Medians over the views of the soft mode, after a warm-up round. A view is its own render, unwrap and colour and its
share in the stitches as the default runs them: a draft before each batch of views, and one stitch at the end. Beside
them the blend of the released code (`--preset original`). As the machine's measure, all are also given as multiples of
a 2048 x 2048 matrix product of the same minutes. All of this runs on the CPU, whatever the device of the search.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ostec.completion.projection.released_blend import join_as_released
from ostec.files.photos import load_photo
from ostec.geometry.raster import rasterise
from ostec.geometry.texels import bake_texels
from ostec.registry.components import load_parts
from ostec.settings import Settings
from ostec.texture.stitch import match_colour, stitch
from ostec.texture.unwrap import TRUSTED, unwrap
from ostec.texture.views import PHOTO_PRIORITY, in_batches, plan_views, shoot
from ostec.types import Atlas, Face, View

T = TypeVar("T")


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def __call__(self, stage: str, work: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = work()
        self.seconds.setdefault(stage, []).append(time.perf_counter() - start)
        return result

    def median(self, stage: str) -> float:
        return statistics.median(self.seconds[stage])


def turn(face: Face, atlas: Atlas, base: Tensor, size_px: int, clock: Clock) -> Atlas:
    """All views, each taken as it was rendered; gives the atlas of them."""
    photo, inside = atlas.photo, face.texels.inside
    keep = inside & (photo.confidence >= TRUSTED)
    texture = stitch(atlas, inside, keep, base)

    def shot_of(view: View):
        known = (texture.confidence >= TRUSTED).float()
        return shoot(face.reconstruction, texture.rgb, known, view, size_px, rasterise)

    for view in plan_views("soft"):
        shot = clock("render", lambda v=view: shot_of(v))
        unwrapped = clock(
            "unwrap", lambda s=shot: unwrap(s.image, s.camera, face.reconstruction, face.texels, rasterise)
        )
        matched = clock("colour", lambda u=unwrapped: match_colour(u, photo))
        atlas = atlas.add(view.name, matched, view.priority)
        clock("draft of the stitch", lambda a=atlas: stitch(a, inside, keep, base, draft=True))
        texture = clock("stitch", lambda a=atlas: stitch(a, inside, keep, base))
        clock("blend of the released code", lambda a=atlas: join_as_released(face, a))
    return atlas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--texture", type=int, default=1024)
    parser.add_argument("--size", type=int, default=1024)
    options = parser.parse_args()
    parts, photo, clock = load_parts(completer="prior"), load_photo(options.photo), Clock()
    with torch.no_grad():
        reconstruction = parts.reconstructor(photo, parts.detector(photo)[0])
        skin = parts.segmenter(photo, reconstruction)
        texels = bake_texels(reconstruction, (options.texture, options.texture), rasterise)
        seen = unwrap(photo.rgb, reconstruction.camera, reconstruction, texels, rasterise, skin)
        face = Face(photo, reconstruction, skin, texels, "soft")
        atlas = Atlas().add("photo", seen, PHOTO_PRIORITY["soft"], "photo")
        base = parts.completer(face, atlas, Settings(), lambda stage, done: None).texture.rgb
        turn(face, atlas, base, options.size, Clock())
        for _ in range(3):
            turn(face, atlas, base, options.size, clock)
            matrix = torch.randn(2048, 2048)
            clock("reference", lambda m=matrix: torch.mm(m, m))
    reference = clock.median("reference")
    views = plan_views("soft")
    figures = {stage: clock.median(stage) for stage in clock.seconds}
    stitches = len(in_batches(views)) * figures["draft of the stitch"] + figures["stitch"]
    figures["a view"] = sum(figures[stage] for stage in ("render", "unwrap", "colour")) + stitches / len(views)
    for stage, seconds in figures.items():
        print(f"{stage:30s} {seconds:7.3f} s   {seconds / reference:6.1f} x reference")


if __name__ == "__main__":
    main()
