"""Tests. Their environment is the same on a terminal, in an editor and on a server for continuous integration."""

import os

for name in ("CI", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES", "COLORTERM"):
    os.environ.pop(name, None)  # rich reads them when a console is made
os.environ["TERM"] = "xterm-256color"
