"""Learn `src/ostec/data/face_prior.safetensors` from portraits.

python tools/train_prior.py FACES [--out FILE] [--textures FILE]

FACES holds `index.csv` and the photos it names; which of them are used, and why, is in `docs/models/face-prior.md`.
The textures of the photos are kept in the file given by --textures and taken from there if it exists. The same photos
give the same bits on the same machine.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from prior_gaussian import Albedo, domain_of, learn, without_light
from prior_textures import Textures, collect_textures, pose_masks, training_photos
from torch import Tensor

from ostec.completion.prior.face_prior import PRIOR_FILE, FacePrior, ReferenceHead, save_face_prior
from ostec.completion.prior.gaussian import FaceGaussian, condition
from ostec.heads.facemesh import load_facemesh_model

GRID_PX = 64
_HELD_OUT = 180
_SEED = 0


def reference_head() -> ReferenceHead:
    """The mean head of the face model whose UV chart the grid covers."""
    model = load_facemesh_model()
    points = model.head(model.face_mean).float()
    return ReferenceHead("facemesh", points, model.topology.uv, points[model.topology.landmark_vertices])


def measure(model: FaceGaussian, textures: Textures, faces: Tensor, masks: Tensor) -> tuple[float, float]:
    """(mean PSNR in dB, root mean square of error over stated deviation) on faces the model does not know, each
    under a mask of its own."""
    psnr_db, squares = [], []
    domain = model.domain
    for face, mask in zip(faces.tolist(), masks, strict=True):
        known = textures.seen[face, 0][domain] > 0
        seen, hidden = known & (mask[0][domain] > 0), known & (mask[0][domain] == 0)
        if int(seen.sum()) < 50 or int(hidden.sum()) < 20:
            continue
        truth = textures.log_rgb[face][:, domain]
        mean, log_std = condition(model, truth, seen, textures.normals[face][:, domain].T)
        error = (mean.exp() - truth.exp()).square().mean(dim=0)[hidden]
        std = mean.exp().mean(dim=0).clamp(max=1)[hidden] * log_std[hidden]
        psnr_db.append(-10 * math.log10(float(error.mean())))
        squares.append(float((error / std.square().clamp(min=1e-6)).mean()))
    return sum(psnr_db) / len(psnr_db), math.sqrt(sum(squares) / len(squares))


def learn_and_check(textures: Textures) -> FacePrior:
    """Learn from nine faces in ten, measure on the rest for the calibration, then learn from all of them."""
    domain = domain_of(textures)
    albedo: Albedo = without_light(textures, domain)
    order = torch.randperm(len(textures.names), generator=torch.Generator().manual_seed(_SEED))
    held_out, others = order[:_HELD_OUT], order[_HELD_OUT:]
    masks = pose_masks(textures.vertices[others], GRID_PX, _SEED)
    picked = torch.randperm(len(masks), generator=torch.Generator().manual_seed(_SEED))[: len(held_out)]
    psnr_db, calibration = measure(learn(albedo, domain, others), textures, held_out, masks[picked])
    print(f"held-out faces: {psnr_db:.2f} dB; errors are {calibration:.2f} times the model's standard deviation")
    return FacePrior(learn(albedo, domain, order), reference_head(), torch.tensor(calibration))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--out", type=Path, default=PRIOR_FILE)
    parser.add_argument("--textures", type=Path, default=None)
    options = parser.parse_args()
    start = time.perf_counter()
    torch.manual_seed(_SEED)
    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    if options.textures and options.textures.is_file():
        textures = Textures(**torch.load(options.textures, weights_only=True))
    else:
        textures = collect_textures(training_photos(options.faces), GRID_PX)
        if options.textures:
            torch.save(vars(textures), options.textures)
    save_face_prior(learn_and_check(textures), options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB from {len(textures.names)} faces, ", end="")
    print(f"{(time.perf_counter() - start) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
