"""Cloth and hide: weaves, knits, carpets, fur, leather."""

from __future__ import annotations

import math

import torch

from gonio.data.procedural.draw import Draw
from gonio.data.procedural.noise import blur, coverage, noise, ridged, voronoi, warped
from gonio.data.procedural.patterns import WEAVES, strokes, weave
from gonio.data.procedural.surface import Family, Style, Surface, mix, palette, shade, smoothstep


def fabric(draw: Draw, style: Style) -> Surface:
    kind = draw.choice(tuple(WEAVES))
    period = len(WEAVES[kind])
    threads = draw.log_uniform(10, 72)
    repeats = max(1, round(threads / period))
    threads = period * repeats
    u, v = warped(draw, draw.uniform(0.02, 0.15) / threads, threads * 0.3)
    cloth = weave(u, v, kind, repeats, draw.uniform(0.3, 0.9))
    twist = torch.sin(2 * math.pi * (cloth["along"] * draw.integer(1, 3) + cloth["across"] * 1.5))
    slub = noise(draw, threads * 0.5, slope=2.0)
    warp_color, weft_color = style.rgb(draw), style.rgb(draw)
    if draw.chance(0.3):
        weft_color = style.second_rgb(draw) if not style.metallic else weft_color
    warp, weft = palette(draw, warp_color, 0.1, threads), palette(draw, weft_color, 0.1, threads)
    pattern = f"{kind} weave"
    if draw.chance(0.35):  # stripes in one or both thread systems: ticking, gingham, tartan
        bands = draw.integer(1, 6)
        duty = draw.uniform(0.25, 0.5)
        accent = style.second_rgb(draw)
        striped = torch.remainder(torch.arange(threads) * bands / threads, 1.0) < duty
        warp = torch.where(striped[:, None], accent, warp)
        if draw.chance(0.6):
            weft = torch.where(striped[:, None], accent, weft)
            pattern = f"checked {pattern}"
        else:
            pattern = f"striped {pattern}"
    face = torch.where(cloth["warp"][..., None], warp[cloth["i"]], weft[cloth["j"]])
    gap = smoothstep(-0.9, 0.2, cloth["height"])
    color = shade(face, 0.08 * twist + 0.1 * slub - 0.7 * (1 - gap))
    height = cloth["height"] + 0.08 * twist + 0.12 * slub
    sheen = torch.where(cloth["warp"], 1.0, draw.uniform(0.7, 1.0))
    return Surface(
        height=height,
        relief=draw.log_uniform(0.1, 0.6) / threads,
        basecolor=color,
        roughness=style.roughness * sheen + 0.04 * slub,
        pattern=pattern,
    )


def carbon(draw: Draw, style: Style) -> Surface:
    """Flat glossy tows in twill or plain weave under a clear coat."""
    kind = draw.choice(("twill", "plain", "denim"))
    repeats = draw.integer(3, 9)
    threads = len(WEAVES[kind]) * repeats
    cloth = weave(draw.u, draw.v, kind, repeats, 0.9)
    fibre = noise(draw, 60, slope=1.0, stretch=20, angle=math.pi / 2)
    fibre = torch.where(cloth["warp"], fibre, noise(draw, 60, slope=1.0, stretch=20))
    tone = torch.where(cloth["warp"], 0.35, -0.35) * draw.uniform(0.2, 1.2)
    color = shade(style.rgb(draw), tone + 0.12 * fibre - 0.5 * (1 - smoothstep(-0.9, 0.3, cloth["height"])))
    return Surface(
        height=cloth["height"] + 0.05 * fibre,
        relief=draw.log_uniform(0.02, 0.2) / threads,
        basecolor=color,
        roughness=style.roughness + 0.03 * fibre,
        pattern=f"{kind} weave",
        adjectives=("coated",),
    )


def knit(draw: Draw, style: Style) -> Surface:
    columns = draw.integer(6, 26)
    rows = round(columns * draw.uniform(1.0, 1.5))
    u, v = warped(draw, draw.uniform(0.03, 0.1) / columns, columns * 0.5)
    cable = draw.integer(1, 3) if draw.chance(0.3) else 0
    a = u * columns
    x = (a - torch.floor(a)) * 2 - 1
    slant = v * rows + draw.uniform(0.7, 1.1) * x.abs()
    course = torch.floor(slant)
    y = (slant - course) * 2 - 1
    strand = torch.sqrt((1 - (0.96 * y) ** 2).clamp_min(0)) * torch.sqrt(
        (1 - (2 * x.abs() - 1) ** 2 * 0.9).clamp_min(0)
    )
    ply = torch.sin(2 * math.pi * (x.abs() * 2.5 + y * 0.8))
    fuzz = noise(draw, 70, slope=1.2)
    height = strand + 0.06 * ply + 0.04 * fuzz
    if cable:
        height = height + 0.7 * torch.sin(2 * math.pi * cable * u) ** 2
    main = palette(draw, style.rgb(draw), 0.05, rows)
    if draw.chance(0.35):
        bands = torch.remainder(torch.arange(rows) * draw.integer(1, 5) / rows, 1.0) < draw.uniform(0.2, 0.5)
        main = torch.where(bands[:, None], style.second_rgb(draw), main)
    color = shade(main[torch.remainder(course, rows).long()], 0.08 * ply + 0.1 * fuzz - 0.9 * (1 - strand))
    return Surface(
        height=height,
        relief=draw.log_uniform(0.15, 0.6) / columns,
        basecolor=color,
        roughness=style.roughness + 0.03 * fuzz,
        pattern="cable knit" if cable else "stockinette knit",
        adjectives=("woolly",),
    )


def carpet(draw: Draw, style: Style) -> Surface:
    n = draw.even(20, 44)
    rows_wanted = draw.chance(0.4)
    cells = voronoi(
        draw, draw.u, draw.v, (n, n), jitter=0.15 if rows_wanted else 0.7, stagger=draw.chance(0.5)
    )
    tuft = smoothstep(0.0, 0.35 / n, cells.edge)
    fuzz = noise(draw, 80, slope=1.0)
    patch = noise(draw, 3, slope=2.5)
    face = palette(draw, style.rgb(draw), draw.uniform(0.05, 0.25), cells.count)
    if draw.chance(0.4):
        face = torch.where(draw.rand(cells.count, 1) < draw.uniform(0.1, 0.4), style.second_rgb(draw), face)
    color = shade(face[cells.index], 0.15 * fuzz + 0.08 * patch - 0.9 * (1 - tuft))
    height = tuft * (0.8 + 0.4 * draw.per_cell(cells.count, cells.index)) + 0.12 * fuzz + 0.1 * patch
    return Surface(
        height=height,
        relief=draw.log_uniform(0.2, 0.8) / n,
        basecolor=color,
        roughness=style.roughness + 0.02 * fuzz,
        pattern="looped pile" if rows_wanted else "cut pile",
        adjectives=("soft",),
    )


def fur(draw: Draw, style: Style) -> Surface:
    hairs = strokes(
        draw,
        draw.integer(1800, 3200),
        length=draw.uniform(0.04, 0.12),
        width=0.006,
        angle=draw.uniform(0, 6.28),
        spread=draw.uniform(0.3, 1.6),
        curl=draw.uniform(0.1, 0.7),
    )
    tint = palette(draw, style.rgb(draw), draw.uniform(0.08, 0.3), 64)
    hair = tint[torch.remainder(hairs["index"].clamp_min(0), 64)]
    lay = noise(draw, 5, slope=2.5)
    bare = (hairs["index"] < 0).float()
    strand = noise(draw, 70, slope=1.0)
    spots = smoothstep(0.6, 0.7, coverage(noise(draw, draw.uniform(3, 7), slope=4.0))) * draw.choice(
        (0.0, 0.0, 0.9)
    )
    color = shade(
        mix(hair, style.second_rgb(draw), spots), 0.7 * (hairs["along"] - 0.6) + 0.1 * strand - 0.6 * bare
    )
    height = blur(hairs["z"], 0.0015) + 0.25 * lay + 0.03 * strand
    return Surface(
        height=height,
        relief=draw.log_uniform(0.01, 0.06),
        basecolor=color,
        roughness=style.roughness + 0.03 * strand,
        pattern="hair",
        adjectives=("fluffy",),
    )


def leather(draw: Draw, style: Style) -> Surface:
    n = draw.even(8, 36)
    u, v = warped(draw, 0.2 / n, n * 0.7)
    cells = voronoi(draw, u, v, (n, n), jitter=0.85, stagger=True)
    crocodile = draw.chance(0.2)
    pebble = smoothstep(0.0, draw.uniform(0.15, 0.45) / n, cells.edge)
    folds = smoothstep(0.6, 0.95, ridged(draw, draw.uniform(1.5, 4.0), 3)) * draw.choice((0.0, 0.4, 0.8))
    pores = smoothstep(0.9, 0.98, coverage(noise(draw, 70, slope=4.0)))
    cloud = noise(draw, 3, slope=2.5)
    lift = draw.per_cell(cells.count, cells.index)
    height = pebble * (0.7 + 0.3 * lift) - 0.25 * pores - 0.9 * folds + 0.15 * cloud
    worn = smoothstep(0.65, 0.95, coverage(cloud) * (0.6 + 0.4 * pebble)) * draw.choice((0.0, 0.0, 0.5))
    pits = (1 - pebble) + 0.6 * folds
    color = shade(style.rgb(draw), 0.08 * cloud - draw.uniform(0.1, 0.7) * pits + 0.6 * worn)
    rough = style.roughness + 0.2 * pits * draw.uniform(0.2, 1.0) + 0.15 * worn + 0.03 * cloud
    relief = draw.log_uniform(0.02, 0.25) / n * (1.5 if crocodile else 1.0)
    return Surface(
        height=height,
        relief=relief,
        basecolor=color,
        roughness=rough,
        pattern="leather grain",
        adjectives=("creased",) if float(folds.max()) > 0.1 else ("pebbled",),
    )


CLOTH = (
    "white",
    "blue",
    "red",
    "black",
    "grey",
    "beige",
    "green",
    "purple",
    "pink",
    "yellow",
    "teal",
    "orange",
)
FAMILIES = {
    "fabric": Family(
        generate=fabric,
        nouns=("woven fabric", "cloth", "textile"),
        metal=0.04,
        weathering=0.15,
        colors=CLOTH,
        roughness=(0.45, 1.0),
    ),
    "carbon": Family(
        generate=carbon,
        nouns=("carbon fibre", "carbon fiber weave"),
        metal=0.15,
        weathering=0.1,
        colors=("black", "black", "black", "grey", "blue", "red"),
        roughness=(0.08, 0.4),
    ),
    "knit": Family(
        generate=knit,
        nouns=("knitted wool", "knit fabric", "knitwear"),
        weathering=0.1,
        colors=CLOTH,
        roughness=(0.7, 1.0),
    ),
    "carpet": Family(
        generate=carpet, nouns=("carpet", "rug"), weathering=0.15, colors=CLOTH, roughness=(0.75, 1.0)
    ),
    "fur": Family(
        generate=fur,
        nouns=("fur", "animal hair"),
        weathering=0.05,
        roughness=(0.45, 0.9),
        colors=("brown", "white", "black", "beige", "grey", "orange", "pink"),
    ),
    "leather": Family(
        generate=leather,
        nouns=("leather", "leather hide"),
        weathering=0.25,
        roughness=(0.2, 0.75),
        colors=("brown", "black", "brown", "red", "white", "beige", "orange", "green"),
    ),
}
