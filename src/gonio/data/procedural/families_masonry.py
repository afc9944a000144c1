"""Laid elements: brick, stone walls, tiles, paving, roofs, parquet-like panels, terrazzo."""

from __future__ import annotations

import torch
from torch import Tensor

from gonio.data.procedural.draw import Draw
from gonio.data.procedural.noise import Cells, coverage, noise, ridged, voronoi, warped
from gonio.data.procedural.patterns import BONDS, basket, bond, herringbone, scales
from gonio.data.procedural.surface import Family, Style, Surface, mix, palette, shade, smoothstep


def _per_cell_color(draw: Draw, cells: Cells, main: Tensor, amount: float) -> Tensor:
    return palette(draw, main, amount, cells.count)[cells.index]


def _grout(draw: Draw, style: Style) -> Tensor:
    """The colour between the elements: a grey of any brightness, or now and then the second colour."""
    if draw.chance(0.2):
        return style.second_rgb(draw)
    grey = draw.log_uniform(0.03, 0.7)
    return torch.tensor([grey, grey * draw.uniform(0.88, 1.0), grey * draw.uniform(0.75, 1.0)])


def _tilted(draw: Draw, cells: Cells, amount: float) -> Tensor:
    """A small tilt and lift of every element [n, n], in units of the joint's depth."""
    slope_x, slope_y = draw.normal(cells.count)[cells.index], draw.normal(cells.count)[cells.index]
    lift = draw.rand(cells.count)[cells.index] - 0.5
    return amount * ((slope_x * cells.x + slope_y * cells.y) / cells.size + lift)


def brick(draw: Draw, style: Style) -> Surface:
    rows = draw.even(4, 16)
    kind = draw.choice(BONDS)
    rows = 3 * max(1, rows // 3) if kind == "third" else rows
    columns = max(1, round(rows / draw.uniform(2.0, 3.4)))
    wobble = draw.log_uniform(0.004, 0.05) / rows
    u, v = warped(draw, wobble, rows * 1.5, slope=draw.uniform(3.0, 6.0))
    cells = bond(draw, u, v, kind, rows, columns, corner=draw.uniform(0.0, 0.12) / rows)
    joint = draw.uniform(0.03, 0.12) / rows
    chips = draw.log_uniform(0.02, 0.4) * joint * noise(draw, rows * 4, slope=2.0).clamp(-2.0, 2.0)
    bevel = max(draw.uniform(0.03, 0.15) / rows, 1.5 * draw.pixel)
    body = smoothstep(joint, joint + bevel, cells.edge + chips)
    grain = noise(draw, rows * draw.uniform(3, 9), slope=draw.uniform(1.2, 2.2))
    mortar = noise(draw, 60, slope=1.5)
    height = body * (1.0 + _tilted(draw, cells, draw.uniform(0.0, 0.3)) + draw.uniform(0.02, 0.15) * grain)
    height = height + (1 - body) * 0.06 * mortar
    face = shade(_per_cell_color(draw, cells, style.rgb(draw), draw.uniform(0.03, 0.4)), 0.15 * grain)
    if draw.chance(0.4):
        burnt = smoothstep(0.7, 0.9, draw.per_cell(cells.count, cells.index))
        face = shade(face, -draw.uniform(0.3, 1.2) * burnt)
    color = mix(shade(_grout(draw, style).expand_as(face), 0.15 * mortar), face, body)
    rough = style.roughness + 0.05 * grain + 0.15 * (1 - body)
    return Surface(
        height=height,
        relief=draw.log_uniform(0.08, 0.6) / rows,
        basecolor=color,
        roughness=rough,
        pattern=f"{kind} bond",
        metallic=body if style.metallic else None,
    )


def stone_wall(draw: Draw, style: Style) -> Surface:
    rough_cut = draw.chance(0.5)
    rows = draw.even(4, 10)
    u, v = warped(draw, draw.uniform(0.02, 0.1) / rows, rows, slope=4.5)
    if rough_cut:
        cells = voronoi(
            draw, u, v, (rows, max(2, round(rows * draw.uniform(0.5, 0.9)))), jitter=0.7, stagger=True
        )
    else:
        cells = bond(draw, u, v, "random", rows, max(2, rows // 2), corner=0.15 / rows)
    joint = draw.uniform(0.03, 0.12) / rows
    bulge = smoothstep(
        joint, joint + draw.uniform(0.1, 0.4) / rows, cells.edge + 0.02 / rows * noise(draw, rows * 4)
    )
    crags = ridged(draw, rows * 1.2, 5)
    grain = noise(draw, rows * 4, slope=1.6)
    height = bulge * (1 + _tilted(draw, cells, 0.35) + draw.uniform(0.2, 0.7) * crags) + 0.05 * grain
    face = shade(
        _per_cell_color(draw, cells, style.rgb(draw), draw.uniform(0.1, 0.4)),
        0.18 * grain + 0.3 * (crags - 0.5),
    )
    color = mix(_grout(draw, style), face, smoothstep(0.05, 0.35, bulge))
    return Surface(
        height=height,
        relief=draw.log_uniform(0.15, 0.6) / rows,
        basecolor=color,
        roughness=style.roughness + 0.06 * grain,
        pattern="rubble" if rough_cut else "ashlar",
        adjectives=("rough-hewn",),
    )


def tile(draw: Draw, style: Style) -> Surface:
    kind = draw.choice(("grid", "hexagon", "herringbone", "mosaic", "basketweave", "subway", "fish-scale"))
    n = draw.integer(2, 10)
    u, v = draw.u, draw.v
    if kind == "grid":
        cells = bond(draw, u, v, "stack", n, n, corner=draw.uniform(0.0, 0.1) / n)
    elif kind == "hexagon":
        n = 2 * max(1, n // 2) + 2
        cells = voronoi(draw, u, v, (n, max(2, round(n * 0.866))), jitter=0.0, stagger=True)
    elif kind == "herringbone":
        n = draw.integer(1, 4)
        cells = herringbone(u, v, n, draw.chance(0.5))
        n *= 4
    elif kind == "mosaic":
        n = draw.integer(8, 20)
        wu, wv = warped(draw, 0.1 / n, n * 0.7)
        cells = bond(draw, wu, wv, "stack", n, n, corner=0.1 / n)
    elif kind == "basketweave":
        n = draw.even(2, 6)
        cells = basket(u, v, n, draw.integer(2, 4))
        n *= 3
    elif kind == "subway":
        n = draw.even(4, 12)
        cells = bond(draw, u, v, draw.choice(("running", "stack")), n, n // 2, corner=0.06 / n)
    else:
        n = draw.even(4, 10)
        cells = scales(draw, u, v, n, n, 1.0, 0.0)
    joint = max(draw.uniform(0.01, 0.08) / n, 0.8 * draw.pixel)
    bevel = max(draw.uniform(0.02, 0.2) / n, 1.5 * draw.pixel)
    body = smoothstep(joint, joint + bevel, cells.edge)
    pillow = smoothstep(joint, joint + 0.4 / n, cells.edge)
    wavy = noise(draw, n * 1.5, slope=4.0)
    height = (
        body * (1 + _tilted(draw, cells, draw.choice((0.0, 0.05, 0.3)))) + draw.uniform(0.0, 0.4) * pillow
    )
    height = height + draw.choice((0.0, 0.03)) * wavy
    main, second = style.rgb(draw), style.second_rgb(draw)
    face = _per_cell_color(draw, cells, main, draw.choice((0.01, 0.05, 0.3)))
    if draw.chance(0.3):
        face = mix(face, second, (draw.per_cell(cells.count, cells.index) < draw.uniform(0.1, 0.4)).float())
    if draw.chance(0.3):
        veins = smoothstep(0.75, 0.95, ridged(draw, 3, 3))
        face = mix(face, second, draw.uniform(0.2, 0.6) * veins)
    if draw.chance(0.3):  # glaze gathers in the middle of the tile
        face = shade(face, 0.35 * (pillow - 0.5))
    grout = shade(_grout(draw, style).expand_as(face), 0.12 * noise(draw, 70, slope=1.5))
    rough = style.roughness * (1 + 0.1 * wavy) * body + (1 - body) * draw.uniform(0.6, 0.95)
    return Surface(
        height=height,
        relief=draw.log_uniform(0.01, 0.25) / n,
        basecolor=mix(grout, face, body),
        roughness=rough,
        pattern=f"{kind} tiles",
        metallic=body if style.metallic else None,
    )


def paving(draw: Draw, style: Style) -> Surface:
    kind = draw.choice(("cobble", "setts", "flagstone", "pebble"))
    n = {
        "cobble": draw.even(4, 10),
        "setts": draw.even(4, 12),
        "flagstone": draw.even(2, 5),
        "pebble": draw.even(8, 16),
    }[kind]
    u, v = warped(draw, 0.04 / n, n * 1.2)
    if kind == "setts":
        cells = bond(draw, u, v, "running", n, n, corner=0.25 / n)
    else:
        cells = voronoi(draw, u, v, (n, n), jitter=draw.uniform(0.4, 0.85), stagger=True)
    joint = draw.uniform(0.03, 0.12) / n
    depth = ((cells.edge - joint) / (draw.uniform(0.12, 0.4) / n)).clamp(0.0, 1.0)
    dome = torch.sqrt(1 - (1 - depth) ** 2) if kind != "flagstone" else smoothstep(0.0, 0.5, depth)
    stone = smoothstep(0.0, max(0.1, 1.5 * draw.pixel * n), depth)
    grain = noise(draw, n * 4, slope=1.7)
    soil = noise(draw, 50, slope=1.6)
    height = dome * (1 + _tilted(draw, cells, 0.2)) + 0.04 * grain * stone + (1 - stone) * 0.08 * soil
    face = shade(
        _per_cell_color(draw, cells, style.rgb(draw), draw.uniform(0.05, 0.4)),
        0.15 * grain - 0.2 * (1 - dome),
    )
    gap = shade(_grout(draw, style).expand_as(face) * 0.6, 0.3 * soil)
    rough = style.roughness + 0.05 * grain + 0.2 * (1 - stone)
    return Surface(
        height=height,
        relief=draw.log_uniform(0.12, 0.5) / n,
        basecolor=mix(gap, face, stone),
        roughness=rough,
        pattern=kind,
        adjectives=("worn",) if draw.chance(0.4) else (),
    )


def roof(draw: Draw, style: Style) -> Surface:
    kind = draw.choice(("shingle", "scallop", "slate", "pantile", "dragon scale"))
    rows = draw.even(4, 12)
    columns = max(2, round(rows * draw.uniform(0.6, 1.3)))
    u, v = warped(draw, 0.02 / rows, rows)
    pointed = {"shingle": 0.0, "scallop": 1.0, "slate": 0.15, "pantile": 0.3, "dragon scale": 2.0}[kind]
    cells = scales(draw, u, v, rows, columns, pointed, 0.35 if kind == "shingle" else 0.0)
    size = 1.0 / rows
    across = cells.x * columns * 2.0
    slope = 1.0 - (cells.y / (2.0 * size)).clamp(0.0, 1.0)
    lip = smoothstep(0.0, max(0.06 * size, 1.5 * draw.pixel), cells.edge)
    grain = noise(draw, rows * 5, slope=1.7, stretch=draw.choice((1.0, 4.0)), angle=1.571)
    curve = {"pantile": 1.0, "dragon scale": 0.5}.get(kind, 0.0) * (1 - across * across)
    height = (slope + 0.8 * curve) * (0.55 + 0.45 * lip) + _tilted(draw, cells, 0.08) + 0.03 * grain
    face = shade(_per_cell_color(draw, cells, style.rgb(draw), draw.uniform(0.05, 0.4)), 0.18 * grain)
    color = shade(face, -1.2 * (1 - lip) - 0.5 * (1 - slope))
    return Surface(
        height=height,
        relief=draw.log_uniform(0.08, 0.45) / rows,
        basecolor=color,
        roughness=style.roughness + 0.06 * grain,
        pattern=f"{kind} roof",
    )


def terrazzo(draw: Draw, style: Style) -> Surface:
    color = style.rgb(draw).expand(draw.n, draw.n, 3)
    chips_total = torch.zeros(draw.n, draw.n)
    tints = [
        style.second_rgb(draw),
        torch.tensor([0.8, 0.78, 0.74]),
        torch.tensor([0.03, 0.03, 0.03]),
        style.rgb(draw),
    ]
    for n in (draw.even(6, 12), draw.even(16, 34)):
        u, v = warped(draw, 0.1 / n, n, slope=5.0)
        cells = voronoi(draw, u, v, (n, n), jitter=0.85, stagger=True)
        keep = draw.per_cell(cells.count, cells.index) < draw.uniform(0.2, 0.6)
        size = (0.05 + 0.3 * draw.per_cell(cells.count, cells.index)) / n
        soft = max(0.02 / n, 0.8 * draw.pixel)
        chip = smoothstep(size - soft, size + soft, cells.edge) * keep
        variants = torch.cat([palette(draw, tint, 0.25, 4) for tint in tints])
        pick = (draw.rand(cells.count) * len(variants)).long()
        color = mix(color, variants[pick][cells.index], chip)
        chips_total = torch.maximum(chips_total, chip)
    fine = noise(draw, 60, slope=1.2)
    return Surface(
        height=0.3 * chips_total + 0.1 * fine,
        relief=draw.log_uniform(0.0002, 0.003),
        basecolor=shade(color, 0.06 * fine),
        roughness=style.roughness * (1 - 0.3 * chips_total),
        pattern="chips",
        adjectives=("speckled",),
    )


def panels(draw: Draw, style: Style) -> Surface:
    """Plates cut and cut again: façades, machine hulls, circuit boards."""
    n = draw.even(2, 5)
    height, seams = torch.zeros(draw.n, draw.n), torch.ones(draw.n, draw.n)
    color = style.rgb(draw).expand(draw.n, draw.n, 3)
    tone = torch.zeros(draw.n, draw.n)
    accent = torch.zeros(draw.n, draw.n)
    for level in range(draw.integer(1, 3)):
        rows = n * 2**level
        cells = bond(
            draw, draw.u, draw.v, draw.choice(("random", "stack", "running")), rows, rows, 0.02 / rows
        )
        used = draw.per_cell(cells.count, cells.index) < (1.0 if level == 0 else draw.uniform(0.3, 0.7))
        line = smoothstep(0.02 / rows, 0.02 / rows + 1.6 * draw.pixel, cells.edge)
        body = torch.where(used, line, torch.ones_like(line))
        height = height + 0.6**level * torch.where(used, draw.per_cell(cells.count, cells.index), 0.5) * body
        seams = torch.minimum(seams, body)
        tone = tone + torch.where(used, draw.per_cell(cells.count, cells.index) - 0.5, 0.0) * draw.uniform(
            0.1, 0.5
        )
        accent = torch.maximum(accent, (used & (draw.per_cell(cells.count, cells.index) < 0.12)).float())
    color = mix(shade(color, tone), style.second_rgb(draw), accent if draw.chance(0.6) else accent * 0.0)
    rough = style.roughness * (1 + 0.5 * tone) + 0.2 * (1 - seams)
    metal = seams * (1 - accent) if style.metallic else (accent if draw.chance(0.3) else None)
    return Surface(
        height=height * seams,
        relief=draw.log_uniform(0.004, 0.04),
        basecolor=shade(color, -1.0 * (1 - seams)),
        roughness=rough + 0.02 * coverage(noise(draw, 8)),
        pattern="panels",
        metallic=metal,
    )


STONE = ("grey", "beige", "brown", "black", "white")
FAMILIES = {
    "brick": Family(
        generate=brick,
        nouns=("brick wall", "bricks", "brickwork"),
        metal=0.02,
        colors=("red", "brown", "orange", "beige", "white", "grey", "red"),
        roughness=(0.5, 0.95),
    ),
    "stone_wall": Family(
        generate=stone_wall, nouns=("stone wall", "stone masonry"), colors=STONE, roughness=(0.5, 0.95)
    ),
    "tile": Family(
        generate=tile,
        nouns=("ceramic tiles", "tiled floor", "glazed tiles"),
        metal=0.05,
        colors=("white", "beige", "blue", "teal", "black", "grey", "green"),
        roughness=(0.05, 0.6),
    ),
    "paving": Family(
        generate=paving,
        nouns=("paving stones", "cobblestones", "stone pavement"),
        colors=STONE,
        roughness=(0.35, 0.95),
    ),
    "roof": Family(
        generate=roof,
        nouns=("roof tiles", "roof shingles", "overlapping scales"),
        metal=0.08,
        colors=("red", "orange", "brown", "grey", "black", "teal"),
        roughness=(0.25, 0.95),
    ),
    "terrazzo": Family(
        generate=terrazzo,
        nouns=("terrazzo", "terrazzo floor"),
        weathering=0.2,
        colors=("white", "beige", "grey", "black", "pink", "green"),
        roughness=(0.06, 0.5),
    ),
    "panels": Family(
        generate=panels,
        nouns=("panels", "hull plating", "facade panels"),
        metal=0.5,
        colors=("grey", "white", "black", "blue", "green", "orange"),
        roughness=(0.12, 0.7),
    ),
}
