"""Prompt expansion: from "green moss" to the long caption a video model was trained on."""

from gonio.generate.expand.base import Expander, Expansion, NoExpander, choose_expander
from gonio.generate.expand.template import TemplateExpander

__all__ = ["Expander", "Expansion", "NoExpander", "TemplateExpander", "choose_expander"]
