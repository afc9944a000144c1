"""Image metrics on frames of a material sample. Pure functions, one value per frame.

Every function takes truth and estimate [F, H, W, 3] and an optional mask of the pixels that lie on the
sample, bool [H, W] or [F, H, W]; without one every pixel counts. It returns one value per frame, [F];
not-a-number where the mask leaves nothing to measure. Arguments called `linear` are linear Rec.709 radiance;
arguments called `display` are sRGB-encoded in [0, 1]. `frame_metrics` takes linear frames and encodes them.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from flip_evaluator import evaluate as evaluate_flip
from torch import Tensor

from gonio.color import log_encode, srgb_from_linear
from gonio.errors import GonioError
from gonio.models.perceptual import lpips_network, lpips_unavailable

METRICS = ("psnr", "ssim", "flip", "mse", "mape", "lpips")
# Two identical frames have this PSNR: their error is below what a 16-bit picture can hold.
MAX_PSNR = 100.0
MAPE_EPSILON = 0.01
MAPE_CLIP = 4.0
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def frame_metrics(truth: Tensor, estimate: Tensor, mask: Tensor | None = None) -> dict[str, float | None]:
    """Means over the frames of every metric. truth, estimate: [F, H, W, 3] linear; mask: [H, W] or [F, H, W].

    psnr [dB], ssim, flip and lpips are of display-encoded frames, mse and mape of linear radiance. None where
    no frame could be measured; `lpips_unavailable` says why LPIPS is None on this machine.
    """
    _check(truth, estimate, mask)
    display = srgb_from_linear(truth), srgb_from_linear(estimate)
    return {
        "psnr": _mean(psnr(*display, mask)),
        "ssim": _mean(ssim(*display, mask)),
        "flip": _mean(flip(*display, mask)),
        "mse": _mean(mse(truth, estimate, mask)),
        "mape": _mean(mape(truth, estimate, mask)),
        "lpips": None if lpips_unavailable(truth.shape) else _mean(lpips(*display, mask)),
    }


def psnr(truth_display: Tensor, estimate_display: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio [F] in dB with peak 1, at most MAX_PSNR."""
    error = mse(truth_display, estimate_display, mask)
    return -10 * torch.log10(error.clamp_min(10 ** (-MAX_PSNR / 10)))


def mse(
    truth: Tensor,
    estimate: Tensor,
    mask: Tensor | None = None,
    domain: Literal["as given", "log"] = "as given",
) -> Tensor:
    """Mean squared error [F] of the values as they are, or of log(1 + linear) with domain="log"."""
    _check(truth, estimate, mask)
    if domain == "log":
        truth, estimate = log_encode(truth), log_encode(estimate)
    return _masked_mean((truth - estimate).square().mean(-1), mask)


def mape(truth_linear: Tensor, estimate_linear: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute relative error [F]: mean of |x - y| / (y + 0.01), y the truth; 0.1 means ten percent.

    Both are clipped to [0, 4] first: a highlight is a few pixels of nearly any value, and 4 is two stops
    above the white Lambertian that has radiance 1, beyond any display. The 0.01 keeps black pixels (radiance
    below a hundredth of that white, 10 % after display encoding) from ruling the mean.
    """
    _check(truth_linear, estimate_linear, mask)
    truth, estimate = truth_linear.clamp(0, MAPE_CLIP), estimate_linear.clamp(0, MAPE_CLIP)
    return _masked_mean(((estimate - truth).abs() / (truth + MAPE_EPSILON)).mean(-1), mask)


def ssim(truth_display: Tensor, estimate_display: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity [F] (Wang et al. 2004): Gaussian 11x11 window, sigma 1.5, peak 1, K .01 and .03.

    Averaged over colour channels and over the pixels whose whole window lies in the frame and the mask, so
    the background never takes part. Frames smaller than the window raise GonioError.
    """
    _check(truth_display, estimate_display, mask)
    frames, height, width, _ = truth_display.shape
    if min(height, width) < SSIM_WINDOW:
        raise GonioError(f"ssim: {width}x{height} pixels; give frames of at least {SSIM_WINDOW} each way")
    x, y = truth_display.movedim(-1, 1), estimate_display.movedim(-1, 1)  # [F, 3, H, W]
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = _window_mean(x * x) - mean_x * mean_x
    variance_y = _window_mean(y * y) - mean_y * mean_y
    covariance = _window_mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x * mean_x + mean_y * mean_y + c1) * (variance_x + variance_y + c2)
    )
    inside = _expand(mask, truth_display).to(x)[:, None]
    # A window is inside when nothing in it is outside.
    whole = torch.nn.functional.max_pool2d(1 - inside, SSIM_WINDOW, stride=1)[:, 0] == 0
    return _masked_mean(similarity.mean(1), whole)


# FLIP's widest filter (contrast sensitivity, blue-yellow) at 67 pixels per degree.
FLIP_REACH = 16


def flip_map(truth_display: Tensor, estimate_display: Tensor, mask: Tensor | None = None) -> Tensor:
    """LDR-FLIP error of every pixel [F, H, W] in [0, 1] (Andersson et al. 2020), at 67 pixels per degree.

    The mask's outside is the same in both pictures, so its difference does not leak in through the filters,
    and what lies farther from the mask than they reach needs no work.
    """
    _check(truth_display, estimate_display, mask)
    inside = _expand(mask, truth_display)
    estimate = torch.where(inside[..., None], estimate_display, truth_display)
    maps = torch.zeros(truth_display.shape[:3])
    for index in range(truth_display.shape[0]):
        rows, columns = (_reach(inside[index].any(1 - axis)) for axis in (0, 1))
        if rows is None or columns is None:
            continue
        truth, changed = (
            t[index, rows, columns].detach().cpu().float().clamp(0, 1).contiguous().numpy()
            for t in (truth_display, estimate)
        )
        result = evaluate_flip(
            truth, changed, "LDR", inputsRGB=True, applyMagma=False, computeMeanError=False, parameters={}
        )
        maps[index, rows, columns] = torch.from_numpy(result[0])[..., 0]
    return maps.to(truth_display)


def _reach(touched: Tensor) -> slice | None:
    """The extent of the true entries [N], widened by what FLIP's filters reach."""
    where = touched.nonzero()[:, 0]
    if where.numel() == 0:
        return None
    return slice(max(0, int(where[0]) - FLIP_REACH), int(where[-1]) + 1 + FLIP_REACH)


def flip(truth_display: Tensor, estimate_display: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean LDR-FLIP [F]; 0 is identical. See `flip_map`."""
    return _masked_mean(flip_map(truth_display, estimate_display, mask), mask)


def lpips(truth_display: Tensor, estimate_display: Tensor, mask: Tensor | None = None) -> Tensor:
    """Learned perceptual similarity [F] (Zhang et al. 2018), AlexNet, version 0.1; 0 is identical.

    Without a mask the published value. With one: the package's spatial map averaged over it, with the same
    background in both; its layers are enlarged to the frame first, so a mask of everything differs slightly
    from none. Raises GonioError with the reason when `lpips_unavailable` gives one; never downloads.
    """
    _check(truth_display, estimate_display, mask)
    reason = lpips_unavailable(truth_display.shape)
    if reason:
        raise GonioError(reason)
    inside = _expand(mask, truth_display)
    estimate = torch.where(inside[..., None], estimate_display, truth_display)
    network = lpips_network(spatial=mask is not None).to(truth_display.device)
    with torch.inference_mode():
        maps = torch.stack(
            [
                network(x.movedim(-1, 0)[None].float(), y.movedim(-1, 0)[None].float(), normalize=True)[0, 0]
                for x, y in zip(truth_display, estimate, strict=True)
            ]
        ).to(truth_display)  # [F, H, W] with a mask, [F, 1, 1] without
    return _masked_mean(maps, mask)


def _check(truth: Tensor, estimate: Tensor, mask: Tensor | None) -> None:
    if truth.ndim != 4 or truth.shape[-1] != 3 or truth.shape != estimate.shape or not truth.numel():
        shapes = f"truth {list(truth.shape)} and estimate {list(estimate.shape)}"
        raise GonioError(f"metrics: {shapes} must both be [F, H, W, 3] and not empty")
    if mask is not None and mask.shape not in (truth.shape[:3], truth.shape[1:3]):
        raise GonioError(f"metrics: mask {list(mask.shape)} does not fit the frames {list(truth.shape)}")
    if mask is not None and mask.dtype != torch.bool:
        raise GonioError(f"metrics: the mask must be bool, it is {mask.dtype}")


def _expand(mask: Tensor | None, frames: Tensor) -> Tensor:
    """The mask of every frame, bool [F, H, W]."""
    if mask is None:
        return torch.ones(frames.shape[:3], dtype=torch.bool, device=frames.device)
    return mask.to(frames.device).expand(frames.shape[:3])


def _masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of [F, H, W] over the mask [H, W] or [F, H, W] -> [F]; not-a-number where the mask is empty."""
    inside = _expand(mask, values)
    # Sums of up to millions of pixels are taken in double precision.
    total = torch.where(inside, values, torch.zeros_like(values)).double().sum((1, 2))
    return (total / inside.sum((1, 2))).to(values.dtype)


def _window_mean(x: Tensor) -> Tensor:
    """Gaussian-weighted mean of every whole window. [F, C, H, W] -> [F, C, H - 10, W - 10]."""
    offset = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weight = torch.exp(-offset.square() / (2 * SSIM_SIGMA**2))
    weight = (weight / weight.sum()).to(x)
    channels = x.shape[1]
    x = torch.nn.functional.conv2d(x, weight.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return torch.nn.functional.conv2d(x, weight.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def _mean(per_frame: Tensor) -> float | None:
    """Mean over the frames that could be measured; None if there are none."""
    mean = float(per_frame.nanmean())
    return None if math.isnan(mean) else mean
