"""A fit as a person runs it: chosen views, a progress bar with its PSNR, and provenance in the material."""

from __future__ import annotations

from pathlib import Path

from gonio.errors import UsageError
from gonio.material_video import MaterialVideo
from gonio.neural_material import NeuralMaterial, Provenance
from gonio.progress import progress
from gonio.reconstruct.optimize import FitSettings, Progress, fit

# The PSNR of one step is that of its few thousand pixels; this much of it enters the shown mean.
SMOOTHING = 0.05


def chosen_views(video: MaterialVideo, views: int | None) -> MaterialVideo:
    """All frames for None, or the evenly spaced `views` (17, 81) of an 81-frame video."""
    count = video.frames.shape[0]
    if views is None or views == count:
        return video
    if count != 81:
        raise UsageError(f"--views {views}: the video has {count} frames; leave --views out or scan 81")
    return video.subset(list(range(0, 81, 80 // (views - 1))))


def fit_shown(
    video: MaterialVideo,
    settings: FitSettings,
    *,
    size: int | None = None,
    checkpoint: Path | None = None,
    provenance: Provenance | None = None,
    title: str = "Fitting",
) -> tuple[NeuralMaterial, float]:
    """`optimize.fit` under a progress bar. Returns the material and the PSNR of the fitted pixels [dB]."""
    size = size or min(video.frames.shape[1:3])
    done, psnr = 0, 0.0
    with progress(title, sum(level.steps for level in settings.levels(size))) as step:

        def report(state: Progress) -> None:
            nonlocal done, psnr
            psnr = state.psnr if done == 0 else psnr + SMOOTHING * (state.psnr - psnr)
            step(state.step - done, f"{psnr:.1f} dB")
            done = state.step

        material = fit(
            video, settings, size=size, checkpoint=checkpoint, report=report, provenance=provenance
        )
    return material, psnr


def provenance_of(video: MaterialVideo, path: Path, method: str, settings: FitSettings) -> Provenance:
    """What the video says about itself, and how a material is made from it."""

    def text(key: str) -> str | None:
        value = video.provenance.get(key)
        return value if isinstance(value, str) and value else None

    return Provenance(
        name=text("name") or path.resolve().stem,
        source=text("original") or text("source") or path.resolve().name,
        prompt=text("prompt"),
        seed=settings.seed,
        model=text("model") or (f"universal-{settings.decoder}" if settings.universal else None),
        method=method,
        licence=text("licence"),
        author=text("author"),
        extra={"views": video.frames.shape[0], "trajectory": video.trajectory.kind},
    )
