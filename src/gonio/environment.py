"""Light from everywhere: a lat-long panorama of radiance, evaluated, importance sampled and integrated.

World frame: +z is up. The panorama's top row looks up, its centre column looks along +y and, seen from
inside, +x is to the right of +y. The left and right edges meet at -y. With uv in [0, 1]^2 (v = 1 at the top):

    theta = pi (1 - v)          from +z
    phi   = 2 pi (u - 1/2)      from +y towards +x
    direction = (sin theta sin phi, sin theta cos phi, cos theta)

Texels are cells: the centre of texel (x, y) is at u = (x + 1/2) / W, v = 1 - (y + 1/2) / H. Radiance between
centres is bilinear, wraps in azimuth and is constant from the outermost rows' centres to the poles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from gonio.errors import GonioError, UsageError
from gonio.media import read_color

# Texel-normal products held at once by `irradiance`.
_IRRADIANCE_BLOCK = 1 << 24
# The largest random number used: adding a row's index to it must not round up into the next row.
_BELOW_ONE = 1 - 2.0**-36


def direction_from_uv(uv: Tensor) -> Tensor:
    """Panorama coordinates [..., 2] to unit world directions [..., 3]."""
    theta = math.pi * (1 - uv[..., 1])
    phi = 2 * math.pi * (uv[..., 0] - 0.5)
    return torch.stack([theta.sin() * phi.sin(), theta.sin() * phi.cos(), theta.cos()], -1)


def uv_from_direction(direction: Tensor) -> Tensor:
    """World directions [..., 3] of any length to panorama coordinates [..., 2], u in [0, 1), v in [0, 1]."""
    x, y, z = direction.unbind(-1)
    # atan2 keeps its precision near the poles, where acos(z) loses half the digits.
    theta = torch.atan2(torch.hypot(x, y), z)
    u = torch.atan2(x, y) / (2 * math.pi) + 0.5
    return torch.stack([torch.where(u >= 1, u - 1, u), 1 - theta / math.pi], -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class EnvironmentMap:
    """Radiance arriving from every direction. radiance: [H, W, 3] linear Rec.709, W = 2 H, finite, >= 0.

    A wrong shape, not-a-number, infinite or negative radiance raises GonioError.
    """

    radiance: Tensor  # [H, W, 3] linear

    def __post_init__(self) -> None:
        problem = _problem(self.radiance)
        if problem:
            raise GonioError(f"environment map: {problem}")

    @staticmethod
    def load(path: str | Path) -> EnvironmentMap:
        """Read a 2:1 lat-long .hdr or .exr (linear) or .png or .jpg (sRGB). Errors name the file."""
        radiance = read_color(Path(path))
        problem = _problem(radiance)
        if problem:
            raise GonioError(f"{path}: {problem}")
        return EnvironmentMap(radiance=radiance)

    @property
    def height(self) -> int:
        return self.radiance.shape[0]

    @property
    def width(self) -> int:
        return self.radiance.shape[1]

    # ---------------------------------------------------------------- evaluate

    def lookup(self, direction: Tensor) -> Tensor:
        """Radiance from the directions [..., 3] -> [..., 3]; bilinear."""
        uv = uv_from_direction(direction)
        x = uv[..., 0] * self.width - 0.5
        y = ((1 - uv[..., 1]) * self.height - 0.5).clamp(0, self.height - 1)
        left, top = x.floor(), y.floor()
        weight_x, weight_y = (x - left)[..., None], (y - top)[..., None]
        column0 = left.long() % self.width
        column1 = (column0 + 1) % self.width
        row0 = top.long()
        row1 = (row0 + 1).clamp_max(self.height - 1)
        upper = torch.lerp(self.radiance[row0, column0], self.radiance[row0, column1], weight_x)
        lower = torch.lerp(self.radiance[row1, column0], self.radiance[row1, column1], weight_x)
        return torch.lerp(upper, lower, weight_y)

    @cached_property
    def mean_radiance(self) -> Tensor:
        """Mean over the sphere of directions [3]."""
        share = (_solid_angles(self.height, self.width, self.radiance) / (4 * math.pi)).to(self.radiance)
        return (self._cell_radiance * share[:, None, None]).sum((0, 1))

    @property
    def mean_irradiance(self) -> Tensor:
        """Irradiance averaged over all orientations of the receiver [3]: pi times the mean radiance."""
        return math.pi * self.mean_radiance

    def irradiance(self, normal: Tensor) -> Tensor:
        """Irradiance on surfaces with the unit normals [..., 3] -> [..., 3]: integral of L max(0, n.d).

        Each cell gives its mean radiance times the exact integral of its directions; only cells cut by the
        surface's horizon are approximated, so the error falls with the square of the texel size.
        """
        flat = normal.reshape(-1, 3).to(self.radiance)
        cells = _cell_vectors(self.height, self.width, self.radiance)  # [H W, 3]
        light = self._cell_radiance.reshape(-1, 3)
        block = max(1, _IRRADIANCE_BLOCK // cells.shape[0])
        parts = [(part @ cells.T).clamp_min(0) @ light for part in flat.split(block)]
        return torch.cat(parts).reshape(normal.shape) if parts else torch.zeros_like(normal)

    # ---------------------------------------------------------------- change

    def rotated(self, degrees: float) -> EnvironmentMap:
        """Turned about +z, counter-clockwise seen from above: what shone from +x shines from +y after 90.

        Whole texels (multiples of 360 / W degrees) are exact; other angles interpolate between neighbouring
        columns, so turn the original each time rather than its turned copy. Rows keep their energy exactly.
        """
        # Azimuth phi runs from +y to +x, clockwise from above: a counter-clockwise turn moves columns left.
        shift = -degrees / 360.0 * self.width
        whole = math.floor(shift)
        nearer = self.radiance.roll(whole, dims=1)
        farther = self.radiance.roll(whole + 1, dims=1)
        return EnvironmentMap(radiance=torch.lerp(nearer, farther, shift - whole))

    def normalized(self, *, mean: float | None = None, irradiance: float | None = None) -> EnvironmentMap:
        """Scaled so that a channel-averaged quantity has the given value; give exactly one.

        mean: the mean radiance over the sphere. irradiance: that on a surface facing up (+z).
        """
        if (mean is None) == (irradiance is None):
            raise UsageError("environment map: normalize to either a mean or an irradiance; give exactly one")
        target = mean if mean is not None else irradiance
        assert target is not None
        if not (math.isfinite(target) and target > 0):
            raise UsageError(f"environment map: cannot normalize to {target}; give a positive number")
        if mean is not None:
            current = float(self.mean_radiance.mean())
        else:
            current = float(self.irradiance(self.radiance.new_tensor([0.0, 0.0, 1.0])).mean())
        if current <= 0:
            raise GonioError("environment map: there is no light to normalize; give a map that is lit")
        return EnvironmentMap(radiance=self.radiance * (target / current))

    # ---------------------------------------------------------------- sample

    def sample(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Directions in proportion to the light. u: [N, 2] uniform in [0, 1).

        Returns directions [N, 3], their radiance [N, 3] and density per solid angle [N]. The density is
        constant over each texel's cell, in proportion to the cell's mean bilinear radiance; a black map is
        sampled uniformly. The density is that of the cell drawn, so it is never zero.
        """
        v = u.double().clamp(0, _BELOW_ONE)
        row_cdf, cell_cdf = self._distribution
        row, across_row = _draw(row_cdf, v[:, 1].contiguous())
        cell, across_column = _draw(cell_cdf, row + v[:, 0])
        column = cell - row * self.width
        # Uniform in solid angle inside the cell: uniform in cos(theta) and phi.
        edges = _row_cosines(self.height, v)
        cosine = torch.lerp(edges[row], edges[row + 1], across_row)
        sine = ((1 - cosine) * (1 + cosine)).clamp_min(0).sqrt()
        phi = 2 * math.pi * ((column + across_column) / self.width - 0.5)
        direction = torch.stack([sine * phi.sin(), sine * phi.cos(), cosine], -1).to(self.radiance.dtype)
        return direction, self.lookup(direction), self._density[row, column]

    def pdf(self, direction: Tensor) -> Tensor:
        """Density per solid angle with which `sample` draws the directions [..., 3] -> [...]."""
        uv = uv_from_direction(direction)
        column = (uv[..., 0] * self.width).long().clamp(0, self.width - 1)
        row = ((1 - uv[..., 1]) * self.height).long().clamp(0, self.height - 1)
        return self._density[row, column]

    @cached_property
    def _cell_radiance(self) -> Tensor:
        """Mean over each cell (in u and v) of the bilinear radiance [H, W, 3].

        The integral of a bilinear function over the cell of one sample weighs the neighbours 1/8, 3/4, 1/8
        along each axis. It is positive wherever the radiance is, so the sampler misses no light.
        """
        rows = torch.cat([self.radiance[:1], self.radiance, self.radiance[-1:]])
        rows = (rows[:-2] + 6 * rows[1:-1] + rows[2:]) / 8
        return (rows.roll(1, 1) + 6 * rows + rows.roll(-1, 1)) / 8

    @cached_property
    def _cell_probability(self) -> Tensor:
        """Probability of each cell [H, W] float64, sums to 1."""
        solid_angle = _solid_angles(self.height, self.width, self.radiance)[:, None]
        mass = self._cell_radiance.double().mean(-1) * solid_angle
        if float(mass.sum()) <= 0:
            mass = torch.ones_like(mass) * solid_angle
        return mass / mass.sum()

    @cached_property
    def _density(self) -> Tensor:
        """Probability per solid angle of each cell [H, W]."""
        solid_angle = _solid_angles(self.height, self.width, self.radiance)[:, None]
        return (self._cell_probability / solid_angle).to(self.radiance.dtype)

    @cached_property
    def _distribution(self) -> tuple[Tensor, Tensor]:
        """Cumulative probabilities of the rows [H], and of the cells inside their row plus its index [H W].

        The index makes one rising sequence of all rows' sequences, so one search finds every column. float64.
        """
        rows = self._cell_probability.sum(1)
        within = self._cell_probability.cumsum(1)
        # Rows without light are never drawn; ones keep the sequence rising to the next row's index.
        within = torch.where(rows[:, None] > 0, within / within[:, -1:], torch.ones_like(within))
        index = torch.arange(self.height, dtype=torch.float64, device=rows.device)
        total = rows.cumsum(0)
        return total / total[-1], (within + index[:, None]).reshape(-1)

    # ---------------------------------------------------------------- Mitsuba

    def mitsuba_bitmap(self) -> Tensor:
        """The panorama resampled so that Mitsuba's `envmap` emitter shows exactly `lookup`. [2 H + 1, W, 3].

        Mitsuba agrees with us along u (texel centres at half integers, wrap), but puts the centres of its
        first and last row on the poles: row y at theta = pi y / (rows - 1). Given the original bitmap it
        therefore stretches elevation by up to half a texel. With 2 H + 1 rows every second one falls on a
        centre of ours and the others half-way between, so the two piecewise linear functions are the same.
        """
        rows = torch.cat([self.radiance[:1], self.radiance, self.radiance[-1:]])
        between = (rows[:-1] + rows[1:]) / 2  # [H + 1, W, 3], the first and last on the poles
        bitmap = torch.empty(2 * self.height + 1, self.width, 3).to(self.radiance)
        bitmap[0::2] = between
        bitmap[1::2] = self.radiance
        return bitmap


def mitsuba_to_world(degrees: float = 0.0) -> Tensor:
    """`to_world` [4, 4] of a Mitsuba `envmap` emitter that turns its frame into ours. float64.

    Mitsuba's panoramas have +y up, +z in the centre column and +x a quarter to its left. `degrees` turns the
    light as `EnvironmentMap.rotated` does, exactly for every angle.
    """
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = torch.tensor(
        [[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64
    )
    frame = torch.tensor(
        [[-1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64
    )  # +x -> -x, +y -> +z, +z -> +y
    return turn @ frame


def _problem(radiance: Tensor) -> str | None:
    """What makes this tensor unusable as an environment map, and the cure; None if nothing does."""
    shape = list(radiance.shape)
    if radiance.ndim != 3 or shape[2] != 3 or not radiance.is_floating_point():
        return f"shape {shape} is no picture; give linear floating-point radiance [height, width, 3]"
    height, width = shape[:2]
    if height < 2 or width != 2 * height:
        return f"{width}x{height} pixels is not 2:1; crop or resample it to a full lat-long panorama"
    broken = int((~torch.isfinite(radiance)).any(-1).sum())
    if broken:
        return f"{broken} pixels are not finite numbers; clamp them and save it again"
    negative = int((radiance < 0).any(-1).sum())
    if negative:
        return f"{negative} pixels have negative radiance; clamp them to zero and save it again"
    return None


def _row_cosines(height: int, like: Tensor) -> Tensor:
    """cos(theta) at the H + 1 edges between rows, from 1 to -1; float64 on the device of `like`."""
    return torch.cos(torch.arange(height + 1, dtype=torch.float64, device=like.device) * (math.pi / height))


def _solid_angles(height: int, width: int, like: Tensor) -> Tensor:
    """Solid angle of one cell of each row [H] float64; all cells together are 4 pi."""
    cosine = _row_cosines(height, like)
    return (cosine[:-1] - cosine[1:]) * (2 * math.pi / width)


def _cell_vectors(height: int, width: int, like: Tensor) -> Tensor:
    """Integral of the unit direction over each cell's solid angle [H W, 3], row by row."""
    theta = torch.arange(height + 1, dtype=torch.float64, device=like.device) * (math.pi / height)
    phi = (torch.arange(width + 1, dtype=torch.float64, device=like.device) / width - 0.5) * (2 * math.pi)
    sine_squared = (theta - theta.sin() * theta.cos()).diff() / 2
    x = sine_squared[:, None] * -phi.cos().diff()
    y = sine_squared[:, None] * phi.sin().diff()
    z = (theta.sin().square().diff() / 2)[:, None] * phi.diff()
    return torch.stack([x, y, z], -1).reshape(-1, 3).to(like)


def _draw(cdf: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Invert cumulative probabilities. cdf [K] rising, value [N] -> index [N] and the place inside it [N]."""
    # right=True steps over entries of probability zero, which repeat the value before them.
    index = torch.searchsorted(cdf, value, right=True).clamp_max(cdf.shape[0] - 1)
    upper = cdf[index]
    lower = torch.where(index > 0, cdf[(index - 1).clamp_min(0)], torch.zeros_like(upper))
    return index, ((value - lower) / (upper - lower)).clamp(0, 1)
