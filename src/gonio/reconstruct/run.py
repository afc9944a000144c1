"""Reconstruction as a person runs it: chosen views, a progress bar with its PSNR, and provenance."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from gonio.errors import UsageError
from gonio.material_video import MaterialVideo
from gonio.models.reconstruction import ReconstructionModel
from gonio.neural_material import NeuralMaterial, Provenance, log_value
from gonio.progress import progress
from gonio.reconstruct import lrm
from gonio.reconstruct.observations import observe
from gonio.reconstruct.optimize import (
    OPTIMIZE,
    REFINE,
    SCRATCH,
    FitSettings,
    Progress,
    display_error,
    fit,
)

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


Method = Literal["lrm", "refine", "optimize", "scratch"]
_FITS = {"refine": REFINE, "optimize": OPTIMIZE, "scratch": SCRATCH}
# Pixels whose PSNR is shown of a material that was not fitted.
_SHOWN_PIXELS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """How to make a material of a video.

    method: "lrm" is one pass of the reconstruction model, "optimize" a fit from the universal decoder,
    "refine" a shorter one that then listens to the model's opinion, "scratch" a fit from random numbers.
    size: texels per side, the frames' shorter side if None. decoder: of the fits; a reconstruction model has
    its own. model: folder of a reconstruction model, bundled if None. tileable: the convolutions of the model
    wrap around.
    """

    method: Method = "optimize"
    size: int | None = None
    decoder: str | None = None
    seed: int = 0
    effort: float = 1.0
    model: Path | None = None
    tileable: bool = False

    @property
    def settings(self) -> FitSettings | None:
        """Of the fit, None where there is none."""
        fit = _FITS.get(self.method)
        if fit is None:
            return None
        decoder = self.decoder or fit.decoder
        return replace(fit, decoder=decoder, seed=self.seed, effort=fit.effort * self.effort)


def chosen_method(video: MaterialVideo, size: int | None = None, decoder: str | None = None) -> Method:
    """What suits a video: "lrm" if a model made it, else "refine" where the reconstruction model can help:
    where it knows the trajectory and makes textures of this size for this decoder."""
    spec = lrm.find_lrm("mini-lrm")
    side = size or min(video.frames.shape[1:3])
    if decoder not in (None, spec.decoder) or side % spec.stride or not lrm.has_frames_for(spec, video):
        return "optimize"
    return "lrm" if video.provenance.get("model") else "refine"


def reconstruct_shown(
    video: MaterialVideo,
    how: Reconstruction,
    *,
    source: Path | None = None,
    checkpoint: Path | None = None,
    title: str | None = None,
) -> tuple[NeuralMaterial, float]:
    """A neural material under a progress bar, and its PSNR on the frames it was made from [dB].

    source: where the video was read from, for the material's provenance. checkpoint: of the fit.
    """
    provenance = provenance_of(video, source, how) if source is not None else None
    title = title or f"Reconstructing ({how.method})"
    if how.method not in ("lrm", "refine"):
        assert how.settings is not None
        return fit_shown(
            video, how.settings, size=how.size, checkpoint=checkpoint, provenance=provenance, title=title
        )
    model = _model(how.model)
    if how.decoder not in (None, model.spec.decoder):
        raise UsageError(
            f"{how.method} makes materials with its model's {model.spec.decoder} decoder; "
            f"leave --decoder {how.decoder} out, or take --method optimize"
        )
    how = replace(how, decoder=model.spec.decoder)
    found = lrm.reconstruct(model, video, size=how.size, periodic=how.tileable, provenance=provenance)
    if how.settings is None:
        return found, input_psnr(found, video)
    return fit_shown(
        video,
        how.settings,
        size=how.size,
        teacher=found,
        checkpoint=checkpoint,
        provenance=provenance,
        title=title,
    )


@functools.lru_cache(maxsize=1)
def _model(folder: Path | None) -> ReconstructionModel:
    return lrm.load_model(lrm.find_lrm("mini-lrm"), folder)


def input_psnr(material: NeuralMaterial, video: MaterialVideo) -> float:
    """PSNR of a sample of the pixels the material was made from, display-encoded. [dB]"""
    seen = observe(video)
    count = min(seen.count, _SHOWN_PIXELS)
    chosen = torch.randperm(seen.count, generator=torch.Generator().manual_seed(0))[:count]
    batch = seen.batch(chosen, material.spec.gain)
    with torch.no_grad():
        estimate = log_value(material.decoder, material.T_off, material.T_rgb, batch.uv, batch.wi, batch.wo)
    error = display_error(estimate, batch.target, material.spec.gain) / batch.target.numel()
    return -10 * math.log10(max(error, 1e-12))


def fit_shown(
    video: MaterialVideo,
    settings: FitSettings,
    *,
    size: int | None = None,
    teacher: NeuralMaterial | None = None,
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
            video,
            settings,
            size=size,
            teacher=teacher,
            checkpoint=checkpoint,
            report=report,
            provenance=provenance,
        )
    return material, psnr


def provenance_of(video: MaterialVideo, path: Path, how: Reconstruction) -> Provenance:
    """What the video says about itself, and how a material is made from it."""

    def text(key: str) -> str | None:
        value = video.provenance.get(key)
        return value if isinstance(value, str) and value else None

    def length(key: str) -> float | None:
        value = video.provenance.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return None
        return float(value) if math.isfinite(value) and value > 0 else None

    made_with = {"optimize": f"universal-{how.decoder or OPTIMIZE.decoder}", "scratch": None}
    return Provenance(
        name=text("name") or path.resolve().stem,
        source=text("original") or text("source") or path.resolve().name,
        prompt=text("prompt"),
        seed=how.seed,
        model=text("model") or made_with.get(how.method, str(how.model or "mini-lrm")),
        method=how.method,
        licence=text("licence"),
        author=text("author"),
        physical_size_m=length("physical_size_m"),
        extra={"views": video.frames.shape[0], "trajectory": video.trajectory.kind},
    )
