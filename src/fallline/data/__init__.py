"""Data: real data sets, IDX files, checked arrays, splits, scales and mini-batches."""

from fallline.data.arrays import as_arrays, as_examples, as_targets
from fallline.data.batches import batches, epoch_order, partition
from fallline.data.dataset import Dataset, Examples, from_arrays, split
from fallline.data.embedded import digits
from fallline.data.idx import idx_sha256, read_idx, read_images, read_labels, read_pair, write_idx
from fallline.data.scale import Affine, minmax, standardise, standardiser
from fallline.data.standard import fashion_mnist, mnist

__all__ = [
    "digits",
    "mnist",
    "fashion_mnist",
    "Dataset",
    "Examples",
    "from_arrays",
    "split",
    "standardise",
    "standardiser",
    "minmax",
    "Affine",
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
