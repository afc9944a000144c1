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
from gonio.pbr import PBRMaterial
from gonio.texture import fetch

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
    """The displaced sample as triangles. displacement [H, W] -> positions [V, 3], uv [V, 2], faces [T, 3].

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
        positions, uv = torch.cat([positions, base]), torch.cat([uv, uv[rim]])
        faces = torch.cat([faces, *walls])
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


def mesh(
    positions: Tensor, uv: Tensor, faces: Tensor, bsdf: dict[str, Any], normals: Tensor | None = None
) -> Any:
    """A Mitsuba mesh of tensors; uv is Gonio's, turned to Mitsuba's (v down). normals: None is all +z."""
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

        number: Any = seed  # every variant takes an int, whatever its stubs say
        return torch.from_numpy(np.array(mi.render(self.scene, sensor=sensor, spp=spp, seed=number)))

    def features(self, sensor: Any, height: int, width: int, per_side: int = 2) -> dict[str, Tensor]:
        """What the camera sees of the sample, averaged over per_side^2 rays a pixel.

        albedo [H, W, 3], normal [H, W, 3] world space, depth [H, W] from the camera, 0 where nothing is hit.
        """
        x, y = _film_points(height, width, per_side)
        hit, distance, uv = self._trace(sensor, x, y)
        shape = (height, per_side, width, per_side)

        def mean(values: Tensor) -> Tensor:
            return values.reshape(*shape, -1).mean((1, 3))

        def seen(values: Tensor) -> Tensor:
            return mean(torch.where(hit[:, None], fetch(values, uv), torch.zeros(1, 1)))

        depth = (distance * hit).reshape(shape).sum((1, 3)) / hit.reshape(shape).sum((1, 3)).clamp_min(1)
        return {
            "albedo": seen(self.material.basecolor),
            "normal": seen(self.material.normal),
            "depth": depth,
        }

    def _trace(self, sensor: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """First hits of camera rays through film points [N]: hit [N], distance [N], Gonio's uv [N, 2].

        The distance is the camera's own; `si.t` would count from the near plane, where rays start.
        """
        import drjit as dr
        import mitsuba as mi

        if "scalar" in str(mi.variant()):
            traced = [self._trace_one(sensor, px, py) for px, py in zip(x.tolist(), y.tolist(), strict=True)]
            hit, distance, u, v = torch.tensor(traced).T
        else:
            film = mi.Point2f(mi.Float(x.numpy()), mi.Float(y.numpy()))
            ray, _ = sensor.sample_ray(0.0, 0.5, film, mi.Point2f(0.5))
            si = self.scene.ray_intersect(ray)
            valid = si.is_valid()
            reach = dr.norm(si.p - sensor.world_transform() @ mi.Point3f(0.0))
            columns = [dr.select(valid, c, 0.0) for c in (1.0, reach, si.uv.x, si.uv.y)]
            dr.eval(columns)
            hit, distance, u, v = (torch.from_numpy(np.array(mi.Float(c))) for c in columns)
        return hit > 0, distance, torch.stack([u, 1 - v], -1)

    def _trace_one(self, sensor: Any, x: float, y: float) -> list[float]:
        import drjit as dr
        import mitsuba as mi

        ray, _ = sensor.sample_ray(0.0, 0.5, mi.Point2f(x, y), mi.Point2f(0.5))
        si = self.scene.ray_intersect(ray)
        if not si.is_valid():
            return [0.0] * 4
        reach = float(dr.norm(si.p - sensor.world_transform() @ mi.Point3f(0.0)))
        return [1.0, reach, float(si.uv.x), float(si.uv.y)]


def _film_points(height: int, width: int, per_side: int) -> tuple[Tensor, Tensor]:
    """per_side^2 regular points in every pixel, film coordinates in [0, 1]; [H * s * W * s] each."""
    rows = (torch.arange(height * per_side) + 0.5) / (height * per_side)
    columns = (torch.arange(width * per_side) + 0.5) / (width * per_side)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return x.reshape(-1).contiguous(), y.reshape(-1).contiguous()


def perspective(
    position: Tensor, up: Tensor, fov: float, height: int, width: int, sampler: str = "multijitter"
) -> Any:
    """A Mitsuba camera looking at the sample's centre; box filter: a pixel is the mean over its square.

    Most of a scan's noise is texture detail inside a pixel, so stratified samples beat four times as many
    independent ones (docs/RESULTS.md).
    """
    import mitsuba as mi

    return mi.load_dict(
        {
            "type": "perspective",
            "fov": fov,
            "fov_axis": "x",
            "near_clip": NEAR_CLIP,
            "sampler": {"type": sampler},
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
