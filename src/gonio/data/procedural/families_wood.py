"""Wood in all states: smooth boards, floors, weathered planks, bark."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gonio.data.procedural.draw import Draw
from gonio.data.procedural.noise import Cells, blur, coverage, look_up, noise, voronoi, warped
from gonio.data.procedural.patterns import basket, boards, herringbone
from gonio.data.procedural.surface import Family, Style, Surface, mix, palette, shade, smoothstep


def _grain(draw: Draw, rings: float, knots: int) -> tuple[Tensor, Tensor, Tensor]:
    """Wood, fibres along u: (ring phase in [0, 1], fibre noise of unit deviation, knot mask), each [n, n].

    The rings are level lines of a smooth field drawn out along the fibres; a knot pushes the lines apart.
    """
    field = 0.35 * noise(draw, 3, slope=3.0, stretch=draw.uniform(4, 12))
    knot = torch.zeros(draw.n, draw.n)
    for _ in range(knots):
        cx, cy, r = draw.uniform(), draw.uniform(), draw.uniform(0.012, 0.04)
        dx = torch.remainder(draw.u - cx + 0.5, 1.0) - 0.5
        dy = torch.remainder(draw.v - cy + 0.5, 1.0) - 0.5
        distance = torch.sqrt((dx / 1.6) ** 2 + dy * dy) / r
        field = field + draw.uniform(0.8, 2.0) * torch.exp(-0.35 * distance) * torch.sign(dy + 1e-9).abs()
        knot = torch.maximum(knot, torch.exp(-((distance / 1.1) ** 4)))
    # A sine through v closes the tile; a straight ramp of whole rings would too, but looks ruled.
    level = field * rings * 0.35 + draw.v * round(rings * draw.uniform(0.0, 1.0))
    saw = torch.remainder(level, 1.0)
    phase = smoothstep(0.0, 0.8, saw) * (1 - smoothstep(0.85, 1.0, saw))
    fibre = noise(draw, 45, slope=1.3, stretch=draw.uniform(15, 40))
    return phase, fibre, knot


def wood(draw: Draw, style: Style) -> Surface:
    phase, fibre, knot = _grain(draw, draw.log_uniform(3, 14), draw.choice((0, 0, 1, 2, 4)))
    pores = smoothstep(0.82, 0.95, coverage(noise(draw, 70, slope=1.5, stretch=18)))
    cloud = noise(draw, 2, slope=3.0, stretch=3)
    dark = draw.uniform(0.15, 0.7)
    stops = -dark * phase + 0.14 * fibre + 0.12 * cloud - 0.5 * pores - 1.1 * knot
    color = shade(style.rgb(draw) * math.exp(0.4 * dark), stops)
    height = -0.3 * phase + 0.25 * fibre - 0.8 * pores - 0.4 * knot
    rough = style.roughness + 0.08 * pores + 0.06 * phase + 0.02 * fibre
    return _turned(
        draw,
        Surface(
            height=height,
            relief=draw.log_uniform(0.0005, 0.01),
            basecolor=color,
            roughness=rough,
            pattern="grain",
            adjectives=("knotty",) if float(knot.max()) > 0.5 else ("fine-grained",),
        ),
    )


def _turned(draw: Draw, surface: Surface) -> Surface:
    """The same surface, half of the time with its fibres upright."""
    if draw.chance(0.5):
        return surface

    def turn(field: Tensor) -> Tensor:
        return torch.rot90(field, 1, (0, 1))

    metallic = None if surface.metallic is None else turn(surface.metallic)
    return Surface(
        height=turn(surface.height),
        relief=surface.relief,
        basecolor=turn(surface.basecolor),
        roughness=turn(surface.roughness),
        metallic=metallic,
        pattern=surface.pattern,
        adjectives=surface.adjectives,
    )


def _on_cells(draw: Draw, cells: Cells, fields: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Read every field through a shift of its own per element (and across for turned elements)."""
    du, dv = draw.rand(cells.count)[cells.index], draw.rand(cells.count)[cells.index]
    u, v = draw.u + du, draw.v + dv
    if cells.turned is not None:
        u, v = torch.where(cells.turned, draw.v + du, u), torch.where(cells.turned, draw.u + dv, v)
    return tuple(look_up(field, u, v) for field in fields)


def _laid(draw: Draw, style: Style, cells: Cells, gap: float, wear: float) -> tuple[Surface, Tensor]:
    phase, fibre, knot = _grain(draw, draw.log_uniform(4, 16), draw.choice((0, 1, 3)))
    phase, fibre, knot = _on_cells(draw, cells, (phase, fibre, knot))
    bevel = max(1.2 * gap, 1.5 * draw.pixel)
    body = smoothstep(gap, gap + bevel, cells.edge + 0.4 * wear * gap * noise(draw, 20).clamp(-2, 2))
    lift = draw.rand(cells.count)[cells.index] - 0.5
    dark = draw.uniform(0.15, 0.6)
    face = palette(draw, style.rgb(draw), draw.uniform(0.04, 0.3), cells.count)[cells.index] * math.exp(
        0.3 * dark
    )
    cracks = smoothstep(0.9, 0.97, coverage(noise(draw, 30, slope=1.6, stretch=25))) * min(1.0, wear)
    if cells.turned is not None:
        cracks = cracks * 0.0
    stops = -dark * phase + (0.12 + 0.1 * wear) * fibre - 1.1 * knot - 1.2 * cracks
    color = mix(torch.tensor([0.012, 0.01, 0.008]), shade(face, stops), body)
    height = body * (1 + 0.25 * lift + (0.04 + 0.1 * wear) * fibre - 0.1 * wear * phase - 0.5 * cracks)
    rough = style.roughness + 0.05 * phase + 0.03 * fibre + 0.2 * (1 - body) + 0.1 * cracks
    return Surface(height=height, relief=0.01, basecolor=color, roughness=rough, pattern="boards"), body


def planks(draw: Draw, style: Style) -> Surface:
    rows, per_row = draw.integer(3, 10), draw.integer(1, 3)
    u, v = warped(draw, draw.log_uniform(0.0005, 0.004), 3.0)
    cells = boards(draw, u, v, rows, per_row)
    wear = draw.choice((0.0, 0.4, 1.2))
    surface, body = _laid(draw, style, cells, max(draw.uniform(0.008, 0.05) / rows, 0.7 * draw.pixel), wear)
    height, color, rough = surface.height, surface.basecolor, surface.roughness
    metallic = torch.zeros_like(height)
    if draw.chance(0.5):  # two nails near each end of every board
        half = 0.5 / rows
        for side in (-0.5, 0.5):
            distance = torch.sqrt((cells.y - side * half) ** 2 + (cells.x.abs() - 0.38 / per_row) ** 2)
            r = max(0.05 / rows, 1.2 * draw.pixel)
            nail = 1 - smoothstep(r * 0.7, r * 1.2, distance)
            color = mix(color, torch.tensor([0.08, 0.06, 0.05]), nail)
            height, metallic = height - 0.3 * nail, torch.maximum(metallic, nail)
            rough = rough * (1 - nail) + 0.4 * nail
    return _turned(
        draw,
        Surface(
            height=height,
            relief=draw.log_uniform(0.02, 0.2) / rows,
            basecolor=color,
            roughness=rough,
            metallic=None if style.metallic else metallic,
            pattern="planks",
            adjectives=("weathered",) if wear > 1 else (),
        ),
    )


def parquet(draw: Draw, style: Style) -> Surface:
    if draw.chance(0.6):
        n = draw.integer(1, 3)
        cells, kind = herringbone(draw.u, draw.v, n, draw.chance(0.5)), "herringbone"
        size = 0.25 / n
    else:
        n = draw.even(2, 6)
        cells, kind = basket(draw.u, draw.v, n, draw.integer(3, 6)), "basketweave"
        size = 0.3 / n
    surface, _ = _laid(draw, style, cells, max(0.015 * size, 0.5 * draw.pixel), 0.0)
    return Surface(
        height=surface.height,
        relief=draw.log_uniform(0.003, 0.05) * size,
        basecolor=surface.basecolor,
        roughness=surface.roughness,
        pattern=f"{kind} parquet",
        adjectives=("patterned", "wooden"),
    )


def bark(draw: Draw, style: Style) -> Surface:
    columns = draw.integer(5, 13)
    stretch = draw.uniform(1.6, 5.0)
    rows = max(2, 2 * round(columns / stretch / 2))
    up = math.pi / 2
    u = draw.u + 0.25 / columns * noise(draw, columns * 0.8, slope=4.0, stretch=stretch, angle=up)
    v = draw.v + 0.15 / rows * noise(draw, columns * 0.8, slope=4.0)
    # Stretched space, so that the distance to a crevice is measured across the ridges.
    cells = voronoi(draw, u, v, (rows, columns), jitter=0.9, stagger=True, squash=rows / columns)
    ragged = 0.04 / columns * noise(draw, 30, slope=1.6, stretch=3.0, angle=up)
    crevice = smoothstep(0.0, draw.uniform(0.15, 0.4) / columns, cells.edge + ragged)
    flakes = (
        1
        - noise(draw, columns * 1.5, slope=2.2, stretch=draw.uniform(2, 5), angle=up).abs().clamp_max(1.5)
        / 1.5
    )
    fibre = noise(draw, columns * 4, slope=1.6, stretch=draw.uniform(2, 6), angle=up)
    lift = draw.per_cell(cells.count, cells.index)
    height = crevice * (0.7 + 0.3 * lift + 0.5 * flakes) + 0.1 * fibre
    moss = smoothstep(0.8, 1.0, coverage(noise(draw, 4))) * draw.choice((0.0, 0.0, 0.7))
    face = shade(
        palette(draw, style.rgb(draw), 0.15, cells.count)[cells.index], 0.22 * fibre + 0.5 * (flakes - 0.4)
    )
    color = shade(mix(face, torch.tensor([0.12, 0.17, 0.04]), moss), -1.3 * (1 - crevice))
    return Surface(
        height=blur(height, 0.0015),
        relief=draw.log_uniform(0.01, 0.07),
        basecolor=color,
        roughness=style.roughness + 0.05 * fibre,
        pattern="bark ridges",
        adjectives=("craggy",),
    )


FAMILIES = {
    "wood": Family(
        generate=wood,
        nouns=("wood", "wooden board", "timber"),
        weathering=0.3,
        roughness=(0.1, 0.75),
        colors=("brown", "brown", "beige", "orange", "black", "grey"),
    ),
    "planks": Family(
        generate=planks,
        nouns=("wooden planks", "wood boards", "plank floor"),
        roughness=(0.2, 0.9),
        colors=("brown", "brown", "beige", "grey", "orange", "white", "red", "teal"),
    ),
    "parquet": Family(
        generate=parquet,
        nouns=("parquet floor", "wood parquet"),
        weathering=0.3,
        roughness=(0.08, 0.6),
        colors=("brown", "brown", "beige", "orange", "black"),
    ),
    "bark": Family(
        generate=bark,
        nouns=("tree bark", "bark"),
        weathering=0.2,
        roughness=(0.65, 1.0),
        colors=("brown", "brown", "grey", "beige", "black", "olive"),
    ),
}
