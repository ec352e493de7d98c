"""A training run that went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fallline.train.history import History


class DivergedError(FloatingPointError):
    """The loss became nan or infinite. The network holds the parameters before that step; `history` what was recorded until then."""

    def __init__(self, message: str, step: int, history: History | None = None) -> None:
        super().__init__(message)
        self.step = step
        self.history = history
        self.losses: np.ndarray[Any, Any] = np.zeros(0)  # of the steps of the same call before it

    def __reduce__(self) -> tuple[object, ...]:
        return DivergedError, (str(self), self.step, self.history)
