"""Views in compiled code lie where NumPy's views lie."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from fallline.compiler.layout import Layouts, row_major
from fallline.core.graph import trace

X = np.arange(24.0).reshape(2, 3, 4)

VIEWS = {
    "itself": lambda x: x,
    "transposed": np.transpose,
    "axes": lambda x: np.transpose(x, (1, 2, 0)),
    "swapped": lambda x: np.swapaxes(x, 0, 2),
    "moved": lambda x: np.moveaxis(x, 0, -1),
    "flat": lambda x: x.reshape(-1),
    "joined axes": lambda x: x.reshape(6, 4),
    "split axes": lambda x: x.reshape(2, 3, 2, 2),
    "an axis more": lambda x: x[:, None],
    "an axis less": lambda x: x[:1].reshape(3, 4),
    "squeezed": lambda x: np.squeeze(x[:, 1:2], axis=1),
    "part": lambda x: x[1:, ::2, 1:3],
    "backwards": lambda x: x[:, ::-1],
    "every other, backwards": lambda x: x[..., ::-2],
    "one": lambda x: x[1, 2, 3:],
    "row": lambda x: x[0, 1],
    "column": lambda x: x[:, :, 2],
    "repeated": lambda x: np.broadcast_to(x[:, :1], (5, 2, 3, 4)),
    "diagonal": lambda x: np.diagonal(x, axis1=1, axis2=2),
    "diagonal above": lambda x: np.diagonal(x[0], 1),
    "flipped": lambda x: np.flip(x, (0, 2)),
    "part of a transpose": lambda x: x.T[1:, :, 0],
    "joined axes of a part": lambda x: x[:, :, 1:2].reshape(6),
    "split axes of a transpose": lambda x: x.T.reshape(2, 2, 3, 2),
    "empty": lambda x: x[:, 1:1],
    "empty, another shape": lambda x: x[:, 1:1].reshape(4, 0),
}
COPIES = {
    "flat transpose": lambda x: x.T.reshape(-1),
    "flat part": lambda x: x[:, :2].reshape(-1),
    "flat, repeated": lambda x: np.broadcast_to(x, (2, 2, 3, 4)).reshape(-1),
    "joined axes of a transpose": lambda x: np.swapaxes(x, 1, 2).reshape(8, 3),
}


def layout_of(f, x):
    graph = trace(f, x)
    return Layouts()[graph.outputs[0]], graph


def address(x):
    return x.__array_interface__["data"][0]


@pytest.mark.parametrize("name", VIEWS)
def test_strides_and_offset_are_numpys(name):
    f = VIEWS[name]
    y = np.asarray(f(X))
    layout, graph = layout_of(f, X)
    assert layout.root is graph.inputs[0] and layout.shape == y.shape
    if y.size:
        assert layout.offset * X.itemsize == address(y) - address(X)
        long = [i for i, n in enumerate(y.shape) if n != 1]  # the others' strides mean nothing
        assert [layout.strides[i] * X.itemsize for i in long] == [y.strides[i] for i in long]
        assert layout.contiguous == y.flags.c_contiguous


@pytest.mark.parametrize("name", COPIES)
def test_where_elements_must_move_there_is_a_buffer_of_its_own(name):
    layout, graph = layout_of(COPIES[name], X)
    assert layout.root is graph.outputs[0]
    assert layout.strides == row_major(layout.shape) and layout.offset == 0


def test_a_view_of_what_was_moved_lies_there():
    layout, graph = layout_of(lambda x: x.T.reshape(-1)[3:], X)
    assert layout.root is graph.nodes[-2] and layout.offset == 3


def test_broadcasting_repeats_with_stride_0():
    layout, _ = layout_of(lambda x: x[:, :1], X)
    assert layout.broadcast((7, 2, 3, 4)) == (0, 12, 0, 1)


STEPS = st.sampled_from(["reverse", "swap", "cut", "flat", "axis", "split"])


def apply(steps, x):
    for step in steps:
        if step == "reverse":
            x = x[::-1]
        elif step == "swap":
            x = np.swapaxes(x, 0, -1)
        elif step == "cut":
            x = x[x.shape[0] // 2 :]
        elif step == "flat":
            x = x.reshape(-1)
        elif step == "axis":
            x = x[None]
        else:
            n = x.shape[0]
            x = x.reshape((2, n // 2, *x.shape[1:]) if n % 2 == 0 else (1, *x.shape))
    return x


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=4))
def test_chains_of_views(steps):
    """Followed through the layouts, every element is NumPy's."""
    graph = trace(lambda x: apply(steps, x), X)
    layouts = Layouts()
    buffers = {id(graph.inputs[0]): X.ravel()}
    for node in graph.nodes:
        layout = layouts[node]
        source = layouts[node.args[0]]
        if layout.root is node:  # moved, in the order of the source
            buffers[id(node)] = elements(source, buffers).ravel()
    last = layouts[graph.outputs[0]]
    assert np.array_equal(elements(last, buffers), apply(steps, X))


def elements(layout, buffers):
    buffer = buffers[id(layout.root)]
    places = layout.offset + sum(
        np.arange(n).reshape(-1, *[1] * (len(layout.shape) - 1 - d)) * s
        for d, (n, s) in enumerate(zip(layout.shape, layout.strides, strict=True))
    )
    return buffer[np.broadcast_to(places, layout.shape)]
