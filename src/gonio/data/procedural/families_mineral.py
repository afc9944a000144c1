"""Stone and cast matter: rock, slate, marble, granite, concrete, plaster, asphalt."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gonio.data.procedural.draw import Draw
from gonio.data.procedural.noise import blur, coverage, look_up, noise, ridged, voronoi, warped
from gonio.data.procedural.surface import Family, Style, Surface, mix, palette, shade, smoothstep


def rock(draw: Draw, style: Style) -> Surface:
    kind = draw.choice(("craggy", "cracked", "layered", "pitted"))
    crags = ridged(draw, draw.uniform(1.5, 4), 6, gain=draw.uniform(0.45, 0.65))
    body = noise(draw, draw.uniform(1.5, 4), slope=draw.uniform(1.9, 2.6))
    fine = noise(draw, 40, slope=1.2)
    height = 0.35 * body + draw.uniform(0.3, 1.0) * crags + 0.04 * fine
    cavity = torch.zeros_like(height)
    if kind == "cracked":
        n = draw.even(2, 7)
        u, v = warped(draw, 0.12 / n, n * 1.5, slope=3.0)
        cells = voronoi(draw, u, v, (n, n), jitter=0.85, stagger=True)
        cavity = 1 - smoothstep(0.0, 0.06 / n + draw.pixel, cells.edge)
        height = height + 0.5 * draw.per_cell(cells.count, cells.index) - 0.6 * cavity
    elif kind == "layered":
        layers = draw.integer(5, 14)
        level = draw.v * layers + 0.5 * noise(draw, 3, slope=2.2)
        saw = torch.remainder(level, 1.0)
        step = draw.rand(layers)[torch.remainder(torch.floor(level), layers).long()]
        height = 0.5 * height + 0.5 * step + 0.6 * smoothstep(0.0, 0.2, saw) * (1 - 0.5 * saw)
        cavity = 1 - smoothstep(0.0, 0.12, saw)
    elif kind == "pitted":
        n = draw.even(10, 30)
        u, v = warped(draw, 0.2 / n, n)
        cells = voronoi(draw, u, v, (n, n), jitter=0.85, stagger=True)
        radius = 0.4 * draw.per_cell(cells.count, cells.index) / n
        cavity = 1 - smoothstep(0.6 * radius, radius + 0.5 * draw.pixel, torch.sqrt(cells.x**2 + cells.y**2))
        height = height - 0.7 * cavity
    stain = smoothstep(0.55, 0.9, coverage(noise(draw, 4, slope=1.8)))
    stops = draw.uniform(0.2, 0.9) * (crags - 0.4) + 0.12 * fine - 0.8 * cavity + 0.15 * body
    color = mix(
        shade(style.rgb(draw), stops), shade(style.second_rgb(draw), stops), draw.uniform(0, 0.5) * stain
    )
    return Surface(
        height=height,
        relief=draw.log_uniform(0.008, 0.08),
        basecolor=color,
        roughness=style.roughness + 0.05 * fine - 0.1 * (crags - 0.4),
        pattern=f"{kind} rock",
        adjectives=("rugged", kind),
    )


def slate(draw: Draw, style: Style) -> Surface:
    """Split stone: terraces of a smooth field with broken edges."""
    field = noise(draw, draw.uniform(1.5, 3), slope=3.0) + 0.06 * noise(draw, 12, slope=2.0)
    terraces = draw.integer(2, 6)
    level = field * terraces * 0.5
    base = torch.floor(level)
    rise = smoothstep(0.0, draw.uniform(0.05, 0.2), level - base)
    fine = noise(draw, 35, slope=1.4, stretch=draw.choice((1.0, 5.0)), angle=draw.uniform(0, 3.1))
    height = (base + rise) / terraces + 0.02 * fine
    hue = noise(draw, 2.5, slope=2.5)
    color = shade(style.rgb(draw), 0.1 * fine + 0.12 * torch.sin(base * 2.4) - 0.5 * (1 - rise))
    color = mix(color, style.second_rgb(draw), 0.35 * smoothstep(0.7, 1.0, coverage(hue)))
    return Surface(
        height=height,
        relief=draw.log_uniform(0.004, 0.04),
        basecolor=color,
        roughness=style.roughness + 0.04 * fine + 0.1 * (1 - rise),
        pattern="cleft layers",
        adjectives=("split",),
    )


def marble(draw: Draw, style: Style) -> Surface:
    u, v = warped(draw, draw.uniform(0.01, 0.06), 4.0, slope=2.6)

    def level_lines(frequency: float, width: float) -> Tensor:
        field = look_up(
            noise(draw, frequency, slope=3.5, stretch=draw.uniform(1, 2.5), angle=angle), u, v
        ).abs()
        # The lines fade in and out along their way.
        present = smoothstep(0.25, 0.7, coverage(noise(draw, 2.5, slope=3.0)))
        return (1 - smoothstep(0.0, width, field)) * present

    angle = draw.uniform(0, math.pi)
    width = draw.log_uniform(0.05, 0.4)
    vein = torch.maximum(
        level_lines(draw.uniform(1.0, 2.5), width), 0.8 * level_lines(draw.uniform(2, 5), 0.6 * width)
    )
    fine_vein = level_lines(draw.uniform(5, 9), 0.2)
    cloud = look_up(noise(draw, 2, slope=2.0), u, v)
    main = style.rgb(draw)
    dark_ground = float(main.mean()) < 0.12
    accent = torch.tensor([0.75, 0.72, 0.66]) if dark_ground else main * draw.uniform(0.15, 0.5)
    if draw.chance(0.35):
        accent = style.second_rgb(draw)
    golden = draw.chance(0.15)
    if golden:
        accent = torch.tensor([0.85, 0.55, 0.2])
    ground = shade(main, draw.uniform(0.03, 0.3) * cloud)
    color = mix(ground, accent, (0.85 * vein + 0.35 * fine_vein).clamp(0, 1))
    metallic = vein if golden else None
    return Surface(
        height=0.2 * cloud - vein,
        relief=draw.log_uniform(0.0001, 0.002),
        basecolor=color,
        roughness=style.roughness + 0.03 * vein,
        pattern="veins",
        metallic=None if style.metallic else metallic,
        adjectives=("veined",) + (("gold-veined",) if golden else ()),
    )


def granite(draw: Draw, style: Style) -> Surface:
    n = draw.even(24, 44)
    u, v = warped(draw, 0.15 / n, n)
    cells = voronoi(draw, u, v, (n, n), jitter=0.9, stagger=True)
    main = style.rgb(draw)
    kinds = torch.stack([main, main * 0.7, main * 0.25, style.second_rgb(draw), torch.full((3,), 0.6)])
    weight = torch.tensor([0.5, 0.62, 0.78, 0.88, 1.0])
    pick = torch.searchsorted(weight, draw.rand(cells.count).clamp_max(0.999))
    cloud = noise(draw, 4, slope=2.0)
    fine = noise(draw, 80, slope=1.0)
    color = shade(kinds[pick][cells.index], 0.12 * fine + 0.12 * cloud)
    polish = draw.rand(cells.count)[cells.index]
    return Surface(
        height=0.5 * polish + 0.2 * fine,
        relief=draw.log_uniform(0.0002, 0.005),
        basecolor=color,
        roughness=style.roughness * (0.9 + 0.25 * polish),
        pattern="grains",
        adjectives=("speckled",),
    )


def concrete(draw: Draw, style: Style) -> Surface:
    cloud = noise(draw, draw.uniform(2, 5), slope=1.8)
    fine = noise(draw, 50, slope=1.2)
    n = draw.even(12, 34)
    cells = voronoi(draw, draw.u, draw.v, (n, n), jitter=0.9, stagger=True)
    chosen = draw.per_cell(cells.count, cells.index)
    radius = (0.05 + 0.3 * (1 - chosen / 0.25)).clamp_min(0.0) * (chosen < 0.25) / n
    pits = smoothstep(
        -0.05 / n - 0.5 * draw.pixel, 0.02 / n, radius - torch.sqrt(cells.x**2 + cells.y**2)
    ) * (chosen < 0.25)
    height = 0.1 * cloud + 0.08 * fine - 0.8 * pits
    adjectives: tuple[str, ...] = ("porous",)
    crack = torch.zeros_like(pits)
    if draw.chance(0.35):
        m = draw.even(2, 4)
        u, v = warped(draw, 0.2 / m, 6, slope=2.0)
        net = voronoi(draw, u, v, (m, m), jitter=0.9, stagger=True)
        crack = (1 - smoothstep(0.002, 0.004 + draw.pixel, net.edge)) * smoothstep(
            0.4, 0.6, coverage(noise(draw, 3))
        )
        adjectives = ("cracked",)
    if draw.chance(0.3):  # the print of formwork boards
        boards = draw.integer(3, 8)
        place = torch.remainder(draw.v * boards, 1.0)
        seam = 1 - smoothstep(0.01, 0.02 + draw.pixel * boards, torch.minimum(place, 1 - place))
        height = height - 0.3 * seam + 0.1 * noise(draw, 25, slope=1.5, stretch=15)
        crack = torch.maximum(crack, 0.4 * seam)
        adjectives = ("board-formed",)
    height = height - 0.9 * crack
    wet = smoothstep(0.5, 0.8, coverage(noise(draw, 3, slope=2.0))) * draw.choice((0.0, 0.0, 0.4))
    color = shade(style.rgb(draw), draw.uniform(0.05, 0.25) * cloud + 0.06 * fine - 0.5 * pits - crack - wet)
    return Surface(
        height=height,
        relief=draw.log_uniform(0.001, 0.015),
        basecolor=color,
        roughness=style.roughness + 0.04 * fine - 0.5 * wet,
        pattern="cast concrete",
        adjectives=adjectives,
    )


def plaster(draw: Draw, style: Style) -> Surface:
    kind = draw.choice(("stucco", "trowelled", "orange peel", "combed"))
    fine = noise(draw, 60, slope=1.2)
    if kind == "stucco":
        lumps = noise(draw, draw.uniform(12, 30), slope=3.0, band=True)
        height = smoothstep(-0.4, 1.4, lumps) + 0.08 * fine
    elif kind == "trowelled":
        u, v = warped(draw, 0.05, 3)
        sweep = look_up(noise(draw, 10, slope=2.0, stretch=5, angle=draw.uniform(0, 3.14)), u, v)
        height = torch.maximum(
            sweep, look_up(noise(draw, 8, slope=2.2, stretch=4, angle=draw.uniform(0, 3.14)), v, u)
        )
        height = height + 0.05 * fine
    elif kind == "combed":
        lines = draw.integer(10, 30)
        height = torch.sin(2 * math.pi * (draw.v * lines + 0.4 * noise(draw, 2, slope=3.0))) + 0.25 * fine
    else:
        height = noise(draw, draw.uniform(25, 45), slope=5.0, band=True)
    flat = (height - height.mean()) / height.std()
    cloud = noise(draw, 3, slope=1.9)
    color = shade(style.rgb(draw), 0.06 * flat.clamp(-2, 2) + draw.uniform(0.02, 0.15) * cloud + 0.03 * fine)
    return Surface(
        height=height,
        relief=draw.log_uniform(0.002, 0.02),
        basecolor=color,
        roughness=style.roughness + 0.03 * fine,
        pattern=f"{kind} plaster",
    )


def asphalt(draw: Draw, style: Style) -> Surface:
    n = draw.even(28, 50)
    cells = voronoi(draw, draw.u, draw.v, (n, n), jitter=0.9, stagger=True)
    size = draw.per_cell(cells.count, cells.index)
    dome = smoothstep(0.0, 0.4 / n, cells.edge + 0.05 / n) * (0.3 + 0.7 * size)
    fine = noise(draw, 80, slope=1.0)
    cloud = noise(draw, 3, slope=1.9)
    stone = smoothstep(0.5, 0.8, dome)
    chips = palette(draw, style.rgb(draw) * 1.3, draw.uniform(0.1, 0.5), cells.count)[cells.index]
    binder = style.rgb(draw) * 0.5
    color = shade(mix(binder.expand_as(chips), chips, stone), 0.1 * fine + 0.1 * cloud)
    height = dome + 0.1 * fine
    marking = torch.zeros_like(dome)
    if draw.chance(0.25):
        stripe = (draw.u if draw.chance(0.5) else draw.v) + 0.002 * noise(draw, 20)
        band = (torch.remainder(stripe + draw.uniform(), 1.0) - 0.5).abs()
        marking = (1 - smoothstep(0.1, 0.1 + 1.5 * draw.pixel, band)) * smoothstep(
            0.15, 0.4, coverage(noise(draw, 15, slope=1.2))
        )
        color = mix(color, torch.tensor(draw.choice(((0.75, 0.75, 0.72), (0.75, 0.5, 0.05)))), marking)
    return Surface(
        height=blur(height, 0.3 / n * 0.2),
        relief=draw.log_uniform(0.004, 0.02),
        basecolor=color,
        roughness=style.roughness + 0.04 * fine - 0.1 * marking,
        pattern="aggregate",
        adjectives=("coarse",),
    )


STONE = ("grey", "grey", "beige", "brown", "black", "white", "red")
WALLS = ("white", "beige", "grey", "yellow", "pink", "blue", "orange", "green", "red")
FAMILIES = {
    "rock": Family(
        generate=rock, nouns=("rock", "rock face", "cliff stone"), colors=STONE, roughness=(0.5, 1.0)
    ),
    "slate": Family(
        generate=slate,
        nouns=("slate", "split slate"),
        roughness=(0.25, 0.9),
        colors=("grey", "black", "blue", "brown", "green", "purple"),
    ),
    "marble": Family(
        generate=marble,
        nouns=("marble", "marble stone", "marble slab"),
        weathering=0.15,
        metal=0.01,
        colors=("white", "white", "black", "green", "beige", "grey", "pink", "red"),
        roughness=(0.04, 0.45),
    ),
    "granite": Family(
        generate=granite,
        nouns=("granite", "granite slab"),
        weathering=0.2,
        roughness=(0.08, 0.8),
        colors=("grey", "black", "pink", "white", "red", "brown", "blue"),
    ),
    "concrete": Family(
        generate=concrete,
        nouns=("concrete", "cast concrete", "cement"),
        roughness=(0.4, 0.95),
        colors=("grey", "grey", "grey", "beige", "white", "black", "brown"),
    ),
    "plaster": Family(
        generate=plaster,
        nouns=("plaster", "stucco wall", "rendered wall"),
        colors=WALLS,
        roughness=(0.45, 0.95),
    ),
    "asphalt": Family(
        generate=asphalt,
        nouns=("asphalt", "tarmac road"),
        colors=("black", "grey", "grey", "brown", "red"),
        roughness=(0.5, 1.0),
    ),
}
