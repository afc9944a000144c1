"""Layouts of plain materials that are easily told for what they are, a few of every family.

Of up to 64 layouts a family those were taken that the bundled judge of categories, which has seen
photographs, names rightly in most colours and finishes (benchmarks/layout_scores.py): the best of every
pattern, two or three of families with few patterns, none of patterns that it knows in no layout. The first of
a family are the ones it knows best.
"""

from __future__ import annotations

# Family -> the number of a layout, as `sample_material` takes it -> the pattern it has.
LAYOUTS: dict[str, dict[int, str]] = {
    "brick": {
        9: "third bond",
        19: "flemish bond",
        14: "running bond",
        22: "stack bond",
        2: "english bond",
        16: "random bond",
    },
    "stone_wall": {9: "rubble", 18: "ashlar", 1: "rubble"},
    "tile": {
        61: "mosaic tiles",
        20: "herringbone tiles",
        60: "subway tiles",
        54: "basketweave tiles",
        51: "grid tiles",
        23: "hexagon tiles",
        25: "fish-scale tiles",
    },
    "paving": {2: "cobble", 20: "flagstone", 9: "setts", 7: "pebble"},
    "roof": {
        23: "pantile roof",
        18: "slate roof",
        9: "dragon scale roof",
        10: "scallop roof",
        8: "shingle roof",
    },
    "terrazzo": {6: "chips", 8: "chips", 10: "chips"},
    "panels": {2: "panels", 7: "panels", 1: "panels"},
    "wood": {0: "grain", 10: "grain", 6: "grain"},
    "planks": {0: "planks", 2: "planks", 1: "planks"},
    "parquet": {9: "basketweave parquet", 1: "herringbone parquet", 10: "herringbone parquet"},
    "bark": {5: "bark ridges", 9: "bark ridges", 10: "bark ridges"},
    "fabric": {
        35: "twill weave",
        43: "denim weave",
        54: "checked denim weave",
        41: "striped denim weave",
        61: "plain weave",
        16: "striped twill weave",
        42: "basket weave",
        27: "checked twill weave",
        29: "satin weave",
    },
    "carbon": {24: "twill weave", 4: "denim weave", 30: "plain weave"},
    "knit": {6: "cable knit", 15: "cable knit", 2: "stockinette knit"},
    "carpet": {8: "looped pile", 12: "looped pile", 5: "cut pile"},
    "fur": {48: "hair", 51: "hair", 28: "hair"},
    "leather": {8: "leather grain", 4: "leather grain", 6: "leather grain"},
    "rust": {2: "rust patches", 1: "rust patches", 9: "rust patches"},
    "peeling_paint": {36: "flaking paint", 56: "flaking paint", 50: "flaking paint"},
    "brushed_metal": {16: "scratches", 3: "brush lines", 10: "scratches", 1: "brush lines"},
    "hammered_metal": {9: "hammer marks", 6: "hammer marks", 2: "hammer marks"},
    "stamped_metal": {
        14: "five-bar plate",
        20: "studs",
        9: "rivets",
        16: "grating",
        51: "diamond plate",
        28: "perforated",
    },
    "corrugated_metal": {3: "corrugation", 0: "corrugation"},
    "foil": {7: "creases", 8: "creases"},
    "ornament": {13: "waves inlay", 21: "lattice inlay", 23: "rosette inlay"},
    "rock": {7: "layered rock", 58: "layered rock", 43: "craggy rock", 12: "craggy rock"},
    "slate": {25: "cleft layers", 61: "cleft layers", 29: "cleft layers"},
    "marble": {8: "veins", 7: "veins", 0: "veins"},
    "granite": {5: "grains", 9: "grains", 2: "grains"},
    "concrete": {3: "cast concrete", 0: "cast concrete", 8: "cast concrete"},
    "plaster": {
        35: "trowelled plaster",
        34: "combed plaster",
        50: "orange peel plaster",
        46: "stucco plaster",
    },
    "asphalt": {31: "aggregate", 39: "aggregate", 52: "aggregate"},
    "gravel": {2: "scattered stones", 1: "scattered stones", 6: "scattered stones"},
    "soil": {11: "cracked soil", 33: "rooty soil", 54: "pebbly soil"},
    "sand": {48: "ripples", 29: "ripples", 4: "ripples"},
    "snow": {61: "drifts", 58: "drifts", 38: "drifts"},
    "ice": {2: "ice cracks", 11: "ice cracks", 10: "ice cracks"},
    "moss": {4: "clumps", 0: "clumps", 6: "clumps"},
    "grass": {0: "blades", 2: "blades", 8: "blades"},
    "leaves": {9: "scattered leaves", 6: "scattered leaves", 7: "scattered leaves"},
    "lava": {3: "folds", 2: "folds", 8: "folds"},
    "plastic": {
        16: "pyramids",
        25: "diamonds",
        41: "crosses",
        11: "waves",
        42: "dots",
        63: "hexagons",
        52: "fine texture",
    },
    "rubber": {27: "waves", 38: "diamonds", 10: "pyramids", 56: "ribs", 15: "crosses", 48: "dots"},
    "paper": {8: "fibrous paper", 16: "creased paper", 6: "cardboard paper", 7: "handmade paper"},
    "wallpaper": {
        27: "polka dot print",
        30: "damask print",
        49: "camouflage print",
        62: "floral print",
        13: "stripe print",
        50: "speckle print",
    },
    "glaze": {
        11: "plain glaze",
        15: "drip glaze",
        17: "crackle glaze",
        19: "flake glaze",
        2: "reactive glaze",
    },
    "quilt": {5: "quilted padding", 3: "quilted padding"},
}
# Every layout of every family.
CHOSEN: tuple[tuple[str, int], ...] = tuple(
    (family, layout) for family, layouts in LAYOUTS.items() for layout in layouts
)
