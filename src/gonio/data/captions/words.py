"""The vocabulary of captions: colours, finishes, relief, metals, and words that must not slip in."""

from __future__ import annotations

import re

# Procedural colour names to the words people use for them.
COLOR_PHRASES: dict[str, tuple[str, ...]] = {
    "black": ("black", "black", "jet black", "near-black"),
    "grey": ("grey", "grey", "gray"),
    "white": ("white", "white", "off-white"),
    "red": ("red", "red", "reddish"),
    "orange": ("orange", "orange", "terracotta-coloured"),
    "brown": ("brown", "brown", "brownish"),
    "beige": ("beige", "tan", "cream", "sand-coloured"),
    "yellow": ("yellow", "yellow", "ochre yellow"),
    "olive": ("olive", "olive green"),
    "green": ("green", "green", "greenish"),
    "teal": ("teal", "turquoise", "cyan", "blue-green"),
    "blue": ("blue", "blue", "bluish"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "pink", "rose pink"),
    "silver": ("silver", "silvery", "silver-grey"),
    "gold": ("gold", "golden", "golden yellow"),
    "copper": ("copper", "copper-coloured", "orange-brown"),
}
FINISH_PHRASES: dict[str, tuple[str, ...]] = {
    "mirror-like": ("mirror-like", "highly polished", "very shiny", "glossy"),
    "glossy": ("glossy", "shiny", "polished"),
    "satin": ("satin", "semi-gloss", "softly shining", "with a satin sheen"),
    "matte": ("matte", "dull", "lustreless", "rough"),
    "rough": ("rough", "coarse and matte", "dry and rough", "unpolished"),
}
RELIEF_PHRASES: dict[str, tuple[str, ...]] = {
    "flat": ("a flat surface", "no visible relief", "an even surface"),
    "low": ("shallow relief", "a slight texture", "low relief"),
    "medium": ("clear relief", "a pronounced texture", "moderate relief"),
    "deep": ("deep relief", "strong bumps and hollows", "a deeply textured surface"),
}
# Metals that have the colour by nature. The second entry of a pair says for which finishes ("" for all).
METALS_BY_COLOR: dict[str, tuple[tuple[str, str], ...]] = {
    "silver": (
        ("steel", ""),
        ("stainless steel", ""),
        ("aluminium", ""),
        ("chrome", "mirror-like"),
        ("galvanised steel", "satin matte"),
        ("zinc", "satin matte"),
        ("nickel", ""),
        ("tin", "satin matte"),
    ),
    "grey": (
        ("steel", ""),
        ("iron", ""),
        ("titanium", ""),
        ("zinc", "satin matte rough"),
        ("pewter", "satin matte"),
        ("cast iron", "matte rough"),
    ),
    "black": (("blackened steel", ""), ("black iron", ""), ("gunmetal", ""), ("cast iron", "matte rough")),
    "gold": (("gold", ""), ("brass", ""), ("gold", "")),
    "copper": (("copper", ""), ("bronze", "")),
}
# Metals that can be given a colour, and do not say which.
COLORED_METALS: dict[str, tuple[tuple[str, str], ...]] = {
    "red": (("anodised aluminium", ""),),
    "green": (("oxidised copper", "satin matte rough"), ("anodised aluminium", "")),
    "teal": (("oxidised copper", "satin matte rough"), ("anodised aluminium", "")),
    "blue": (("anodised aluminium", ""),),
    "purple": (("anodised aluminium", ""),),
}
# Of any colour.
METAL_WORDS: frozenset[str] = frozenset(
    "metal metallic steel stainless iron copper bronze brass gold golden silver silvery aluminium aluminum "
    "chrome chromed corten zinc tin titanium gunmetal galvanised galvanized anodised anodized foil rust "
    "rusty rusted verdigris pewter platinum nickel".split()
)
# Words that fix a colour by themselves, hues and coloured matter alike.
COLOR_NAMING_WORDS: frozenset[str] = frozenset(
    "red reddish crimson scarlet burgundy maroon orange terracotta brown brownish tan beige cream ochre "
    "yellow golden gold olive green greenish emerald teal turquoise cyan aqua blue bluish navy indigo azure "
    "purple violet lilac pink rose magenta black blackened white off-white grey gray silver silvery copper "
    "bronze brass steel stainless iron gunmetal zinc chrome rust rusty rusted verdigris charcoal ivory amber "
    "ruby lavender mauve khaki".split()
)
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*", re.UNICODE)


def words_of(text: str) -> list[str]:
    """Lower-case words; what a hyphen joins counts whole and in parts."""
    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        found.append(word)
        if "-" in word:
            found += word.split("-")
    return found


def names_color(text: str) -> bool:
    """Whether a colour, or a metal of one colour, is named."""
    return not COLOR_NAMING_WORDS.isdisjoint(words_of(text))


def names_metal(text: str) -> bool:
    return not METAL_WORDS.isdisjoint(words_of(text))
