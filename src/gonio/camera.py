"""Cameras, point lights and the trajectories a material sample is measured along.

The sample is the unit square in the plane z = 0, centred on the origin, +x = +u, +y = +v, +z out.
A trajectory is data: it is stored with every video and read back, never assumed by code that could read it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gonio.errors import GonioError

FIXED_HEIGHT = 1.5
ORBIT_RADIUS = 1.0
ORBIT_DISTANCE = math.hypot(FIXED_HEIGHT, ORBIT_RADIUS)
FARTHEST_ZENITH = math.radians(78.0)  # of random places
CROSS_ZENITH_ANGLE = math.radians(69.0)
# The unit sample exactly fills the frame from the fixed camera.
SAMPLE_FOV = 2 * math.degrees(math.atan(0.5 / FIXED_HEIGHT))
LIGHT_RADIUS = 0.05
MAX_FRAMES = 2000


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """Where camera and light stand in each frame; the camera always looks at the sample's centre.

    camera_position, camera_up, light_position: [F, 3] world units (one unit = one tile width).
    fov: full angle in degrees across the frame's width. kind: "two-phase", "cross" or "custom".
    """

    camera_position: Tensor  # [F, 3]
    camera_up: Tensor  # [F, 3]
    light_position: Tensor  # [F, 3]
    fov: float = SAMPLE_FOV
    kind: str = "custom"

    def __post_init__(self) -> None:
        shape = self.camera_position.shape
        tensors = (self.camera_position, self.camera_up, self.light_position)
        if len(shape) != 2 or shape[1] != 3 or any(t.shape != shape for t in tensors):
            shapes = [list(t.shape) for t in tensors]
            raise GonioError(f"trajectory: positions must all be [frames, 3], got {shapes}")
        if not all(bool(torch.isfinite(t).all()) for t in tensors):
            raise GonioError("trajectory: positions must be finite numbers")
        if not 1 <= shape[0] <= MAX_FRAMES:
            raise GonioError(f"trajectory: {shape[0]} frames, allowed are 1 to {MAX_FRAMES}")
        if not 1.0 <= self.fov <= 150.0:
            raise GonioError(f"trajectory: field of view {self.fov} degrees, allowed are 1 to 150")
        if bool((self.camera_position[:, 2] <= 0).any()) or bool((self.light_position[:, 2] <= 0).any()):
            raise GonioError("trajectory: cameras and lights must be above the sample (z > 0)")

    @property
    def frames(self) -> int:
        return self.camera_position.shape[0]

    def subset(self, indices: list[int]) -> Trajectory:
        return Trajectory(
            camera_position=self.camera_position[indices],
            camera_up=self.camera_up[indices],
            light_position=self.light_position[indices],
            fov=self.fov,
            kind=self.kind,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "fov_degrees": self.fov,
            "camera_position": self.camera_position.tolist(),
            "camera_up": self.camera_up.tolist(),
            "light_position": self.light_position.tolist(),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Trajectory:
        try:
            return Trajectory(
                camera_position=torch.tensor(data["camera_position"], dtype=torch.float32),
                camera_up=torch.tensor(data["camera_up"], dtype=torch.float32),
                light_position=torch.tensor(data["light_position"], dtype=torch.float32),
                fov=float(data["fov_degrees"]),
                kind=str(data.get("kind", "custom")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise GonioError(f"trajectory: malformed ({error!r})") from None


def two_phase(frames: int = 81) -> Trajectory:
    """The virtual gonioreflectometer's path: the light circles, then the camera does (paper, figure 4a).

    Frame t in 0..40: light at azimuth 9 t degrees, camera overhead. Frame t in 41..80: camera at azimuth
    9 (t - 40) degrees, light overhead. `frames` takes an even subset: 81, 41, 17 or 5 (a divisor of 80, + 1).
    """
    if frames < 2 or 80 % (frames - 1):
        raise GonioError(f"two-phase trajectory: {frames} frames; take 81, 41, 17 or 5")
    t = torch.arange(81, dtype=torch.float64)
    azimuth = torch.deg2rad(torch.where(t <= 40, t, t - 40) * 9.0)
    height = torch.full_like(azimuth, FIXED_HEIGHT)
    orbit = torch.stack([ORBIT_RADIUS * azimuth.cos(), ORBIT_RADIUS * azimuth.sin(), height], -1)
    fixed = torch.tensor([0.0, 0.0, FIXED_HEIGHT], dtype=torch.float64).expand(81, 3)
    light_moves = (t <= 40)[:, None]
    overhead_up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    orbit_up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    full = Trajectory(
        camera_position=torch.where(light_moves, fixed, orbit).float(),
        camera_up=torch.where(light_moves, overhead_up, orbit_up).float(),
        light_position=torch.where(light_moves, orbit, fixed).float(),
        kind="two-phase",
    )
    return full.subset(list(range(0, 81, 80 // (frames - 1))))


def cross_joined() -> Trajectory:
    """81 frames: 9 cameras x 9 lights, camera-major (paper, figure 4b).

    The nine places are the zenith and 8 azimuths every 45 degrees at 69 degrees from the zenith, all on the
    hemisphere through the two-phase orbit, so that the sample stays in the frame.
    """
    azimuth = torch.deg2rad(torch.arange(8, dtype=torch.float64) * 45.0)
    ring = torch.stack(
        [
            azimuth.cos() * math.sin(CROSS_ZENITH_ANGLE),
            azimuth.sin() * math.sin(CROSS_ZENITH_ANGLE),
            torch.full_like(azimuth, math.cos(CROSS_ZENITH_ANGLE)),
        ],
        -1,
    )
    places = torch.cat([torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64), ring]) * ORBIT_DISTANCE
    up = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64).repeat(9, 1)
    up[0] = torch.tensor([0.0, 1.0, 0.0])
    return Trajectory(
        camera_position=places.repeat_interleave(9, 0).float(),
        camera_up=up.repeat_interleave(9, 0).float(),
        light_position=places.repeat(9, 1).float(),
        kind="cross",
    )


def camera_axes(position: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Right, up and forward unit vectors of cameras looking at the origin. [..., 3] x2 -> three [..., 3]."""
    forward = torch.nn.functional.normalize(-position, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    return right, torch.linalg.cross(right, forward), forward


def camera_rays(position: Tensor, up: Tensor, fov: float, height: int, width: int) -> Tensor:
    """Unit directions through the pixel centres; fov across the width.

    position, up: [..., 3] -> [..., H, W, 3].
    """
    right, true_up, forward = camera_axes(position, up)
    half = math.tan(math.radians(fov) / 2)
    x = ((torch.arange(width, device=position.device, dtype=position.dtype) + 0.5) / width * 2 - 1) * half
    y = (1 - (torch.arange(height, device=position.device, dtype=position.dtype) + 0.5) / height * 2) * (
        half * height / width
    )
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    direction = (
        forward[..., None, None, :]
        + grid_x[..., None] * right[..., None, None, :]
        + grid_y[..., None] * true_up[..., None, None, :]
    )
    return torch.nn.functional.normalize(direction, dim=-1)


def plane_points(position: Tensor, directions: Tensor) -> Tensor:
    """Where rays meet the sample plane z = 0. position [..., 3], directions [..., H, W, 3] -> [..., H, W, 3].

    Rays that do not go down meet it nowhere and give a point far outside the sample.
    """
    down = directions[..., 2:3]
    distance = torch.where(down < -1e-6, -position[..., None, None, 2:3] / down.clamp_max(-1e-6), 1e6)
    return position[..., None, None, :] + distance * directions


def uv_from_point(points: Tensor) -> Tensor:
    """Sample-plane points [..., 3] to texture coordinates [..., 2]; the sample is [0, 1]^2."""
    return points[..., :2] + 0.5


def point_from_uv(uv: Tensor) -> Tensor:
    """Texture coordinates [..., 2] to points of the plane z = 0 [..., 3]."""
    return torch.cat([uv - 0.5, torch.zeros_like(uv[..., :1])], -1)


def pixel_from_point(
    points: Tensor, position: Tensor, up: Tensor, fov: float, height: int, width: int
) -> Tensor:
    """Continuous pixel coordinates (x right, y down, pixel centres at .5) of world points.

    points [N, 3], one camera position, up [3] -> [N, 2]. The inverse of `camera_rays` + `plane_points`.
    """
    right, true_up, forward = camera_axes(position, up)
    relative = points - position
    depth = relative @ forward
    half = math.tan(math.radians(fov) / 2)
    x = (relative @ right) / (depth * half)
    y = (relative @ true_up) / (depth * half * height / width)
    return torch.stack([(x + 1) / 2 * width, (1 - y) / 2 * height], -1)


def light_intensity(light_position: Tensor) -> Tensor:
    """Radiant intensity [W/sr] for an irradiance of pi at the sample's centre, pi d^2. [..., 3] -> [...]."""
    return math.pi * light_position.square().sum(-1)


def random_places(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Camera or light places [..., 3]: uniform over the projected disk up to 78 degrees, 1.2 to 2.2 away."""
    radius = torch.rand(shape, generator=generator).sqrt() * math.sin(FARTHEST_ZENITH)
    azimuth = torch.rand(shape, generator=generator) * 2 * math.pi
    distance = ORBIT_DISTANCE * (0.67 + 0.55 * torch.rand(shape, generator=generator))
    direction = torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), (1 - radius**2).sqrt()], -1)
    return direction * distance[..., None]
