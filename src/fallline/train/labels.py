"""Labels of any kind as indices of a network's outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from fallline.data import as_targets

Array = np.ndarray[Any, Any]

TEXT = "USO"  # kinds of arrays that hold names


def encode(y: Array, k: int, classes: Array | None, name: str = "y") -> tuple[Array, Array | None]:
    """(indices in [0, k), the class of each index or None for 0, 1, ..., k - 1).

    `classes` are those that the network has already. Labels among them are these; whole numbers in
    [0, k) are indices; k different labels of any other kind become the classes, sorted.
    """
    y = _plain(y, name)
    known = classes if classes is not None and len(classes) == k else None
    if known is not None and (found := _places(y, known)) is not None:
        return found, known
    if y.dtype.kind == "i" and y.min() >= 0 and y.max() < k:
        return y, known if known is not None and known.dtype.kind in TEXT else None
    labels = np.unique(y)
    if k == 2 and np.isin(labels, (-1, 1)).all():
        labels = np.array([-1, 1])
    if len(labels) != k:
        raise ValueError(_other_number(labels, k, name))
    found = _places(y, labels)
    assert found is not None
    return found, labels


def encode_alike(y: Array, k: int, classes: Array | None, name: str) -> Array:
    """Indices of labels that must be among the classes that were trained on."""
    y = _plain(y, name)
    known = np.arange(k) if classes is None else classes
    found = _places(y, known)
    if found is not None:
        return found
    if classes is not None and classes.dtype.kind in TEXT and y.dtype.kind == "i":
        return encode_alike(y, k, None, name)
    if classes is None and y.dtype.kind == "i":
        raise ValueError(_other_number(np.unique(y), k, name))
    strange = next(label for label in np.unique(y).tolist() if label not in known.tolist())
    raise ValueError(
        f"fit: {name} must hold the labels that were trained on, {_shown(known)}; got {strange!r}."
    )


def _plain(y: Array, name: str) -> Array:
    """Names, or whole numbers as int64."""
    if y.dtype.kind not in TEXT:
        return as_targets(y, task="classification", caller="fit", name=name)
    if y.dtype.kind == "O" and not all(isinstance(label, str) for label in y):
        raise TypeError(f"fit: {name} must hold whole numbers or names, all of one kind.")
    return y.astype(str) if y.dtype.kind == "O" else y


def _places(y: Array, classes: Array) -> Array | None:
    """Where each label stands among the classes; None if one does not."""
    if (y.dtype.kind in TEXT) != (classes.dtype.kind in TEXT):
        return None
    order = np.argsort(classes, kind="stable")
    place = order[np.minimum(np.searchsorted(classes, y, sorter=order), len(classes) - 1)]
    return place if np.array_equal(classes[place], y) else None


def _other_number(labels: Array, k: int, name: str) -> str:
    if labels.dtype.kind in TEXT:
        return (
            f"fit: {name} holds {len(labels)} different labels, {_shown(labels)}; the network "
            f"tells {k} apart. Did you mean a last layer of {len(labels)} units?"
        )
    low, high = int(labels[0]), int(labels[-1])
    bad = high if high >= k else low
    if low == 1 and high == k:
        cure = " Do they count from 1?"
    else:
        cure = f" Did you mean a last layer of {high + 1} units?" if low >= 0 else ""
    where = "labels" if name == "y" else f"labels of {name}"
    return f"fit: {where} must be in [0, {k}), the network's outputs; got {bad}.{cure}"


def _shown(labels: Array) -> str:
    first = ", ".join(map(repr, labels[:4].tolist()))
    return first + (", ..." if len(labels) > 4 else "")
