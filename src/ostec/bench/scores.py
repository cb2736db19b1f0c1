"""Measures of how far a completed picture is from the truth over its hidden part. Pictures are [3, H, W] sRGB 0..1.

The tests compare them with scikit-image. They are written in torch, so that the package does not need it.
"""

from __future__ import annotations

import math

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from ostec.types import UVTexture

_SSIM_SIGMA_PX = 1.5
_SSIM_REACH_PX = 5
_DETAIL_SIGMA_AT_256 = 1.5
_BORDER_REACH_AT_256 = 3


def picture_figures(picture: Tensor, truth: Tensor, region: Tensor) -> dict[str, float]:
    """PSNR, SSIM and colour error by the names that `Score` has for them; empty where the region is."""
    if not bool(region.any()):
        return {}
    measures = {"psnr_db": psnr_db, "ssim": ssim, "delta_e": delta_e2000}
    return {name: measure(picture, truth, region) for name, measure in measures.items()}


def psnr_db(picture: Tensor, truth: Tensor, region: Tensor) -> float:
    """Peak signal-to-noise ratio of [3, H, W] over `region` [H, W] bool, at most 100 dB."""
    error = float((picture - truth)[:, region].double().square().mean())
    return -10 * math.log10(max(error, 1e-10))


def ssim(picture: Tensor, truth: Tensor, region: Tensor) -> float:
    """Structural similarity (Wang et al., TIP 2004: Gaussian window of 11 px, sigma 1.5), mean over channels and the
    pixels of `region` [H, W] bool; windows may extend beyond the region."""
    pairs = torch.stack([picture, truth, picture * picture, truth * truth, picture * truth])
    a, b, aa, bb, ab = blurred(pairs.flatten(0, 1), _SSIM_SIGMA_PX, _SSIM_REACH_PX).unflatten(0, (5, 3))
    stabiliser = 0.01**2, 0.03**2
    similar = (2 * a * b + stabiliser[0]) * (2 * (ab - a * b) + stabiliser[1])
    similar /= (a * a + b * b + stabiliser[0]) * (aa - a * a + bb - b * b + stabiliser[1])
    return float(similar[:, region].mean())


def delta_e2000(picture: Tensor, truth: Tensor, region: Tensor) -> float:
    """Mean colour difference CIEDE2000 over `region` (Sharma, Wu and Dalal, CRA 2005; sRGB under D65)."""
    return float(_ciede2000(lab(picture[:, region]), lab(truth[:, region])).mean())


def detail_ratio(picture: Tensor, region: Tensor, reference: Tensor) -> float | None:
    """Energy of the finest detail in `region` over that in `reference` (both [H, W] bool); None if the latter has none.

    Below 1 the region is blurred, above 1 it is noisy.
    """
    ours, theirs = (_detail_energy(picture, part) for part in (region, reference))
    return ours / theirs if theirs > 0 else None


def seam_ratio(picture: Tensor, inside: Tensor, known: Tensor) -> float | None:
    """Mean step across the border of `known` within `inside` ([H, W] bool) over the mean step near that border; None
    where there is no border."""
    reach = max(3, round(_BORDER_REACH_AT_256 * max(inside.shape) / 256))
    across, around = [], []
    for dim in (0, 1):
        size = inside.shape[dim] - 1
        first, second = known.narrow(dim, 0, size), known.narrow(dim, 1, size)
        both = inside.narrow(dim, 0, size) & inside.narrow(dim, 1, size)
        step = picture.diff(dim=dim + 1).abs().mean(dim=0)
        border = (first != second) & both
        near = F.max_pool2d(border.float()[None, None], 2 * reach + 1, 1, reach)[0, 0] > 0
        across.append(step[border])
        around.append(step[near & both & ~border])
    steps, rest = torch.cat(across), torch.cat(around)
    return float(steps.mean() / rest.mean().clamp(min=1e-6)) if len(steps) and len(rest) else None


def texel_figures(
    done: UVTexture, truth: Tensor, hidden: Tensor, seen: Tensor, inside: Tensor
) -> dict[str, float | None]:
    """The figures of a completed texture, by the names that `Score` has for them, over the texels `hidden`.

    `truth` is [3, Hu, Wu]; `hidden`, `seen` and `inside`, the texels of the chart, are [Hu, Wu] bool.
    """
    mirrored = hidden & seen.flip(1)
    return {
        **picture_figures(torch.where(hidden, done.rgb, truth), truth, hidden),
        "seam": seam_ratio(done.rgb, inside, seen),
        "detail": detail_ratio(done.rgb, mirrored, mirrored.flip(1)),
        "within_2_std": within_2_std(done.rgb, done.std, truth, hidden),
    }


def within_2_std(picture: Tensor, std: Tensor | None, truth: Tensor, region: Tensor) -> float | None:
    """Share of `region` whose error, root mean square over channels, is at most 2 `std` [H, W]; None without `std` or
    for an empty region."""
    if std is None or not bool(region.any()):
        return None
    error = (picture - truth)[:, region].square().mean(dim=0).sqrt()
    return float((error <= 2 * std[region]).float().mean())


def blurred(picture: Tensor, sigma_px: float, reach_px: int | None = None) -> Tensor:
    """[C, H, W] filtered with a Gaussian; outside the picture the colours of its border are repeated."""
    reach = reach_px or max(1, math.ceil(3 * sigma_px))
    return torch.from_numpy(gaussian_filter(picture.numpy(), sigma_px, mode="nearest", radius=reach, axes=(1, 2)))


def _detail_energy(picture: Tensor, region: Tensor) -> float:
    grey = picture.mean(dim=0, keepdim=True)
    detail = grey - blurred(grey, _DETAIL_SIGMA_AT_256 * max(region.shape) / 256)
    return float(detail[0, region].square().mean()) if bool(region.any()) else 0.0


def lab(rgb: Tensor) -> Tensor:
    """sRGB [3, N] -> CIE L*a*b* under D65, float64."""
    rgb = rgb.double()
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).clamp(min=0) ** 2.4, rgb / 12.92)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    white = torch.tensor([0.95047, 1.0, 1.08883], dtype=torch.float64)
    t = torch.tensor(to_xyz, dtype=torch.float64) @ linear / white[:, None]
    f = torch.where(t > (6 / 29) ** 3, t.clamp(min=1e-12) ** (1 / 3), t * (29 / 6) ** 2 / 3 + 4 / 29)
    return torch.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _ciede2000(first: Tensor, second: Tensor) -> Tensor:
    """[N] from L*a*b* [3, N] each; the names are those of the formula."""
    (L1, a1, b1), (L2, a2, b2) = first, second
    C7 = ((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2) ** 7
    G = 0.5 * (1 - (C7 / (C7 + 25.0**7)).sqrt())
    a1, a2 = a1 * (1 + G), a2 * (1 + G)
    C1, C2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    h1, h2 = (torch.rad2deg(torch.atan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    grey = C1 * C2 == 0
    dh = torch.where(grey, 0.0, (h2 - h1 + 180) % 360 - 180)
    dL, dC, dH = L2 - L1, C2 - C1, 2 * (C1 * C2).sqrt() * torch.sin(torch.deg2rad(dh / 2))
    L, C = (L1 + L2) / 2, (C1 + C2) / 2
    h = torch.where(grey, h1 + h2, (h1 + ((h2 - h1 + 180) % 360 - 180) / 2) % 360)

    def cos(degrees: Tensor) -> Tensor:
        return torch.cos(torch.deg2rad(degrees))

    T = 1 - 0.17 * cos(h - 30) + 0.24 * cos(2 * h) + 0.32 * cos(3 * h + 6) - 0.20 * cos(4 * h - 63)
    S_L = 1 + 0.015 * (L - 50) ** 2 / (20 + (L - 50) ** 2).sqrt()
    S_C, S_H = 1 + 0.045 * C, 1 + 0.015 * C * T
    turn = 30 * (-(((h - 275) / 25) ** 2)).exp()
    R_T = -2 * (C**7 / (C**7 + 25.0**7)).sqrt() * torch.sin(torch.deg2rad(2 * turn))
    lightness, chroma, hue = dL / S_L, dC / S_C, dH / S_H
    return (lightness**2 + chroma**2 + hue**2 + R_T * chroma * hue).clamp(min=0).sqrt()
