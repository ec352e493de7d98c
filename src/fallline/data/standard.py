"""MNIST and Fashion-MNIST: their files found in a folder, in the cache, or on a public mirror."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fallline.data.dataset import Dataset
from fallline.data.idx import idx_sha256, read_idx, read_pair
from fallline.data.published import (
    Folder,
    Known,
    cached,
    dataset,
    mirrors_of,
    named_by_environment,
)

Array = np.ndarray[Any, Any]

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_MAX_BYTES = 64 << 20  # the largest file has 47 million
_HELP = "Download the four files elsewhere and pass folder= or set FALLLINE_DATA."


MNIST = Known(
    "mnist",
    "MNIST",
    tuple("0123456789"),
    "MNIST, Y. LeCun, C. Cortes and C. Burges (usually quoted as CC BY-SA 3.0)",
    (
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "http://yann.lecun.com/exdb/mnist",
    ),
    {
        FILES[0]: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        FILES[1]: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        FILES[2]: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        FILES[3]: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
)

FASHION_MNIST = Known(
    "fashion-mnist",
    "Fashion-MNIST",
    (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    "Fashion-MNIST, H. Xiao, K. Rasul and R. Vollgraf, Zalando SE (MIT)",
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
    ),
    {
        FILES[0]: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        FILES[1]: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        FILES[2]: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        FILES[3]: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
)


def mnist(
    *,
    folder: Folder | None = None,
    validation: int = 10_000,
    dtype: Literal["float32", "float64", "uint8"] = "float32",
    flat: bool = True,
    mirror: str | Sequence[str] | None = None,
    download: bool = True,
    progress: bool | None = None,
) -> Dataset:
    """MNIST: 70,000 handwritten digits of 28 x 28 pixels.

    X  (n, 784) or, not flat, (n, 1, 28, 28), in [0, 1], the pixels' 0..255 divided by 255, or with
    dtype="uint8" the pixels themselves;  y  (n,) int64.

    The last `validation` of the 60,000 training examples are for validation, 0 for none; the test
    is the published 10,000. The files are looked for in

    - `folder`, or `folder`/mnist
    - the folder that the environment variable FALLLINE_DATA names, likewise
    - the cache: FALLLINE_CACHE_DIR/data, else the system's place for caches
    - the web, unless download=False: `mirror` (one address or several), else what FALLLINE_MIRROR
      names, followed by /mnist, else public ones

    What is cached is known by its sha256. Files in a folder of yours may differ from the published
    ones: they are used with a warning, unless they are those of another data set.
    """
    arrays = _arrays(MNIST, folder, mirror, download, progress)
    return _dataset(MNIST, arrays, validation, dtype, flat)


def fashion_mnist(
    *,
    folder: Folder | None = None,
    validation: int = 10_000,
    dtype: Literal["float32", "float64", "uint8"] = "float32",
    flat: bool = True,
    mirror: str | Sequence[str] | None = None,
    download: bool = True,
    progress: bool | None = None,
) -> Dataset:
    """Fashion-MNIST: 70,000 articles of clothing of 28 x 28 pixels; all else is as for `mnist`."""
    arrays = _arrays(FASHION_MNIST, folder, mirror, download, progress)
    return _dataset(FASHION_MNIST, arrays, validation, dtype, flat)


def _arrays(
    known: Known,
    folder: Folder | None,
    mirror: str | Sequence[str] | None,
    download: bool,
    progress: bool | None,
) -> list[Array]:
    """Images and labels to train on, images and labels of the test."""
    paths = _local(known, folder)
    if paths is not None:
        arrays = [*read_pair(paths[0], paths[1]), *read_pair(paths[2], paths[3])]
        _check_content(known, arrays, paths)
        return arrays
    mirrors = mirrors_of(known, mirror, download)
    return [_cached(known, file, mirrors, progress) for file in FILES]


def _local(known: Known, folder: Folder | None) -> list[Path] | None:
    """The four files in the folder that the user named, if one was named."""
    if folder is not None:
        return _in_folder(known, Path(folder).expanduser(), "folder")
    top = named_by_environment(known)
    if top is None:
        return None
    if (top / known.name).is_dir() or _is_home_of(known, top):
        return _in_folder(known, top, "FALLLINE_DATA")
    return None


def _is_home_of(known: Known, folder: Path) -> bool:
    """Whether the folder itself holds the files, and not those of another data set: one tells."""
    labels = _named(folder, FILES[3])
    return labels is not None and _published(idx_sha256(read_idx(labels)))[0] in (known, None)


def _in_folder(known: Known, top: Path, argument: str) -> list[Path]:
    inner = top / known.name
    folder = inner if inner.is_dir() else top
    found = {file: _named(folder, file) for file in FILES}
    missing = [file for file, path in found.items() if path is None]
    if missing:
        raise FileNotFoundError(
            f"{known.name}: {argument}: {str(folder)!r} must hold the four files of {known.title}, "
            f"gzipped or not; missing: {', '.join(missing)}."
        )
    return [path for path in found.values() if path is not None]


def _named(folder: Path, file: str) -> Path | None:
    """The file under one of the names in use: '.idx' for '-idx', gzipped or not."""
    for name in (file, file.replace("-idx", ".idx")):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None


def _cached(known: Known, file: str, mirrors: Sequence[str], progress: bool | None) -> Array:
    """A file in the cache, downloaded if it is missing or damaged there."""
    return cached(
        known,
        f"{file}.gz",
        mirrors,
        lambda path: _verified(known, file, path),
        max_bytes=_MAX_BYTES,
        progress=progress,
        cure=_HELP,
    )


def _verified(known: Known, file: str, path: Path) -> Array:
    """The array in the file; ValueError unless its decompressed content is the published one."""
    array = read_idx(path, max_bytes=_MAX_BYTES)
    found = idx_sha256(array)
    if found != known.sha256[file]:
        raise ValueError(
            f"{path.name}: the sha256 of the decompressed content must be "
            f"{known.sha256[file]}; got {found}"
        )
    return array


def _check_content(known: Known, arrays: Sequence[Array], paths: Sequence[Path]) -> None:
    """Refuse another data set's files, and warn of files that nobody published."""
    unknown = []
    for file, path, array in zip(FILES, paths, arrays, strict=True):
        owner, role = _published(idx_sha256(array))
        if owner is None:
            unknown.append(path.name)
        elif (owner, role) != (known, file):
            raise ValueError(
                f"{known.name}: {path} must be {file} of {known.title}; it is {role} of "
                f"{owner.title}. Was it renamed or put into the wrong folder?"
            )
    if unknown:
        warnings.warn(
            f"{known.name}: {', '.join(unknown)} in {paths[0].parent}: well-formed, but not "
            f"the published {known.title} (by sha256). Results cannot be "
            "compared with published ones.",
            stacklevel=4,
        )


def _published(digest: str) -> tuple[Known | None, str]:
    """The data set and the file that have this sha256."""
    for known in (MNIST, FASHION_MNIST):
        for file, published in known.sha256.items():
            if published == digest:
                return known, file
    return None, ""


def _dataset(
    known: Known, arrays: Sequence[Array], validation: int, dtype: str, flat: bool
) -> Dataset:
    images, labels, test_images, test_labels = arrays
    return dataset(
        known,
        (images[:, None], labels),
        (test_images[:, None], test_labels),
        validation=validation,
        dtype=dtype,
        flat=flat,
    )
