"""What people call materials: names for procedural families, true under conditions, and for categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_DULL = ("matte", "rough")
_SHINY = ("mirror-like", "glossy")
_EARTHY = ("red", "orange", "brown")
_TAN = ("brown", "beige", "olive")


@dataclass(frozen=True, kw_only=True)
class Names:
    """Phrases for a family whose pattern, adjectives, colour and finish meet the conditions.

    "{metal}" in a phrase stands for a metal of the measured colour.
    """

    phrases: tuple[str, ...]
    pattern: str = ""  # a part of the pattern's name
    adjective: str = ""
    colors: tuple[str, ...] = ()
    finishes: tuple[str, ...] = ()

    def fit(self, attributes: Mapping[str, Any]) -> bool:
        return (
            self.pattern in (attributes["pattern_family"] or "")
            and (not self.adjective or self.adjective in attributes["adjectives"])
            and (not self.colors or attributes["dominant_color"] in self.colors)
            and (not self.finishes or attributes["roughness_class"] in self.finishes)
        )


def _n(*phrases: str, **conditions: Any) -> Names:
    return Names(phrases=phrases, **conditions)


NAMES: dict[str, tuple[Names, ...]] = {
    "brick": (
        _n("bricks", "brick wall", "bricks with mortar"),
        _n("clay bricks", "fired bricks", colors=_EARTHY),
    ),
    "stone_wall": (
        _n("stone wall", "masonry wall"),
        _n("ashlar masonry", "cut stone blocks", pattern="ashlar"),
        _n("rubble wall", "field stone wall", "dry stone wall", pattern="rubble"),
    ),
    "tile": (
        _n("tiles", "ceramic tiles", "tiles with grout", "floor tiles"),
        _n("glazed ceramic tiles", "glazed tiles", "porcelain tiles", finishes=_SHINY),
        _n("mosaic tiles", "small mosaic tiles", pattern="mosaic"),
        _n("hexagonal tiles", "hexagon floor tiles", pattern="hexagon"),
        _n("subway tiles", "metro tiles", "kitchen tiles", pattern="subway"),
        _n("square tiles", "bathroom tiles", pattern="grid"),
        _n("fish-scale tiles", "scalloped tiles", pattern="fish-scale"),
        _n("herringbone tiles", pattern="herringbone"),
    ),
    "paving": (
        _n("paving stones", "stone pavement"),
        _n("cobblestones", "cobbled street", "cobbled road", pattern="cobble"),
        _n("stone setts", "street paving", pattern="setts"),
        _n("flagstones", "flagstone patio", "stone slabs", pattern="flagstone"),
        _n("pebble paving", "pebble path", pattern="pebble"),
    ),
    "roof": (
        _n("roof tiles", "roofing"),
        _n("clay roof tiles", "terracotta roof tiles", colors=_EARTHY),
        _n("slate roof", "slate roof tiles", pattern="slate", colors=("grey", "black", "blue")),
        _n("roof shingles", pattern="shingle"),
        _n("pantiles", "curved roof tiles", pattern="pantile"),
        _n("scalloped roof tiles", pattern="scallop"),
        _n("dragon scales", "overlapping scales", pattern="dragon"),
    ),
    "terrazzo": (_n("terrazzo", "terrazzo floor", "terrazzo with stone chips"),),
    "panels": (_n("facade panels", "wall panels", "cladding panels"),),
    "wood": (
        _n("wood", "timber", "wooden board", "wood grain"),
        _n("oak wood", "oak veneer", "maple wood", colors=("brown", "beige")),
        _n("pine wood", colors=("beige", "orange", "yellow")),
        _n("walnut wood", "mahogany", colors=("brown",)),
        _n("varnished wood", "lacquered wood", finishes=_SHINY),
    ),
    "planks": (
        _n("wooden planks", "wood boards", "plank floor", "floorboards"),
        _n("oak floorboards", "oak planks", colors=("brown", "beige")),
        _n("weathered barn boards", "old boards", adjective="weathered"),
        _n("painted planks", colors=("white", "red", "teal", "blue", "green", "yellow", "pink", "purple")),
        _n("lacquered boards", "varnished floorboards", finishes=_SHINY),
    ),
    "parquet": (
        _n("parquet floor", "wood parquet", "wooden floor", "parquet flooring"),
        _n("herringbone parquet", pattern="herringbone"),
        _n("oak parquet", colors=("brown", "beige")),
    ),
    "bark": (
        _n("tree bark", "bark", "rough bark"),
        _n("birch bark", colors=("white",)),
        _n("pine bark", "oak bark", colors=("brown", "orange", "grey")),
    ),
    "fabric": (
        _n("woven fabric", "cloth", "textile", "fabric"),
        _n("denim", "denim fabric", "jeans fabric", pattern="denim"),
        _n("cotton canvas", "linen cloth", pattern="plain weave", finishes=_DULL),
        _n("burlap", "sackcloth", "hessian", pattern="plain weave", colors=_TAN, finishes=_DULL),
        _n("wicker", "woven wicker", "rattan", pattern="basket", colors=("brown", "beige", "orange")),
        _n("basket weave", pattern="basket"),
        _n("silk", "satin cloth", pattern="satin", finishes=("satin", *_SHINY)),
        _n("tweed", "woollen cloth", pattern="twill", finishes=_DULL),
        _n("twill", pattern="twill"),
        _n("checked cloth", "gingham", "plaid fabric", pattern="checked"),
        _n("striped cloth", pattern="striped"),
    ),
    "carbon": (_n("carbon fibre", "carbon fiber weave", "carbon fibre weave"),),
    "knit": (
        _n("knitted wool", "knit fabric", "woollen sweater", "woollen jumper", "knitwear"),
        _n("cable-knit sweater", pattern="cable"),
    ),
    "carpet": (
        _n("carpet", "rug"),
        _n("velvet", "plush fabric", "velour", pattern="cut pile"),
        _n("looped carpet", "terry cloth", pattern="looped"),
    ),
    "fur": (_n("fur", "animal fur", "animal hair", "pelt"),),
    "leather": (
        _n("leather", "leather hide", "full-grain leather"),
        _n("creased leather", "leather with creases", adjective="creased"),
        _n("pebbled leather", "grained leather", adjective="pebbled"),
        _n("suede", "nubuck leather", finishes=_DULL),
        _n("patent leather", finishes=_SHINY),
    ),
    "quilt": (
        _n("quilted upholstery", "padded upholstery"),
        _n("quilted leather", finishes=("satin", *_SHINY)),
        _n("quilted fabric", finishes=_DULL),
    ),
    "rust": (_n("rusty metal", "rusted iron", "corroded steel", "rusted iron sheet"),),
    "peeling_paint": (_n("peeling paint", "flaking paint", "chipped paintwork", "old peeling paint"),),
    "brushed_metal": (
        _n("{metal}", "{metal} sheet"),
        _n("brushed {metal}", pattern="brush"),
        _n("scratched {metal}", "{metal} with fine scratches", pattern="scratch"),
        _n("polished {metal}", finishes=_SHINY),
    ),
    "hammered_metal": (_n("hammered {metal}", "beaten {metal}", "{metal} with hammer marks"),),
    "stamped_metal": (
        _n("{metal} plate", "stamped {metal}"),
        _n("diamond plate {metal}", "{metal} checker plate", pattern="diamond plate"),
        _n("{metal} tread plate", pattern="five-bar"),
        _n("riveted {metal}", "riveted {metal} plate", pattern="rivets"),
        _n("perforated {metal} sheet", pattern="perforated"),
        _n("{metal} grating", "{metal} wire mesh", pattern="grating"),
        _n("studded {metal} plate", pattern="studs"),
    ),
    "corrugated_metal": (_n("corrugated {metal}", "corrugated {metal} sheet", "corrugated {metal} roofing"),),
    "foil": (_n("crumpled plastic sheet", "wrinkled plastic film", "crinkled vinyl"),),
    "ornament": (_n("inlaid lacquer", "ornamental inlay", "decorative inlaid panel"),),
    "rock": (
        _n("rock", "rock face", "cliff stone"),
        _n("layered rock", "sedimentary rock layers", pattern="layered"),
        _n("sandstone", "layered sandstone", pattern="layered", colors=(*_EARTHY, "beige")),
        _n("cracked rock", pattern="cracked"),
        _n("craggy cliff", "boulder surface", pattern="craggy"),
        _n("mossy rock", adjective="mossy"),
    ),
    "slate": (_n("slate", "split slate", "slate stone"),),
    "marble": (
        _n("marble", "marble slab", "marble with veins"),
        _n("polished marble", "marble countertop", finishes=_SHINY),
    ),
    "granite": (_n("granite", "granite slab"), _n("polished granite", finishes=_SHINY)),
    "concrete": (
        _n("concrete", "concrete wall", "cement", "concrete slab"),
        _n("board-formed concrete", adjective="board-formed"),
        _n("cracked concrete", adjective="cracked"),
        _n("pitted concrete", "porous concrete", adjective="porous"),
    ),
    "plaster": (
        _n("plaster", "plaster wall", "rendered wall"),
        _n("stucco", "stucco wall", pattern="stucco"),
        _n("trowelled plaster", pattern="trowelled"),
    ),
    "asphalt": (_n("asphalt", "asphalt road", "tarmac", "road surface"),),
    "gravel": (
        _n("gravel", "pebbles", "crushed stone", "small stones"),
        _n("basalt gravel", colors=("black",)),
    ),
    "soil": (
        _n("soil", "earth", "dirt ground"),
        _n("cracked mud", "dried mud", "parched earth", pattern="cracked"),
        _n("forest floor", "soil with roots", pattern="rooty"),
        _n("pebbly ground", "stony soil", pattern="pebbly"),
    ),
    "sand": (_n("sand", "beach sand", "sandy beach", "desert sand", "rippled sand"),),
    "snow": (_n("snow", "fresh snow", "powder snow", "wind-blown snow"),),
    "ice": (_n("ice", "frozen lake", "cracked ice", "frosted ice"),),
    "moss": (_n("moss", "cushion moss", "mossy ground", "moss carpet"),),
    "grass": (
        _n("grass"),
        _n("lawn", "mown lawn", "turf", adjective="short-cut"),
        _n("meadow grass", "tall grass", adjective="long-bladed"),
        _n("dry grass", "withered grass", adjective="dry"),
    ),
    "leaves": (
        _n("fallen leaves", "leaf litter", "forest floor covered in leaves"),
        _n("autumn leaves", colors=(*_EARTHY, "yellow")),
    ),
    "lava": (
        _n("lava rock", "volcanic rock", "volcanic crust"),
        _n("basalt", "hardened lava", colors=("black", "grey")),
    ),
    "plastic": (_n("plastic", "moulded plastic", "plastic sheet", "textured plastic"),),
    "rubber": (
        _n("rubber", "rubber mat", "rubber flooring"),
        _n("studded rubber", "studded rubber mat", pattern="dots"),
        _n("ribbed rubber mat", pattern="ribs"),
    ),
    "paper": (
        _n("paper"),
        _n("cardboard", pattern="cardboard"),
        _n("crumpled paper", pattern="creased"),
        _n("handmade paper", pattern="handmade"),
    ),
    "wallpaper": (
        _n("wallpaper", "printed wallpaper", "wall covering"),
        _n("striped wallpaper", pattern="stripe"),
        _n("floral wallpaper", pattern="floral"),
        _n("dotted wallpaper", pattern="polka"),
        _n("chequered wallpaper", pattern="chequer"),
        _n("damask wallpaper", pattern="damask"),
    ),
    "glaze": (
        _n("glazed ceramic", "glazed pottery", "enamel", "lacquer"),
        _n("porcelain", colors=("white",)),
    ),
}

# What a family is called when it is metallic against its nature.
METALLIC_NAMES: dict[str, tuple[str, ...]] = {
    "panels": ("{metal} panels", "{metal} hull plating", "{metal} facade panels"),
    "foil": ("crumpled {metal} foil", "wrinkled {metal} foil", "{metal} foil"),
    "tile": ("{metal} tiles", "{metal} mosaic tiles"),
    "glaze": ("{metal} enamel", "polished {metal} surface"),
    "ornament": ("{metal} ornamental inlay", "ornamental {metal}"),
}

# Names for real maps by category; their own folder's name comes first.
CATEGORY_NOUNS: dict[str, tuple[str, ...]] = {
    "bark": ("tree bark", "bark"),
    "brick": ("brick wall", "bricks", "brickwork"),
    "ceramic": ("glazed ceramic", "ceramic"),
    "concrete": ("concrete", "concrete wall"),
    "electronics": ("circuit board", "electronic board"),
    "fabric": ("fabric", "cloth", "textile"),
    "facade": ("facade", "building facade"),
    "ground": ("ground", "bare ground"),
    "leather": ("leather", "leather hide"),
    "metal": ("metal", "metal surface"),
    "organic": ("organic surface",),
    "paving": ("pavement", "paving"),
    "plastic": ("plastic", "plastic surface"),
    "rock": ("rock", "rock face"),
    "roof": ("roof tiles", "roofing"),
    "snow": ("snow",),
    "stone": ("stone", "stone surface"),
    "tiles": ("tiles", "tiled surface"),
    "vegetation": ("ground vegetation", "plants"),
    "wall": ("wall", "wall surface"),
    "wood": ("wood", "wooden surface"),
}
