"""Gonio: video diffusion models as measuring instruments and renderers for materials and scenes."""

__version__ = "0.1.0"
