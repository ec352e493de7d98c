"""1,797 handwritten digits of 8 x 8 pixels, part of this package."""

from __future__ import annotations

from importlib import resources

import numpy as np

from fallline.data.dataset import Dataset, Examples
from fallline.data.idx import read_pair

SOURCE = (
    "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning "
    "Repository (CC BY 4.0); the test set, in the order of scikit-learn's load_digits."
)


def digits(*, flat: bool = True) -> Dataset:
    """Handwritten digits: real, small, and always there.

    X  (n, 64) or, not flat, (n, 1, 8, 8) float32 in [0, 1], the pixels' 0..16 divided by 16;  y
    (n,) int64.

    The split is fixed: of each class, in the order of the file, the fourth of every five examples
    is for validation and the fifth for the test. The 13 writers therefore occur in all three parts.

    >>> digits()
    Dataset 'digits': 10 classes, examples of 64
      train       X float32 1,085 x 64  y int64 1,085
      validation  X float32 357 x 64  y int64 357
      test        X float32 355 x 64  y int64 355
    """
    folder = resources.files("fallline.data") / "files"
    with (
        resources.as_file(folder / "digits-images-idx3-ubyte.gz") as images,
        resources.as_file(folder / "digits-labels-idx1-ubyte.gz") as labels,
    ):
        pixels, y = read_pair(images, labels)
    X = pixels.reshape(-1, 64) if flat else pixels[:, None]
    examples = Examples(X / np.float32(16), y.astype(np.int64))
    fifth = _rank_in_class(examples.y) % 5
    return Dataset(
        "digits",
        train=examples.take(fifth < 3),
        validation=examples.take(fifth == 3),
        test=examples.take(fifth == 4),
        classes=tuple("0123456789"),
        source=SOURCE,
        image_shape=(1, 8, 8),
    )


def _rank_in_class(y: np.ndarray) -> np.ndarray:
    """How many examples of the same class stand before each one."""
    rank = np.empty(len(y), dtype=np.int64)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        rank[rows] = np.arange(len(rows))
    return rank
