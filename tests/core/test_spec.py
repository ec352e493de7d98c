"""Specs: shape, type, and the weak type of Python numbers."""

from __future__ import annotations

import numpy as np
import pytest

from fallline.core.graph import trace
from fallline.core.spec import Spec, array_spec, is_weak, shape_of, spec_of


@pytest.mark.parametrize(
    "value, shown",
    [
        (1.5, "float"),
        (2, "int"),
        (True, "bool"),
        (np.float32(1), "f32[]"),
        (np.ones((2, 3)), "f64[2,3]"),
        (np.ones(2, np.uint8), "u8[2]"),
        (np.ones(2, bool), "bool[2]"),
        (np.ones(0, np.complex128), "c128[0]"),
        ([1, 2], "i64[2]"),
        (array_spec((4, 1), "float16"), "f16[4,1]"),
    ],
)
def test_of_values(value, shown):
    assert repr(spec_of(value)) == shown
    assert is_weak(value) == (value.__class__ in (float, int, bool))


def test_sizes():
    spec = array_spec((2, 3, 4), np.float32)
    assert (spec.ndim, spec.size, spec.nbytes) == (3, 24, 96)
    assert (array_spec((), "f8").size, array_spec((0, 2), "f8").size) == (1, 0)
    assert shape_of(3.0) == () and shape_of(np.ones((1, 2))) == (1, 2)


def test_equal_specs_are_one_key():
    a, b = array_spec((2,), "float32"), array_spec([2], np.float32)
    assert a == b and hash(a) == hash(b)
    assert array_spec((), float) != Spec((), np.dtype(float), weak=True)


def test_weak_numbers_take_the_type_of_what_they_meet():
    x = np.ones(3, np.float32)
    graph = trace(lambda x, lr, t: (lr * x, np.sqrt(lr) / t, (1 - 0.9**t) * x, t > 2), x, 0.1, 3)
    assert [repr(o.spec) for o in graph.outputs] == ["f32[3]", "float", "f32[3]", "bool"]
    scaled, ratio, corrected, late = graph.run(x, 0.1, 3)
    assert scaled.dtype == corrected.dtype == np.float32
    assert ratio.__class__ is float and late is True


def test_a_cast_makes_a_weak_number_strong():
    graph = trace(lambda lr: lr.astype(np.float32) * np.ones(2, np.float32), 0.1)
    assert [repr(n.spec) for n in graph.nodes] == ["f32[]", "f32[2]"]
