"""Regular layouts of elements on the periodic tile: bonds, boards, herringbone, scales, weaves, strokes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gonio.data.procedural.draw import Draw
from gonio.data.procedural.noise import Cells


def box_edge(
    x: Tensor, y: Tensor, half_x: Tensor | float, half_y: Tensor | float, corner: float = 0.0
) -> Tensor:
    """Distance to the border of a box with rounded corners, positive inside. x, y from its centre [H, W]."""
    qx, qy = x.abs() - half_x + corner, y.abs() - half_y + corner
    outside = torch.sqrt(qx.clamp_min(0.0) ** 2 + qy.clamp_min(0.0) ** 2)
    return corner - outside - torch.maximum(qx, qy).clamp_max(0.0)


def courses(u: Tensor, v: Tensor, row_starts: Tensor, breaks: Tensor, corner: float = 0.0) -> Cells:
    """Rows of boxes. row_starts [R], breaks [R, K] (where row r's boxes begin): both ascending in [0, 1).

    Both rows and boxes wrap round the tile.
    """
    rows, per_row = breaks.shape
    v, u = torch.remainder(v, 1.0), torch.remainder(u, 1.0)
    row, low_v, high_v = _interval(v, row_starts[:, None, None].expand(-1, *v.shape))
    column, low_u, high_u = _interval(u, breaks[row].permute(2, 0, 1))
    x, half_x = _centred(u, low_u, high_u)
    y, half_y = _centred(v, low_v, high_v)
    return Cells(
        index=row * per_row + column,
        count=rows * per_row,
        edge=box_edge(x, y, half_x, half_y, corner),
        x=x,
        y=y,
        size=1.0 / math.sqrt(rows * per_row),
    )


def _interval(value: Tensor, starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The periodic interval [low, high) around value: starts [K, H, W] ascending -> (index, low, high)."""
    count = starts.shape[0]
    index = (value[None] >= starts).sum(0) - 1
    before_first = index < 0
    index = torch.where(before_first, count - 1, index)
    low = starts.gather(0, index[None])[0] - before_first.float()
    following = starts.gather(0, torch.remainder(index + 1, count)[None])[0]
    high = torch.where(following <= low, following + 1.0, following)
    return index, low, high


def _centred(value: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    return value - 0.5 * (low + high), 0.5 * (high - low)


BONDS = ("running", "stack", "third", "flemish", "english", "random")


def bond(draw: Draw, u: Tensor, v: Tensor, kind: str, rows: int, columns: int, corner: float) -> Cells:
    """A masonry bond of `rows` (even) courses with about `columns` stretchers each; see BONDS."""
    row = torch.arange(rows, dtype=torch.float32)[:, None]
    row_starts = row[:, 0] / rows
    k = torch.arange(columns, dtype=torch.float32)[None, :]
    if kind == "stack":
        breaks = k.expand(rows, -1) / columns
    elif kind == "third":
        breaks = (k + torch.remainder(row, 3) / 3.0) / columns
    elif kind == "flemish":  # stretchers and headers take turns in every course
        two = torch.stack((k, k + 2 / 3), -1).reshape(1, -1)
        breaks = torch.remainder(two + 0.5 * torch.remainder(row, 2), columns) / columns
    elif (
        kind == "english"
    ):  # a course of stretchers (each split in two equal halves here) over one of headers
        halves = torch.arange(2 * columns, dtype=torch.float32)[None, :] / 2.0
        breaks = torch.remainder(halves + 0.25 * torch.remainder(row, 2), columns) / columns
    elif kind == "random":  # boxes of many lengths, as in ashlar walls
        breaks = (k + 0.75 * (draw.rand(rows, columns) - 0.5) + draw.rand(rows, 1)) / columns
        heights = 0.55 + draw.rand(rows)
        row_starts = torch.cumsum(heights, 0) / heights.sum() - heights / heights.sum()
    else:
        breaks = (k + 0.5 * torch.remainder(row, 2)) / columns
    breaks = torch.sort(torch.remainder(breaks, 1.0), dim=1).values
    return courses(u, v, row_starts, breaks, corner)


def boards(draw: Draw, u: Tensor, v: Tensor, rows: int, per_row: int) -> Cells:
    """Long boards along u with staggered ends."""
    k = torch.arange(per_row, dtype=torch.float32)[None, :]
    breaks = (k + 0.5 * (draw.rand(rows, per_row) - 0.5)) / per_row + draw.rand(rows, 1)
    starts = torch.arange(rows, dtype=torch.float32) / rows
    return courses(u, v, starts, torch.sort(torch.remainder(breaks, 1.0), dim=1).values)


def herringbone(u: Tensor, v: Tensor, repeat: int, diagonal: bool) -> Cells:
    """2:1 blocks in herringbone; 4 * repeat unit squares a side (2 * repeat along the diagonals)."""
    n = 2 * repeat if diagonal else 4 * repeat
    a, b = ((u + v) * n, (v - u) * n) if diagonal else (u * n, v * n)
    i, j = torch.floor(a), torch.floor(b)
    phase = torch.remainder(i - j, 4)
    turned = phase >= 2
    # Phases 0, 1 are the left, right half of a lying block; 3, 2 the lower, upper half of a standing one.
    centre_a = i + torch.where(phase == 0, 1.0, torch.where(phase == 1, 0.0, 0.5))
    centre_b = j + torch.where(phase == 3, 1.0, torch.where(phase == 2, 0.0, 0.5))
    x, y = a - centre_a, b - centre_b
    half_x, half_y = torch.where(turned, 0.5, 1.0), torch.where(turned, 1.0, 0.5)
    unit = n * math.sqrt(2.0) if diagonal else float(n)
    centre_u = (centre_a - centre_b) / (2 * n) if diagonal else centre_a / n
    centre_v = (centre_a + centre_b) / (2 * n) if diagonal else centre_b / n
    steps = 4 * n
    column = torch.remainder(torch.round(centre_u * steps), steps)
    row = torch.remainder(torch.round(centre_v * steps), steps)
    return Cells(
        index=(row * steps + column).long(),
        count=steps * steps,
        edge=box_edge(x, y, half_x, half_y) / unit,
        x=x / unit,
        y=y / unit,
        size=1.4 / unit,
        turned=turned,
    )


def basket(u: Tensor, v: Tensor, squares: int, strips: int) -> Cells:
    """A chequer of squares (even number a side), each cut into strips that lie and stand in turn."""
    i, j = torch.floor(u * squares), torch.floor(v * squares)
    x, y = u * squares - i, v * squares - j
    turned = torch.remainder(i + j, 2) == 1
    across = torch.where(turned, x, y) * strips
    strip = torch.floor(across).clamp(0, strips - 1)
    across = (across - strip - 0.5) / strips
    along = torch.where(turned, y, x) - 0.5
    cell = torch.remainder(j, squares) * squares + torch.remainder(i, squares)
    return Cells(
        index=(cell * strips + strip).long(),
        count=squares * squares * strips,
        edge=box_edge(along, across, 0.5, 0.5 / strips) / squares,
        x=torch.where(turned, across, along) / squares,
        y=torch.where(turned, along, across) / squares,
        size=1.0 / (squares * math.sqrt(strips)),
        turned=turned,
    )


def scales(draw: Draw, u: Tensor, v: Tensor, rows: int, columns: int, pointed: float, ragged: float) -> Cells:
    """Overlapping scales in staggered rows (rows even), the lower edge of each over the row below.

    pointed: 0 square ends, 1 round, 2 pointed. ragged shortens scales at random (shingles). `y` runs from 0
    at the free lower end upwards, in tile widths.
    """
    length, half = 1.0 / rows, 0.5 / columns
    row0 = torch.floor(v * rows)
    size = 1.0 / math.sqrt(rows * columns)
    short = draw.rand(rows * columns) * ragged
    best: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
    for step in (-1, 0, 1):  # the scale of the higher row lies on top: from above, the first hit wins
        row = row0 - step
        shift = torch.remainder(row, 2) * 0.5
        column = torch.floor(u * columns - shift)
        index = (torch.remainder(row, rows) * columns + torch.remainder(column, columns)).long()
        x = u - (column + 0.5 + shift) / columns
        reach = (x / half).abs()
        if pointed <= 1.0:
            end = pointed * (1.0 - torch.sqrt((1.0 - reach * reach).clamp_min(0.0)))
        else:
            end = reach
        y = v - (row - 0.35) * length - (end * 0.7 + short[index]) * length
        if best is None:
            best = (index, x, y, y >= 0)
        else:
            take = ~best[3] & (y >= 0)
            best = (
                torch.where(take, index, best[0]),
                torch.where(take, x, best[1]),
                torch.where(take, y, best[2]),
                best[3] | take,
            )
    assert best is not None
    index, x, y, _ = best
    edge = torch.minimum(y, half - x.abs())
    return Cells(index=index, count=rows * columns, edge=edge, x=x, y=y, size=size)


WEAVES: dict[str, list[list[int]]] = {
    "plain": [[1, 0], [0, 1]],
    "twill": [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]],
    "denim": [[1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1]],
    "basket": [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]],
    "satin": [[1, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]],
}


def weave(u: Tensor, v: Tensor, kind: str, repeats: int, crimp: float) -> dict[str, Tensor]:
    """Interlaced round threads. Returns height in about [-1, 1], warp (bool: the thread along v is on top),
    thread number i (warp) and j (weft), and the position `across` the upper thread in [-0.5, 0.5].
    """
    table = torch.tensor(WEAVES[kind], dtype=torch.float32)
    period = table.shape[0]
    threads = period * repeats
    a, b = u * threads, v * threads
    i, j = torch.floor(a), torch.floor(b)
    x, y = a - i - 0.5, b - j - 0.5

    def over(column: Tensor, row: Tensor) -> Tensor:
        return table[torch.remainder(row, period).long(), torch.remainder(column, period).long()]

    def along(value: Tensor, start: Tensor, end: Tensor) -> Tensor:
        t = value * value * (3.0 - 2.0 * value)
        return start + (end - start) * t

    j0, i0 = torch.floor(b - 0.5), torch.floor(a - 0.5)
    warp_up = along(b - 0.5 - j0, over(i, j0), over(i, j0 + 1)) * 2.0 - 1.0
    weft_up = 1.0 - along(a - 0.5 - i0, over(i0, j), over(i0 + 1, j)) * 2.0
    round_warp = torch.sqrt((1.0 - (2.1 * x) ** 2).clamp_min(0.0))
    round_weft = torch.sqrt((1.0 - (2.1 * y) ** 2).clamp_min(0.0))
    warp_z, weft_z = crimp * warp_up + round_warp - 1.0, crimp * weft_up + round_weft - 1.0
    warp = warp_z >= weft_z
    return {
        "height": torch.maximum(warp_z, weft_z),
        "warp": warp,
        "i": torch.remainder(i, threads).long(),
        "j": torch.remainder(j, threads).long(),
        "across": torch.where(warp, x, y),
        "along": torch.where(warp, b, a),
    }


def strokes(
    draw: Draw,
    count: int,
    *,
    length: float,
    width: float,
    angle: float | None = None,
    spread: float = 3.2,
    curl: float = 0.5,
) -> dict[str, Tensor]:
    """Thin bent strokes thrown on the tile (blades, hairs, scratches), the higher one hiding the lower.

    length and width in tile widths; angle radians (None: all ways). Returns index [n, n] int64 (-1 where
    bare), z [n, n] in [0, 1], along [n, n] (0 root, 1 tip), across [n, n] in [-1, 1].
    """
    n = draw.n
    root, rank = draw.rand(count, 2), draw.rand(count)
    scale = 0.5 + draw.rand(count)
    turn = (draw.rand(count) - 0.5) * spread + (0.0 if angle is None else angle)
    if angle is None:
        turn = draw.rand(count) * 2.0 * math.pi
    bend = draw.normal(count) * curl
    steps = max(2, math.ceil(1.5 * length * n * 1.3))
    taps = max(1, math.ceil(width * n * 1.3))
    t = torch.linspace(0.0, 1.0, steps)[None, :, None]
    s = (torch.linspace(-1.0, 1.0, taps) if taps > 1 else torch.zeros(1))[None, None, :]
    heading = turn[:, None, None] + bend[:, None, None] * t
    reach = (length * scale)[:, None, None] * t
    side = 0.5 * width * s * (1.0 - 0.75 * t)
    x = root[:, 0, None, None] + reach * torch.cos(heading) - side * torch.sin(heading)
    y = root[:, 1, None, None] + reach * torch.sin(heading) + side * torch.cos(heading)
    pixel = torch.remainder(torch.floor(y * n), n).long() * n + torch.remainder(torch.floor(x * n), n).long()
    arch = 0.55 * rank[:, None, None] + 0.45 * torch.sin(math.pi * (0.15 + 0.7 * t)) + 0.0 * s
    # The height leads the key and the sample's number follows it, so one maximum finds both.
    order = (arch.clamp(0.0, 0.999) * 2**20).long().reshape(-1)
    key = order * 2**32 + torch.arange(order.numel())
    top = torch.full((n * n,), -1, dtype=torch.int64).scatter_reduce_(0, pixel.reshape(-1), key, "amax")
    top = top.reshape(n, n)
    bare = top < 0
    sample = torch.remainder(top.clamp_min(0), 2**32)
    tap = torch.remainder(sample, taps)
    step = torch.remainder(sample // taps, steps)
    return {
        "index": torch.where(bare, -1, sample // (taps * steps)),
        "z": torch.where(bare, 0.0, (top.clamp_min(0) // 2**32).float() / 2**20),
        "along": step.float() / (steps - 1),
        "across": tap.float() / max(taps - 1, 1) * 2.0 - 1.0 if taps > 1 else torch.zeros(n, n),
    }
