"""What a person sees while a network trains: a bar on a terminal, a plain line now and then elsewhere, nothing if silent."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

LINE_SECONDS = 10.0  # between plain lines
REFRESH = 10  # of the bar, per second


class Silent:
    """No output."""

    def start(self, epochs: int, steps: int) -> None:
        """Training begins."""

    def step(self, done: int, loss: float) -> None:
        """So many steps are done; the last loss."""

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is complete."""

    def stop(self) -> None:
        """Training has ended, in whatever way."""


class Lines(Silent):
    """One plain line per epoch, at most one every few seconds, and always the last one."""

    def __init__(self, file: TextIO | None = None, every: float = LINE_SECONDS) -> None:
        self.file = file or sys.stderr
        self.every = every
        self._last = 0.0
        self._pending = ""

    def start(self, epochs: int, steps: int) -> None:
        self.epochs = epochs
        self._last = time.monotonic()

    def epoch(self, row: dict[str, float]) -> None:
        self._pending = f"epoch {row['epoch']:.0f}/{self.epochs}  {_numbers(row)}"
        if time.monotonic() - self._last >= self.every:
            self._flush()

    def stop(self) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._pending:
            print(self._pending, file=self.file, flush=True)
        self._pending = ""
        self._last = time.monotonic()


class Bar(Silent):
    """A progress bar with the loss, by rich."""

    def start(self, epochs: int, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            refresh_per_second=REFRESH,
        )
        self._progress.start()
        self.epochs = epochs
        self._numbers = ""
        self._task: Any = self._progress.add_task(f"epoch 1/{epochs}", total=steps, numbers="")

    def step(self, done: int, loss: float) -> None:
        self._progress.update(
            self._task, completed=done, numbers=f"loss {loss:.4f}  {self._numbers}"
        )

    def epoch(self, row: dict[str, float]) -> None:
        self._numbers = _numbers({k: v for k, v in row.items() if k.startswith("val")})
        now = min(int(row["epoch"]) + 1, self.epochs)
        self._progress.update(
            self._task, description=f"epoch {now}/{self.epochs}", numbers=_numbers(row)
        )

    def stop(self) -> None:
        self._progress.stop()


def _numbers(row: dict[str, float]) -> str:
    return "  ".join(
        f"{k} {v:.4g}" for k, v in row.items() if k in ("loss", "val_loss", "val_accuracy")
    )


def display(progress: bool | Silent | None) -> Silent:
    """None: a bar on a terminal, lines elsewhere; True: always shown; False: silent; or an object of one's own."""
    if isinstance(progress, Silent):
        return progress
    if progress is False:
        return Silent()
    return Bar() if sys.stderr.isatty() else Lines()
