"""Driving the scan: frame by frame, resumable, denoised when cheap, written for eyes and for machines."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gonio import media
from gonio.camera import Trajectory, two_phase
from gonio.environment import EnvironmentMap, mitsuba_to_world
from gonio.errors import GonioError, UsageError
from gonio.folders import make_folder
from gonio.material_video import (
    MaterialVideo,
    load_material_video,
    read_frame,
    reference_uv,
    write_manifest,
    write_preview,
)
from gonio.mitsuba_setup import use_mitsuba
from gonio.pbr import PBRMaterial
from gonio.progress import progress
from gonio.scan.scene import MAX_DEPTH, SampleScene, perspective

# From this many samples per pixel on, the path tracer's noise is smaller than what a denoiser smooths away.
DENOISE_BELOW_SPP = 64


@dataclass(frozen=True, kw_only=True)
class ScanSettings:
    """resolution: pixels per side. denoise: None means below 64 samples per pixel. aov: also store
    reference-plane uv, depth and normal with each frame."""

    resolution: int = 256
    spp: int = 64
    max_depth: int = MAX_DEPTH
    denoise: bool | None = None
    seed: int = 0
    aov: bool = True

    def __post_init__(self) -> None:
        if not 16 <= self.resolution <= 4096:
            raise UsageError(f"--resolution {self.resolution}: allowed are 16 to 4096")
        if not 1 <= self.spp <= 65536:
            raise UsageError(f"--spp {self.spp}: allowed are 1 to 65536")
        if not 2 <= self.max_depth <= 64:
            raise UsageError(f"--max-depth {self.max_depth}: allowed are 2 (direct light) to 64")

    @property
    def denoises(self) -> bool:
        return self.spp < DENOISE_BELOW_SPP if self.denoise is None else self.denoise


@dataclass(frozen=True, kw_only=True)
class ScanTimes:
    """Where a scan's seconds went."""

    total: float
    render: float
    denoise: float

    @property
    def render_share(self) -> float:
        return self.render / self.total if self.total else 0.0


def fingerprint(material: PBRMaterial, trajectory: Trajectory, settings: ScanSettings) -> str:
    """A hash of everything the frames depend on: resuming with anything else must be refused."""
    digest = hashlib.sha256(repr(sorted(asdict(settings).items())).encode())
    maps = (material.basecolor, material.normal, material.roughness, material.metallic, material.displacement)
    for tensor in (*maps, trajectory.camera_position, trajectory.camera_up, trajectory.light_position):
        digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    digest.update(repr(trajectory.fov).encode())
    return digest.hexdigest()


def denoise(color: Tensor, albedo: Tensor, normal: Tensor) -> Tensor:
    """Open Image Denoise on a linear HDR picture with its auxiliary features. [H, W, 3] each."""
    import pyoidn

    arrays = [np.ascontiguousarray(t.numpy(), dtype=np.float32) for t in (color, albedo, normal)]
    result = pyoidn.denoise(arrays[0], albedo=arrays[1], normal=arrays[2], hdr=True)
    return torch.from_numpy(np.asarray(result)).clamp_min(0)


class Stage:
    """A sample scene with its cameras: renders frames of a trajectory, remembering what cameras see."""

    def __init__(self, material: PBRMaterial, trajectory: Trajectory, settings: ScanSettings) -> None:
        self.trajectory, self.settings = trajectory, settings
        lights, self.light_of_frame = torch.unique(trajectory.light_position, dim=0, return_inverse=True)
        self.scene = SampleScene(
            material, lights, resolution=settings.resolution, max_depth=settings.max_depth
        )
        self.sensors: dict[tuple[float, ...], tuple[Any, dict[str, Tensor] | None]] = {}
        self.render_seconds = 0.0
        self.denoise_seconds = 0.0

    def _view(self, index: int) -> tuple[Any, dict[str, Tensor] | None]:
        size = self.settings.resolution
        position, up = self.trajectory.camera_position[index], self.trajectory.camera_up[index]
        key = (*position.tolist(), *up.tolist())
        if key not in self.sensors:
            sensor = perspective(position, up, self.trajectory.fov, size, size)
            wants = self.settings.denoises or self.settings.aov
            self.sensors[key] = sensor, self.scene.features(sensor, size, size) if wants else None
        return self.sensors[key]

    def frame(self, index: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """[H, W, 3] linear, coverage [H, W], features of the view."""
        sensor, features = self._view(index)
        self.scene.switch_on(int(self.light_of_frame[index]))
        started = time.perf_counter()
        rgba = self.scene.render(sensor, spp=self.settings.spp, seed=self.settings.seed * 100_003 + index)
        self.render_seconds += time.perf_counter() - started
        color, coverage = rgba[..., :3], rgba[..., 3].clamp(0, 1)
        if not bool(torch.isfinite(color).all()):
            raise GonioError(f"frame {index}: the path tracer gave NaN or infinite radiance; check the maps")
        if self.settings.denoises:
            assert features is not None
            started = time.perf_counter()
            color = denoise(color, features["albedo"], features["normal"])
            self.denoise_seconds += time.perf_counter() - started
        return color, coverage, features or {}


def scan(
    material: PBRMaterial,
    out: str | Path,
    *,
    trajectory: Trajectory | None = None,
    settings: ScanSettings | None = None,
    title: str = "Scanning",
) -> tuple[MaterialVideo, ScanTimes]:
    """Measure `material` along `trajectory` (two-phase, 81 frames, when None) into the folder `out`.

    Frames that are already there and whole are kept, so a stopped scan goes on where it was; a folder that
    holds a scan of something else is refused.
    """
    started = time.perf_counter()
    trajectory = trajectory or two_phase()
    settings = settings or ScanSettings()
    out = Path(out)
    frames_folder = make_folder(out / "frames")
    identity = fingerprint(material, trajectory, settings)
    state_path = out / "scan.json"
    if state_path.exists():
        state = media.read_json(state_path, max_bytes=1 << 20)
        if not isinstance(state, dict) or state.get("fingerprint") != identity:
            problem = "holds a scan of another material or with other settings"
            raise GonioError(f"{out}: {problem}; choose another --out")
    else:
        media.write_json(state_path, {"fingerprint": identity, "settings": asdict(settings)})

    stage: Stage | None = None
    uv = reference_uv(trajectory, settings.resolution, settings.resolution) if settings.aov else None
    with progress(title, trajectory.frames) as step:
        for index in range(trajectory.frames):
            path = frames_folder / f"{index:04d}.exr"
            if not _is_whole(path, settings.resolution):
                stage = stage or Stage(material, trajectory, settings)
                color, coverage, features = stage.frame(index)
                channels = {"R": color[..., 0], "G": color[..., 1], "B": color[..., 2], "A": coverage}
                if uv is not None:
                    channels |= {"reference.U": uv[index, ..., 0], "reference.V": uv[index, ..., 1]}
                    channels |= {f"normal.{c}": features["normal"][..., i] for i, c in enumerate("XYZ")}
                    channels |= {"depth.Z": features["depth"]}
                media.write_exr(path, channels)
            step()
    provenance = {"name": material.name, "kind": "scan", "settings": asdict(settings), **material.metadata}
    write_manifest(out, trajectory, provenance, ".exr")
    video = load_material_video(out)
    write_preview(out, video.frames)
    times = ScanTimes(
        total=time.perf_counter() - started,
        render=stage.render_seconds if stage else 0.0,
        denoise=stage.denoise_seconds if stage else 0.0,
    )
    return video, times


def _is_whole(path: Path, resolution: int) -> bool:
    """Is there a readable frame of this size? A damaged one is rendered again, not trusted."""
    if not path.exists():
        return False
    try:
        image, _ = read_frame(path)
    except GonioError:
        return False
    return image.shape[:2] == (resolution, resolution)


def photograph(
    material: PBRMaterial,
    environment: EnvironmentMap,
    *,
    settings: ScanSettings | None = None,
    rotate_degrees: float = 0.0,
) -> Tensor:
    """The sample from the fixed camera under an environment map, at an irradiance of pi on the sample.

    Returns [H, W, 3] linear. A white Lambertian sample has radiance 1.
    """
    use_mitsuba()
    import mitsuba as mi

    settings = settings or ScanSettings()
    overhead = two_phase(5).subset([0])
    panorama = environment.normalized(irradiance=torch.pi).mitsuba_bitmap()
    emitter = {
        "type": "envmap",
        "bitmap": mi.Bitmap(np.ascontiguousarray(panorama.numpy(), dtype=np.float32)),
        "to_world": mi.ScalarTransform4f(mitsuba_to_world(rotate_degrees).numpy()),
    }
    scene = SampleScene(
        material,
        torch.zeros(0, 3),
        resolution=settings.resolution,
        max_depth=settings.max_depth,
        environment=emitter,
    )
    size = settings.resolution
    sensor = perspective(overhead.camera_position[0], overhead.camera_up[0], overhead.fov, size, size)
    color = scene.render(sensor, spp=settings.spp, seed=settings.seed)[..., :3]
    if settings.denoises:
        features = scene.features(sensor, size, size)
        color = denoise(color, features["albedo"], features["normal"])
    return color
