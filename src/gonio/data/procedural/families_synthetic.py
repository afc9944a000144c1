"""Made surfaces: plastic, rubber, paper, wallpaper, glazes, quilted padding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gonio.data.procedural.draw import Draw
from gonio.data.procedural.noise import blur, coverage, noise, ridged, voronoi, warped
from gonio.data.procedural.patterns import box_edge, strokes
from gonio.data.procedural.surface import Family, Style, Surface, mix, shade, smoothstep


def _emboss(draw: Draw) -> tuple[str, Tensor, int]:
    """A moulded pattern: (name, height in about [0, 1], repeats a side)."""
    kind = draw.choice(("dots", "ribs", "pyramids", "waves", "hexagons", "crosses", "diamonds", "bricks"))
    n = draw.even(4, 24)
    a, b = draw.u * n, draw.v * n
    x, y = torch.remainder(a, 1.0) - 0.5, torch.remainder(b, 1.0) - 0.5
    soft = max(0.08, 1.5 * draw.pixel * n)
    if kind == "dots":
        xs = torch.remainder(a + 0.5 * torch.remainder(torch.floor(b), 2), 1.0) - 0.5
        height = smoothstep(0.0, soft * 2, draw.uniform(0.2, 0.4) - torch.sqrt(xs * xs + y * y))
    elif kind == "ribs":
        height = smoothstep(-0.5, 0.8, torch.sin(2 * math.pi * (a if draw.chance(0.5) else a + b)))
    elif kind == "pyramids":
        height = 1 - 2 * torch.maximum(x.abs(), y.abs())
    elif kind == "waves":
        height = 0.5 + 0.5 * torch.sin(2 * math.pi * (b + 0.25 * torch.sin(2 * math.pi * a)))
    elif kind == "hexagons":
        height = smoothstep(
            0.03 / n,
            0.2 / n,
            voronoi(draw, draw.u, draw.v, (n, max(2, round(n * 0.866))), jitter=0.0, stagger=True).edge,
        )
    elif kind == "crosses":
        height = smoothstep(
            -0.5 * soft, soft, torch.maximum(box_edge(x, y, 0.4, 0.12), box_edge(x, y, 0.12, 0.4))
        )
    elif kind == "diamonds":
        height = smoothstep(0.0, 0.6, 1 - 2 * torch.maximum((x + y).abs(), (x - y).abs()) + 0.2)
    else:
        xs = torch.remainder(a * 0.5 + 0.5 * torch.remainder(torch.floor(b), 2), 1.0) - 0.5
        height = smoothstep(0.0, soft, box_edge(2 * xs, y, 0.92, 0.42, 0.1))
    return kind, height, n


def plastic(draw: Draw, style: Style) -> Surface:
    smooth = draw.chance(0.3)
    grain = noise(draw, draw.uniform(30, 80), slope=4.0, band=True)
    scuff = smoothstep(0.6, 0.95, coverage(noise(draw, 6, slope=1.6)))
    if smooth:
        height, pattern, relief = grain, "fine texture", draw.log_uniform(0.0001, 0.003)
    else:
        pattern, embossed, n = _emboss(draw)
        height, relief = embossed + draw.uniform(0.0, 0.05) * grain, draw.log_uniform(0.02, 0.4) / n
    color = shade(style.rgb(draw), 0.02 * grain)
    if not smooth and draw.chance(0.2):  # two-shot moulding: the raised parts in the second colour
        color = mix(color, style.second_rgb(draw), smoothstep(0.4, 0.6, height))
    rough = style.roughness + draw.uniform(0.0, 0.25) * scuff + 0.02 * grain
    return Surface(
        height=height,
        relief=relief,
        basecolor=color,
        roughness=rough,
        pattern=pattern,
        adjectives=("smooth",) if smooth else ("moulded",),
    )


def rubber(draw: Draw, style: Style) -> Surface:
    pattern, embossed, n = _emboss(draw)
    grain = noise(draw, 70, slope=1.2)
    worn = coverage(noise(draw, 4, slope=1.8))
    dust = smoothstep(0.5, 0.9, worn) * (1 - embossed.clamp(0, 1))
    height = embossed * (1 - 0.4 * smoothstep(0.7, 1.0, worn)) + 0.04 * grain
    color = mix(shade(style.rgb(draw), 0.06 * grain), torch.tensor([0.3, 0.27, 0.22]), 0.4 * dust)
    return Surface(
        height=height,
        relief=draw.log_uniform(0.05, 0.5) / n,
        basecolor=color,
        roughness=style.roughness + 0.03 * grain + 0.1 * dust,
        pattern=pattern,
        adjectives=("textured",),
    )


def paper(draw: Draw, style: Style) -> Surface:
    kind = draw.choice(("fibrous", "cardboard", "creased", "handmade"))
    fibre = noise(draw, 60, slope=1.3)
    cloud = noise(draw, 6, slope=1.8)
    height = 0.4 * fibre + 0.3 * cloud
    stops = 0.03 * fibre + 0.04 * cloud
    if kind == "cardboard":
        flutes = torch.sin(2 * math.pi * draw.u * draw.integer(20, 40))
        height, stops = height + 0.8 * flutes, stops + 0.03 * flutes
    elif kind == "creased":
        creases = smoothstep(0.75, 0.98, ridged(draw, draw.uniform(2, 4), 3))
        height, stops = height + 3 * creases + noise(draw, 2.5, slope=2.5), stops - 0.12 * creases
    elif kind == "handmade":
        hairs = strokes(draw, 250, length=0.06, width=0.003, curl=1.2)
        hair = blur((hairs["index"] >= 0).float(), 0.7 * draw.pixel)
        height, stops = height + 1.5 * hair, stops - 0.35 * hair
    return Surface(
        height=height,
        relief=draw.log_uniform(0.0005, 0.012),
        basecolor=shade(style.rgb(draw), stops),
        roughness=style.roughness + 0.02 * fibre,
        pattern=f"{kind} paper",
        adjectives=(kind,),
    )


def wallpaper(draw: Draw, style: Style) -> Surface:
    """Printed motifs: colour changes without (or against) the height."""
    n = draw.even(2, 8)
    a, b = draw.u * n, draw.v * n
    stagger = torch.remainder(torch.floor(b), 2) * 0.5 if draw.chance(0.6) else 0.0
    x, y = torch.remainder(a + stagger, 1.0) - 0.5, torch.remainder(b, 1.0) - 0.5
    r, phi = torch.sqrt(x * x + y * y), torch.atan2(y, x)
    kind = draw.choice(
        ("floral", "damask", "polka dot", "stripe", "chevron", "chequer", "camouflage", "speckle")
    )
    if kind == "floral":
        petals = draw.integer(3, 8)
        field = 0.28 + 0.12 * torch.cos(petals * phi + draw.uniform(0, 6)) - r
        inner = 0.09 - r
    elif kind == "damask":
        field = (
            0.6
            + 0.35 * torch.cos(2 * math.pi * x)
            - 1.3 * (y * y + x.abs() * 0.9) ** 0.5
            + 0.08 * torch.cos(8 * phi)
        )
        field, inner = 0.25 * field, 0.02 - (r - 0.2 - 0.06 * torch.cos(4 * phi)).abs()
    elif kind == "polka dot":
        field, inner = draw.uniform(0.12, 0.38) - r, torch.full_like(r, -1.0)
    elif kind == "stripe":
        field, inner = draw.uniform(0.08, 0.3) - x.abs(), 0.015 - (x.abs() - 0.4).abs()
    elif kind == "chevron":
        zig = torch.remainder(b + (torch.remainder(a, 1.0) - 0.5).abs() * 2, 1.0) - 0.5
        field, inner = 0.22 - zig.abs(), torch.full_like(r, -1.0)
    elif kind == "chequer":
        sign = torch.sin(math.pi * a) * torch.sin(math.pi * b)
        field, inner = 0.3 * sign, torch.full_like(r, -1.0)
    elif kind == "camouflage":
        field, inner = 0.1 * noise(draw, 4, slope=3.0), 0.1 * (noise(draw, 4, slope=3.0) - 0.8)
    else:
        spots = voronoi(draw, draw.u, draw.v, (4 * n, 4 * n), jitter=0.9, stagger=True)
        field = (
            0.28 * draw.per_cell(spots.count, spots.index) - torch.sqrt(spots.x**2 + spots.y**2) * 4 * n
        ) * 0.5
        inner = torch.full_like(r, -1.0)
    soft = max(0.015, draw.pixel * n)
    motif, core = smoothstep(-soft, soft, field), smoothstep(-soft, soft, inner)
    ground, ink = style.rgb(draw), style.second_rgb(draw)
    third = style.rgb(draw) * draw.uniform(0.3, 0.8)
    grain = noise(draw, 70, slope=1.3)
    color = shade(mix(mix(ground.expand(draw.n, draw.n, 3), ink, motif), third, core), 0.03 * grain)
    foil = draw.chance(0.15)
    rough = style.roughness + 0.02 * grain + draw.choice((0.0, -0.3, 0.2)) * motif * style.roughness
    raised = draw.choice((0.0, 0.0, 0.6, -0.4))
    return Surface(
        height=0.3 * grain + 2 * raised * motif + noise(draw, 3) * 0.3,
        relief=draw.log_uniform(0.0003, 0.006),
        basecolor=color,
        roughness=rough,
        pattern=f"{kind} print",
        metallic=motif if foil and not style.metallic else None,
        adjectives=("printed", "patterned"),
    )


def glaze(draw: Draw, style: Style) -> Surface:
    """Smooth glossy coats: porcelain, car paint, lacquer, with crackle, drips or flakes."""
    kind = draw.choice(("plain", "crackle", "drip", "flake", "reactive"))
    wavy = noise(draw, draw.uniform(2, 8), slope=4.0)
    color = shade(style.rgb(draw), 0.04 * wavy)
    height, rough = wavy, style.roughness + 0.01 * wavy
    if kind == "crackle":
        n = draw.even(5, 14)
        u, v = warped(draw, 0.15 / n, n)
        line = 1 - smoothstep(
            0.0, 0.004 + draw.pixel, voronoi(draw, u, v, (n, n), jitter=0.9, stagger=True).edge
        )
        color, height, rough = shade(color, -0.9 * line), height - 0.5 * line, rough + 0.15 * line
    elif kind == "drip":
        run = coverage(noise(draw, 5, slope=2.5, stretch=4, angle=math.pi / 2))
        mask = smoothstep(0.55, 0.6, run)
        color, height = mix(color, style.second_rgb(draw), mask), height + 1.5 * smoothstep(0.5, 0.8, run)
    elif kind == "flake":
        fleck = noise(draw, 100, slope=0.6)
        color = shade(color, 0.12 * fleck)
    elif kind == "reactive":
        speck = smoothstep(0.8, 0.95, coverage(noise(draw, 30, slope=1.6)))
        blend = smoothstep(0.35, 0.75, coverage(noise(draw, 3, slope=1.9)))
        color = shade(mix(color, style.second_rgb(draw), 0.7 * blend), -0.8 * speck)
    return Surface(
        height=height,
        relief=draw.log_uniform(0.0001, 0.008),
        basecolor=color,
        roughness=rough,
        pattern=f"{kind} glaze",
        adjectives=("smooth",),
    )


def quilt(draw: Draw, style: Style) -> Surface:
    """Padded panels pulled down along seams with stitches, buttons where seams cross."""
    n = draw.even(2, 7)
    diagonal = draw.chance(0.6)
    a, b = (draw.u + draw.v, draw.v - draw.u) if diagonal else (draw.u, draw.v)
    a, b = a * n, b * n
    x, y = torch.remainder(a, 1.0) - 0.5, torch.remainder(b, 1.0) - 0.5
    dx, dy = 0.5 - x.abs(), 0.5 - y.abs()
    pad = (torch.sin(math.pi * dx) * torch.sin(math.pi * dy)).clamp_min(0.0) ** draw.uniform(0.3, 0.6)
    seam = torch.minimum(dx, dy)
    along = torch.where(dx < dy, b, a)
    stitch = (1 - smoothstep(0.015, 0.03 + draw.pixel * n, (seam - 0.04).abs())) * (
        torch.sin(2 * math.pi * 8 * along) > -0.3
    )
    corner = torch.sqrt(dx * dx + dy * dy)
    button = smoothstep(0.0, 0.03, 0.09 - corner) * draw.choice((0.0, 1.0))
    fine = noise(draw, 70, slope=1.4)
    folds = noise(draw, 12, slope=2.0, stretch=2) * (1 - pad)
    height = pad + 0.06 * stitch + 0.35 * button + 0.015 * fine + 0.05 * folds
    color = shade(style.rgb(draw), 0.03 * fine - 0.5 * (1 - smoothstep(0.0, 0.08, seam)))
    color = mix(color, style.second_rgb(draw), 0.9 * stitch)
    metal = button if draw.chance(0.5) and not style.metallic else None
    return Surface(
        height=height,
        relief=draw.log_uniform(0.04, 0.3) / n,
        basecolor=color,
        roughness=style.roughness + 0.03 * fine,
        pattern="quilted padding",
        metallic=metal,
        adjectives=("padded", "stitched"),
    )


BRIGHT = (
    "red",
    "orange",
    "yellow",
    "green",
    "teal",
    "blue",
    "purple",
    "pink",
    "white",
    "black",
    "grey",
    "beige",
)
FAMILIES = {
    "plastic": Family(
        generate=plastic,
        nouns=("plastic", "moulded plastic"),
        metal=0.05,
        weathering=0.2,
        colors=BRIGHT,
        roughness=(0.06, 0.7),
    ),
    "rubber": Family(
        generate=rubber,
        nouns=("rubber", "rubber mat"),
        colors=("black", "black", "grey", "red", "blue", "green"),
        roughness=(0.4, 0.95),
    ),
    "paper": Family(
        generate=paper,
        nouns=("paper", "cardboard sheet"),
        weathering=0.2,
        roughness=(0.55, 1.0),
        colors=("white", "beige", "brown", "yellow", "pink", "blue", "green"),
    ),
    "wallpaper": Family(
        generate=wallpaper,
        nouns=("wallpaper", "printed wallpaper"),
        weathering=0.2,
        colors=BRIGHT,
        roughness=(0.3, 0.95),
    ),
    "glaze": Family(
        generate=glaze,
        nouns=("glazed surface", "lacquer", "enamel"),
        metal=0.2,
        weathering=0.1,
        colors=BRIGHT,
        roughness=(0.03, 0.3),
    ),
    "quilt": Family(
        generate=quilt,
        nouns=("quilted upholstery", "padded upholstery"),
        weathering=0.1,
        colors=BRIGHT,
        roughness=(0.3, 0.9),
    ),
}
