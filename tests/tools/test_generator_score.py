"""The distance between sets of pictures."""

from __future__ import annotations

import torch
from generator_score import features, frechet, score
from generator_training import to_pictures
from painted_faces import painted_faces
from torch.nn import functional as F


def test_the_distance_of_normal_distributions_is_the_known_one() -> None:
    x = torch.randn(500, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    x = x - x.mean(dim=0)
    shift = torch.arange(6, dtype=torch.float64)
    assert abs(frechet(x, x)) < 1e-6
    wanted = float(shift.square().sum() + x.T.cov().trace())  # tr(C + 4 C - 2 * 2 C)
    assert abs(frechet(x, 2 * x + shift) - wanted) < 1e-6 * wanted


def test_other_faces_of_the_same_kind_are_near_and_anything_else_is_not() -> None:
    real, others = (to_pictures(painted_faces(600, seed=seed)) for seed in (0, 1))
    known = features(real)
    same = score(known, features(others))
    wrong = {
        "upside down": others.flip(2),
        "other colours": others.flip(1),
        "blurred": F.avg_pool2d(F.pad(others, [2] * 4, mode="replicate"), 5, 1),
        "noisy": others + 0.3 * torch.randn_like(others),
        "one face": others[:1].expand(600, -1, -1, -1) + 0.01 * torch.randn_like(others),
    }
    assert same < 5
    for name, pictures in wrong.items():
        assert score(known, features(pictures)) > 3 * same, name
