"""Which device to compute on: a GPU only after it has computed something."""

from __future__ import annotations

from ostec.errors import BadSettings

DEVICES = ("auto", "cpu", "cuda")


def pick_device(wanted: str) -> tuple[str, str]:
    """("cpu" or "cuda", why a GPU that is there is not used or ""). Raises `BadSettings` where `wanted` cannot be had.

    "auto" takes a GPU where one is there and `try_kernels` succeeds on it.
    """
    if wanted not in DEVICES:
        raise BadSettings(f"device is {wanted!r}; choose {', '.join(DEVICES)}.")
    if wanted == "cpu":
        return "cpu", ""
    import torch

    if not torch.cuda.is_available():
        if wanted == "cuda":
            raise BadSettings("device is 'cuda', but torch sees no CUDA GPU here; choose auto or cpu.")
        return "cpu", ""
    try:
        try_kernels("cuda")
    except Exception as error:
        why = f"a GPU is there, but it fails at a small computation ({' '.join(str(error).split())[:200]})"
        if wanted == "cuda":
            raise BadSettings(
                f"device is 'cuda': {why}. Install a torch build for this GPU and its driver, or choose auto or cpu."
            ) from error
        return "cpu", why
    return "cuda", ""


def try_kernels(device: str) -> None:
    """A small convolution and matrix product. Raises what torch raises, `ArithmeticError` where the numbers are
    wrong."""
    import torch

    picture = torch.arange(64.0, device=device).view(1, 1, 8, 8)
    blurred = torch.nn.functional.conv2d(picture, torch.ones(1, 1, 3, 3, device=device))
    total = blurred.flatten(1) @ torch.ones(36, 1, device=device)
    wanted = 9 * 36 * 31.5  # the mean of 0..63 is 31.5, and so is that of every centred window
    if abs(float(total.cpu()) - wanted) > 1.0:
        raise ArithmeticError(f"{float(total.cpu())} in place of {wanted}")
