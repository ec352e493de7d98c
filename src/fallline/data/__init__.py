"""Data: real data sets, images, checked arrays, splits, scales, augmentation, mini-batches.

What a program does not use is not imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fallline.data.arrays import as_arrays, as_examples, as_targets
from fallline.data.batches import batches, epoch_order, partition
from fallline.data.dataset import Dataset, Examples, from_arrays, split
from fallline.data.embedded import digits
from fallline.data.idx import idx_sha256, read_idx, read_images, read_labels, read_pair, write_idx
from fallline.data.scale import Affine, channel_standardiser, minmax, standardise, standardiser
from fallline.data.standard import fashion_mnist, mnist
from fallline.data.statistics import moments

if TYPE_CHECKING:
    from fallline.data import augment
    from fallline.data.cifar import cifar10
    from fallline.data.feeder import Feeder, Staged
    from fallline.data.images import image_folder
    from fallline.data.whiten import PCA, ZCA, pca, zca

_WHERE = {
    "cifar10": "cifar",
    "Feeder": "feeder",
    "Staged": "feeder",
    "image_folder": "images",
    "PCA": "whiten",
    "ZCA": "whiten",
    "pca": "whiten",
    "zca": "whiten",
}

__all__ = [
    "digits",
    "mnist",
    "fashion_mnist",
    "cifar10",
    "image_folder",
    "Dataset",
    "Examples",
    "from_arrays",
    "split",
    "standardise",
    "standardiser",
    "channel_standardiser",
    "minmax",
    "Affine",
    "moments",
    "pca",
    "PCA",
    "zca",
    "ZCA",
    "augment",
    "Feeder",
    "Staged",
    "batches",
    "epoch_order",
    "partition",
    "as_arrays",
    "as_examples",
    "as_targets",
    "read_idx",
    "read_images",
    "read_labels",
    "read_pair",
    "write_idx",
    "idx_sha256",
]


def __getattr__(name: str) -> Any:
    if name == "augment":
        return importlib.import_module("fallline.data.augment")
    if name not in _WHERE:
        raise AttributeError(f"module 'fallline.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fallline.data.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
