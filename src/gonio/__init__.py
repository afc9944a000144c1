"""Gonio: video diffusion models as measuring instruments and renderers for materials and scenes."""

import sys

__version__ = "0.1.0"

# Whoever has imported Mitsuba gets the BSDF `neumip` with gonio; nobody else waits for Mitsuba to load.
if "mitsuba" in sys.modules:
    from gonio.render import register

    register()
