"""Where the elements of a value lie: the node whose buffer holds them, an offset, strides.

Views cost nothing in compiled code: the layout of a reshape, transpose or slice is worked out here,
from the layout of what it looks at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fallline.core.graph import Node


@dataclass(frozen=True)
class Layout:
    """A value in the buffer of the node `root`; offset and strides count elements.

    Element (i, j, ...) of the value is element offset + i * strides[0] + j * strides[1] + ... of
    the buffer.
    """

    root: Node
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def contiguous(self) -> bool:
        return all(
            n == 1 or s == t
            for n, s, t in zip(self.shape, self.strides, row_major(self.shape), strict=True)
        )

    def broadcast(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The strides with which this is read in a loop over `shape`."""
        lead = len(shape) - len(self.shape)
        return (0,) * lead + tuple(
            0 if n == 1 else s for n, s in zip(self.shape, self.strides, strict=True)
        )


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of an array without gaps.

    >>> row_major((2, 3, 4))
    (12, 4, 1)
    """
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


class Layouts:
    """The layout of every node of a graph, found when asked for."""

    def __init__(self) -> None:
        self._found: dict[int, Layout] = {}

    def __getitem__(self, node: Node) -> Layout:
        found = self._found.get(id(node))
        if found is None:
            found = self._view(node) if node.kind == "view" else None
            if found is None:
                found = Layout(node, node.spec.shape, row_major(node.spec.shape))
            self._found[id(node)] = found
        return found

    def _view(self, node: Node) -> Layout | None:
        """None where the elements must move: reshaping what is not laid out in one piece."""
        assert node.op is not None
        source = self[node.args[0]]
        if 0 in source.shape or 0 in node.spec.shape:
            return Layout(source.root, node.spec.shape, row_major(node.spec.shape))
        # NumPy works out the view, on an array of the same strides that is never read
        hollow = as_strided(_BYTE, source.shape, source.strides)
        try:
            if node.title == "reshape":
                y = np.reshape(hollow, node.params["shape"], copy=False)
            else:
                y = node.op.eval(hollow, **node.params)
        except ValueError:
            return None
        offset = y.__array_interface__["data"][0] - hollow.__array_interface__["data"][0]
        return Layout(source.root, y.shape, y.strides, source.offset + offset)


_BYTE = np.empty(1, np.int8)
