"""Prompt expansion without a model: a seeded grammar over geometry, detail, colour and weathering.

The person's words stay as they are. What is added names no colour, no metal and no light, and keeps clear of
what the words exclude: nothing worn on what is new, nothing rough on what is polished.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from torch import Tensor

from gonio.data.captions import PREFIX
from gonio.data.captions.words import COLOR_NAMING_WORDS, METAL_WORDS, words_of
from gonio.generate.expand.base import Expansion
from gonio.models.text import check_prompt

LONG_ENOUGH = 30  # words; such a prompt needs no expansion

_WORN = frozenset(
    "weathered worn old aged ancient rusty rusted cracked peeling stained dirty mossy flaking chipped broken "
    "scratched scratches faded dusty damaged corroded eroded torn frayed distressed crumbling burnt".split()
)
_KEPT = frozenset(
    "polished new fresh clean glossy smooth lacquered glazed varnished mirror pristine shiny brushed sleek "
    "reflective chrome chromed satin".split()
)
_ENDS_SUBJECT = frozenset("with on in of from seen under over and covered".split())


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """Materials of one nature: the words that tell, and what can be said of all of them."""

    words: frozenset[str]
    geometry: tuple[str, ...]
    details: tuple[str, ...]
    ages: bool = True  # whether it can look weathered


def _kind(words: str, geometry: tuple[str, ...], details: tuple[str, ...], ages: bool = True) -> _Kind:
    return _Kind(words=frozenset(words.split()), geometry=geometry, details=details, ages=ages)


_KINDS = (
    _kind(
        "brick bricks brickwork masonry tile tiles paving cobblestone cobblestones cobbles setts flagstone "
        "flagstones pavers mosaic roof roofing shingle shingles pantiles ashlar",
        (
            "separate pieces divided by narrow recessed joints",
            "joints of slightly varying width",
            "pieces that differ a little in size and tilt",
        ),
        (
            "crisp edges along the joints",
            "small differences from piece to piece",
            "fine structure inside every piece",
        ),
    ),
    _kind(
        "moss mossy lawn grass turf meadow lichen ivy foliage hedge leaves fern clover vegetation plants",
        (
            "dense layered growth of thousands of tiny parts",
            "overlapping strands that point in many directions",
            "a thick living cover with small hollows",
        ),
        (
            "fine tips standing out against deeper layers",
            "tender new growth between older parts",
            "countless delicate shapes crowded together",
        ),
        ages=False,
    ),
    _kind(
        "fabric cloth denim wool woollen knit knitted velvet burlap sackcloth tweed felt canvas linen silk "
        "cotton wicker tablecloth sweater carpet rug weave woven textile corduroy lace "
        "hessian jeans upholstery fur",
        (
            "a soft surface built of fine fibres",
            "a repeating structure with small human irregularities",
            "a tactile surface that follows its threads",
        ),
        (
            "fibres visible at the smallest scale",
            "tiny gaps between neighbouring strands",
            "subtle changes of direction and tension",
        ),
    ),
    _kind(
        "wood wooden oak walnut pine maple birch cherry mahogany teak plank planks floorboards boards veneer "
        "parquet timber plywood bamboo",
        (
            "long flowing grain lines",
            "grain that bends softly around small knots",
            "fine growth lines running along its length",
        ),
        (
            "tiny pores following the grain",
            "a natural figure that never repeats",
            "delicate fibres between the growth lines",
        ),
    ),
    _kind(
        "bark trunk",
        ("plates and furrows that follow the trunk", "a surface broken by deep natural fissures"),
        ("thin layers visible at the edges", "fine fibres inside the furrows"),
    ),
    _kind(
        "leather suede hide snakeskin crocodile nubuck",
        ("a supple surface of tiny natural cells", "a dense organic grain"),
        ("minute pores between the cells", "soft transitions from cell to cell"),
    ),
    _kind(
        "metal steel iron copper bronze brass gold silver aluminium aluminum zinc tin chrome titanium plate "
        "foil sheet corrugated mesh grating spangle",
        ("a hard dense surface with precise forms", "a solid surface shaped by its manufacture"),
        ("minute tool marks at the smallest scale", "reflections that follow every change of shape"),
    ),
    _kind(
        "stone rock marble granite slate sandstone limestone basalt concrete cement asphalt tarmac plaster "
        "stucco terrazzo travertine cliff boulder wall lava",
        ("a solid mineral surface", "a dense body of many fine mineral grains"),
        (
            "tiny inclusions of different sizes",
            "faint structure running through the material",
            "small changes of density across the surface",
        ),
    ),
    _kind(
        "gravel sand sandy beach mud soil earth dirt pebbles pebble ground forest floor clay dune desert",
        ("a natural surface with gentle rises and hollows", "coarse and fine parts side by side"),
        ("small grains gathered in the hollows", "fine particles between larger ones"),
        ages=False,
    ),
    _kind(
        "snow ice frost glacier icy",
        ("a cold crystalline surface", "a surface formed by wind and frost"),
        ("minute crystals at the smallest scale", "soft transitions between denser and thinner parts"),
        ages=False,
    ),
    _kind(
        "plastic rubber vinyl polymer resin acrylic silicone carbon lacquer enamel ceramic porcelain glass",
        ("an evenly formed surface", "a surface that keeps the shape of its mould"),
        ("small marks of its making", "precise transitions between raised and lowered parts"),
    ),
    _kind(
        "paper wallpaper cardboard print poster",
        ("a thin sheet with a fine fibrous body", "a sheet that lies nearly even"),
        ("tiny fibres at the smallest scale", "small irregularities of the sheet"),
    ),
)
_ANY = _kind(
    "",
    ("a surface with fine natural structure", "small forms that vary from place to place"),
    ("details visible at the smallest scale", "subtle changes across the surface"),
)
_TONES = (
    "gentle variation of tone",
    "subtle shifts of tone across the surface",
    "tones that change from place to place",
)
_COLORED_TONES = ("subtle variations of {color}", "{color} that deepens and fades from place to place")
_SLIGHT_AGE = (
    "faint traces of use on the raised parts",
    "slight signs of age in the recesses",
    "a natural touch of wear",
)
_MORE_AGE = ("the marks of age spread unevenly", "ageing that is stronger in some places than in others")


class TemplateExpander:
    """The offline default. The same text and seed give the same expansion; photos are not looked at."""

    def expand(self, text: str, image: Tensor | None = None, seed: int = 0) -> Expansion:
        """PREFIX, the text, and three or four clauses; a prompt that is long already stays as it is."""
        text = check_prompt(text)
        if text.startswith("The video") or len(text.split()) >= LONG_ENOUGH:
            return Expansion(text=text, backend="template", note="the prompt is detailed already")
        say = random.Random(f"gonio-expand-{seed}-{text}")
        words = set(words_of(text))
        kind = _kind_of(text)
        clauses = [say.choice(kind.geometry), say.choice(kind.details), _tone(text, say)]
        if words & _WORN:
            clauses.append(say.choice(_MORE_AGE))
        elif kind.ages and not words & _KEPT:
            clauses.append(say.choice(_SLIGHT_AGE))
        return Expansion(text=f"{PREFIX} {', '.join([text.rstrip('.,;:! '), *clauses])}", backend="template")


def _kind_of(text: str) -> _Kind:
    """What the text is about: the last telling word before "with", "on" or a comma, else any."""
    subject: list[str] = []
    for word in re.findall(r"[\w'-]+|,", text.lower()):
        if subject and (word == "," or word in _ENDS_SUBJECT):
            break
        subject += words_of(word)
    for word in [*reversed(subject), *words_of(text)]:
        for kind in _KINDS:
            if word in kind.words:
                return kind
    return _ANY


def _tone(text: str, say: random.Random) -> str:
    """A clause about colour that uses no colour but the person's own, and only if it is one."""
    named = [word for word in words_of(text) if word in COLOR_NAMING_WORDS - METAL_WORDS]
    if len(named) == 1:
        return say.choice(_COLORED_TONES).format(color=named[0])
    return say.choice(_TONES)
