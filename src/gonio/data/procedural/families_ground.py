"""What lies under the open sky: soil, gravel, sand, snow, ice, moss, grass, leaves."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gonio.data.procedural.draw import Draw
from gonio.data.procedural.noise import blur, coverage, noise, ridged, voronoi, warped
from gonio.data.procedural.patterns import strokes
from gonio.data.procedural.surface import Family, Style, Surface, mix, palette, shade, smoothstep


def _stones(draw: Draw, n: int, share: float, main: Tensor, spread: float) -> tuple[Tensor, Tensor, Tensor]:
    """Scattered rounded stones of one size: (dome height in [0, 1], mask, colour [n, n, 3])."""
    u, v = warped(draw, 0.05 / n, n * 1.5)
    cells = voronoi(draw, u, v, (n, n), jitter=0.85, stagger=True)
    keep = draw.per_cell(cells.count, cells.index) < share
    inset = draw.per_cell(cells.count, cells.index) * 0.2 / n
    depth = ((cells.edge - inset) / (0.28 / n)).clamp(0.0, 1.0) * keep
    dome = torch.sqrt((1 - (1 - depth) ** 2).clamp_min(0.0)) * (
        0.5 + 0.5 * draw.per_cell(cells.count, cells.index)
    )
    return dome, smoothstep(0.02, 0.2, depth), palette(draw, main, spread, cells.count)[cells.index]


def gravel(draw: Draw, style: Style) -> Surface:
    main = style.rgb(draw)
    spread = draw.uniform(0.1, 0.5)
    fine = noise(draw, 70, slope=1.1)
    height = 0.08 * fine
    color = shade((main * 0.35).expand(draw.n, draw.n, 3), 0.25 * fine)
    covered = torch.zeros_like(fine)
    coarse = draw.even(6, 20)
    for n in (coarse, 2 * coarse, min(48, 4 * coarse)):
        dome, mask, tint = _stones(draw, n, draw.uniform(0.5, 1.0), main, spread)
        raised = dome * (coarse / n) ** 0.8
        on_top = smoothstep(-0.01, 0.01, raised - height) * mask
        tint = shade(tint, 0.12 * fine - 0.5 * (1 - dome))
        color, height = mix(color, tint, on_top), torch.maximum(height, raised)
        covered = torch.maximum(covered, mask)
    wet = draw.choice((0.0, 0.0, 1.0))
    color = shade(color, torch.full_like(fine, -0.4 * wet))
    rough = style.roughness + 0.05 * fine + 0.1 * (1 - covered) - 0.3 * wet * style.roughness
    return Surface(
        height=height,
        relief=draw.log_uniform(0.1, 0.5) / coarse,
        basecolor=color,
        roughness=rough,
        pattern="scattered stones",
        adjectives=("wet",) if wet else ("loose",),
    )


def soil(draw: Draw, style: Style) -> Surface:
    kind = draw.choice(("lumpy", "cracked", "pebbly", "rooty"))
    body = noise(draw, draw.uniform(3, 10), slope=1.9)
    crumbs = noise(draw, 25, slope=1.4)
    fine = noise(draw, 70, slope=1.1)
    height = 0.5 * body + 0.35 * crumbs + 0.1 * fine
    main = style.rgb(draw)
    stops = 0.15 * body + 0.15 * crumbs + 0.15 * fine
    color = shade(main, stops)
    if kind == "cracked":
        n = draw.even(4, 10)
        u, v = warped(draw, 0.1 / n, n * 1.5, slope=4.0)
        cells = voronoi(draw, u, v, (n, n), jitter=0.85, stagger=True)
        plate = smoothstep(0.01 / n, draw.uniform(0.1, 0.25) / n, cells.edge)
        bowl = (cells.x**2 + cells.y**2) / cells.size**2
        height = 0.25 * height + 2.0 * plate + 0.5 * plate * bowl
        color = shade(shade(main, 0.4 * stops), -1.5 * (1 - plate))
    elif kind == "pebbly":
        for n in (draw.even(8, 14), draw.even(20, 30)):
            dome, mask, tint = _stones(draw, n, draw.uniform(0.1, 0.4), style.second_rgb(draw), 0.3)
            height = torch.where(mask > 0, torch.maximum(height, height * 0.5 + 16 * dome / n), height)
            color = mix(color, shade(tint, 0.1 * fine), mask)
    elif kind == "rooty":
        twigs = strokes(draw, draw.integer(40, 200), length=draw.uniform(0.05, 0.25), width=0.008, curl=0.8)
        twig = (twigs["index"] >= 0).float()
        tint = palette(draw, torch.tensor([0.2, 0.13, 0.06]), 0.3, 32)[
            torch.remainder(twigs["index"].clamp_min(0), 32)
        ]
        profile = torch.sqrt((1 - twigs["across"] ** 2).clamp_min(0)) * twig
        height = height + 1.2 * profile * twigs["z"]
        color = mix(color, shade(tint, 0.5 * profile - 0.3), twig)
    return Surface(
        height=blur(height, 0.001),
        relief=draw.log_uniform(0.01, 0.06),
        basecolor=color,
        roughness=style.roughness + 0.03 * fine,
        pattern=f"{kind} soil",
        adjectives=(kind,),
    )


def sand(draw: Draw, style: Style) -> Surface:
    ripples = draw.integer(5, 22)
    slant = draw.choice((-2, -1, 0, 0, 1, 2))
    meander = noise(draw, draw.uniform(1.5, 4), slope=2.5)
    phase = draw.v * ripples + draw.u * slant + draw.uniform(0.1, 0.5) * meander
    saw = torch.remainder(phase, 1.0)
    lean = draw.uniform(0.5, 0.8)
    crest = torch.where(saw < lean, saw / lean, (1 - saw) / (1 - lean))
    crest = crest * crest * (3 - 2 * crest)
    strength = draw.choice((0.0, 1.0, 1.0)) * smoothstep(0.0, 0.6, coverage(noise(draw, 3, slope=3.0)))
    grains = noise(draw, 100, slope=0.8)
    dune = noise(draw, 2, slope=2.6)
    height = crest * strength + 0.4 * dune + 0.05 * grains
    color = shade(style.rgb(draw), 0.12 * (crest - 0.5) * strength + 0.09 * grains + 0.05 * dune)
    return Surface(
        height=blur(height, 0.0012),
        relief=draw.log_uniform(0.08, 0.4) / ripples,
        basecolor=color,
        roughness=style.roughness + 0.03 * grains,
        pattern="ripples",
        adjectives=("rippled", "grainy"),
    )


def snow(draw: Draw, style: Style) -> Surface:
    drift = noise(draw, draw.uniform(1.5, 4), slope=2.8)
    crust = noise(draw, 20, slope=1.8)
    grains = noise(draw, 90, slope=0.8)
    height = drift + draw.uniform(0.05, 0.3) * crust + 0.04 * grains
    tracks = torch.zeros_like(drift)
    if draw.chance(0.3):
        n = draw.even(4, 8)
        cells = voronoi(draw, draw.u, draw.v, (n, n), jitter=0.6, stagger=True)
        some = draw.per_cell(cells.count, cells.index) < 0.4
        tracks = (1 - smoothstep(0.15 / n, 0.3 / n, torch.sqrt(cells.x**2 + (0.6 * cells.y) ** 2))) * some
        height = height - 1.2 * tracks
    melt = smoothstep(0.8, 0.95, coverage(-drift + 0.2 * crust)) * draw.choice((0.0, 0.0, 1.0))
    color = shade(style.rgb(draw), 0.03 * crust + 0.02 * grains - 0.08 * tracks)
    color = mix(color, shade(style.second_rgb(draw) * 0.5, 0.2 * crust), 0.9 * melt)
    sparkle = smoothstep(0.97, 0.99, coverage(grains))
    return Surface(
        height=height,
        relief=draw.log_uniform(0.01, 0.06),
        basecolor=color,
        roughness=style.roughness - 0.3 * sparkle * style.roughness + 0.03 * crust,
        pattern="drifts",
        adjectives=("powdery",),
    )


def ice(draw: Draw, style: Style) -> Surface:
    n = draw.even(2, 6)
    u, v = warped(draw, 0.1 / n, n * 1.5, slope=3.0)
    cells = voronoi(draw, u, v, (n, n), jitter=0.9, stagger=True)
    crack = (1 - smoothstep(0.0, 0.008 + draw.pixel, cells.edge)) * smoothstep(
        0.3, 0.6, coverage(noise(draw, 3))
    )
    frost = smoothstep(0.5, 0.95, coverage(noise(draw, 4, slope=1.7)))
    wavy = noise(draw, draw.uniform(4, 12), slope=4.5)
    bubbles = smoothstep(0.95, 0.99, coverage(noise(draw, 50, slope=4.0)))
    color = mix(
        shade(style.rgb(draw), 0.15 * noise(draw, 2)),
        torch.tensor([0.8, 0.85, 0.88]),
        (0.6 * crack + 0.35 * frost + 0.4 * bubbles).clamp(0, 1),
    )
    return Surface(
        height=wavy - 0.8 * crack + 0.1 * frost,
        relief=draw.log_uniform(0.001, 0.02),
        basecolor=color,
        roughness=style.roughness + 0.35 * frost * draw.uniform(0, 1) + 0.2 * crack,
        pattern="ice cracks",
        adjectives=("frozen", "frosty"),
    )


def moss(draw: Draw, style: Style) -> Surface:
    n = draw.even(4, 12)
    u, v = warped(draw, 0.15 / n, n, slope=3.0)
    clumps = voronoi(draw, u, v, (n, n), jitter=0.85, stagger=True)
    cushion = torch.sqrt((clumps.edge * n * 2.5).clamp(0, 1))
    m = draw.even(26, 46)
    tufts = voronoi(draw, draw.u, draw.v, (m, m), jitter=0.9, stagger=True)
    tuft = (1 - torch.sqrt(tufts.x**2 + tufts.y**2) * m * 1.1).clamp_min(0)
    fuzz = noise(draw, 80, slope=0.9)
    height = cushion * (0.8 + 0.3 * draw.per_cell(clumps.count, clumps.index)) + 0.35 * tuft + 0.1 * fuzz
    main = style.rgb(draw)
    tone = palette(draw, main, 0.25, clumps.count)[clumps.index]
    tip = main * torch.tensor([1.5, 1.4, 0.9])
    color = mix(
        shade(tone, 0.25 * fuzz - 1.0 * (1 - cushion)),
        shade(tip, 0.2 * fuzz),
        0.5 * smoothstep(0.3, 0.9, tuft),
    )
    bare = smoothstep(0.75, 0.9, coverage(noise(draw, 4, slope=2.0))) * draw.choice((0.0, 0.0, 1.0))
    color = mix(color, shade(torch.tensor([0.12, 0.09, 0.06]), 0.4 * fuzz), bare)
    return Surface(
        height=height * (1 - 0.8 * bare) + 0.1 * noise(draw, 20) * bare,
        relief=draw.log_uniform(0.01, 0.07),
        basecolor=color,
        roughness=style.roughness + 0.03 * fuzz,
        pattern="clumps",
        adjectives=("soft", "lush") if float(bare.max()) < 0.5 else ("patchy",),
    )


def grass(draw: Draw, style: Style) -> Surface:
    lawn = draw.chance(0.5)
    count = draw.integer(1600, 3000) if lawn else draw.integer(500, 1400)
    blades = strokes(
        draw,
        count,
        length=draw.uniform(0.03, 0.08) if lawn else draw.uniform(0.08, 0.2),
        width=0.008 if lawn else draw.uniform(0.008, 0.016),
        angle=draw.uniform(0, 6.28),
        spread=draw.uniform(2.0, 6.28),
        curl=draw.uniform(0.2, 0.9),
    )
    on = (blades["index"] >= 0).float()
    dry = draw.choice((0.0, 0.15, 0.5))
    tint = palette(draw, style.rgb(draw), draw.uniform(0.1, 0.35), 96)
    tint = torch.where(draw.rand(96, 1) < dry, palette(draw, torch.tensor([0.45, 0.36, 0.15]), 0.2, 96), tint)
    leaf = tint[torch.remainder(blades["index"].clamp_min(0), 96)]
    fold = 1 - blades["across"].abs()
    patch = noise(draw, 3, slope=2.2)
    ground = shade(torch.tensor([0.06, 0.045, 0.025]), 0.3 * noise(draw, 50, slope=1.2))
    leaf = shade(
        leaf, 0.9 * (blades["z"] - 0.75) + 0.25 * (fold - 0.5) + 0.1 * patch + 0.3 * (blades["along"] - 0.5)
    )
    height = on * (0.35 + 0.65 * blades["z"]) + 0.08 * on * fold + 0.1 * patch
    return Surface(
        height=blur(height, 0.0015),
        relief=draw.log_uniform(0.015, 0.07),
        basecolor=mix(ground, leaf, on),
        roughness=style.roughness + 0.15 * (1 - on),
        pattern="blades",
        adjectives=("dry",) if dry > 0.3 else (("short-cut",) if lawn else ("long-bladed",)),
    )


def leaves(draw: Draw, style: Style) -> Surface:
    """Fallen leaves: layers of pointed ovals with a midrib, each layer over the one before."""
    color = shade(torch.tensor([0.07, 0.05, 0.03]), 0.4 * noise(draw, 40, slope=1.3))
    height = 0.1 * noise(draw, 20, slope=1.5)
    rough = style.roughness + 0.1 * torch.ones_like(height)
    main = style.rgb(draw)
    for layer in range(draw.integer(3, 4)):
        n = draw.even(4, 9)
        cells = voronoi(
            draw, draw.u + draw.uniform(), draw.v + draw.uniform(), (n, n), jitter=0.7, stagger=True
        )
        angle = draw.rand(cells.count)[cells.index] * 2 * math.pi
        x = (torch.cos(angle) * cells.x + torch.sin(angle) * cells.y) * n
        y = (-torch.sin(angle) * cells.x + torch.cos(angle) * cells.y) * n
        size = 0.45 + 0.25 * draw.per_cell(cells.count, cells.index)
        half = 0.42 * size * (1 - (x / size) ** 2).clamp_min(0.0)
        inside = torch.minimum(half - y.abs(), cells.edge * n)
        mask = smoothstep(0.0, max(0.03, 1.5 * draw.pixel * n), inside) * (x.abs() < size)
        rib = 1 - smoothstep(0.01, 0.035 + draw.pixel * n, y.abs())
        side = 0.5 + 0.5 * torch.cos((x + 0.8 * y.abs()) * 45 / size)
        tone = palette(draw, main, 0.35, cells.count)[cells.index]
        lift = (
            draw.normal(cells.count)[cells.index] * x
            + 0.6 * y.abs()
            + 0.3 * draw.per_cell(cells.count, cells.index)
        )
        color = mix(color, shade(tone, 0.35 * rib + 0.1 * side + 0.25 * (layer - 2)), mask)
        leaf_height = 0.35 * (layer + 1) + 0.35 * lift + 0.06 * rib + 0.02 * side
        height = height + (leaf_height - height) * mask
        rough = rough + (style.roughness - rough) * mask
    return Surface(
        height=height,
        relief=draw.log_uniform(0.01, 0.05),
        basecolor=color,
        roughness=rough,
        pattern="scattered leaves",
        adjectives=("scattered", "layered"),
    )


def lava(draw: Draw, style: Style) -> Surface:
    """Ropy, blistered crust: folded bands over a ridged body."""
    field = noise(draw, draw.uniform(1.2, 2.5), slope=2.6)
    folds = torch.sin(2 * math.pi * draw.uniform(1.5, 4) * field + 0.8 * noise(draw, 6, slope=2.5))
    crust = ridged(draw, draw.uniform(4, 8), 4)
    fine = noise(draw, 60, slope=1.2)
    height = 0.5 * folds + 0.7 * crust + 0.05 * fine + 0.3 * field
    color = shade(style.rgb(draw), 0.2 * folds + 0.4 * (crust - 0.5) + 0.12 * fine)
    return Surface(
        height=height,
        relief=draw.log_uniform(0.01, 0.07),
        basecolor=color,
        roughness=style.roughness + 0.05 * fine - 0.15 * crust,
        pattern="folds",
        adjectives=("volcanic",),
    )


EARTH = ("brown", "brown", "beige", "grey", "black", "olive", "red")
FAMILIES = {
    "gravel": Family(
        generate=gravel,
        nouns=("gravel", "pebbles", "crushed stone"),
        weathering=0.2,
        roughness=(0.35, 0.95),
        colors=("grey", "grey", "beige", "brown", "white", "black", "red"),
    ),
    "soil": Family(
        generate=soil,
        nouns=("soil", "earth", "dirt ground"),
        weathering=0.1,
        colors=EARTH,
        roughness=(0.5, 1.0),
    ),
    "sand": Family(
        generate=sand,
        nouns=("sand", "desert sand"),
        weathering=0.05,
        roughness=(0.6, 1.0),
        colors=("beige", "beige", "white", "orange", "brown", "black", "grey"),
    ),
    "snow": Family(
        generate=snow,
        nouns=("snow", "fresh snow"),
        weathering=0.05,
        roughness=(0.4, 0.9),
        colors=("white", "white", "white", "grey", "blue"),
    ),
    "ice": Family(
        generate=ice,
        nouns=("ice", "frozen surface"),
        weathering=0.1,
        roughness=(0.04, 0.35),
        colors=("blue", "white", "teal", "grey"),
    ),
    "moss": Family(
        generate=moss,
        nouns=("moss", "mossy ground"),
        weathering=0.0,
        roughness=(0.7, 1.0),
        colors=("green", "green", "olive", "olive", "yellow", "brown"),
    ),
    "grass": Family(
        generate=grass,
        nouns=("grass", "lawn", "meadow grass"),
        weathering=0.0,
        roughness=(0.4, 0.9),
        colors=("green", "green", "olive", "olive", "yellow"),
    ),
    "leaves": Family(
        generate=leaves,
        nouns=("fallen leaves", "leaf litter"),
        weathering=0.1,
        roughness=(0.3, 0.85),
        colors=("brown", "orange", "red", "yellow", "green", "olive"),
    ),
    "lava": Family(
        generate=lava,
        nouns=("lava rock", "volcanic crust"),
        weathering=0.1,
        roughness=(0.35, 0.95),
        colors=("black", "grey", "brown", "black", "red"),
    ),
}
