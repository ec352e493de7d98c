"""Trees of arrays: any nesting of tuples, lists, dicts, None and modules, flattened by optree.

A module may keep arrays that are not trained, such as running statistics. They are no leaves of its
tree but travel with its structure, so derivatives and optimizers pass them by. The `whole` tree has
them as leaves too: that is what a function that is traced or compiled takes and returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import optree

NAMESPACE = "fallline"
WHOLE = "fallline whole"
TreeDef = optree.PyTreeSpec


def flatten(tree: Any, *, whole: bool = False) -> tuple[list[Any], TreeDef]:
    """The leaves of a tree, in a fixed order, and the structure that `unflatten` needs."""
    return optree.tree_flatten(tree, namespace=WHOLE if whole else NAMESPACE)


def unflatten(structure: TreeDef, leaves: Sequence[Any]) -> Any:
    """The tree with this structure and these leaves."""
    return optree.tree_unflatten(structure, leaves)


def leaves(tree: Any, *, whole: bool = False) -> list[Any]:
    """The leaves of a tree."""
    return optree.tree_leaves(tree, namespace=WHOLE if whole else NAMESPACE)


def structure(tree: Any, *, whole: bool = False) -> TreeDef:
    """The structure of a tree without its leaves; hashable and comparable."""
    return optree.tree_structure(tree, namespace=WHOLE if whole else NAMESPACE)


def tree_map(f: Callable[..., Any], tree: Any, *rest: Any, whole: bool = False) -> Any:
    """Apply `f` leaf by leaf to trees of one structure.

    >>> tree_map(lambda x, y: x + y, {"a": 1, "b": (2, 3)}, {"a": 10, "b": (20, 30)})
    {'a': 11, 'b': (22, 33)}
    """
    return optree.tree_map(f, tree, *rest, namespace=WHOLE if whole else NAMESPACE)


def named_leaves(tree: Any, *, whole: bool = False) -> list[tuple[str, Any]]:
    """Pairs of a readable path and its leaf.

    >>> named_leaves({"W": 1, "layers": [2, 3]})
    [('W', 1), ('layers.0', 2), ('layers.1', 3)]
    """
    namespace = WHOLE if whole else NAMESPACE
    paths, found, _ = optree.tree_flatten_with_path(tree, namespace=namespace)
    return [(".".join(map(str, path)), leaf) for path, leaf in zip(paths, found, strict=True)]
