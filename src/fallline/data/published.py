"""A data set that the world knows: its names, its mirrors, its checksums, and the cached files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from fallline.data.dataset import Dataset, Examples
from fallline.data.download import cache_dir, fetch

T = TypeVar("T")
Folder = str | os.PathLike[str]


@dataclass(frozen=True)
class Known:
    """A published data set: where it is served, and the sha256 of its files, decompressed."""

    name: str
    title: str
    classes: tuple[str, ...]
    source: str
    mirrors: tuple[str, ...]
    sha256: dict[str, str]


def named_by_environment(known: Known) -> Path | None:
    """The folder that FALLLINE_DATA names, if it is set."""
    chosen = os.environ.get("FALLLINE_DATA")
    if not chosen:
        return None
    top = Path(chosen).expanduser()
    if not top.is_dir():
        raise FileNotFoundError(
            f"{known.name}: FALLLINE_DATA must name a folder; {str(top)!r} is none."
        )
    return top


def mirrors_of(known: Known, mirror: str | Sequence[str] | None, download: bool) -> Sequence[str]:
    """Whom to ask: whom the caller names, whom FALLLINE_MIRROR does, the public ones; nobody."""
    if not download:
        return ()
    if mirror is not None:
        return (mirror,) if isinstance(mirror, str) else tuple(mirror)
    chosen = os.environ.get("FALLLINE_MIRROR")
    return (f"{chosen.rstrip('/')}/{known.name}",) if chosen else known.mirrors


def cached(
    known: Known,
    file: str,
    mirrors: Sequence[str],
    check: Callable[[Path], T],
    *,
    max_bytes: int,
    progress: bool | None,
    cure: str,
) -> T:
    """What `check` makes of a file in the cache, downloaded if it is missing or damaged there."""
    path = cache_dir() / known.name / file
    if path.is_file():
        try:
            return check(path)
        except ValueError as error:
            warnings.warn(f"The cached file is not used: {error}", stacklevel=5)
    try:
        return fetch(file, mirrors, path, check, max_bytes=max_bytes, progress=progress)
    except ConnectionError as error:
        raise ConnectionError(f"{known.name}: no folder was named, and {error}\n{cure}") from None


def dataset(
    known: Known,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    validation: int,
    dtype: str,
    flat: bool,
) -> Dataset:
    """Images (n, channels, height, width) of bytes and labels, in the form that was asked for."""
    n = len(train[0])
    _check_options(known, n, validation, dtype)
    whole = _examples(*train, dtype, flat)
    cut = n - int(validation)
    return Dataset(
        known.name,
        train=whole.take(slice(0, cut)),
        validation=whole.take(slice(cut, n)) if validation else None,
        test=_examples(*test, dtype, flat),
        classes=known.classes,
        source=known.source,
        image_shape=train[0].shape[1:],
    )


def _check_options(known: Known, n: int, validation: int, dtype: str) -> None:
    if dtype not in ("float32", "float64", "uint8"):
        raise ValueError(
            f"{known.name}: dtype must be 'float32', 'float64' or 'uint8'; got {dtype!r}."
        )
    if isinstance(validation, bool) or not isinstance(validation, (int, np.integer)):
        raise TypeError(
            f"{known.name}: validation must be a number of examples; got {validation!r}."
        )
    if not 0 <= validation < n:
        raise ValueError(f"{known.name}: validation must be in [0, {n:,}); got {validation:,}.")


def _examples(images: np.ndarray, labels: np.ndarray, dtype: str, flat: bool) -> Examples:
    X = images.reshape(len(images), -1) if flat else images
    if dtype != "uint8":
        X = np.divide(X, 255, dtype=dtype)
    return Examples(X, labels.astype(np.int64))
