"""Kernels that are files of this library: each is a module that can be read, linted and imported.

A file computes in float32, with the sizes of tiles that it names; for other types and sizes words
of it are replaced, whole lines of constants among them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path(__file__).parents[3]
_FROM = re.compile(r"^# from: (\S+)$", re.MULTILINE)


@functools.cache
def read(path: Path) -> str:
    """The text of a kernel's file; a line that says where it is from, for the linters' lines."""
    name, *lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not re.match("# (ruff|mypy): ", line)]
    return "".join([name, f"# from: {path.relative_to(_ROOT).as_posix()}\n", *kept])


def replaced(text: str, words: Mapping[str, str]) -> str:
    """A text with words replaced, in this order.

    A word that is not there is an error: the kernel would be one of other types or sizes.

    >>> replaced("LANES = 16", {"16": "8"})
    'LANES = 8'
    """
    for old, new in words.items():
        if old not in text:
            raise ValueError(f"replaced: the kernel's text has no {old!r}, to become {new!r}.")
        text = text.replace(old, new)
    return text


def file_of(text: str) -> str:
    """The file that a kernel's text was made from, `fallline/...`; "" for a generated one."""
    found = _FROM.search(text)
    return found[1] if found else ""
