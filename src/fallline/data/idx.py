"""IDX files, the format of MNIST, gzipped or not: a big-endian header, then the elements.

    0 0 code ndim | dims[0] ... dims[ndim - 1], four bytes each | the elements, row by row

A header is never believed before it is compared with the size of the file, so a forged one costs no
memory.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

Array = np.ndarray[Any, Any]

DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_CODES = {dtype.newbyteorder("="): code for code, dtype in DTYPES.items()}

MAX_NDIM = 16
MAX_BYTES = 4 << 30
_GZIP = b"\x1f\x8b"
_DEFLATE_LIMIT = 1040  # deflate cannot shrink by more than 1032; the rest is for headers
_BLOCK = 1 << 20


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Array:
    """The array in an IDX file, gzipped or not, in the machine's own byte order.

    A file that is truncated, too long, damaged, of another format, or that decompresses to more
    than `max_bytes` is refused with a ValueError that says what was found.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "squares.gz")
    ...     write_idx(path, np.arange(3, dtype=np.int32) ** 2)
    ...     read_idx(path)
    array([0, 1, 4], dtype=int32)
    """
    path = Path(path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        packed = file.read(2) == _GZIP
        file.seek(0)
        if not packed:
            return _read(file, path, most=min(size, max_bytes), size=size, max_bytes=max_bytes)
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                most = min(size * _DEFLATE_LIMIT, max_bytes)
                return _read(
                    cast(IO[bytes], stream), path, most=most, size=size, max_bytes=max_bytes
                )
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(
                f"read_idx: {path}: the gzip data must be whole; {_reason(error)}. "
                "Fetch the file again."
            ) from None


def read_images(path: str | os.PathLike[str]) -> Array:
    """Images of an IDX file: (n, height, width), uint8. Anything else, labels say, is refused."""
    return _expect(read_idx(path), Path(path), ndim=3, what="images")


def read_labels(path: str | os.PathLike[str]) -> Array:
    """Labels of an IDX file: (n,), uint8. Anything else, images say, is refused."""
    return _expect(read_idx(path), Path(path), ndim=1, what="labels")


def read_pair(
    images: str | os.PathLike[str], labels: str | os.PathLike[str], *, n_classes: int = 10
) -> tuple[Array, Array]:
    """Images and their labels, of equal number, the labels in [0, n_classes)."""
    X, y = read_images(images), read_labels(labels)
    if len(X) != len(y):
        raise ValueError(
            f"read_pair: {images} and {labels} must hold equally many examples; got {len(X):,} "
            f"images and {len(y):,} labels. Is one of the training set and one of the test set?"
        )
    if y.size and y.max() >= n_classes:
        at = int(np.argmax(y >= n_classes))
        raise ValueError(
            f"read_pair: {labels}: labels must be in [0, {n_classes}); got {y[at]} at index {at}. "
            "Does the file belong to another data set?"
        )
    return X, y


def write_idx(path: str | os.PathLike[str], array: Array) -> None:
    """Write an array as IDX, gzipped if the name ends in .gz; the same array gives the same bytes.

    The file appears whole or not at all.
    """
    path = Path(path)
    content = idx_header(array) + _elements(array).tobytes()
    if path.suffix == ".gz":
        content = gzip.compress(content, compresslevel=9, mtime=0)  # no time stamp
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def idx_sha256(array: Array) -> str:
    """sha256 of the array's uncompressed IDX file; the encoding is unique, so no file is needed."""
    digest = hashlib.sha256(idx_header(array))
    digest.update(_elements(array).data)
    return digest.hexdigest()


def idx_header(array: Array) -> bytes:
    """The header of the array's IDX file.

    >>> idx_header(np.zeros((2, 3), np.uint8)).hex(" ", 4)
    '00000802 00000002 00000003'
    """
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        names = ", ".join(str(dtype) for dtype in _CODES)
        raise ValueError(f"write_idx: the dtype must be one of {names}; got {array.dtype}.")
    if not 1 <= array.ndim <= MAX_NDIM or max(array.shape) >= 1 << 32:
        raise ValueError(
            f"write_idx: an array must have 1 to {MAX_NDIM} dimensions, each below 2**32; "
            f"got shape {array.shape}."
        )
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)


def _elements(array: Array) -> Array:
    """The elements as they lie in the file."""
    dtype = DTYPES[_CODES[array.dtype.newbyteorder("=")]]
    return np.ascontiguousarray(array, dtype=dtype)


def _read(stream: IO[bytes], path: Path, *, most: int, size: int, max_bytes: int) -> Array:
    dtype, shape = _read_header(stream, path)
    length = math.prod(shape) * dtype.itemsize
    extent = math.prod(max(1, n) for n in shape) * dtype.itemsize  # NumPy bounds this too
    if length > most or extent > max_bytes:  # before anything is allocated
        raise ValueError(_too_large(path, shape, dtype, extent, size, max_bytes))
    array = np.empty(shape, dtype)
    found = _fill(stream, array.reshape(-1).view(np.uint8).data)
    if found < length:
        raise ValueError(
            f"read_idx: {path}: the header {_promise(shape, dtype)}, {length:,} bytes; only "
            f"{found:,} follow. The file is truncated: fetch it again."
        )
    if stream.read(1):
        raise ValueError(
            f"read_idx: {path}: the header {_promise(shape, dtype)}, {length:,} bytes; more "
            "follow. The header is damaged, or something was appended."
        )
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_header(stream: IO[bytes], path: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise ValueError(
            f"read_idx: {path}: an IDX file begins with 4 bytes of magic; the file ends after "
            f"{len(magic)}. Fetch it again."
        )
    zeros, code, ndim = struct.unpack(">HBB", magic)
    if zeros or code not in DTYPES or not 1 <= ndim <= MAX_NDIM:
        raise ValueError(
            f"read_idx: {path}: an IDX file begins with 0 0, a type code in "
            f"{[hex(code) for code in DTYPES]} and a number of dimensions in 1..{MAX_NDIM}; "
            f"got {magic.hex(' ')}.{_guess(magic)}"
        )
    dims = stream.read(4 * ndim)
    if len(dims) < 4 * ndim:
        raise ValueError(
            f"read_idx: {path}: {ndim} dimensions of 4 bytes must follow the magic; the file ends "
            f"after {len(dims)} bytes of them. The file is truncated: fetch it again."
        )
    return DTYPES[code], struct.unpack(f">{ndim}I", dims)


def _fill(stream: IO[bytes], buffer: memoryview) -> int:
    """Read into the buffer until it is full or the stream ends; how many bytes came."""
    at = 0
    while at < len(buffer):
        block = stream.read(min(_BLOCK, len(buffer) - at))
        if not block:
            break
        buffer[at : at + len(block)] = block
        at += len(block)
    return at


def _expect(array: Array, path: Path, *, ndim: int, what: str) -> Array:
    if array.ndim == ndim and array.dtype == np.uint8:
        return array
    kinds = {1: "labels", 3: "images"}
    looks = kinds.get(array.ndim) if array.dtype == np.uint8 else None
    hint = f" That is a file of {looks}: are two files swapped?" if looks else ""
    raise ValueError(
        f"read_{what}: {path}: {what} are uint8 with {ndim} dimension{'s' * (ndim > 1)} (magic "
        f"{0x0800 + ndim}); got {array.dtype} of shape {array.shape}.{hint}"
    )


def _too_large(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], length: int, size: int, max_bytes: int
) -> str:
    start = f"read_idx: {path}: the header {_promise(shape, dtype)}, {length:,} bytes; "
    if length > max_bytes:
        return start + f"the limit is {max_bytes:,}. Pass max_bytes= if the file is to be trusted."
    return start + f"a file of {size:,} bytes cannot hold them. It is truncated or damaged."


def _promise(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return f"promises {' x '.join(map(str, shape))} elements of {dtype.newbyteorder('=')}"


def _guess(magic: bytes) -> str:
    if magic.lstrip()[:1] == b"<":
        return " It looks like a web page: did a download return an error page?"
    if magic[:4] in (b"PK\x03\x04", b"\xfd7zX", b"BZh9"):
        return " It looks like an archive: unpack it first."
    return " Is it a file of another format?"


def _reason(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "it ends too early"
    if isinstance(error, gzip.BadGzipFile):
        return f"it is damaged ({error})"
    return "it is damaged"
