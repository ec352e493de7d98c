"""Trees: what is a leaf, in which order, under which name."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallline.core import tree

Pair = namedtuple("Pair", ["left", "right"])
TREES = st.recursive(
    st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=12,
)


@given(TREES)
def test_unflatten_undoes_flatten(x):
    leaves, structure = tree.flatten(x)
    assert tree.unflatten(structure, leaves) == x
    assert tree.leaves(x) == leaves
    assert tree.structure(x) == structure and hash(tree.structure(x)) == hash(structure)
    assert [leaf for _, leaf in tree.named_leaves(x)] == leaves


def test_order_and_names():
    x = {"b": 1, "a": (2, [3, None]), "c": Pair(4, OrderedDict(z=5))}
    assert tree.leaves(x) == [2, 3, 1, 4, 5]  # dicts by key
    assert [name for name, _ in tree.named_leaves(x)] == ["a.0", "a.1.0", "b", "c.0", "c.1.z"]


def test_a_leaf_has_no_name():
    assert tree.named_leaves(3.0) == [("", 3.0)]


def test_arrays_are_leaves():
    x = np.ones((2, 2))
    assert tree.leaves([x])[0] is x


def test_tree_map_of_several():
    assert tree.tree_map(lambda a, b: a - b, [5, {"x": 6}], [1, {"x": 2}]) == [4, {"x": 4}]
    with pytest.raises(ValueError):
        tree.tree_map(lambda a, b: a, [1, 2], [1])
