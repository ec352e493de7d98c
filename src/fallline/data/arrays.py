"""A user's arrays, checked before anything is trained on them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from fallline.core.spec import is_masked

Array = np.ndarray[Any, Any]
Task = Literal["classification", "regression"]


def as_examples(
    X: Any, *, keep_uint8: bool = False, caller: str = "as_examples", name: str = "X"
) -> Array:
    """X as a C-contiguous array of examples, (n, ...), finite: float32, or float64 if it is.

    Lists, integers and booleans become float32; an array that fits is returned as it is. With
    `keep_uint8` images of bytes stay bytes, a quarter of the memory; who computes casts them.

    >>> as_examples([[1, 2], [3, 4]])
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    given, X = X, _as_real(X, caller, name)
    if X.ndim < 2:
        raise ValueError(
            f"{caller}: {name} must have a row for each example, (n, features) or "
            f"(n, channels, height, width); got shape {X.shape}. Did you mean "
            f"{name}.reshape(-1, 1) or {name}[None]?"
        )
    if X.size == 0:
        raise ValueError(f"{caller}: {name} must hold at least one value; got shape {X.shape}.")
    if keep_uint8 and X.dtype == np.uint8:
        return np.ascontiguousarray(X)
    return _as_float(X, _float_dtype(given, X), caller, name)


def as_targets(
    y: Any,
    *,
    task: Task | None = None,
    n_classes: int | None = None,
    caller: str = "as_targets",
    name: str = "y",
) -> Array:
    """y as int64 labels (n,), or as float targets or one-hot rows, (n,) or (n, k), finite.

    Without a task, integers and booleans of one dimension are labels and all else is float.
    Classification takes labels, also as floats that are whole numbers, or rows of class
    probabilities; with n_classes the labels are checked to lie in [0, n_classes). Regression makes
    floats of everything.

    >>> as_targets([True, False]), as_targets([1, 2], task="regression")
    (array([1, 0]), array([1., 2.], dtype=float32))
    """
    given, y = y, _as_real(y, caller, name)
    if y.ndim == 0 or y.size == 0:
        raise ValueError(
            f"{caller}: {name} must have a target for each example; got shape {y.shape}."
        )
    if task == "classification" and y.ndim > 1:
        _check_rows(y, n_classes, caller, name)
    elif task == "classification" or (task is None and y.ndim == 1 and y.dtype.kind in "iub"):
        return _as_labels(y, n_classes, caller, name)
    return _as_float(y, _float_dtype(given, y), caller, name)


def as_arrays(
    X: Any,
    y: Any,
    *,
    task: Task | None = None,
    n_classes: int | None = None,
    caller: str = "as_arrays",
    names: tuple[str, str] = ("X", "y"),
) -> tuple[Array, Array]:
    """Examples and as many targets: see `as_examples` and `as_targets`.

    >>> X, y = as_arrays([[0.0, 1.0], [2.0, 3.0]], [1, 0])
    >>> print(X.dtype, y.dtype)
    float32 int64
    """
    X = as_examples(X, caller=caller, name=names[0])
    y = as_targets(y, task=task, n_classes=n_classes, caller=caller, name=names[1])
    check_lengths(X, y, caller=caller, names=names)
    return X, y


def check_lengths(X: Array, y: Array, *, caller: str, names: tuple[str, str]) -> None:
    """There is a target for each example."""
    if len(X) != len(y):
        turned = X.ndim == 2 and X.shape[1] == len(y)
        hint = f" Did you mean {names[0]}.T?" if turned else ""
        raise ValueError(
            f"{caller}: {names[0]} and {names[1]} must have equally many rows; got {len(X):,} and "
            f"{len(y):,}.{hint}"
        )


def _as_real(a: Any, caller: str, name: str) -> Array:
    """Real numbers as an array of a NumPy dtype; what cannot be one is refused."""
    if hasattr(a, "toarray"):
        raise TypeError(
            f"{caller}: {name} must be a dense array; got {type(a).__name__}. "
            f"Did you mean {name}.toarray()?"
        )
    if is_masked(a):
        raise TypeError(f"{caller}: {name} must not be masked. Did you mean {name}.filled(value)?")
    try:
        a = np.asarray(a)
    except ValueError:
        raise ValueError(
            f"{caller}: {name} must be an array of numbers; its rows differ in length."
        ) from None
    if a.dtype.kind in "USOM":
        hint = (
            f" np.unique({name}, return_inverse=True)[1] makes labels of names."
            if a.ndim == 1
            else " Encode names as numbers first."
        )
        raise TypeError(f"{caller}: {name} must hold numbers; got dtype {a.dtype}.{hint}")
    if a.dtype.kind not in "fiub":
        raise TypeError(f"{caller}: {name} must hold real numbers; got dtype {a.dtype}.")
    return a


def _float_dtype(given: Any, a: Array) -> np.dtype[Any]:
    """float64 where an array has it; the numbers of a list are not a wish for float64."""
    wide = a.dtype.kind == "f" and a.dtype.itemsize >= 8 and hasattr(given, "__array__")
    return np.dtype(np.float64 if wide else np.float32)


def _as_float(a: Array, dtype: np.dtype[Any], caller: str, name: str) -> Array:
    with np.errstate(over="ignore"):  # what overflows float32 is found and named below
        cast = np.ascontiguousarray(a, dtype=dtype)
    if not _finite(cast):
        _refuse_not_finite(a, cast, caller, name)
    return cast


def _finite(a: Array) -> bool:
    """Whether all is finite: one sum tells, without a temporary, unless it overflows itself."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(a.sum())) or bool(np.isfinite(a).all())


def _refuse_not_finite(a: Array, cast: Array, caller: str, name: str) -> None:
    bad = ~np.isfinite(cast)
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
    place = f"{name}[{', '.join(map(str, at))}]"
    if np.isfinite(a[at]):
        fix = f"It is too large for {cast.dtype}: rescale it, or pass float64."
    else:
        fix = "Fill what is missing, or drop the row."
    others = int(bad.sum()) - 1
    more = f", and {others:,} more like it" if others else ""
    raise ValueError(f"{caller}: {name} must be finite; got {place} = {a[at]}{more}. {fix}")


def _check_rows(y: Array, n_classes: int | None, caller: str, name: str) -> None:
    """Rows of class probabilities: one for each class."""
    width = n_classes or y.shape[1]
    if y.ndim > 2 or y.shape[1] != width or width == 1:
        hint = f" Did you mean {name}.ravel()?" if y.shape[1:] == (1,) else ""
        raise ValueError(
            f"{caller}: {name} must be labels (n,) or rows of {n_classes or 'all'} class "
            f"probabilities; got shape {y.shape}.{hint}"
        )


def _as_labels(y: Array, n_classes: int | None, caller: str, name: str) -> Array:
    if y.dtype.kind == "f":
        _check_whole(y, caller, name)
    labels = np.ascontiguousarray(y, dtype=np.int64)
    if n_classes is None:
        return labels
    outside = (labels < 0) | (labels >= n_classes)
    if outside.any():
        at = int(np.argmax(outside))
        hint = " Do they count from 1?" if labels.min() == 1 and labels.max() == n_classes else ""
        raise ValueError(
            f"{caller}: {name} must hold labels in [0, {n_classes}); got {labels[at]} at index "
            f"{at}.{hint}"
        )
    return labels


def _check_whole(y: Array, caller: str, name: str) -> None:
    bad = (y != np.floor(y)) | ~np.isfinite(y)
    if bad.any():
        at = int(np.argmax(bad))
        hint = "Is this a regression?" if np.isfinite(y[at]) else "Drop the row."
        raise ValueError(
            f"{caller}: {name} must hold whole numbers as labels; got {y[at]} at index {at}. {hint}"
        )
