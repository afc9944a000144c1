"""Metal: bare, brushed, hammered, stamped, corrugated, crumpled, painted, rusting."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gonio.data.procedural.draw import Draw
from gonio.data.procedural.noise import blur, coverage, noise, voronoi, warped
from gonio.data.procedural.patterns import bond, box_edge, strokes
from gonio.data.procedural.surface import Family, Style, Surface, mix, palette, shade, smoothstep


def _rust_color(draw: Draw, spread: Tensor) -> Tensor:
    """From dark iron oxide to orange bloom along spread in [0, 1]: [n, n, 3] linear."""
    dark = torch.tensor([0.05, 0.018, 0.01]) * draw.uniform(0.7, 1.6)
    bright = torch.tensor([0.36, 0.12, 0.03]) * draw.uniform(0.6, 1.3)
    return mix(dark, bright, spread)


def rust(draw: Draw, style: Style) -> Surface:
    """Paint or (where the style is metal) bare metal with rust breaking through."""
    big = noise(draw, draw.log_uniform(2, 8), slope=draw.uniform(1.6, 2.6))
    fine = noise(draw, 40, slope=1.3)
    drips = noise(draw, 10, slope=1.8, stretch=6, angle=math.pi / 2)
    field = coverage((big + 0.35 * fine + draw.choice((0.0, 0.7)) * drips) / 1.1)
    amount = draw.uniform(0.15, 0.48)
    edge = draw.log_uniform(0.02, 0.2)
    rusty = smoothstep(1 - amount - edge, 1 - amount + edge, field)
    halo = smoothstep(1 - amount - 0.25, 1 - amount, field) * (1 - rusty)
    scale = coverage(noise(draw, 25, slope=1.6))
    top = shade(style.rgb(draw), 0.06 * big - 0.1 * fine.clamp_min(0))
    top = mix(top, torch.tensor([0.22, 0.09, 0.035]), halo * draw.uniform(0.1, 0.5))
    paint = draw.uniform(0.0, 0.6) if not style.metallic else 0.0
    bubbles = smoothstep(0.0, 1.0, halo) * paint
    height = (1 - rusty) * (0.6 * paint + 0.4) + bubbles + rusty * (0.35 * scale + 0.12 * fine) + 0.02 * fine
    rough = style.roughness * (1 + 0.12 * fine) * (1 - rusty) + rusty * (0.7 + 0.25 * scale) + 0.15 * halo
    metal = (1 - rusty) * (1 - 0.5 * halo) if style.metallic else rusty * smoothstep(0.75, 0.95, 1 - scale)
    return Surface(
        height=height,
        relief=draw.log_uniform(0.001, 0.02),
        basecolor=mix(top, _rust_color(draw, scale), rusty),
        roughness=rough,
        pattern="rust patches",
        metallic=metal,
        adjectives=("rusty", "corroded"),
    )


def peeling_paint(draw: Draw, style: Style) -> Surface:
    n = draw.even(4, 14)
    u, v = warped(draw, 0.3 / n, n, slope=2.2)
    cells = voronoi(draw, u, v, (n, n), jitter=0.85, stagger=True)
    patch = coverage(noise(draw, draw.uniform(2, 6), slope=2.0))
    lost = draw.uniform(0.1, 0.4)
    gone = smoothstep(
        1 - lost - 0.02, 1 - lost + 0.02, 0.75 * patch + 0.25 * draw.per_cell(cells.count, cells.index)
    )
    crack = 1 - smoothstep(0.006 / n, max(0.03 / n, 1.2 * draw.pixel), cells.edge)
    crack = crack * smoothstep(0.35, 0.7, patch)
    curl = smoothstep(0.25 / n, 0.0, cells.edge) * smoothstep(1 - lost - 0.35, 1 - lost, patch)
    under_kind = draw.choice(("metal", "wood", "plaster", "undercoat"))
    grain = noise(draw, 30, slope=1.5, stretch=12 if under_kind == "wood" else 1)
    under = {
        "metal": torch.tensor([0.35, 0.34, 0.33]),
        "wood": torch.tensor([0.2, 0.12, 0.06]),
        "plaster": torch.tensor([0.5, 0.47, 0.42]),
        "undercoat": style.second_rgb(draw),
    }[under_kind]
    below = shade(under, 0.25 * grain)
    rusty = coverage(noise(draw, 12, slope=1.6))
    if under_kind == "metal":
        below = mix(below, _rust_color(draw, rusty), smoothstep(0.3, 0.6, rusty))
    bare = torch.maximum(gone, 0.8 * crack)
    coat = shade(style.rgb(draw), 0.07 * noise(draw, 5) - 0.15 * curl)
    metal = bare * (1 - smoothstep(0.3, 0.6, rusty)) if under_kind == "metal" else torch.zeros_like(bare)
    height = (1 - bare) * (1 + 0.8 * curl) + 0.08 * grain * bare + 0.03 * noise(draw, 20)
    rough = style.roughness * (1 - bare) + bare * (0.75 + 0.05 * grain)
    if style.metallic:
        metal = torch.maximum(metal, 1 - bare)
    return Surface(
        height=height,
        relief=draw.log_uniform(0.002, 0.02),
        basecolor=mix(coat, below, bare),
        roughness=rough,
        pattern="flaking paint",
        metallic=metal,
        adjectives=("peeling", "chipped"),
    )


def brushed_metal(draw: Draw, style: Style) -> Surface:
    angle = draw.choice((0.0, math.pi / 2, draw.uniform(0, math.pi)))
    circular = draw.chance(0.15)
    lines = noise(draw, 60, slope=1.0, stretch=draw.log_uniform(8, 60), angle=angle)
    if circular:
        n = draw.integer(1, 4)
        x = torch.remainder(draw.u * n, 1.0) - 0.5
        y = torch.remainder(draw.v * n, 1.0) - 0.5
        radius = torch.sqrt(x * x + y * y)
        profile = draw.normal(96)
        place = radius * 130
        index = place.floor().long().clamp(0, 94)
        lines = profile[index] + (profile[index + 1] - profile[index]) * (place - index)
    scratched = draw.chance(0.5)
    height = lines
    rough = style.roughness * (1 + 0.15 * lines)
    color = shade(style.rgb(draw), 0.05 * lines + 0.05 * noise(draw, 3))
    if scratched:
        cuts = strokes(draw, draw.integer(40, 400), length=draw.uniform(0.1, 0.5), width=0.002, curl=0.15)
        cut = (cuts["index"] >= 0).float() * cuts["z"]
        cut = blur(cut, 0.6 * draw.pixel)
        height, rough = height - 5 * cut, rough + 0.25 * cut
        color = shade(color, 0.25 * cut)
    smudge = smoothstep(0.55, 0.9, coverage(noise(draw, 5, slope=2.0)))
    rough = rough + draw.uniform(0.0, 0.2) * smudge
    return Surface(
        height=height,
        relief=draw.log_uniform(0.0002, 0.003),
        basecolor=color,
        roughness=rough,
        pattern="scratches" if scratched else "brush lines",
        adjectives=("scratched",) if scratched else ("brushed",),
    )


def hammered_metal(draw: Draw, style: Style) -> Surface:
    n = draw.even(4, 18)
    u, v = warped(draw, 0.05 / n, n)
    cells = voronoi(draw, u, v, (n, n), jitter=draw.uniform(0.3, 0.85), stagger=True)
    distance = (cells.x**2 + cells.y**2) / cells.size**2
    height = (2.0 * distance).clamp_max(1.4) * draw.choice((1.0, 1.0, -1.0))
    height = blur(height, 0.04 / n) + 0.1 * draw.per_cell(cells.count, cells.index) + 0.1 * noise(draw, 3)
    tarnish = smoothstep(0.5, 0.95, coverage(noise(draw, 6, slope=1.8)))
    amount = draw.uniform(0, 1.0)
    color = shade(style.rgb(draw), -0.5 * amount * tarnish + 0.03 * noise(draw, 40))
    return Surface(
        height=blur(height, 0.002),
        relief=draw.log_uniform(0.05, 0.35) / n,
        basecolor=color,
        roughness=style.roughness + 0.25 * amount * tarnish,
        pattern="hammer marks",
        adjectives=("hammered",),
    )


def stamped_metal(draw: Draw, style: Style) -> Surface:
    kind = draw.choice(("diamond plate", "perforated", "rivets", "studs", "grating", "five-bar plate"))
    n = draw.even(4, 12)
    a, b = draw.u * n, draw.v * n
    i, j = torch.floor(a), torch.floor(b)
    x, y = a - i - 0.5, b - j - 0.5
    odd = torch.remainder(i + j, 2) == 1
    soft = max(0.06, 1.5 * draw.pixel * n)
    hole = torch.zeros_like(x)
    if kind in ("diamond plate", "five-bar plate"):
        p, q = torch.where(odd, x + y, x - y) * 0.7071, torch.where(odd, x - y, x + y) * 0.7071
        if kind == "five-bar plate":
            q = (torch.remainder(q * 3.0 + 0.5, 1.0) - 0.5) / 3.0 + 10.0 * (q.abs() > 0.5)
            body = box_edge(p, q, 0.42, 0.1, 0.1)
        else:
            body = 0.14 - torch.sqrt((p * 0.32) ** 2 + q * q + 1e-6)
        height = smoothstep(-soft * 0.5, soft * 1.5, body)
    elif kind == "perforated":
        stagger = draw.chance(0.5)
        xs = torch.remainder(a + 0.5 * torch.remainder(j, 2), 1.0) - 0.5 if stagger else x
        edge = draw.uniform(0.2, 0.38) - torch.sqrt(xs * xs + y * y)
        hole = smoothstep(-0.3 * soft, 0.7 * soft, edge)
        height = 1 - hole
    elif kind == "grating":
        edge = box_edge(x, y, draw.uniform(0.25, 0.4), draw.uniform(0.25, 0.4), 0.05)
        hole = smoothstep(-0.3 * soft, 0.7 * soft, edge)
        height = 1 - hole + 0.3 * smoothstep(0.0, 0.2, -edge)
    elif kind == "rivets":
        plates = bond(draw, draw.u, draw.v, draw.choice(("running", "stack")), draw.even(2, 4), 2, 0.01)
        seam = smoothstep(0.0, 0.008, plates.edge - 0.5 * draw.pixel)
        spacing = 16
        along = torch.where(plates.x.abs() > plates.y.abs(), draw.v, draw.u)
        t = torch.remainder(along * spacing, 1.0) - 0.5
        distance = torch.sqrt((t / spacing) ** 2 + (plates.edge - 0.025) ** 2)
        dome = torch.sqrt((1 - (distance / 0.013) ** 2).clamp_min(0.0))
        height = seam + 0.8 * dome + 0.3 * plates.index.remainder(2)
    else:
        r = draw.uniform(0.2, 0.45)
        dome = (1 - (x * x + y * y) / (r * r)).clamp_min(0.0)
        height = torch.sqrt(dome) if draw.chance(0.5) else smoothstep(0.0, 0.3, dome)
    worn = smoothstep(0.45, 0.8, coverage(noise(draw, 6, slope=1.7)))
    grit = noise(draw, 50, slope=1.3)
    dirt = worn * (1 - height.clamp(0, 1)) * draw.uniform(0.0, 1.0)
    color = shade(style.rgb(draw), 0.05 * grit - 0.8 * dirt)
    color = mix(color, torch.tensor([0.012, 0.012, 0.012]), hole)
    metal = (1 - hole) * (1 - 0.6 * dirt)
    painted = not style.metallic
    if painted:  # paint rubbed off the raised parts
        bare = (
            smoothstep(0.6, 0.95, height)
            * smoothstep(0.5, 0.9, coverage(noise(draw, 9, slope=1.5)))
            * draw.choice((0.0, 0.9))
        )
        color, metal = mix(color, torch.tensor([0.5, 0.49, 0.47]), bare), bare
    rough = style.roughness + 0.04 * grit + 0.3 * dirt + 0.4 * hole
    return Surface(
        height=height + 0.01 * grit,
        relief=draw.log_uniform(0.02, 0.3) / n,
        basecolor=color,
        roughness=rough,
        pattern=kind,
        metallic=metal,
        adjectives=("industrial",),
    )


def corrugated_metal(draw: Draw, style: Style) -> Surface:
    n = draw.integer(4, 14)
    phase = draw.u * n + 0.02 * noise(draw, 3)
    wave = torch.sin(2 * math.pi * phase)
    kind = draw.choice(("sine", "box", "seam"))
    if kind == "box":
        wave = torch.tanh(draw.uniform(2, 4) * wave)
    elif kind == "seam":
        wave = 1 - 2 * smoothstep(0.06, 0.14, (torch.remainder(phase, 1.0) - 0.5).abs())
    dents = noise(draw, 4, slope=3.5)
    streak = coverage(noise(draw, 12, slope=1.8, stretch=6, angle=math.pi / 2))
    rusty = smoothstep(0.75, 0.95, streak) * draw.choice((0.0, 0.5, 1.0))
    spangle = noise(draw, 30, slope=2.0)
    color = mix(
        shade(style.rgb(draw), 0.08 * spangle - 0.15 * (streak - 0.5)),
        _rust_color(draw, coverage(spangle)),
        rusty,
    )
    metal = (1 - rusty) if style.metallic else torch.zeros_like(rusty)
    height = wave + 0.15 * draw.uniform(0, 1) * dents + 0.01 * spangle
    return Surface(
        height=height,
        relief=draw.log_uniform(0.08, 0.5) / n,
        basecolor=color,
        roughness=style.roughness + 0.05 * spangle + 0.4 * rusty,
        pattern="corrugation",
        metallic=metal,
        adjectives=("corrugated",),
    )


def foil(draw: Draw, style: Style) -> Surface:
    """Crumpled sheet: flat facets meeting in sharp folds, as the maximum of many tilted planes."""
    n = draw.even(2, 8)
    total = torch.zeros(draw.n, draw.n)
    for level in range(3):
        m = n * 2**level
        u, v = warped(draw, 0.08 / m, m * 0.6)
        cells = voronoi(draw, u, v, (m, m), jitter=0.9, stagger=True)
        slopes = draw.normal(cells.count, 2)[cells.index]
        facet = (slopes[..., 0] * cells.x + slopes[..., 1] * cells.y) / cells.size
        total = total + 0.55**level * (0.5 * facet + draw.uniform(0.4, 1.2) * cells.edge / cells.size)
        if level == 1 and draw.chance(0.5):
            break
    height = blur(total, 0.0015) + 0.1 * noise(draw, 2)
    color = shade(style.rgb(draw), 0.05 * noise(draw, 6))
    return Surface(
        height=height,
        relief=draw.log_uniform(0.01, 0.06),
        basecolor=color,
        roughness=style.roughness + 0.02 * noise(draw, 12),
        pattern="creases",
        adjectives=("crumpled", "wrinkled"),
    )


def ornament(draw: Draw, style: Style) -> Surface:
    """Metal inlaid in a dielectric ground, or the reverse: veins, rings, lattices of gold in lacquer."""
    n = draw.even(2, 8)
    x = torch.remainder(draw.u * n, 1.0) - 0.5
    y = torch.remainder(draw.v * n, 1.0) - 0.5
    r, phi = torch.sqrt(x * x + y * y), torch.atan2(y, x)
    kind = draw.choice(("rosette", "kintsugi", "lattice", "waves"))
    if kind == "rosette":
        petals = draw.integer(4, 10)
        line = torch.minimum((r - 0.3 - 0.1 * torch.cos(petals * phi)).abs(), (r - 0.12).abs())
    elif kind == "kintsugi":
        u, v = warped(draw, 0.12 / n, n * 1.5, slope=3.5)
        line = voronoi(draw, u, v, (n, n), jitter=0.85, stagger=True).edge * n
    elif kind == "lattice":
        line = torch.minimum(
            (torch.remainder(x + y, 0.5) - 0.25).abs(), (torch.remainder(x - y, 0.5) - 0.25).abs()
        )
    else:
        line = (torch.remainder(draw.v * n * 2 + 0.35 * torch.sin(2 * math.pi * n * draw.u), 1.0) - 0.5).abs()
    width = draw.uniform(0.02, 0.09)
    soft = max(0.02, 1.2 * draw.pixel * n)
    inlay = 1 - smoothstep(width - soft * 0.5, width + soft, line)
    gold = torch.tensor(draw.choice(((0.9, 0.6, 0.22), (0.85, 0.84, 0.82), (0.8, 0.4, 0.25))))
    if style.metallic:
        ground, inlay_color, metal = style.rgb(draw), style.second_rgb(draw), 1 - inlay
    else:
        ground, inlay_color, metal = style.rgb(draw), gold, inlay
    grain = noise(draw, 20, slope=1.5)
    rough = style.roughness * (1 - inlay) + draw.uniform(0.1, 0.45) * inlay + 0.02 * grain
    return Surface(
        height=draw.choice((1.0, -1.0, 0.2)) * inlay + 0.05 * grain,
        relief=draw.log_uniform(0.001, 0.02),
        basecolor=mix(shade(ground, 0.06 * grain), palette(draw, inlay_color, 0.05, 1)[0], inlay),
        roughness=rough,
        pattern=f"{kind} inlay",
        metallic=metal,
        adjectives=("ornate",),
    )


BARE = ("silver", "silver", "gold", "copper", "grey", "black")
PAINTS = ("white", "red", "blue", "green", "yellow", "teal", "grey", "orange", "black", "beige")
FAMILIES = {
    "rust": Family(
        generate=rust,
        nouns=("rusty metal", "corroded metal", "rusted steel"),
        metal=0.5,
        weathering=0.2,
        colors=PAINTS,
        roughness=(0.2, 0.7),
    ),
    "peeling_paint": Family(
        generate=peeling_paint,
        nouns=("peeling paint", "flaking painted surface"),
        metal=0.05,
        weathering=0.3,
        colors=PAINTS,
        roughness=(0.2, 0.7),
    ),
    "brushed_metal": Family(
        generate=brushed_metal,
        nouns=("brushed metal", "scratched metal", "metal sheet"),
        metal=0.9,
        weathering=0.25,
        colors=BARE,
        roughness=(0.08, 0.5),
    ),
    "hammered_metal": Family(
        generate=hammered_metal,
        nouns=("hammered metal", "beaten metal"),
        metal=0.9,
        weathering=0.3,
        colors=BARE,
        roughness=(0.05, 0.45),
    ),
    "stamped_metal": Family(
        generate=stamped_metal,
        nouns=("metal plate", "stamped metal"),
        metal=0.65,
        colors=PAINTS,
        roughness=(0.12, 0.6),
    ),
    "corrugated_metal": Family(
        generate=corrugated_metal,
        nouns=("corrugated metal", "corrugated sheet"),
        metal=0.6,
        colors=PAINTS,
        roughness=(0.15, 0.6),
    ),
    "foil": Family(
        generate=foil,
        nouns=("crumpled foil", "wrinkled sheet"),
        metal=0.6,
        weathering=0.1,
        colors=("white", "beige", "brown", "red", "blue", "black"),
        roughness=(0.06, 0.6),
    ),
    "ornament": Family(
        generate=ornament,
        nouns=("inlaid lacquer", "ornamental inlay"),
        metal=0.3,
        weathering=0.2,
        colors=("black", "red", "white", "green", "blue", "purple"),
        roughness=(0.06, 0.5),
    ),
}
