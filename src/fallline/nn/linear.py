"""The dense layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from fallline.core.spec import shape_of
from fallline.nn.initialisers import Initialiser, bias_of, initialiser, layer_key
from fallline.nn.module import Module
from fallline.ops import philox

Array = np.ndarray[Any, Any]


class Linear(Module):
    """A dense (fully connected) layer.

        z = x W + b

    x  (n, n_in), or any (..., n_in);  W  (n_in, n_out);  b  (n_out,), or None with bias=False.
    Textbooks that write a column per example, z = W a + b, mean the transpose of this W.

    W is drawn by `init`, a name or a function of (key, shape, dtype); b starts at 0, or at `bias`
    if it is a float. `seed` is a number or a key; without one every layer of a program gets
    another. Raises ValueError for an x with another number of features.

    The bias is a weight of an input that is always 1, z = [1; a] W':

    >>> layer = Linear(3, 2, seed=0)
    >>> layer.b = [1.0, 2.0]
    >>> a = np.ones((4, 3), np.float32)
    >>> augmented = np.concatenate([np.ones((4, 1), np.float32), a], axis=1)
    >>> bool(np.allclose(augmented @ np.vstack([layer.b, layer.W]), layer(a)))
    True
    """

    W: Array
    b: Array | None
    initialiser: Initialiser | Callable[..., Array]
    b_start: float = 0.0

    torch_names: ClassVar[Mapping[str, str]] = {"W": "weight", "b": "bias"}
    torch_transposed = ("W",)

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        init: str | Initialiser | Callable[..., Array] = "he_uniform",
        bias: bool | float = True,
        seed: int | philox.Key | None = None,
        dtype: Any = np.float32,
    ) -> None:
        for name, n in (("n_in", n_in), ("n_out", n_out)):
            if not isinstance(n, (int, np.integer)) or n < 1:
                raise ValueError(f"Linear: {name} must be a positive integer; got {n!r}.")
        self.initialiser = initialiser(init)
        self.W = np.empty((n_in, n_out), dtype)
        self.b, self.b_start = bias_of(n_out, bias, dtype)
        self.reset(layer_key(seed))

    @property
    def n_in(self) -> int:
        return shape_of(self.W)[0]

    @property
    def n_out(self) -> int:
        return shape_of(self.W)[1]

    def reset(self, key: philox.Key) -> None:
        self.W = self.initialiser(philox.fold_in(key, "W"), self.W.shape, self.W.dtype)
        if self.b is not None:
            self.b = np.full_like(self.b, self.b_start)

    def __call__(self, x: Any, *, ctx: Any = None) -> Any:
        shape = shape_of(x)
        if not shape or shape[-1] != self.n_in:
            raise ValueError(
                f"Linear: the last axis of x must have size {self.n_in}; got shape {shape}."
                + (" Did you mean x.T?" if len(shape) == 2 and shape[0] == self.n_in else "")
            )
        z = x @ self.W
        return z if self.b is None else z + self.b

    def summary(self) -> str:
        """What it is, in the table of a network."""
        return f"{self.n_in} -> {self.n_out}"
