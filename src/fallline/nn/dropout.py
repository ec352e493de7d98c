"""Dropout."""

from __future__ import annotations

from typing import Any

from fallline.core.spec import shape_of, spec_of
from fallline.nn.module import Module
from fallline.ops import random


class Dropout(Module):
    """Sets elements to 0 with probability `rate` while training, and scales up the others.

        y = x m / (1 - rate),  m = 0 with probability rate, else 1

    The expectation of y is x, so nothing is left to do when it infers (inverted dropout): without a
    context, and in mode "eval", it is the identity. It needs the context's key to train.
    Srivastava et al. 2014, with the scaling of section 10 done in training.
    """

    rate: float = 0.5
    needs_context = True

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ValueError(f"Dropout: rate must be in [0, 1); got {self.rate}.")

    def __call__(self, x: Any, *, ctx: Any = None) -> Any:
        if ctx is None or not ctx.training or self.rate == 0:
            return x
        if ctx.key is None:
            raise ValueError(
                "Dropout: a context of mode 'train' must have a random key. Pass "
                "Context('train', key=ops.random.key(seed))."
            )
        shape, dtype = shape_of(x), spec_of(x).dtype
        return x * random.dropout_mask(ctx.key, self.rate, shape, dtype, site=ctx.site)
