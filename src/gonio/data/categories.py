"""The coarse words that prompts ask in and videos are judged by: category, colour, roughness.

Procedural families, catalogue entries and colour names are finer than these words, and some lie between two
of them. So each maps to a tuple of accepted words, the most apt first.
"""

from __future__ import annotations

from gonio.data.procedural.captions import ROUGHNESS_CLASSES
from gonio.data.procedural.captions import roughness_class as fine_roughness
from gonio.errors import UsageError

CATEGORIES: tuple[str, ...] = (
    "bark",
    "brick",
    "ceramic",
    "concrete",
    "electronics",
    "fabric",
    "facade",
    "ground",
    "leather",
    "metal",
    "organic",
    "paving",
    "plastic",
    "rock",
    "roof",
    "snow",
    "stone",
    "tiles",
    "vegetation",
    "wall",
    "wood",
)
COLORS: tuple[str, ...] = (
    "red",
    "orange",
    "yellow",
    "green",
    "cyan",
    "blue",
    "purple",
    "pink",
    "brown",
    "white",
    "grey",
    "black",
)
ROUGHNESS: tuple[str, ...] = ("glossy", "satin", "rough")

FAMILY_CATEGORIES: dict[str, tuple[str, ...]] = {
    "brick": ("brick",),
    "stone_wall": ("brick", "rock", "stone"),  # masonry of field stones, between all three
    "tile": ("tiles", "ceramic"),
    "paving": ("paving", "stone"),
    "roof": ("roof",),
    "terrazzo": ("stone", "tiles"),
    "panels": ("facade", "tiles"),  # plates and joints
    "wood": ("wood",),
    "planks": ("wood",),
    "parquet": ("wood",),
    "bark": ("bark",),
    "fabric": ("fabric",),
    "carbon": ("fabric", "plastic"),  # a weave in a clear resin
    "knit": ("fabric",),
    "carpet": ("fabric",),
    "fur": ("fabric", "organic"),
    "leather": ("leather",),
    "rust": ("metal",),
    "peeling_paint": ("metal", "wood", "wall"),  # paint in flakes, whatever is below it
    "brushed_metal": ("metal",),
    "hammered_metal": ("metal",),
    "stamped_metal": ("metal",),
    "corrugated_metal": ("metal", "roof"),
    "foil": ("plastic", "leather"),  # a wrinkled sheet that is not of metal
    "ornament": ("ceramic", "wall"),  # glossy inlay; its prints are wallpaper's
    "rock": ("rock",),
    "slate": ("rock", "stone"),
    "marble": ("stone",),
    "granite": ("stone",),
    "concrete": ("concrete",),
    "plaster": ("wall", "concrete"),
    "asphalt": ("paving", "ground"),
    "gravel": ("ground",),
    "soil": ("ground",),
    "sand": ("ground",),
    "snow": ("snow",),
    "ice": ("snow",),
    "moss": ("vegetation",),
    "grass": ("vegetation",),
    "leaves": ("ground", "vegetation"),
    "lava": ("rock",),
    "plastic": ("plastic",),
    "rubber": ("plastic",),
    "paper": ("wall", "organic"),
    "wallpaper": ("wall",),
    "glaze": ("ceramic", "plastic"),
    "quilt": ("leather", "fabric"),
}

# Catalogues of real maps use these words besides those of CATEGORIES.
_CATALOGUE = {"snow_ice": "snow"}

# Pairs that name one thing by its use and by its matter; catalogues file the same surface under either.
RELATED: tuple[frozenset[str], ...] = (
    frozenset(("tiles", "ceramic")),
    frozenset(("rock", "stone")),
    frozenset(("wall", "concrete")),
    frozenset(("wall", "facade")),
    frozenset(("paving", "stone")),
    frozenset(("ground", "paving")),
    frozenset(("ground", "vegetation")),
)

COLOR_WORDS: dict[str, tuple[str, ...]] = {
    "black": ("black",),
    "grey": ("grey",),
    "white": ("white",),
    "red": ("red",),
    "orange": ("orange",),
    "brown": ("brown",),
    "beige": ("brown", "yellow", "white"),  # tan, sand and cream
    "yellow": ("yellow",),
    "olive": ("green", "yellow", "brown"),
    "green": ("green",),
    "teal": ("cyan", "blue", "green"),
    "blue": ("blue",),
    "purple": ("purple",),
    "pink": ("pink",),
    "silver": ("grey", "white"),
    "gold": ("yellow", "orange", "brown"),
    "copper": ("orange", "brown"),
}
ROUGHNESS_WORDS: dict[str, str] = {
    "mirror-like": "glossy",
    "glossy": "glossy",
    "satin": "satin",
    "matte": "rough",
    "rough": "rough",
}
# Mean roughness below which a surface is glossy, and below which it is satin.
ROUGHNESS_LIMITS: tuple[float, float] = (ROUGHNESS_CLASSES["glossy"][1], ROUGHNESS_CLASSES["satin"][1])


def family_categories(family: str, *, metallic: bool = False) -> tuple[str, ...]:
    """Accepted categories of a procedural family; made of metal, it is foremost that. Raises UsageError."""
    if family not in FAMILY_CATEGORIES:
        raise UsageError(f"no material family {family!r}; choose one of {', '.join(FAMILY_CATEGORIES)}")
    own = FAMILY_CATEGORIES[family]
    return tuple(dict.fromkeys(("metal", *own))) if metallic else own


def catalogue_category(word: str) -> str:
    """The category of a catalogue entry of real maps. Raises UsageError."""
    category = _CATALOGUE.get(word, word)
    if category not in CATEGORIES:
        raise UsageError(f"no material category {word!r}; choose one of {', '.join(CATEGORIES)}")
    return category


def related_categories(category: str) -> frozenset[str]:
    """The category itself and those that can name the same surface."""
    return frozenset((category,)).union(*(pair for pair in RELATED if category in pair))


def coarse_color(name: str) -> str:
    """The word for one of the procedural colour names: gold is yellow, teal is cyan."""
    return COLOR_WORDS[name][0]


def coarse_roughness(mean_roughness: float) -> str:
    """glossy, satin or rough, for a mean perceptual roughness."""
    return ROUGHNESS_WORDS[fine_roughness(mean_roughness)]
