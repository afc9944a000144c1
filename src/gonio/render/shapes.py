"""What a material is shown on: generated shapes, or the user's mesh, fitted to the stage.

Stage: +z is up, the floor is z = 0, the camera looks along +y. A fitted shape stands on the floor, is centred
on the z axis and its longest side measures 2. uv is Gonio's, v up; `uv_scale` tiles where the shape has one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gonio.errors import UsageError

FITTED_SIZE = 2.0
MESH_SUFFIXES = (".obj", ".ply", ".glb")
# Tiles per unit of length on the shader ball, before fitting.
BALL_DENSITY = 1.2


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape:
    """Triangles, counter-clockwise seen from outside; float32, faces int64; uv has v up."""

    positions: Tensor  # [V, 3]
    normals: Tensor  # [V, 3] unit
    uv: Tensor  # [V, 2]
    faces: Tensor  # [T, 3]

    def rotated(self, degrees: float) -> Shape:
        """Turned about +z, counter-clockwise seen from above."""
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        return replace(self, positions=self.positions @ turn.T, normals=self.normals @ turn.T)

    def fitted(self) -> Shape:
        """Centred on the z axis, standing on the floor, longest side 2."""
        low, high = self.positions.amin(0), self.positions.amax(0)
        scale = FITTED_SIZE / float((high - low).max())
        foot = torch.stack([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
        return replace(self, positions=(self.positions - foot) * scale)


def load_shape(name_or_path: str | Path, uv_scale: float = 1.0) -> Shape:
    """A generated shape (plane, sphere, cloth, shaderball) or a mesh file (.obj, .ply, .glb), on the stage.

    uv_scale repeats the texture that many times as often. UsageError: unknown name. GonioError: unusable
    mesh.
    """
    if not (math.isfinite(uv_scale) and 1e-3 <= uv_scale <= 1e3):
        raise UsageError(f"--uv-scale {uv_scale}: allowed are 0.001 to 1000")
    name = str(name_or_path)
    if name in GENERATED:
        shape = GENERATED[name]()
    elif Path(name).suffix.lower() in MESH_SUFFIXES:
        from gonio.render.mesh_files import read_mesh

        shape = read_mesh(Path(name_or_path))
    else:
        known = ", ".join(GENERATED)
        raise UsageError(
            f"--shape {name}: not a known shape; take one of {known} or a .obj, .ply or .glb file"
        )
    return replace(shape.fitted(), uv=shape.uv * uv_scale)


def join(parts: Sequence[Shape]) -> Shape:
    starts = [0]
    for part in parts:
        starts.append(starts[-1] + part.positions.shape[0])
    return Shape(
        positions=torch.cat([p.positions for p in parts]),
        normals=torch.cat([p.normals for p in parts]),
        uv=torch.cat([p.uv for p in parts]),
        faces=torch.cat([p.faces + start for p, start in zip(parts, starts, strict=False)]),
    )


def patch(
    columns: int,
    rows: int,
    place: Callable[[Tensor, Tensor], Tensor],
    uv: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Shape:
    """A grid of quads over a, b in [0, 1]^2: place(a, b) -> [..., 3], outside where da x db is.

    uv(a, b, positions) -> [..., 2]. Normals are those of the smooth surface: central differences of `place`
    in float64, taken a little inside the border where it degenerates. Faces of no area are left out.
    """
    b, a = torch.meshgrid(
        torch.linspace(0, 1, rows + 1, dtype=torch.float64),
        torch.linspace(0, 1, columns + 1, dtype=torch.float64),
        indexing="ij",
    )
    positions = place(a, b)
    inner_a, inner_b, step = a.clamp(1e-4, 1 - 1e-4), b.clamp(1e-4, 1 - 1e-4), 1e-5
    along_a = place(inner_a + step, inner_b) - place(inner_a - step, inner_b)
    along_b = place(inner_a, inner_b + step) - place(inner_a, inner_b - step)
    normals = normalize(torch.linalg.cross(along_a, along_b), dim=-1, eps=1e-30)
    corner = torch.arange(rows * (columns + 1)).reshape(rows, columns + 1)[:, :-1].reshape(-1)
    n = columns + 1
    faces = torch.cat(
        [
            torch.stack([corner, corner + 1, corner + n + 1], -1),
            torch.stack([corner, corner + n + 1, corner + n], -1),
        ]
    )
    points = positions.reshape(-1, 3).float()
    sides = points[faces]
    area = torch.linalg.cross(sides[:, 1] - sides[:, 0], sides[:, 2] - sides[:, 0]).norm(dim=-1)
    return Shape(
        positions=points,
        normals=normals.reshape(-1, 3).float(),
        uv=uv(a, b, positions).reshape(-1, 2).float(),
        faces=faces[area > 1e-9],
    )


def smooth_normals(positions: Tensor, faces: Tensor, place: Tensor | None = None) -> Tensor:
    """Vertex normals [V, 3]: face normals weighted by the face's angle at the vertex.

    place [V]: vertices of the same number are one place and share a normal.
    """
    place = torch.arange(positions.shape[0]) if place is None else place
    corners = positions[faces].double()
    total = torch.zeros(int(place.max()) + 1, 3, dtype=torch.float64)
    for corner in range(3):
        here, after, before = (corners[:, (corner + k) % 3] for k in range(3))
        a, b = normalize(after - here, dim=-1, eps=1e-30), normalize(before - here, dim=-1, eps=1e-30)
        cross = torch.linalg.cross(a, b)
        angle = torch.atan2(cross.norm(dim=-1), (a * b).sum(-1))
        total.index_add_(0, place[faces[:, corner]], normalize(cross, dim=-1, eps=1e-30) * angle[:, None])
    return normalize(total, dim=-1, eps=1e-30)[place].float()


# ---------------------------------------------------------------------------- generated shapes


def plane() -> Shape:
    """The unit sample lying on the floor: +u to the right, +v away from the camera."""
    return patch(
        1,
        1,
        lambda a, b: torch.stack([a - 0.5, b - 0.5, torch.zeros_like(a)], -1),
        lambda a, b, _: torch.stack([a, b], -1),
    )


def sphere() -> Shape:
    """A uv sphere: u eastwards in 4 tiles, v northwards in 2, so that tiles are square on the equator."""
    return globe(1.0, tiles=4)


def globe(radius: float, tiles: int, columns: int = 256, rows: int = 128) -> Shape:
    """Poles are closed by one triangle a column whose tip has the column's middle u: no frame degenerates."""
    half = math.pi / 2

    def place(a: Tensor, b: Tensor) -> Tensor:
        return radius * spherical(2 * math.pi * a - half, math.pi * b - half)

    def uv(a: Tensor, b: Tensor, _: Tensor) -> Tensor:
        # The tip of the triangle that remains is the left corner in the south row, the right in the north.
        shift = (b == 0).to(a) * 0.5 / columns - (b == 1).to(a) * 0.5 / columns
        return torch.stack([(a + shift) * tiles, b * tiles / 2], -1)

    shape = patch(columns, rows, place, uv)
    return replace(shape, normals=normalize(shape.positions, dim=-1))


def spherical(longitude: Tensor, latitude: Tensor) -> Tensor:
    """Unit vectors [..., 3]; longitude counter-clockwise from +x seen from above."""
    flat = latitude.cos()
    return torch.stack([flat * longitude.cos(), flat * longitude.sin(), latitude.sin()], -1)


def cloth() -> Shape:
    """A square sheet of 2 x 2 tiles draped over a ball.

    The way down a profile of ball, slope and floor keeps its length; what the circumference has too much goes
    into folds around it, deep enough to keep that length as well.
    """
    ball, side, hang, bend = 0.5, 2.35, math.radians(68.0), 0.34
    arc = ball * hang
    drop = ball * math.cos(hang) + ball - 0.02  # from the end of the arc down to just above the floor
    straight = (drop - bend * (1 - math.cos(hang))) / math.sin(hang)
    s = torch.linspace(0, side, 4001, dtype=torch.float64)
    down = torch.where(s < arc, s / ball, torch.full_like(s, hang))
    foot = arc + straight
    down = torch.where(s > foot, hang - (s - foot) / bend, down).clamp_min(0)
    middle = (down[1:] + down[:-1]) / 2
    step, folds = float(s[1]), 9
    out = torch.cat([torch.zeros(1, dtype=torch.float64), (middle.cos() * step).cumsum(0)])
    height = 2 * ball - torch.cat([torch.zeros(1, dtype=torch.float64), (middle.sin() * step).cumsum(0)])

    def look(table: Tensor, at: Tensor) -> Tensor:
        x = (at / step).clamp(0, 3999.0)
        i = x.long()
        return torch.lerp(table[i], table[i + 1], x - i)

    def place(a: Tensor, b: Tensor) -> Tensor:
        x, y = (a - 0.5) * side, (b - 0.5) * side
        rho = torch.hypot(x, y).clamp_min(1e-9)
        phi = torch.atan2(y, x)
        radius, z, slope = look(out, rho), look(height, rho), look(down, rho)
        wave = (folds * phi + 1.3 * torch.sin(2 * phi + 0.6) + 0.9 * torch.sin(3 * phi - 1.0)).cos()
        # The curve r (1 + e cos n phi) is longer than its circle by about 1 + (n e)^2 / 4.
        excess = (rho / radius.clamp_min(1e-9) - 1).clamp_min(0)
        begin = ((rho - 0.3) / 0.6).clamp(0, 1)
        depth = 2 / folds * excess.sqrt() * radius * begin.square() * (3 - 2 * begin)
        depth = depth * (1 + 0.3 * torch.sin(3 * phi + 2.0))
        # Outwards only, along the profile's normal: the ball is solid. On the floor folds run out.
        lift = depth * (1 + wave) * torch.exp(-((rho - foot).clamp_min(0) / 0.3).square())
        radius = radius + lift * slope.sin()
        z = z + lift * slope.cos()
        return torch.stack([radius * phi.cos(), radius * phi.sin(), z], -1)

    sheet = patch(320, 320, place, lambda a, b, _: torch.stack([a * 2, b * 2], -1))
    return replace(sheet, normals=smooth_normals(sheet.positions, sheet.faces))


def shaderball() -> Shape:
    """Our preview object: a hollow ball with one octant cut away, a core inside, on a rounded pedestal."""
    outer, inner, core, lift = 0.8, 0.69, 0.52, 0.92
    tau, quarter = 2 * math.pi, math.pi / 2
    density = BALL_DENSITY
    around = round(tau * outer * density)
    up = torch.tensor([0.0, 0.0, lift], dtype=torch.float64)
    # The missing octant: upper half, facing the camera's left.
    cut_from, cut_to = -0.75 * math.pi - 0.15, -0.25 * math.pi - 0.15

    def shell(radius: float, west: float, east: float, south: float, north: float, inwards: bool) -> Shape:
        def place(a: Tensor, b: Tensor) -> Tensor:
            longitude, latitude = west + (east - west) * a, south + (north - south) * b
            return radius * spherical(longitude, latitude) + up

        def uv(a: Tensor, b: Tensor, _: Tensor) -> Tensor:
            longitude, latitude = west + (east - west) * a, south + (north - south) * b
            # Seen from inside, east is on the left.
            return torch.stack(
                [longitude / tau * (-around if inwards else around), latitude / tau * around], -1
            )

        part = patch(max(8, round((east - west) * 40)), max(8, round((north - south) * 40)), place, uv)
        radial = normalize(part.positions - up.float(), dim=-1)
        if inwards:
            return replace(part, normals=-radial, faces=part.faces.flip(1))
        return replace(part, normals=radial)

    def upright_wall(longitude: float, sense: float) -> Shape:
        """Quarter annulus in the plane of a meridian, facing into the cut (against `sense` of longitude)."""
        axis = torch.tensor([math.cos(longitude), math.sin(longitude), 0.0], dtype=torch.float64)

        def place(a: Tensor, b: Tensor) -> Tensor:
            radius, angle = inner + (outer - inner) * a, quarter * b
            return (radius * angle.cos())[..., None] * axis + _up(radius * angle.sin()) + up

        def uv(a: Tensor, b: Tensor, p: Tensor) -> Tensor:
            return torch.stack([((p - up) @ axis) * sense, (p - up)[..., 2]], -1) * density

        part = patch(6, 48, place, uv)
        return part if sense > 0 else replace(part, faces=part.faces.flip(1), normals=-part.normals)

    def level_wall() -> Shape:
        def place(a: Tensor, b: Tensor) -> Tensor:
            radius, angle = inner + (outer - inner) * a, cut_from + (cut_to - cut_from) * b
            return torch.stack([radius * angle.cos(), radius * angle.sin(), torch.zeros_like(a)], -1) + up

        return patch(6, 48, place, lambda a, b, p: p[..., :2] * density)

    ball = [
        shell(radius, west, east, south, north, inwards)
        for radius, inwards in ((outer, False), (inner, True))
        for west, east, south, north in (
            (cut_to, cut_from + tau, 0.0, quarter),  # the upper half without the octant
            (cut_to, cut_to + tau, -quarter, 0.0),
        )
    ]
    walls = [upright_wall(cut_to, -1.0), upright_wall(cut_from, 1.0), level_wall()]
    middle = globe(core, max(1, round(tau * core * density)))
    middle = replace(middle, positions=middle.positions + up.float())
    return join([*ball, *walls, middle, pedestal(density)])


def _up(z: Tensor) -> Tensor:
    return torch.stack([torch.zeros_like(z), torch.zeros_like(z), z], -1)


def pedestal(density: float) -> Shape:
    """A turned foot: flat below the ball, a hollow neck, a rounded rim."""
    profile = torch.tensor(
        [[0.74, 0.0], [0.76, 0.02], [0.76, 0.08], [0.74, 0.10], [0.56, 0.13], [0.47, 0.18], [0.45, 0.24],
         [0.43, 0.255], [0.30, 0.20], [0.02, 0.16]],
        dtype=torch.float64,
    )  # fmt: skip
    fine = _smooth_curve(profile, 96)
    length = torch.cat([torch.zeros(1, dtype=torch.float64), fine.diff(dim=0).norm(dim=-1).cumsum(0)])
    around = round(2 * math.pi * 0.7 * density)

    def at(table: Tensor, b: Tensor) -> Tensor:
        x = (b * (table.shape[0] - 1)).clamp(0, table.shape[0] - 1.0001)
        i = x.long()
        weight = (x - i)[..., None] if table.ndim == 2 else x - i
        return torch.lerp(table[i], table[i + 1], weight)

    def place(a: Tensor, b: Tensor) -> Tensor:
        radius, z = at(fine, b).unbind(-1)
        angle = 2 * math.pi * a
        return torch.stack([radius * angle.cos(), radius * angle.sin(), z], -1)

    def uv(a: Tensor, b: Tensor, _: Tensor) -> Tensor:
        return torch.stack([a * around, at(length, b) * density], -1)

    return patch(192, fine.shape[0] - 1, place, uv)


def _smooth_curve(points: Tensor, count: int) -> Tensor:
    """Corners cut twice (Chaikin), then even steps of length. [K, 2] -> [count + 1, 2]."""
    for _ in range(3):
        a, b = points[:-1], points[1:]
        inner = torch.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, 2)
        points = torch.cat([points[:1], inner, points[-1:]])
    length = torch.cat([torch.zeros(1, dtype=points.dtype), points.diff(dim=0).norm(dim=-1).cumsum(0)])
    wanted = torch.linspace(0, float(length[-1]), count + 1, dtype=points.dtype)
    index = (torch.searchsorted(length, wanted) - 1).clamp(0, points.shape[0] - 2)
    share = (wanted - length[index]) / (length[index + 1] - length[index]).clamp_min(1e-12)
    return torch.lerp(points[index], points[index + 1], share[:, None])


GENERATED: dict[str, Callable[[], Shape]] = {
    "plane": plane,
    "sphere": sphere,
    "cloth": cloth,
    "shaderball": shaderball,
}
