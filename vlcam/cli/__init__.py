"""The command line: its entrance is ``main``; the list of commands is in ``commands``."""

from vlcam.cli.parser import main

__all__ = ["main"]
