"""Plug in a completer of your own: any function that takes a face and returns a texture.

This one paints all texels that the photo does not show in one colour, to show which texels are completed.
python examples/03_your_own_completer.py [photo] [folder]
"""

import sys
from dataclasses import replace

import torch

import ostec
from ostec.types import Completed, UVTexture


def paint_unseen(face, atlas, settings, progress):
    seen = atlas.photo
    magenta = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    rgb = torch.where(seen.confidence > 0.4, seen.rgb, magenta)
    return Completed(UVTexture(rgb * face.texels.inside, seen.confidence))


photo = sys.argv[1] if len(sys.argv) > 1 else ostec.demo_photo()
save_dir = sys.argv[2] if len(sys.argv) > 2 else "out"
parts = replace(ostec.load_parts(), completer=paint_unseen)
print(ostec.complete(photo, parts=parts).save(save_dir, name="unseen", formats=("png",))["png"])
