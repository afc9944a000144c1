"""python -m gonio."""

import sys

from gonio.cli import main

sys.exit(main())
