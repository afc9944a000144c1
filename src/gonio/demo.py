"""The whole material pipeline from a prompt, ending with a page to look at."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor

from gonio.color import srgb_from_linear
from gonio.evaluate.metrics import flip_map, frame_metrics
from gonio.evaluate.reconstruction import offset_map, render_truth_views
from gonio.folders import make_folder
from gonio.generate.pipeline import SamplingSettings, load_generator, member
from gonio.generate.run import video_shown
from gonio.material_file import save_material
from gonio.material_video import MaterialVideo
from gonio.models.perceptual import lpips_unavailable
from gonio.neural_material import NeuralMaterial
from gonio.pictures import error_picture, latent_picture, offset_picture
from gonio.reconstruct.run import Reconstruction, reconstruct_shown
from gonio.render.stage import RenderSettings, render_still, render_turntable, save_still, save_turntable
from gonio.report import Comparison, Report, write_report

# Of the 17 frames: the light on four sides of a camera overhead, and the camera on two sides.
SHOWN = {0: "light from the right", 2: "light from behind", 4: "light from the left"}
SHOWN |= {6: "light from the front", 10: "seen from behind", 12: "seen from the left"}


def run_demo(
    out: Path,
    prompt: str,
    *,
    sampling: SamplingSettings | None = None,
    how: Reconstruction | None = None,
    still: RenderSettings | None = None,
    turntable: RenderSettings | None = None,
    turntable_frames: int = 24,
) -> Path:
    """Generate, reconstruct, render and report into `out`. Returns the path of report.html."""
    started = time.perf_counter()
    out = make_folder(out)
    sampling = sampling or SamplingSettings()
    generator = load_generator(member("mini", "text"))
    video = video_shown(generator, prompt, sampling, out / "video")
    generated = time.perf_counter() - started

    how = how or Reconstruction(method="refine")
    path = out / "material.safetensors"
    checkpoint = path.with_name(path.name + ".fit")
    before = time.perf_counter()
    material, psnr = reconstruct_shown(video, how, source=out / "video", checkpoint=checkpoint)
    reconstructed = time.perf_counter() - before
    save_material(path, material)

    still = still or RenderSettings(resolution=384, spp=32, denoise=True)
    turntable = turntable or RenderSettings(resolution=192, spp=16, denoise=True)
    picture = render_still(material, still)
    save_still(out / "still.png", picture, still.exposure)
    turned = render_turntable(material, turntable, frames=turntable_frames)
    save_turntable(out / "turntable.mp4", turned, turntable.exposure, fps=12)
    frames, height, width, _ = video.frames.shape
    facts = {
        "Prompt": prompt,
        "Seed": str(sampling.seed),
        "Video": f"{generator.spec.name}, {frames} frames of {width}x{height}, {generated:.0f} s",
        "Material": f"{how.method}, {reconstructed:.0f} s, {psnr:.1f} dB on its frames",
        "Everything took": f"{time.perf_counter() - started:.0f} s",
        "File": f"{path.name}, {path.stat().st_size / 1e6:.1f} MB",
    }
    write_report(out / "report.html", _report(material, video, facts, picture, out))
    return out / "report.html"


def _report(
    material: NeuralMaterial, video: MaterialVideo, facts: dict[str, str], picture: Tensor, out: Path
) -> Report:
    """picture: [H, W, 3] linear."""
    seen = video.subset(list(SHOWN))
    estimate = render_truth_views(material, seen)
    mask = seen.sample_mask()
    reason = lpips_unavailable(seen.frames.shape)
    shown, wanted = srgb_from_linear(estimate), srgb_from_linear(seen.frames)
    # What lies beside the sample is not the material's.
    shown = torch.where(mask[..., None], shown, wanted)
    errors = flip_map(wanted, shown, mask)
    comparisons = [
        Comparison(label=label, truth=wanted[i], estimate=shown[i], error=error_picture(errors[i]))
        for i, label in enumerate(SHOWN.values())
    ]
    offset = offset_map(material, material.resolution[0])
    limit = max(float(offset.abs().max()), 1e-3)
    offset_u, offset_v = offset_picture(offset, limit)
    return Report(
        title=facts["Prompt"],
        facts=facts,
        video=out / "video" / "video.mp4",
        images={
            "On a shader ball": srgb_from_linear(picture),
            "Reflectance texture (three principal components)": latent_picture(material.T_rgb),
            "Offset texture (three principal components)": latent_picture(material.T_off),
            f"U offset seen from 45 degrees, +-{limit:.3f}": offset_u,
            f"V offset seen from 45 degrees, +-{limit:.3f}": offset_v,
        },
        comparisons=comparisons,
        turntable=out / "turntable.mp4",
        metrics=frame_metrics(seen.frames, estimate, mask),
        notes={"lpips": reason} if reason else {},
        of_input=True,
    )
