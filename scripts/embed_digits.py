"""Make the digits that the package carries out of scikit-learn's: python scripts/embed_digits.py"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from fallline.data.idx import write_idx

FILES = Path(__file__).resolve().parents[1] / "src" / "fallline" / "data" / "files"

if __name__ == "__main__":
    digits = load_digits()
    write_idx(FILES / "digits-images-idx3-ubyte.gz", digits.images.astype(np.uint8))
    write_idx(FILES / "digits-labels-idx1-ubyte.gz", digits.target.astype(np.uint8))
