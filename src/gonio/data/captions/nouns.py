"""What people call materials: names for procedural families, true under conditions, and for categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_DULL = ("matte", "rough")
_SHINY = ("mirror-like", "glossy")


@dataclass(frozen=True, kw_only=True)
class Names:
    """Phrases for a family whose pattern, adjectives, colour and finish meet the conditions.

    "{metal}" in a phrase stands for a metal of the measured colour. tells_color: the phrase says the colour
    as well as its name would ("walnut", "fresh snow"), so that it may go unsaid.
    """

    phrases: tuple[str, ...]
    pattern: str = ""  # a part of the pattern's name
    adjective: str = ""
    colors: tuple[str, ...] = ()
    finishes: tuple[str, ...] = ()
    tells_color: bool = False

    def fit(self, attributes: Mapping[str, Any]) -> bool:
        return (
            self.pattern in (attributes["pattern_family"] or "")
            and (not self.adjective or self.adjective in attributes["adjectives"])
            and (not self.colors or attributes["dominant_color"] in self.colors)
            and (not self.finishes or attributes["roughness_class"] in self.finishes)
        )


def _n(*phrases: str, **conditions: Any) -> Names:
    return Names(phrases=phrases, **conditions)


def _of(colors: str, *phrases: str, **conditions: Any) -> Names:
    """Names of what has one of these colours by nature."""
    return Names(phrases=phrases, colors=tuple(colors.split()), tells_color=True, **conditions)


_EARTHY = "red orange brown"
_TAN = "brown beige olive"

NAMES: dict[str, tuple[Names, ...]] = {
    "brick": (
        _n("bricks", "brick wall", "bricks with mortar", "brickwork", "brick facade"),
        _of(_EARTHY, "clay bricks", "fired bricks", "old factory bricks"),
        _of("grey", "concrete bricks", "cinder blocks"),
    ),
    "stone_wall": (
        _n("stone wall", "masonry wall", "castle wall"),
        _n("ashlar masonry", "cut stone blocks", pattern="ashlar"),
        _n("rubble wall", "field stone wall", "dry stone wall", pattern="rubble"),
    ),
    "tile": (
        _n("tiles", "ceramic tiles", "tiles with grout", "floor tiles", "wall tiles"),
        _n("glazed ceramic tiles", "glazed tiles", "porcelain tiles", finishes=_SHINY),
        _n("mosaic tiles", "small mosaic tiles", pattern="mosaic"),
        _n("hexagonal tiles", "hexagon floor tiles", pattern="hexagon"),
        _n("subway tiles", "metro tiles", "kitchen tiles", pattern="subway"),
        _n("square tiles", "bathroom tiles", "shower tiles", pattern="grid"),
        _n("fish-scale tiles", "scalloped tiles", pattern="fish-scale"),
        _n("herringbone tiles", pattern="herringbone"),
        _of(_EARTHY, "terracotta floor tiles", "quarry tiles"),
        _of("blue teal", "swimming pool tiles", pattern="mosaic"),
    ),
    "paving": (
        _n("paving stones", "stone pavement", "courtyard paving"),
        _n("cobblestones", "cobbled street", "cobbled road", pattern="cobble"),
        _n("stone setts", "street paving", "old town street", pattern="setts"),
        _n("flagstones", "flagstone patio", "stone slabs", pattern="flagstone"),
        _n("pebble paving", "pebble path", pattern="pebble"),
    ),
    "roof": (
        _n("roof tiles", "roofing", "house roof"),
        _of(_EARTHY, "clay roof tiles", "terracotta roof tiles"),
        _of("grey black blue", "slate roof", "slate roof tiles", pattern="slate"),
        _n("roof shingles", "wooden shingles", pattern="shingle"),
        _n("pantiles", "curved roof tiles", pattern="pantile"),
        _n("scalloped roof tiles", pattern="scallop"),
        _n("dragon scales", "overlapping scales", "fish scales", pattern="dragon"),
    ),
    "terrazzo": (_n("terrazzo", "terrazzo floor", "terrazzo with stone chips"),),
    "panels": (
        _n("facade panels", "wall panels", "cladding panels", "spaceship hull panels", "control panel"),
    ),
    "wood": (
        _n("wood", "timber", "wooden board", "wood grain", "wood veneer", "table top"),
        _of("brown beige", "oak wood", "oak veneer", "maple wood", "ash wood", "teak"),
        _of("beige yellow", "plywood", "bamboo", "birch plywood"),
        _of("beige orange yellow", "pine wood", "spruce board"),
        _of("brown", "walnut wood", "mahogany", "rosewood", "cedar wood"),
        _of("red orange", "cherry wood"),
        _of("black", "ebony", "charred wood"),
        _n("varnished wood", "lacquered wood", finishes=_SHINY),
    ),
    "planks": (
        _n("wooden planks", "wood boards", "plank floor", "floorboards", "wooden siding", "fence boards"),
        _of("brown beige", "oak floorboards", "oak planks", "deck boards"),
        _of("grey", "driftwood planks", "weathered decking"),
        _n("weathered barn boards", "old boards", adjective="weathered"),
        _n("painted planks", colors=("white", "red", "teal", "blue", "green", "yellow", "pink", "purple")),
        _n("lacquered boards", "varnished floorboards", finishes=_SHINY),
    ),
    "parquet": (
        _n("parquet floor", "wood parquet", "wooden floor", "parquet flooring"),
        _n("herringbone parquet", "chevron wood floor", pattern="herringbone"),
        _of("brown beige", "oak parquet"),
    ),
    "bark": (
        _n("tree bark", "bark", "rough bark", "tree trunk"),
        _of("white", "birch bark"),
        _of("brown orange grey", "pine bark", "oak bark", "spruce bark", "cork"),
    ),
    "fabric": (
        _n("woven fabric", "cloth", "textile", "fabric", "upholstery fabric", "curtain fabric"),
        _n("denim", "denim fabric", "jeans fabric", pattern="denim"),
        _of("blue", "denim", "blue jeans", pattern="denim"),
        _n("cotton canvas", "linen cloth", "cotton", "nylon fabric", pattern="plain weave", finishes=_DULL),
        _of(_TAN, "burlap", "sackcloth", "hessian", "jute", pattern="plain weave", finishes=_DULL),
        _of("brown beige orange", "wicker", "woven wicker", "rattan", "straw mat", pattern="basket"),
        _n("basket weave", "woven strips", pattern="basket"),
        _n("silk", "satin cloth", "shiny ribbon", pattern="satin", finishes=("satin", *_SHINY)),
        _n("tweed", "woollen cloth", "suit fabric", pattern="twill", finishes=_DULL),
        _n("twill", "gabardine", pattern="twill"),
        _n("checked cloth", "gingham", "plaid fabric", "tartan", "flannel shirt", pattern="checked"),
        _n("striped cloth", "deck chair canvas", pattern="striped"),
    ),
    "carbon": (
        _n("carbon fibre", "carbon fiber weave", "carbon fibre weave"),
        _of("black grey", "carbon fibre", "carbon fiber composite"),
        _of("yellow gold", "kevlar"),
    ),
    "knit": (
        _n("knitted wool", "knit fabric", "woollen sweater", "woollen jumper", "knitwear", "knitted scarf"),
        _n("cable-knit sweater", pattern="cable"),
    ),
    "carpet": (
        _n("carpet", "rug", "felt", "fleece"),
        _n("velvet", "plush fabric", "velour", pattern="cut pile"),
        _n("looped carpet", "terry cloth", "bath towel", pattern="looped"),
    ),
    "fur": (
        _n("fur", "animal fur", "animal hair", "pelt", "faux fur", "shaggy fur"),
        _of("brown", "bear fur"),
        _of("white beige", "sheepskin"),
        _of("orange", "fox fur"),
    ),
    "leather": (
        _n("leather", "leather hide", "full-grain leather", "faux leather", "leather sofa"),
        _n("creased leather", "leather with creases", "worn leather", adjective="creased"),
        _n("pebbled leather", "grained leather", "reptile skin", "snake skin", adjective="pebbled"),
        _of("brown beige orange", "saddle leather", "tanned hide"),
        _n("suede", "nubuck leather", finishes=_DULL),
        _n("patent leather", finishes=_SHINY),
    ),
    "quilt": (
        _n("quilted upholstery", "padded upholstery", "padded car seat", "mattress"),
        _n("quilted leather", finishes=("satin", *_SHINY)),
        _n("quilted fabric", "quilted jacket", finishes=_DULL),
    ),
    "rust": (
        _n("rusty metal", "rusted iron", "corroded steel", "rusted iron sheet", "rust"),
        _of(_EARTHY, "corten steel", "oxidised steel plate"),
    ),
    "peeling_paint": (
        _n("peeling paint", "flaking paint", "chipped paintwork", "old peeling paint", "cracked paint"),
    ),
    "brushed_metal": (
        _n("{metal}", "{metal} sheet", "{metal} surface"),
        _n("brushed {metal}", "machined {metal}", pattern="brush"),
        _n("scratched {metal}", "{metal} with fine scratches", "worn {metal}", pattern="scratch"),
        _n("polished {metal}", finishes=_SHINY),
    ),
    "hammered_metal": (
        _n("hammered {metal}", "beaten {metal}", "{metal} with hammer marks", "dented {metal}"),
    ),
    "stamped_metal": (
        _n("{metal} plate", "stamped {metal}", "embossed {metal}"),
        _n("diamond plate {metal}", "{metal} checker plate", "{metal} floor plate", pattern="diamond plate"),
        _n("{metal} tread plate", pattern="five-bar"),
        _n("riveted {metal}", "riveted {metal} plate", "{metal} hull with rivets", pattern="rivets"),
        _n("perforated {metal} sheet", "{metal} speaker grille", pattern="perforated"),
        _n("{metal} grating", "{metal} wire mesh", "{metal} grid", pattern="grating"),
        _n("studded {metal} plate", pattern="studs"),
    ),
    "corrugated_metal": (
        _n("corrugated {metal}", "corrugated {metal} sheet", "corrugated {metal} roofing"),
        _n("{metal} shipping container", "{metal} shed wall"),
    ),
    "foil": (
        _n("crumpled plastic sheet", "wrinkled plastic film", "crinkled vinyl", "tarpaulin", "plastic bag"),
    ),
    "ornament": (_n("inlaid lacquer", "ornamental inlay", "decorative inlaid panel", "moroccan ornament"),),
    "rock": (
        _n("rock", "rock face", "cliff stone", "rough stone"),
        _n("layered rock", "sedimentary rock layers", "canyon wall", pattern="layered"),
        _of(f"{_EARTHY} beige", "sandstone", "layered sandstone", pattern="layered"),
        _of("beige white", "limestone cliff", "chalk cliff"),
        _n("cracked rock", pattern="cracked"),
        _n("craggy cliff", "boulder surface", "cave wall", pattern="craggy"),
        _n("mossy rock", adjective="mossy"),
    ),
    "slate": (
        _n("slate", "split slate", "slate stone", "schist"),
        _of("grey black blue", "slate", "split slate", "shale"),
    ),
    "marble": (
        _n("marble", "marble slab", "marble with veins", "onyx stone"),
        _n("polished marble", "marble countertop", finishes=_SHINY),
        _of("white", "marble", "alabaster", "statuary marble"),
        _of("beige", "travertine"),
        _of("green", "jade", "malachite"),
        _of("blue", "lapis lazuli"),
    ),
    "granite": (
        _n("granite", "granite slab", "kitchen worktop", "speckled stone"),
        _n("polished granite", finishes=_SHINY),
    ),
    "concrete": (
        _n("concrete", "concrete wall", "cement", "concrete slab"),
        _of("grey", "concrete", "concrete wall", "cement floor", "bunker wall", "raw concrete"),
        _n("board-formed concrete", adjective="board-formed"),
        _n("cracked concrete", adjective="cracked"),
        _n("pitted concrete", "porous concrete", adjective="porous"),
    ),
    "plaster": (
        _n("plaster", "plaster wall", "rendered wall", "painted wall"),
        _of("white", "plaster", "whitewashed wall"),
        _of(f"{_EARTHY} beige", "clay plaster", "adobe wall"),
        _n("stucco", "stucco wall", pattern="stucco"),
        _n("trowelled plaster", "Venetian plaster", pattern="trowelled"),
    ),
    "asphalt": (
        _n("asphalt", "asphalt road", "tarmac", "road surface"),
        _of("black grey", "asphalt", "asphalt road", "tarmac", "parking lot"),
    ),
    "gravel": (
        _n("gravel", "pebbles", "crushed stone", "small stones", "pebble beach", "river stones"),
        _of("grey", "gravel", "railway ballast"),
        _of("black", "basalt gravel", "coal"),
    ),
    "soil": (
        _n("soil", "earth", "dirt ground", "dirt path"),
        _of("brown", "soil", "garden soil", "potting soil", "ploughed field"),
        _of("black", "peat"),
        _of("red orange", "Martian ground", "red earth"),
        _n("cracked mud", "dried mud", "parched earth", "dry lake bed", pattern="cracked"),
        _n("forest floor", "soil with roots", pattern="rooty"),
        _n("pebbly ground", "stony soil", pattern="pebbly"),
    ),
    "sand": (
        _n("sand", "beach sand", "sandy beach", "desert sand", "rippled sand"),
        _of("beige yellow", "sand", "beach sand", "sand dune", "desert dunes", "rippled sand"),
    ),
    "snow": (
        _n("snow", "fresh snow", "powder snow", "wind-blown snow"),
        _of("white", "snow", "fresh snow", "snowdrift", "ski slope", "trampled snow"),
    ),
    "ice": (
        _n("ice", "frozen lake", "cracked ice", "frosted ice"),
        _of("white blue teal", "ice", "glacier ice", "frozen pond"),
    ),
    "moss": (
        _n("moss", "cushion moss", "mossy ground", "moss carpet"),
        _of("green olive", "moss", "moss cushion", "forest moss", "lichen and moss"),
    ),
    "grass": (
        _n("grass"),
        _of("green olive", "grass", "football pitch", "grassy field", "garden lawn"),
        _n("lawn", "mown lawn", "turf", adjective="short-cut"),
        _n("meadow grass", "tall grass", adjective="long-bladed"),
        _n("dry grass", "withered grass", "hay", "straw", adjective="dry"),
    ),
    "leaves": (
        _n("fallen leaves", "leaf litter", "forest floor covered in leaves", "leaves on the ground"),
        _of(f"{_EARTHY} yellow", "autumn leaves", "dry leaves"),
        _of("green", "ivy leaves", "leafy hedge"),
    ),
    "lava": (
        _n("lava rock", "volcanic rock", "volcanic crust"),
        _of("black grey", "basalt", "hardened lava", "cooled lava"),
    ),
    "plastic": (
        _n("plastic", "moulded plastic", "plastic sheet", "textured plastic", "plastic casing", "silicone"),
        _n("honeycomb panel", "honeycomb", pattern="hexagon"),
        _n("acrylic sheet", "vinyl", finishes=_SHINY),
        _n("car dashboard plastic", "ABS plastic", pattern="fine texture"),
    ),
    "rubber": (
        _n("rubber", "rubber mat", "rubber flooring", "gym floor"),
        _of("black grey", "rubber", "tyre rubber", "rubber mat"),
        _n("studded rubber", "studded rubber mat", pattern="dots"),
        _n("ribbed rubber mat", pattern="ribs"),
    ),
    "paper": (
        _n("paper"),
        _n("cardboard", pattern="cardboard"),
        _of("brown beige", "cardboard", "cardboard box", pattern="cardboard"),
        _of("brown beige yellow", "parchment", "kraft paper"),
        _n("crumpled paper", pattern="creased"),
        _n("handmade paper", pattern="handmade"),
    ),
    "wallpaper": (
        _n("wallpaper", "printed wallpaper", "wall covering"),
        _n("striped wallpaper", pattern="stripe"),
        _n("floral wallpaper", "flower print", pattern="floral"),
        _n("dotted wallpaper", "polka dots", pattern="polka"),
        _n("chequered wallpaper", pattern="chequer"),
        _n("damask wallpaper", pattern="damask"),
        _n("camouflage", "camouflage print", pattern="camouflage"),
    ),
    "glaze": (
        _n("glazed ceramic", "glazed pottery", "enamel", "lacquer", "car paint", "glossy coating"),
        _n("crackle glaze", "cracked glazed pottery", pattern="crackle"),
        _of("white", "porcelain", "white china"),
        _of("green teal", "celadon glaze"),
    ),
}

# What a family is called when it is metallic against its nature.
METALLIC_NAMES: dict[str, tuple[str, ...]] = {
    "panels": ("{metal} panels", "{metal} hull plating", "{metal} facade panels"),
    "foil": ("crumpled {metal} foil", "wrinkled {metal} foil", "{metal} foil", "kitchen {metal} foil"),
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
