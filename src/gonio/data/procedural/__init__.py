"""Procedural materials: endless, tileable, with true captions."""

from gonio.data.procedural.captions import caption, relief_class, roughness_class
from gonio.data.procedural.palettes import COLOR_NAMES, color_name, color_names, name_shares
from gonio.data.procedural.sampling import FAMILIES, measured_attributes, sample_material, stream_materials
from gonio.data.procedural.surface import Family

__all__ = [
    "COLOR_NAMES",
    "FAMILIES",
    "Family",
    "caption",
    "color_name",
    "color_names",
    "measured_attributes",
    "name_shares",
    "relief_class",
    "roughness_class",
    "sample_material",
    "stream_materials",
]
