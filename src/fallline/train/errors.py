"""A training run that went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fallline.train.history import History


class DivergedError(FloatingPointError):
    """The loss became nan or infinite.

    The network holds the parameters before that step. `history` is what was recorded until then,
    `losses` those of the steps before it in the same call of `Trainer.steps`.
    """

    def __init__(self, message: str, step: int, history: History | None = None) -> None:
        super().__init__(message)
        self.step = step
        self.history = history
        self.losses: np.ndarray[Any, Any] = np.zeros(0)

    def __reduce__(self) -> tuple[object, ...]:
        return DivergedError, (str(self), self.step, self.history)
