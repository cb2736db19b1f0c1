"""The records of a benchmark: one score per face, method and pose, and the table rows made of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from ostec.errors import OstecError

_RESAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """One face completed by one method at one pose; None for a figure that is not available."""

    protocol: str
    method: str
    photo: str
    yaw_deg: float
    pitch_deg: float = 0.0
    variant: str = "plain"
    """The harder case, or the light."""
    psnr_db: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    delta_e: float | None = None
    identity: float | None = None
    """Cosine between frontal renders."""
    seam: float | None = None
    detail: float | None = None
    """Energy of the finest detail in hidden texels over that in their mirror images that were seen."""
    within_2_std: float | None = None
    """Share of the hidden texels whose error is at most twice the standard deviation that the method states."""
    seconds: float | None = None


_CASE = {"protocol", "method", "photo", "yaw_deg", "pitch_deg", "variant"}
FIGURES = tuple(field.name for field in fields(Score) if field.name not in _CASE)


def table_rows(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """One row per protocol, variant, method and pose: means over faces, with 95 % bootstrap intervals, and the share of
    faces on which the method's PSNR is above that of `mirror` (None without mirror)."""
    groups: dict[tuple, list[Score]] = {}
    for score in scores:
        groups.setdefault((*_case(score), score.method), []).append(score)
    mirror = {(*_case(s), s.photo): s.psnr_db for s in scores if s.method == "mirror"}
    rows = []
    for (protocol, variant, yaw_deg, pitch_deg, method), group in groups.items():
        row: dict[str, Any] = {"protocol": protocol, "variant": variant, "method": method}
        row |= {"yaw_deg": yaw_deg, "pitch_deg": pitch_deg, "n": len(group)}
        for figure in FIGURES:
            values = [value for s in group if (value := getattr(s, figure)) is not None and math.isfinite(value)]
            row[figure] = statistics.fmean(values) if values else None
            row[f"{figure}_95"] = interval(values)
        wins = [
            s.psnr_db > rival
            for s in group
            if s.psnr_db is not None and (rival := mirror.get((*_case(s), s.photo))) is not None
        ]
        row["win_rate_vs_mirror"] = statistics.fmean(wins) if wins and method != "mirror" else None
        rows.append(row)
    return rows


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of the mean, reproducible; None for fewer than two values."""
    if len(values) < 2:
        return None
    drawn = torch.randint(len(values), (_RESAMPLES, len(values)), generator=torch.Generator().manual_seed(0))
    means = torch.tensor(values, dtype=torch.float64)[drawn].mean(dim=1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def failure(error: Exception, source: object) -> str:
    """Why a photo failed, in one line that names it."""
    return str(error) if isinstance(error, OstecError) else f"{source}: {type(error).__name__}: {error}"


def _case(score: Score) -> tuple[str, str, float, float]:
    return score.protocol, score.variant, score.yaw_deg, score.pitch_deg
