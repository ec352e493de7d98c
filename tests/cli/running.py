"""The command line as a test runs it: in this process, or as a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from click.testing import CliRunner, Result

from fallline.cli import main


def run(*args: object, **env: str) -> Result:
    """`fallline ARGS` in this process; what it may not know it does not inherit."""
    plain = {"COLUMNS": "120", "NO_COLOR": "", "FALLLINE_DEBUG": "", "FALLLINE_DATA": "", **env}
    width = int(plain["COLUMNS"]) - 2  # the runner does not look at COLUMNS for help
    return CliRunner().invoke(main, [str(arg) for arg in args], env=plain, terminal_width=width)


def program(*args: str) -> subprocess.Popen[str]:
    """`python -m fallline ARGS` as a process, with pipes for its output."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "fallline", *args]
    return subprocess.Popen(command, env=environment(), stdout=pipe, stderr=pipe, text=True)


def environment() -> dict[str, str]:
    """In which another process finds the same modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "120"}
