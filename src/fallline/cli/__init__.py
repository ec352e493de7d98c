"""The command line: one file per command, each a thin view of the library.

Importing it imports click and nothing heavy; a command imports what it needs when it is run.
"""

from fallline.cli.app import main

__all__ = ["main"]
