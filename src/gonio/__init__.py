"""Gonio: video diffusion models as measuring instruments for materials, and their rendering."""

import sys

__version__ = "0.1.0"

# Whoever has imported Mitsuba gets the BSDF `neumip` with gonio; nobody else waits for Mitsuba to load.
if "mitsuba" in sys.modules:
    from gonio.render import register

    register()
