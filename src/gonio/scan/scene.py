"""The sample on its stage, as a Mitsuba scene: displaced mesh, principled BSDF, small spherical lights.

The height map becomes true geometry. Shading normals come from the normal map in the plane's frame (a normal
map says what the surface's normal *is*, not what to add to displaced geometry): the mesh's vertex normals are
flat and Mitsuba's `normalmap` does the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gonio.camera import LIGHT_RADIUS
from gonio.mitsuba_setup import use_mitsuba
from gonio.neural_material import fetch
from gonio.pbr import PBRMaterial

MAX_TESSELLATION = 1024
# Nearer than any camera to the sample, farther than a light sphere around the camera.
NEAR_CLIP = 0.2
MAX_DEPTH = 6


def tessellation(material: PBRMaterial, resolution: int) -> int:
    """Grid cells per side: two per pixel of the frame up to 1024, one cell when the sample is flat."""
    if float(material.displacement.abs().max()) < 1e-6:
        return 1
    return min(MAX_TESSELLATION, max(128, 2 * resolution))


def sheet(displacement: Tensor, cells: int, skirt: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """The displaced unit sample as triangles. displacement [H, W] -> positions [V, 3], uv [V, 2], faces [T, 3].

    uv is Gonio's (v up). `skirt` closes the sides down to the lowest point, so that no ray sees the back.
    """
    ramp = torch.linspace(0, 1, cells + 1)
    v, u = torch.meshgrid(ramp, ramp, indexing="ij")
    uv = torch.stack([u, v], -1).reshape(-1, 2)
    z = fetch(displacement[..., None], uv)[:, 0]
    positions = torch.cat([uv - 0.5, z[:, None]], -1)
    corner = torch.arange(cells * (cells + 1)).reshape(cells, cells + 1)[:, :-1].reshape(-1)
    n = cells + 1
    faces = torch.cat(
        [
            torch.stack([corner, corner + 1, corner + n + 1], -1),
            torch.stack([corner, corner + n + 1, corner + n], -1),
        ]
    )
    if skirt and float(z.max() - z.min()) > 1e-6:
        grid = torch.arange(n * n).reshape(n, n)
        # Counter-clockwise seen from above, so that the walls face outwards.
        rim = torch.cat([grid[0, :-1], grid[:-1, -1], grid[-1, 1:].flip(0), grid[1:, 0].flip(0)])
        base = torch.cat([positions[rim, :2], z.min().expand(rim.shape[0], 1)], -1)
        below = torch.arange(rim.shape[0]) + positions.shape[0]
        after, below_after = rim.roll(-1), below.roll(-1)
        walls = [torch.stack([below, below_after, after], -1), torch.stack([below, after, rim], -1)]
        positions, uv, faces = torch.cat([positions, base]), torch.cat([uv, uv[rim]]), torch.cat([faces, *walls])
    return positions, uv, faces


def bitmap(data: Tensor) -> dict[str, Any]:
    """A raw (linear) repeating Mitsuba texture of a map [H, W] or [H, W, 3]."""
    import mitsuba as mi

    array = data if data.ndim == 3 else data[..., None]
    return {
        "type": "bitmap",
        "bitmap": mi.Bitmap(np.ascontiguousarray(array.numpy(), dtype=np.float32)),
        "raw": True,
        "wrap_mode": "repeat",
    }


def surface(material: PBRMaterial) -> dict[str, Any]:
    """The material's maps as Mitsuba's principled BSDF under its normal map."""
    return {
        "type": "normalmap",
        "normalmap": bitmap(material.normal * 0.5 + 0.5),
        "bsdf": {
            "type": "principled",
            "base_color": bitmap(material.basecolor),
            "roughness": bitmap(material.roughness),
            "metallic": bitmap(material.metallic),
        },
    }


def mesh(positions: Tensor, uv: Tensor, faces: Tensor, bsdf: dict[str, Any], normals: Tensor | None = None) -> Any:
    """A Mitsuba mesh of tensors; uv is Gonio's and is turned to Mitsuba's (v down). normals: None is all +z."""
    import mitsuba as mi

    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict(bsdf)
    result = mi.Mesh(
        "sample",
        vertex_count=positions.shape[0],
        face_count=faces.shape[0],
        has_vertex_normals=True,
        has_vertex_texcoords=True,
        props=properties,
    )
    if normals is None:
        normals = torch.tensor([0.0, 0.0, 1.0]).expand(positions.shape[0], 3)
    parameters = mi.traverse(result)
    parameters["vertex_positions"] = positions.float().contiguous().numpy().ravel()
    parameters["faces"] = faces.int().contiguous().numpy().ravel().astype(np.uint32)
    parameters["vertex_texcoords"] = torch.stack([uv[:, 0], 1 - uv[:, 1]], -1).float().numpy().ravel()
    parameters["vertex_normals"] = normals.float().contiguous().numpy().ravel()
    parameters.update()
    return result


def lamp_radiance(position: Tensor) -> float:
    """Radiance of the lamp for an irradiance of pi at the sample's centre.

    A sphere of radius r and radiance L at distance d gives E = pi L (r / d)^2, so L = (d / r)^2.
    """
    return float(position.square().sum()) / LIGHT_RADIUS**2


class SampleScene:
    """One sample under any of a fixed set of lights; switching lights or cameras rebuilds nothing.

    Every light is a sphere of radius 0.05 that is there all the time, switched off by its radiance and its
    sampling weight: moving one sphere instead would rebuild the whole ray-tracing structure each frame.
    """

    def __init__(
        self,
        material: PBRMaterial,
        lights: Tensor,
        *,
        resolution: int,
        max_depth: int = MAX_DEPTH,
        environment: dict[str, Any] | None = None,
    ) -> None:
        use_mitsuba()
        import mitsuba as mi

        self.material = material
        self.lights = lights  # [L, 3]
        positions, uv, faces = sheet(material.displacement, tessellation(material, resolution))
        description: dict[str, Any] = {
            "type": "scene",
            "integrator": {"type": "path", "max_depth": max_depth, "rr_depth": max_depth},
            "sample": mesh(positions, uv, faces, surface(material)),
        }
        for index, place in enumerate(lights.tolist()):
            description[f"light{index:03d}"] = {
                "type": "sphere",
                "radius": LIGHT_RADIUS,
                "center": place,
                "bsdf": {"type": "null"},
                "emitter": {
                    "type": "area",
                    "radiance": {"type": "rgb", "value": lamp_radiance(lights[index]) if index == 0 else 0.0},
                    "sampling_weight": 1.0 if index == 0 else 0.0,  # Mitsuba wants one emitter to sample
                },
            }
        if environment is not None:
            description["environment"] = environment
        self.scene = mi.load_dict(description)
        self.parameters = mi.traverse(self.scene)
        self.lit = 0

    def switch_on(self, index: int) -> None:
        """Light number `index` and no other."""
        if self.lit == index:
            return
        self._set(self.lit, 0.0)
        self._set(index, lamp_radiance(self.lights[index]))
        self.parameters.update()
        self.lit = index

    def _set(self, index: int, radiance: float) -> None:
        self.parameters[f"light{index:03d}.emitter.radiance.value"] = radiance
        self.parameters[f"light{index:03d}.emitter.sampling_weight"] = float(radiance > 0)

    def render(self, sensor: Any, *, spp: int, seed: int) -> Tensor:
        """[H, W, 4] linear radiance and coverage."""
        import mitsuba as mi

        return torch.from_numpy(np.array(mi.render(self.scene, sensor=sensor, spp=spp, seed=seed)))

    def features(self, sensor: Any, height: int, width: int, per_side: int = 2) -> dict[str, Tensor]:
        """What the camera sees of the sample, averaged over per_side^2 rays a pixel.

        albedo [H, W, 3], normal [H, W, 3] world space, depth [H, W] along the ray (0 where nothing is hit).
        """
        import drjit as dr
        import mitsuba as mi

        total = {"albedo": torch.zeros(height, width, 3), "normal": torch.zeros(height, width, 3)}
        distance, hits = torch.zeros(height, width), torch.zeros(height, width)
        scalar = "scalar" in str(mi.variant())
        for sub_y in range(per_side):
            for sub_x in range(per_side):
                dx, dy = (sub_x + 0.5) / per_side, (sub_y + 0.5) / per_side
                if scalar:
                    hit, t, uv = self._trace_scalar(sensor, height, width, dx, dy)
                else:
                    y, x = dr.meshgrid(
                        dr.arange(mi.Float, height), dr.arange(mi.Float, width), indexing="ij"
                    )
                    film = mi.Point2f((x + dx) / width, (y + dy) / height)
                    ray, _ = sensor.sample_ray(0.0, 0.5, film, mi.Point2f(0.5))
                    si = self.scene.ray_intersect(ray)
                    valid = si.is_valid()
                    hit = torch.from_numpy(np.array(valid)).reshape(height, width)
                    t = torch.from_numpy(np.array(dr.select(valid, si.t, 0.0))).reshape(height, width)
                    uv = torch.from_numpy(np.array(dr.select(valid, si.uv, 0.0))).T
                gonio_uv = torch.stack([uv[:, 0], 1 - uv[:, 1]], -1)
                for name, source in (("albedo", self.material.basecolor), ("normal", self.material.normal)):
                    values = fetch(source, gonio_uv).reshape(height, width, 3)
                    total[name] += torch.where(hit[..., None], values, torch.zeros_like(values))
                distance += t
                hits += hit
        count = per_side**2
        return {
            "albedo": total["albedo"] / count,
            "normal": total["normal"] / count,
            "depth": distance / hits.clamp_min(1),
        }

    def _trace_scalar(
        self, sensor: Any, height: int, width: int, dx: float, dy: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        import mitsuba as mi

        hit, t = torch.zeros(height, width, dtype=torch.bool), torch.zeros(height, width)
        uv = torch.zeros(height * width, 2)
        for y in range(height):
            for x in range(width):
                film = mi.Point2f((x + dx) / width, (y + dy) / height)
                ray, _ = sensor.sample_ray(0.0, 0.5, film, mi.Point2f(0.5))
                si = self.scene.ray_intersect(ray)
                if si.is_valid():
                    hit[y, x], t[y, x] = True, float(si.t)
                    uv[y * width + x] = torch.tensor([float(si.uv.x), float(si.uv.y)])
        return hit, t, uv


def perspective(position: Tensor, up: Tensor, fov: float, height: int, width: int) -> Any:
    """A Mitsuba camera looking at the sample's centre; box filter, so that a pixel is the mean over its square."""
    import mitsuba as mi

    return mi.load_dict(
        {
            "type": "perspective",
            "fov": fov,
            "fov_axis": "x",
            "near_clip": NEAR_CLIP,
            # Most of the noise is texture detail inside a pixel: stratified samples beat four times as many
            # independent ones.
            "sampler": {"type": "multijitter"},
            "to_world": mi.ScalarTransform4f().look_at(
                origin=position.tolist(), target=[0.0, 0.0, 0.0], up=up.tolist()
            ),
            "film": {
                "type": "hdrfilm",
                "width": width,
                "height": height,
                "pixel_format": "rgba",
                "component_format": "float32",
                "rfilter": {"type": "box"},
            },
        }
    )
