"""Residual Parallax Coherence: does the picture move as the camera does? (paper, section 3.3, eq. 1, 2)

Frames in which the camera moves are rectified to the sample's plane. What motion is left between two of
them is the parallax of the relief, and it must grow with the distance between the two cameras:

    b = sqrt(angle^2 + (|translation| / s)^2)                                                        (1)
    L = 1 - max(0, rho),  rho = Spearman correlation of the b and m of all pairs                     (2)

with `angle` [rad] the relative rotation of the two cameras, s the sample's extent, and m the median
magnitude of the Dual TV-L1 optical flow (Zach et al. 2007; OpenCV's) over the texels whose bilaterally
filtered intensity lies between the 10th and the 90th percentile. 0 is coherent, 1 is not.

The paper leaves lags, resolution and flow parameters open; `RPCSettings` states ours. Values compare only
under the same settings. Two kinds of material have a high loss however good the video: one without relief,
because nothing moves; and a very glossy one, because highlights move with the camera too, and the flow, which
takes brightness for constant, follows them. For these `contrast_sigma` evens mean and contrast before the
flow; it is off by default, because it also raises the noise of places that are flat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import spearmanr

from gonio.camera import Trajectory, camera_axes
from gonio.color import luminance, srgb_from_linear
from gonio.errors import GonioError, UsageError
from gonio.material_video import MaterialVideo
from gonio.progress import progress
from gonio.rectify import rectify_video

# With fewer cameras the pairs are too few, and their baselines too alike, to be ranked.
MIN_FRAMES = 4
# Cameras this near (radians and sample extents) are one camera; baselines this near are tied, because what is
# left of their difference is rounding, and rounding has no rank.
_SAME = 1e-3
# Even local contrast: the deviation aimed at (three of them stay within [0, 1]), and the one below which a
# place counts as flat and its noise is not raised.
_DEVIATION = 0.15
_FLAT = 0.02


@dataclass(frozen=True, kw_only=True)
class RPCSettings:
    """resolution: texels per side of the rectified frames. max_lags: lags, evenly spaced from one frame to
    half of the camera phase, beyond which the cameras of a closed circle come nearer again. pairs_per_lag:
    pairs (t, t + lag), t evenly spaced. extent: the sample's side in world units, the s of equation 1.

    contrast_sigma: Gaussian window, in sample sides, in which mean and contrast are made even for the flow;
    0 leaves intensities as they are, 0.05 suits glossy materials. percentiles, bilateral_*: the intensity
    mask; sigma_color in display-encoded intensity (0 to 1), sigma_space in texels.

    The others are the parameters of cv2.optflow.DualTVL1OpticalFlow, OpenCV's defaults but for two: scales (5
    there), because residual parallax is a few texels, and coarser levels only find the large motions that a
    camera that was not followed leaves; and outer_iterations (10 there), of which one ranks the pairs as well
    in a third of the time.
    """

    resolution: int = 128
    max_lags: int = 8
    pairs_per_lag: int = 8
    extent: float = 1.0
    contrast_sigma: float = 0.0
    percentiles: tuple[float, float] = (10.0, 90.0)
    bilateral_diameter: int = 5
    bilateral_sigma_color: float = 0.1
    bilateral_sigma_space: float = 3.0
    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    scales: int = 2
    scale_step: float = 0.8
    warps: int = 5
    inner_iterations: int = 30
    outer_iterations: int = 1
    epsilon: float = 0.01
    gamma: float = 0.0
    median_filter: int = 5

    def __post_init__(self) -> None:
        if not 16 <= self.resolution <= 2048:
            raise UsageError(f"rpc: resolution {self.resolution}, allowed are 16 to 2048")
        if self.max_lags < 2 or self.pairs_per_lag < 1:
            raise UsageError("rpc: give at least two lags and one pair per lag")
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise UsageError(f"rpc: percentiles {self.percentiles}, give two rising ones of 0 to 100")
        if not 0 <= self.contrast_sigma <= 1:
            raise UsageError(f"rpc: contrast_sigma {self.contrast_sigma}, allowed are 0 to 1")
        if not self.extent > 0:
            raise UsageError(f"rpc: extent {self.extent}, give a positive length")


@dataclass(frozen=True, kw_only=True)
class RPC:
    """loss: equation 2, in [0, 1]. correlation: its rho; None where it is undefined, and `reason` says why.
    pairs [P, 2]: frames of the video; baseline [P]: equation 1; flow [P]: median magnitude in texels."""

    loss: float
    correlation: float | None
    reason: str | None
    pairs: np.ndarray
    baseline: np.ndarray
    flow: np.ndarray


def residual_parallax_coherence(video: MaterialVideo, settings: RPCSettings | None = None) -> RPC:
    """Measure one video. GonioError where the camera stands still or takes fewer than four places."""
    settings = settings or RPCSettings()
    phase = camera_phase(video.trajectory)
    if len(phase) < MIN_FRAMES:
        raise GonioError(
            f"rpc: the camera moves in {len(phase)} frames of {video.trajectory.frames}; "
            f"give a video with at least {MIN_FRAMES}"
        )
    moving = video.subset(phase)
    pairs = frame_pairs(len(phase), settings)
    flow = _pair_flows(moving, pairs, settings)
    baseline = baselines(moving.trajectory, pairs, settings.extent)
    correlation, reason = rank_correlation(baseline, flow)
    return RPC(
        loss=rpc_loss(correlation),
        correlation=correlation,
        reason=reason,
        pairs=np.asarray(phase)[pairs],
        baseline=baseline,
        flow=flow,
    )


def camera_phase(trajectory: Trajectory) -> list[int]:
    """Frames whose camera is not the one of the frame before: phase 2 of the two-phase trajectory."""
    rotation, position = _cameras(trajectory)
    turned = (rotation[:-1].inv() * rotation[1:]).magnitude() if trajectory.frames > 1 else np.zeros(0)
    shifted = np.linalg.norm(np.diff(position, axis=0), axis=-1)
    return [index + 1 for index in np.flatnonzero((turned > _SAME) | (shifted > _SAME)).tolist()]


def frame_pairs(frames: int, settings: RPCSettings) -> np.ndarray:
    """Pairs (t, t + lag) of a phase of so many frames. [P, 2]."""
    half = frames // 2
    lags = np.unique(np.linspace(1, half, min(settings.max_lags, half)).round().astype(int))
    pairs = []
    for lag in lags:
        last = frames - lag - 1
        starts = np.unique(np.linspace(0, last, min(settings.pairs_per_lag, last + 1)).round().astype(int))
        pairs += [(start, start + lag) for start in starts]
    return np.array(pairs)


def baselines(trajectory: Trajectory, pairs: np.ndarray, extent: float) -> np.ndarray:
    """Equation 1 for pairs [P, 2] of the trajectory's frames, to a thousandth. [P]."""
    rotation, position = _cameras(trajectory)
    first, second = pairs.T
    angle = (rotation[first].inv() * rotation[second]).magnitude()
    translation = np.linalg.norm(position[second] - position[first], axis=-1)
    return (np.hypot(angle, translation / extent) / _SAME).round() * _SAME


def rank_correlation(baseline: np.ndarray, flow: np.ndarray) -> tuple[float | None, str | None]:
    """Spearman correlation, or None and the reason where one of the two never changes."""
    if np.ptp(flow) == 0:
        return None, f"the optical flow is {flow[0]:.3g} texels between all frames: nothing moves"
    if np.ptp(baseline) == 0:
        return None, "all pairs of cameras are equally far apart"
    return float(spearmanr(baseline, flow).statistic), None


def rpc_loss(correlation: float | None) -> float:
    """Equation 2; 1 where the correlation is undefined."""
    return 1.0 if correlation is None else 1.0 - max(0.0, correlation)


def _cameras(trajectory: Trajectory) -> tuple[Rotation, np.ndarray]:
    """Orientations [F] and positions [F, 3]."""
    position, up = trajectory.camera_position.double(), trajectory.camera_up.double()
    right, true_up, forward = (axis.cpu().numpy() for axis in camera_axes(position, up))
    return Rotation.from_matrix(np.stack([right, true_up, -forward], -1)), position.cpu().numpy()


def _pair_flows(video: MaterialVideo, pairs: np.ndarray, settings: RPCSettings) -> np.ndarray:
    """Median magnitude of the optical flow of every pair, in texels. [P]."""
    rectified, seen_tensor = rectify_video(video, settings.resolution)
    intensity = luminance(srgb_from_linear(rectified)).float().cpu().numpy()  # [F, S, S]
    seen = seen_tensor.cpu().numpy()
    if not seen.any((1, 2)).all():
        raise GonioError("rpc: a camera does not see the sample at all; check the trajectory")
    # Unseen corners take the frame's mean, so that they are no edge for the flow to hold on to.
    intensity = np.stack([np.where(s, x, x[s].mean()) for x, s in zip(intensity, seen, strict=True)])
    masks = [_middle_tones(x, s, settings) for x, s in zip(intensity, seen, strict=True)]
    looked_at = [_even_contrast(x, settings.contrast_sigma * settings.resolution) for x in intensity]
    flow = _dual_tv_l1(settings)
    start = np.zeros((*intensity.shape[1:], 2), dtype=np.float32)
    magnitudes = []
    with progress("Optical flow", len(pairs)) as step:
        for first, second in pairs:
            motion = flow.calc(looked_at[first], looked_at[second], start)
            mask = masks[first] & seen[second]
            if not mask.any():
                raise GonioError("rpc: two cameras see no part of the sample in common; check the trajectory")
            magnitudes.append(float(np.median(np.hypot(motion[..., 0], motion[..., 1])[mask])))
            step()
    return np.array(magnitudes)


def _even_contrast(intensity: np.ndarray, sigma: float) -> np.ndarray:
    """Intensity of local mean 0.5 and, where it is not flat, of one local deviation. [S, S] in [0, 1]."""
    if sigma == 0:
        return intensity
    detail = intensity - cv2.GaussianBlur(intensity, (0, 0), sigma)
    deviation = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), sigma) + _FLAT**2)
    return (0.5 + _DEVIATION * detail / deviation).clip(0, 1).astype(np.float32)


def _middle_tones(intensity: np.ndarray, seen: np.ndarray, settings: RPCSettings) -> np.ndarray:
    """Texels that are neither among the darkest nor among the brightest, once fine noise is filtered away."""
    smooth = cv2.bilateralFilter(
        intensity,
        settings.bilateral_diameter,
        settings.bilateral_sigma_color,
        settings.bilateral_sigma_space,
    )
    low, high = np.percentile(smooth[seen], settings.percentiles)
    return seen & (smooth >= low) & (smooth <= high)


def _dual_tv_l1(settings: RPCSettings) -> Any:
    # The typed stubs of OpenCV do not list this class.
    flow: Any = cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined]
    flow.setTau(settings.tau)
    flow.setLambda(settings.lambda_)
    flow.setTheta(settings.theta)
    flow.setScalesNumber(settings.scales)
    flow.setScaleStep(settings.scale_step)
    flow.setWarpingsNumber(settings.warps)
    flow.setInnerIterations(settings.inner_iterations)
    flow.setOuterIterations(settings.outer_iterations)
    flow.setEpsilon(settings.epsilon)
    flow.setGamma(settings.gamma)
    flow.setMedianFiltering(settings.median_filter)
    return flow
