"""IDX files: what is written is read, and every kind of damage is refused with its reason."""

import contextlib
import gzip
import hashlib
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fallline.data import idx_sha256, read_idx, read_images, read_labels, read_pair, write_idx

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
LETTERS = {"uint8": "B", "int8": "b", "int16": "h", "int32": "i", "float32": "f", "float64": "d"}


def naive_idx(array):
    """The format, written out element by element."""
    content = bytes([0, 0, CODES[str(array.dtype)], array.ndim])
    for size in array.shape:
        content += size.to_bytes(4, "big")
    for element in array.ravel():
        content += struct.pack(f">{LETTERS[str(array.dtype)]}", element)
    return content


arrays = st.sampled_from(sorted(CODES)).flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)
    )
)


@given(array=arrays, packed=st.booleans())
@settings(max_examples=100, deadline=None)
def test_round_trip(tmp_path_factory, array, packed):
    path = tmp_path_factory.mktemp("idx") / ("a.gz" if packed else "a")
    write_idx(path, array)
    content = path.read_bytes()
    assert (gzip.decompress(content) if packed else content) == naive_idx(array)
    back = read_idx(path)
    assert back.dtype == array.dtype and back.shape == array.shape and back.dtype.isnative
    assert back.tobytes() == np.ascontiguousarray(array).tobytes()  # nan too
    assert idx_sha256(array) == hashlib.sha256(naive_idx(array)).hexdigest()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@given(array=arrays, packed=st.booleans(), data=st.data())
@settings(max_examples=150, deadline=None)
def test_every_truncation_is_refused(tmp_path_factory, array, packed, data):
    path = tmp_path_factory.mktemp("idx") / "a"
    content = gzip.compress(naive_idx(array)) if packed else naive_idx(array)
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match=r"read_idx: .*a: "):
        read_idx(path)


@given(content=st.binary(max_size=200), packed=st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, packed):
    path = tmp_path_factory.mktemp("idx") / "a"
    content = bytes([0, 0, 8, 3]) + content
    path.write_bytes(gzip.compress(content) if packed else content)
    try:
        array = read_idx(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert naive_idx(array) == content


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_a_flipped_bit_in_gzip_is_refused_or_harmless(tmp_path_factory, at, bit):
    array = np.arange(200, dtype=np.uint8)
    content = bytearray(gzip.compress(naive_idx(array), mtime=0))
    content[at % len(content)] ^= 1 << bit
    path = tmp_path_factory.mktemp("idx") / "a"
    path.write_bytes(content)
    try:
        assert np.array_equal(read_idx(path), array)
    except ValueError as error:
        assert str(path) in str(error)


def header(*dims, code=8):
    return struct.pack(f">HBB{len(dims)}I", 0, code, len(dims), *dims)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "ends after 0"),
        (b"\0\0", "ends after 2"),
        (b"<!DOCTYPE html><title>404", "looks like a web page"),
        (b"PK\x03\x04rest", "looks like an archive"),
        (header(1, code=7) + b"a", r"got 00 00 07 01"),
        (b"\0\0\x08\0", "number of dimensions in 1..16"),
        (b"\0\0\x08\x11" + b"\0" * 68, "number of dimensions in 1..16"),
        (b"\0\0\x08\x03\0\0\0\x01", "3 dimensions of 4 bytes must follow"),
        (header(2, 2) + b"abc", "promises 2 x 2 elements of uint8, 4 bytes; only 3 follow"),
        (header(4, 9) + b"abc", "a file of 15 bytes cannot hold them"),
        (header(2, 2) + b"abcde", "more follow"),
        (gzip.compress(header(2, 2) + b"abc"), "only 3 follow. The file is truncated"),
        (gzip.compress(header(2, 2) + b"abcde"), "more follow"),
        (gzip.compress(header(2) + b"ab")[:-3], "must be whole; it ends too early"),
        (gzip.compress(header(2) + b"ab")[:-8] + b"\0" * 8, "must be whole; it is damaged"),
        (gzip.compress(header(2) + b"ab") + b"junk", "must be whole; it is damaged"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, content, reason):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_idx(path)


@contextlib.contextmanager
def at_most(size):
    """Fails if more memory than this was allocated at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "dims", [(2**32 - 1,) * 16, (2**31,), (60_000, 28, 28), (0, 2**32 - 1), (0, *(2**32 - 1,) * 15)]
)
def test_a_forged_header_costs_no_memory(tmp_path, dims, packed):
    path = tmp_path / "file"
    content = header(*dims) + b"a" * 100
    path.write_bytes(gzip.compress(content) if packed else content)
    with at_most(1 << 20), pytest.raises(ValueError, match="promises"):
        read_idx(path)


def test_a_bomb_is_refused_unread(tmp_path):
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(header(1 << 26))
        for _ in range(64):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="the limit is 1,048,576"):
        read_idx(path, max_bytes=1 << 20)
    assert read_idx(path).nbytes == 1 << 26  # nothing but its size is wrong with it


def test_more_than_the_header_promises_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb") as file:
        file.write(header(4))
        for _ in range(64):
            file.write(bytes(1 << 20))
    with at_most(4 << 20), pytest.raises(ValueError, match="more follow"):
        read_idx(path)


def test_swapped_images_and_labels_are_named(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    write_idx(images, np.zeros((3, 2, 2), np.uint8))
    write_idx(labels, np.array([0, 9, 1], np.uint8))
    X, y = read_pair(images, labels)
    assert X.shape == (3, 2, 2) and y.tolist() == [0, 9, 1]
    with pytest.raises(ValueError, match=r"magic 2051.*a file of labels: are two files swapped"):
        read_images(labels)
    with pytest.raises(ValueError, match=r"magic 2049.*a file of images: are two files swapped"):
        read_labels(images)
    write_idx(labels, np.zeros(3, np.int32))
    with pytest.raises(ValueError, match=r"labels are uint8 .* got int32 of shape \(3,\)"):
        read_labels(labels)


def test_a_pair_that_does_not_belong_together(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    write_idx(images, np.zeros((3, 2, 2), np.uint8))
    write_idx(labels, np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match="3 images and 2 labels"):
        read_pair(images, labels)
    write_idx(labels, np.array([0, 10, 11], np.uint8))
    with pytest.raises(ValueError, match=r"in \[0, 10\); got 10 at index 1"):
        read_pair(images, labels)
    assert read_pair(images, labels, n_classes=12)[1].max() == 11


@pytest.mark.parametrize("array", [np.zeros(2, np.int64), np.float64(1.0), np.zeros(2, complex)])
def test_what_cannot_be_written(tmp_path, array):
    with pytest.raises(ValueError, match="write_idx: "):
        write_idx(tmp_path / "a", array)
    assert not list(tmp_path.iterdir())


def test_the_same_array_gives_the_same_bytes(tmp_path):
    array = np.arange(50, dtype=np.int16)
    write_idx(tmp_path / "a.gz", array)
    write_idx(tmp_path / "b.gz", array[::1].astype(">i2"))  # another byte order in memory
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
