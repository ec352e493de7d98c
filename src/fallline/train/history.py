"""What happened while a network was trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class History:
    """The record of a training run.

    loss      (steps,) the mean loss of each mini-batch, penalty included, before its step
    epochs    one dict per epoch: epoch (from 1), step, loss (mean over the epoch's examples),
              seconds, the rate, and with validation data val_loss and val_accuracy
    seconds   wall time of the training steps; compiling them and evaluating are not counted. Of
              runs side by side (`fit_many`) each has its own share of the threads' time
    stopped   why training ended early ("interrupted", "callback", "diverged"), else ""
    message   in words, if it diverged
    """

    loss: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, np.float32))
    epochs: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    stopped: str = ""
    message: str = ""

    @property
    def steps(self) -> int:
        """The number of optimizer steps."""
        return len(self.loss)

    def column(self, name: str) -> np.ndarray[Any, Any]:
        """One column of `epochs` as an array: `history.column("val_loss")`."""
        if self.epochs and name not in self.epochs[0]:
            raise KeyError(f"History: no column {name!r}; there are {', '.join(self.epochs[0])}.")
        return np.array([row[name] for row in self.epochs])

    def __repr__(self) -> str:
        if not self.epochs:
            return f"History({self.steps} steps)"
        last = ", ".join(
            f"{k} {v:.4g}" for k, v in self.epochs[-1].items() if k not in ("epoch", "step")
        )
        return f"History({len(self.epochs)} epochs, {self.steps} steps; last: {last})"
