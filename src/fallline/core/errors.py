"""Errors: which line of the user's led to one, and which name was meant by a wrong one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

import numpy as np

_HERE = str(Path(__file__).resolve().parents[1]) + os.sep
_TESTING = os.path.join(_HERE, "testing", "")
_PROGRAM = os.path.join(_HERE, "cli", "")
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
    """File, line and function of the innermost frame that is neither Fallline's nor NumPy's.

    None under the command line: there the user has written no line.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_PROGRAM):
            return None
        ours = file.startswith(_HERE) and not file.startswith(_TESTING)
        if not ours and not any(part in file for part in _FOREIGN):
            return file, frame.f_lineno, frame.f_code.co_name
        frame = frame.f_back
    return None


def at_user_line(message: str) -> str:
    """The message, followed by the user's line that led to it."""
    found = user_frame()
    return message if found is None else f"{message}{_AT}{found[0]}:{found[1]}, in {found[2]}"


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """The end of an error sentence: what the user may have meant, or what there is.

    >>> did_you_mean("adma", ["adam", "sgd"]), did_you_mean("x", ["adam", "sgd"])
    ('Did you mean adam?', 'There are adam, sgd.')
    """
    names = [str(k) for k in known]
    near = nearest(name, names)
    if near:
        return f"Did you mean {near}?"
    return f"There are {', '.join(names)}." if names else "There are none."


def nearest(name: object, known: Iterable[object], *, alike: float = 0.5) -> str:
    """The known name that is most like a mistyped one; "" if none is `alike`, from 0 to 1.

    A letter left out or put in is a slip, and so are two that changed places; a wrong letter is
    two. Names are alike by 1 - slips / letters of both.

    >>> nearest("adma", ["adagrad", "adam"])
    'adam'
    """
    given, best = str(name).lower(), ""
    for other in map(str, known):
        likeness = 1 - _slips(given, other.lower()) / max(len(given) + len(other), 1)
        if likeness >= alike and (not best or likeness > alike):
            best, alike = other, likeness
    return best


def _slips(a: str, b: str) -> int:
    """How many slips lead from a to b, by dynamic programming over their beginnings."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i in range(len(a)):
        before, earlier, row = row, before, [i + 1]
        for j in range(len(b)):
            slips = before[j] if a[i] == b[j] else 1 + min(before[j + 1], row[j])
            if i and j and a[i] == b[j - 1] and a[i - 1] == b[j]:
                slips = min(slips, 1 + earlier[j - 1])
            row.append(slips)
    return row[-1]
