"""The whole material pipeline on one procedural material, ending with a page to look at."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor

from gonio.camera import cross_joined, two_phase
from gonio.color import srgb_from_linear
from gonio.data.procedural import sample_material
from gonio.evaluate.metrics import flip_map, frame_metrics, lpips_unavailable
from gonio.evaluate.reconstruction import offset_map, render_truth_views
from gonio.folders import make_folder
from gonio.material_file import save_material
from gonio.material_video import MaterialVideo
from gonio.neural_material import NeuralMaterial
from gonio.pbr import PBRMaterial, save_material_maps
from gonio.pictures import error_picture, latent_picture, offset_picture
from gonio.reconstruct.run import Reconstruction, reconstruct_shown
from gonio.render.stage import RenderSettings, render_still, render_turntable, save_still, save_turntable
from gonio.report import Comparison, Report, write_report
from gonio.scan import ScanSettings, scan

MIN_RESOLUTION, MAX_RESOLUTION = 32, 1024
MAP_RESOLUTION = 512
# Stones with joints: relief that shows parallax and shadow.
FAMILY = "paving"
# Cross-joined frames to compare with: seen from the zenith and from three sides, each under another light.
UNSEEN = {2: "seen from above", 9: "lit from above", 32: "light and camera apart", 61: "light across"}


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    resolution: int = 256,
    how: Reconstruction | None = None,
    spp: int = 64,
    still: RenderSettings | None = None,
    turntable: RenderSettings | None = None,
    turntable_frames: int = 24,
) -> Path:
    """Make, scan, reconstruct, render and report into `out`. Returns the path of report.html."""
    started = time.perf_counter()
    out = make_folder(out)
    maps = sample_material(seed, family=FAMILY, resolution=MAP_RESOLUTION)
    save_material_maps(maps, out / "maps")
    video, _ = scan(
        maps,
        out / "scan",
        trajectory=two_phase(17),
        settings=ScanSettings(resolution=resolution, spp=spp),
        title="Scanning 17 frames",
    )
    before = time.perf_counter()
    how = how or Reconstruction(method="optimize")
    path = out / "material.safetensors"
    checkpoint = path.with_name(path.name + ".fit")
    material, psnr = reconstruct_shown(video, how, source=out / "scan", checkpoint=checkpoint)
    provenance = material.provenance
    fit_seconds = time.perf_counter() - before
    save_material(path, material)
    unseen, _ = scan(
        maps,
        out / "unseen",
        trajectory=cross_joined().subset(list(UNSEEN)),
        settings=ScanSettings(resolution=resolution, spp=spp, aov=False),
        title="Scanning unseen frames",
    )
    still = still or RenderSettings(resolution=384, spp=32, denoise=True)
    turntable = turntable or RenderSettings(resolution=192, spp=16, denoise=True)
    picture = render_still(material, still)
    save_still(out / "still.png", picture, still.exposure)
    turned = render_turntable(material, turntable, frames=turntable_frames)
    save_turntable(out / "turntable.mp4", turned, turntable.exposure, fps=12)
    facts = {
        "Material": str(maps.metadata["caption"]),
        "Licence": provenance.licence or "unknown",
        "Method": f"{provenance.method}, {video.frames.shape[0]} frames of {resolution}x{resolution}",
        "Reconstructed in": f"{fit_seconds:.0f} s, {psnr:.1f} dB on the frames it saw",
        "Everything took": f"{time.perf_counter() - started:.0f} s",
        "File": f"{path.name}, {path.stat().st_size / 1e6:.1f} MB",
    }
    report = _report(maps, material, unseen, facts, picture, out)
    write_report(out / "report.html", report)
    return out / "report.html"


def _report(
    maps: PBRMaterial,
    material: NeuralMaterial,
    unseen: MaterialVideo,
    facts: dict[str, str],
    picture: Tensor,
    out: Path,
) -> Report:
    """picture: [H, W, 3] linear."""
    estimate = render_truth_views(material, unseen)
    mask = unseen.sample_mask()
    reason = lpips_unavailable(unseen.frames.shape)
    shown, wanted = srgb_from_linear(estimate), srgb_from_linear(unseen.frames)
    # What lies beside the sample is not the material's.
    shown = torch.where(mask[..., None], shown, wanted)
    errors = flip_map(wanted, shown, mask)
    comparisons = [
        Comparison(label=label, truth=wanted[i], estimate=shown[i], error=error_picture(errors[i]))
        for i, label in enumerate(UNSEEN.values())
    ]
    offset = offset_map(material, maps.size[0])
    limit = max(float(offset.abs().max()), 1e-3)
    offset_u, offset_v = offset_picture(offset, limit)
    return Report(
        title=maps.name.replace("_", " "),
        facts=facts,
        video=out / "scan" / "video.mp4",
        images={
            "On a shader ball": srgb_from_linear(picture),
            "Base colour": srgb_from_linear(maps.basecolor),
            "Reflectance texture (three principal components)": latent_picture(material.T_rgb),
            "Offset texture (three principal components)": latent_picture(material.T_off),
            f"U offset seen from 45 degrees, +-{limit:.3f}": offset_u,
            f"V offset seen from 45 degrees, +-{limit:.3f}": offset_v,
        },
        comparisons=comparisons,
        turntable=out / "turntable.mp4",
        metrics=frame_metrics(unseen.frames, estimate, mask),
        notes={"lpips": reason} if reason else {},
    )
