"""CIFAR-10: its binary and its Python files, in a folder, in an archive, or on a public mirror.

    binary   data_batch_1.bin ... test_batch.bin: a byte of label, 3,072 of pixels, and so on
    Python   data_batch_1 ... test_batch: pickles of {"data": uint8 (n, 3072), "labels": [...]}

Pixels are in the order (channel, row, column) in both. The pickles are read as data; nothing in
them is executed, see `pickled`.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np

from fallline.data.dataset import Dataset
from fallline.data.pickled import read_plain
from fallline.data.published import (
    Folder,
    Known,
    cached,
    dataset,
    mirrors_of,
    named_by_environment,
)

Array = np.ndarray[Any, Any]
Pair = tuple[Array, Array]

SHAPE = (3, 32, 32)
ROW = 3 * 32 * 32
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")
FOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py")
_MAX_BYTES = 256 << 20  # the archives have 170 million
_MAX_FILE = 64 << 20  # the files have 31 million
_HELP = f"Download {ARCHIVES[0]} elsewhere and pass folder= or set FALLLINE_DATA."

CIFAR10 = Known(
    "cifar10",
    "CIFAR-10",
    (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    "CIFAR-10, A. Krizhevsky 2009, Learning multiple layers of features from tiny images",
    (
        "https://www.cs.toronto.edu/~kriz",
        "https://cave.cs.toronto.edu/kriz",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10",
    ),
    {
        ARCHIVES[0]: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ARCHIVES[1]: "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    },
)


def cifar10(
    *,
    folder: Folder | None = None,
    validation: int = 10_000,
    dtype: Literal["float32", "float64", "uint8"] = "uint8",
    flat: bool = False,
    mirror: str | Sequence[str] | None = None,
    download: bool = True,
    progress: bool | None = None,
) -> Dataset:
    """CIFAR-10: 60,000 colour photographs of 32 x 32 pixels, of ten kinds of things.

    X  (n, 3, 32, 32) or, flat, (n, 3072): bytes, 184 MB in all, or with dtype="float32" those
    divided by 255;  y  (n,) int64. A network takes bytes as they are: let its first layer bring
    them to scale, as in nn.Sequential(channel_standardiser(data.train.X), ...).

    The last `validation` of the 50,000 training examples are for validation, 0 for none; the test
    is the published 10,000. Looked for are, in this order, the six binary files, the six Python
    files, and the archives cifar-10-binary.tar.gz and cifar-10-python.tar.gz, in

    - `folder`, `folder`/cifar10, or the folder that an archive unpacks to, there; `folder` may also
      be an archive itself
    - the folder that the environment variable FALLLINE_DATA names, likewise
    - the cache: FALLLINE_CACHE_DIR/data, else the system's place for caches; the binary archive
    - the web, unless download=False: `mirror` (one address or several), else what FALLLINE_MIRROR
      names, followed by /cifar10, else public ones

    What is cached is known by its sha256. An archive of yours with another one is used with a
    warning. Files are checked for their form and size, whatever they come from.
    """
    found = _local(folder)
    if found is None:
        found = _cached(mirrors_of(CIFAR10, mirror, download), progress)
    train, test = found
    return dataset(CIFAR10, train, test, validation=validation, dtype=dtype, flat=flat)


# Where the files are.


def _local(folder: Folder | None) -> tuple[Pair, Pair] | None:
    """What the folder that the user named holds, if one was named."""
    if folder is not None:
        path = Path(folder).expanduser()
        return _in_archive(path) if path.is_file() else _in_folder(path, "folder")
    top = named_by_environment(CIFAR10)
    if top is None or not ((top / CIFAR10.name).is_dir() or _source(top)):
        return None
    return _in_folder(top, "FALLLINE_DATA")


def _in_folder(top: Path, argument: str) -> tuple[Pair, Pair]:
    inner = top / CIFAR10.name
    folder = inner if inner.is_dir() else top
    read = _source(folder)
    if read is None:
        raise FileNotFoundError(
            f"cifar10: {argument}: {str(folder)!r} must hold {ARCHIVES[0]} or {ARCHIVES[1]}, or "
            f"the six files of one of them, {BATCHES[0]}.bin to {BATCHES[-1]}.bin or {BATCHES[0]} "
            f"to {BATCHES[-1]}.{_guess(folder)}"
        )
    return read()


def _source(folder: Path) -> Callable[[], tuple[Pair, Pair]] | None:
    """How to read what the folder holds: files before archives, binary ones before pickles."""
    for place in (folder, *(folder / name for name in FOLDERS)):
        for suffix in (".bin", ""):
            paths = [place / f"{batch}{suffix}" for batch in BATCHES]
            if all(path.is_file() for path in paths):
                return lambda paths=paths: _joined(  # type: ignore[misc]
                    {path.stem: _batch(path.name, _content(path), str(path)) for path in paths}
                )
    for name in ARCHIVES:
        if (folder / name).is_file():
            return lambda path=folder / name: _in_archive(path)  # type: ignore[misc]
    return None


def _guess(folder: Path) -> str:
    if not folder.is_dir():
        return " It is no folder."
    names = [path.name for path in folder.iterdir()]
    images = [name for name in names if ".tar" in name or name in ("train", "test")]
    if not images:
        return ""
    at = folder / images[0] if ".tar" in images[0] else folder
    return f" If these are images, in a folder for each class: image_folder({str(at)!r})."


def _cached(mirrors: Sequence[str], progress: bool | None) -> tuple[Pair, Pair]:
    return cached(
        CIFAR10,
        ARCHIVES[0],
        mirrors,
        _verified,
        max_bytes=_MAX_BYTES,
        progress=progress,
        cure=_HELP,
    )


# What is in them.


def _verified(path: Path) -> tuple[Pair, Pair]:
    """The published archive's content; ValueError for any other file."""
    found, published = _sha256(path), CIFAR10.sha256[ARCHIVES[0]]
    if found != published:
        raise ValueError(f"{path.name}: its sha256 must be {published}; got {found}")
    return read_cifar_archive(path)


def _in_archive(path: Path) -> tuple[Pair, Pair]:
    if _sha256(path) not in CIFAR10.sha256.values():
        warnings.warn(
            f"cifar10: {path}: it is not one of the published archives (by sha256). Results cannot "
            "be compared with published ones.",
            stacklevel=4,
        )
    return read_cifar_archive(path)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_cifar_archive(path: Folder) -> tuple[Pair, Pair]:
    """Training and test images and labels in a tar file of either format, packed or not.

    Nothing is unpacked to disk, and names are looked at without their folders.
    """
    found: dict[str, Pair] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.offset_data > 2 * _MAX_BYTES:
                    raise ValueError("it holds much more than the six files of CIFAR-10")
                name = os.path.basename(member.name)
                stem = name.removesuffix(".bin")
                stream = archive.extractfile(member) if member.isfile() else None
                if stem in BATCHES and stream is not None:
                    content = stream.read(_MAX_FILE + 1)
                    found[stem] = _batch(name, content, f"{path}: {member.name}")
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(
            f"cifar10: {path}: it must be a whole tar file; {error}. Fetch it again."
        ) from None
    missing = [batch for batch in BATCHES if batch not in found]
    if missing:
        raise ValueError(f"cifar10: {path}: these files are missing in it: {', '.join(missing)}.")
    return _joined(found)


def _joined(batches: dict[str, Pair]) -> tuple[Pair, Pair]:
    """The five training batches one after the other, and the test batch."""
    parts = [batches[name] for name in BATCHES[:-1]]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts))
    return (images, labels), batches[BATCHES[-1]]


def _content(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MAX_FILE + 1)


def _batch(name: str, content: bytes, source: str) -> Pair:
    if len(content) > _MAX_FILE:
        raise ValueError(f"cifar10: {source}: it has more than {_MAX_FILE:,} bytes.")
    return binary_batch(content, source) if name.endswith(".bin") else python_batch(content, source)


def binary_batch(content: bytes, source: str) -> Pair:
    """Images (n, 3, 32, 32) and labels (n,), uint8, of the bytes of a binary file."""
    if not content or len(content) % (1 + ROW):
        raise ValueError(
            f"cifar10: {source}: it must hold {1 + ROW:,} bytes for each image; got "
            f"{len(content):,} bytes. The file is truncated or another one: fetch it again."
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + ROW)
    return _images(rows[:, 1:], source), _labels(rows[:, 0], source)


def python_batch(content: bytes, source: str) -> Pair:
    """Images (n, 3, 32, 32) and labels (n,), uint8, of the bytes of a Python file.

    Only plain values are read; a file that would execute anything is refused.
    """
    try:
        found = read_plain(content)
    except ValueError as error:
        raise ValueError(
            f"cifar10: {source}: it must be a pickle of plain values; {error}."
        ) from None
    found = found if isinstance(found, dict) else {}
    data, labels = (found.get(key, found.get(key.encode())) for key in ("data", "labels"))
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (ROW,):
        raise ValueError(
            f"cifar10: {source}: it must hold 'data', uint8 of shape (n, {ROW}), and 'labels'."
        )
    if not _are_labels(labels) or len(labels) != len(data):
        raise ValueError(
            f"cifar10: {source}: it must hold 'labels', {len(data):,} numbers in "
            f"[0, {len(CIFAR10.classes)})."
        )
    return _images(data, source), np.array(labels, np.uint8)


def _are_labels(labels: Any) -> TypeGuard[list[int]]:
    n = len(CIFAR10.classes)
    return isinstance(labels, list) and all(type(y) is int and 0 <= y < n for y in labels)


def _images(rows: Array, source: str) -> Array:
    if not len(rows):
        raise ValueError(f"cifar10: {source}: it must hold at least one image.")
    return np.ascontiguousarray(rows).reshape(-1, *SHAPE)


def _labels(labels: Array, source: str) -> Array:
    n = len(CIFAR10.classes)
    if labels.max() >= n:
        at = int(np.argmax(labels >= n))
        raise ValueError(
            f"cifar10: {source}: labels must be in [0, {n}); image {at} has {labels[at]}. "
            "Does the file belong to another data set?"
        )
    return labels.copy()
