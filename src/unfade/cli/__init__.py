"""The command line: each verb is a thin file that parses, loops and prints; the work lies below.

Nothing heavy is imported until a verb runs, so that `unfade --help` answers at once.
"""

from unfade.cli.app import app
from unfade.cli.ending import main

__all__ = ["app", "main"]
