"""What can go wrong while a function is traced, and where in the user's code it did."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

_HERE = str(Path(__file__).resolve().parents[1]) + os.sep
_TESTING = os.path.join(_HERE, "testing", "")
_FOREIGN = (
    str(Path(np.__file__).resolve().parent) + os.sep,
    f"{os.sep}optree{os.sep}",
    f"{os.sep}dataclasses.py",
    f"{os.sep}functools.py",
    f"{os.sep}contextlib.py",
    "<frozen",
    "<__array_function__",
)
_AT = "\n  at "


class TracingError(TypeError):
    """Something that NumPy does on arrays cannot be done on a traced array.

    The message ends with the user's line that led to it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message if _AT in message else at_user_line(message))


class UnsupportedError(TracingError):
    """A NumPy function, or an argument of one, that Fallline does not know how to trace."""


def user_frame() -> tuple[str, int, str] | None:
    """File, line and function of the innermost frame that is neither Fallline's nor NumPy's."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        ours = file.startswith(_HERE) and not file.startswith(_TESTING)
        if not ours and not any(part in file for part in _FOREIGN):
            return file, frame.f_lineno, frame.f_code.co_name
        frame = frame.f_back  # type: ignore[assignment]
    return None


def at_user_line(message: str) -> str:
    """The message, followed by the user's line that led to it."""
    found = user_frame()
    return message if found is None else f"{message}{_AT}{found[0]}:{found[1]}, in {found[2]}"
