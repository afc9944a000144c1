"""Exactly periodic noise on the tile: random spectra, cellular patterns, warps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gonio.data.procedural.draw import Draw

# White noise is always drawn on this lattice and its spectrum cut or padded to the working resolution, so
# that a seed gives one field at every resolution and nothing above the pixel grid's Nyquist limit survives.
LATTICE = 256


def _frequencies(n: int) -> tuple[Tensor, Tensor]:
    """Whole cycles per tile of the real 2-D transform: ([n, 1] upwards, [1, n // 2 + 1] to the right)."""
    return -torch.fft.fftfreq(n, 1.0 / n)[:, None], torch.fft.rfftfreq(n, 1.0 / n)[None, :]


def _crop_spectrum(spectrum: Tensor, n: int) -> Tensor:
    """[LATTICE, LATTICE // 2 + 1] -> [n, n // 2 + 1], keeping the frequencies both grids can hold."""
    keep = (min(n, LATTICE) - 1) // 2
    out = spectrum.new_zeros(n, n // 2 + 1)
    out[: keep + 1, : keep + 1] = spectrum[: keep + 1, : keep + 1]
    out[-keep:, : keep + 1] = spectrum[-keep:, : keep + 1]
    return out


def noise(
    draw: Draw,
    frequency: float,
    *,
    slope: float = 2.0,
    stretch: float = 1.0,
    angle: float = 0.0,
    band: bool = False,
) -> Tensor:
    """Gaussian noise [n, n] with zero mean and unit deviation, spectrum (1 + (k/frequency)^2)^(-slope/2).

    frequency: cycles per tile where the spectrum starts to fall. slope: 1 is very rough, 2 cloudy, 4 smooth.
    stretch > 1 draws the features out along the direction at `angle` radians from +u. band also removes the
    frequencies below `frequency`.
    """
    n = draw.n
    spectrum = _crop_spectrum(torch.fft.rfft2(draw.normal(LATTICE, LATTICE)), n)
    ky, kx = _frequencies(n)
    along, across = math.cos(angle) * kx + math.sin(angle) * ky, -math.sin(angle) * kx + math.cos(angle) * ky
    squared = ((along * stretch) ** 2 + across**2) / (frequency * frequency)
    amplitude = torch.exp(-0.5 * slope * torch.log1p(squared))
    if band:
        amplitude = amplitude * (squared / (1.0 + squared))
    spectrum = spectrum * amplitude
    spectrum[0, 0] = 0.0
    field = torch.fft.irfft2(spectrum, s=(n, n))
    return field / field.std().clamp_min(1e-12)


def coverage(gaussian: Tensor) -> Tensor:
    """Unit Gaussian noise -> uniform on (0, 1): a threshold t then covers a fraction t of the tile."""
    return 0.5 + 0.5 * torch.erf(gaussian / math.sqrt(2.0))


def ridged(draw: Draw, frequency: float, octaves: int = 4, gain: float = 0.55) -> Tensor:
    """Ridged multifractal [n, n] in about [0, 1]: sharp crests where each octave's noise crosses zero."""
    total = torch.zeros(draw.n, draw.n)
    weight: Tensor | float = 1.0
    amplitude, norm = 1.0, 0.0
    for octave in range(octaves):
        f = frequency * 2.0**octave
        if f > LATTICE / 3:
            break
        crest = (1.0 - noise(draw, f, slope=5.0, band=True).abs() * 0.7).clamp_min(0.0) ** 2
        total = total + amplitude * weight * crest
        weight = crest.clamp(0.15, 1.0)
        norm += amplitude
        amplitude *= gain
    return total / norm


def blur(field: Tensor, sigma: float) -> Tensor:
    """Periodic Gaussian blur of [n, n]; sigma in tile widths."""
    n = field.shape[0]
    ky, kx = _frequencies(n)
    kernel = torch.exp(-2.0 * (math.pi * sigma) ** 2 * (kx * kx + ky * ky))
    return torch.fft.irfft2(torch.fft.rfft2(field) * kernel, s=(n, n))


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A tile divided into elements (stones, bricks, boards, scales).

    index [H, W] int64 in [0, count); edge [H, W] distance to the element's own border in tile widths,
    positive inside; x, y [H, W] position from the element's centre in tile widths; size: a typical width,
    tile widths; turned [H, W] bool: the element's long axis stands along v.
    """

    index: Tensor
    count: int
    edge: Tensor
    x: Tensor
    y: Tensor
    size: float
    turned: Tensor | None = None


def voronoi(
    draw: Draw,
    u: Tensor,
    v: Tensor,
    cells: tuple[int, int],
    *,
    jitter: float = 0.8,
    stagger: bool = False,
    squash: float = 1.0,
) -> Cells:
    """Voronoi cells of one jittered point per box of a (rows, columns) grid; u, v [H, W], any real values.

    stagger shifts every other row by half a box (rows must be even): jitter 0 then gives hexagons. `edge` is
    the exact distance to the nearest bisector with one of the eight neighbouring points. Distances (and `y`)
    are taken with v multiplied by squash: rows / columns gives cells drawn out along v.
    """
    rows, columns = cells
    count = rows * columns
    offset = (draw.rand(count, 2) - 0.5) * jitter + 0.5
    # One box of the neighbouring period on every side, so that no neighbour's number needs wrapping.
    wrapped = torch.nn.functional.pad(
        torch.arange(count, dtype=torch.float32).reshape(1, 1, rows, columns), (1, 2, 1, 1), mode="circular"
    ).long()[0, 0]
    number, stride = wrapped.reshape(-1), columns + 3
    offset_u, offset_v = offset[number, 0], offset[number, 1]
    a, b = u * columns, v * rows
    row = torch.floor(b)
    odd = torch.remainder(row, 2) * 0.5 if stagger else torch.zeros_like(row)
    candidates = []
    for dy in (-1, 0, 1):
        shift = odd if dy == 0 or not stagger else 0.5 - odd
        column = torch.floor(a - shift)
        inside_u, inside_v = a - shift - column, b - row - dy
        first = (torch.remainder(row, rows).long() + (dy + 1)) * stride + torch.remainder(
            column, columns
        ).long()
        for dx in (-1, 0, 1):
            i = first + (dx + 1)
            du = (offset_u[i] + dx - inside_u) / columns
            dv = (offset_v[i] - inside_v) * (squash / rows)
            candidates.append((du, dv, i))
    nu, nv, ni = candidates[0]
    best = nu * nu + nv * nv
    for du, dv, i in candidates[1:]:
        squared = du * du + dv * dv
        nearer = squared < best
        best = torch.minimum(best, squared)
        nu, nv, ni = torch.where(nearer, du, nu), torch.where(nearer, dv, nv), torch.where(nearer, i, ni)
    edge = torch.full_like(best, 1.0)
    for du, dv, _ in candidates:
        eu, ev = du - nu, dv - nv
        squared = eu * eu + ev * ev
        # The nearest point has no bisector with itself: it counts as one a whole tile away.
        own = (squared < 1e-12).float()
        to_bisector = ((du + nu) * eu + (dv + nv) * ev) * torch.rsqrt(squared + own) * 0.5 + own
        edge = torch.minimum(edge, to_bisector)
    return Cells(index=number[ni], count=count, edge=edge, x=-nu, y=-nv, size=1.0 / math.sqrt(count))


def warped(draw: Draw, amount: float, frequency: float, slope: float = 5.0) -> tuple[Tensor, Tensor]:
    """The pixel grid (u, v) moved by smooth noise with a deviation of `amount` tile widths."""
    u = draw.u + amount * noise(draw, frequency, slope=slope)
    v = draw.v + amount * noise(draw, frequency, slope=slope)
    return u, v


def look_up(field: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Periodic bilinear look-up of a field [n, n] at u, v [H, W]."""
    n = field.shape[0]
    x, y = u * n - 0.5, (1.0 - v) * n - 0.5
    x0, y0 = torch.floor(x), torch.floor(y)
    fx, fy = x - x0, y - y0
    left, right = torch.remainder(x0, n).long(), torch.remainder(x0 + 1, n).long()
    top, bottom = torch.remainder(y0, n).long() * n, torch.remainder(y0 + 1, n).long() * n
    flat = field.reshape(-1)
    upper = flat[top + left] * (1 - fx) + flat[top + right] * fx
    lower = flat[bottom + left] * (1 - fx) + flat[bottom + right] * fx
    return upper * (1 - fy) + lower * fy
