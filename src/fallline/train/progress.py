"""What a person sees while a network trains.

A bar on a terminal, a plain line now and then elsewhere, nothing if silent.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any, TextIO

LINE_SECONDS = 10.0  # between plain lines
REFRESH = 10  # of the bar, per second
NARROWEST_BAR, WIDEST_BAR = 5, 40  # columns
TIME = len("0:00:00")
NUMBERS = ("loss", "val_loss", "val_accuracy")
DISPENSABLE = ("val_loss", "val_accuracy")  # left out on narrow terminals, in this order


@dataclass
class Tally:
    """How much of many runs is planned and done. `str` says it, with the rate since the start.

    ended  those that came to their end, or that a callback ended. diverged, interrupted  the others
    """

    runs: int = 0
    epochs: int = 0
    steps: int = 0
    ended: int = 0
    diverged: int = 0
    interrupted: int = 0
    epochs_done: int = 0
    steps_done: int = 0
    began: float = 0.0

    def __str__(self) -> str:
        return f"{self.epochs_done:,}/{self.epochs:,} epochs  {self.rate}"

    @property
    def rate(self) -> str:
        return f"{self.steps_done / max(time.monotonic() - self.began, 1e-9):,.0f} steps/s"

    @property
    def title(self) -> str:
        return f"runs {self.ended:{len(str(self.runs))}d}/{self.runs}"

    @property
    def lost(self) -> str:
        """The runs that will not come to their end; "" if there are none."""
        counts = {"diverged": self.diverged, "interrupted": self.interrupted}
        return ", ".join(f"{n:,} {what}" for what, n in counts.items() if n)


class Silent:
    """No output."""

    def start(self, epochs: int, steps: int) -> None:
        """Training begins."""

    def step(self, done: int, loss: float) -> None:
        """So many steps are done; the last loss."""

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is complete."""

    def stop(self) -> None:
        """Training has ended, in whatever way, or could not begin."""

    def start_runs(self, tally: Tally) -> None:
        """Training of many runs at the same time begins."""
        self.start(tally.epochs, tally.steps)

    def runs(self, tally: Tally) -> None:
        """How far they have come, instead of `step` and `epoch`."""


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

    def runs(self, tally: Tally) -> None:
        self._pending = "  ".join(filter(None, (tally.title, tally.lost, str(tally))))
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
    """A progress bar with the loss, by rich. What is known is fitted to the terminal's width."""

    def __init__(self, console: Any = None) -> None:
        self._console = console
        self._progress: Any = None
        self._row: dict[str, float] = {}

    def start(self, epochs: int, steps: int) -> None:
        self.epochs = epochs
        self._begin(self._epoch(1), steps)

    def start_runs(self, tally: Tally) -> None:
        self._begin(tally.title, tally.steps)

    def _begin(self, title: str, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        self._progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(None, table_column=Column(max_width=WIDEST_BAR)),  # the one that gives way
            TextColumn("{task.fields[numbers]}", table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            console=self._console or Console(stderr=True),
            refresh_per_second=REFRESH,
        )
        self._task = self._progress.add_task(title, total=steps, numbers="")
        self._progress.start()

    def step(self, done: int, loss: float) -> None:
        self._row["loss"] = loss
        self._progress.update(self._task, completed=done, numbers=self._fitting())

    def epoch(self, row: dict[str, float]) -> None:
        self._row = {name: row[name] for name in NUMBERS if name in row}
        now = min(int(row["epoch"]) + 1, self.epochs)
        self._progress.update(self._task, description=self._epoch(now), numbers=self._fitting())

    def runs(self, tally: Tally) -> None:
        room, lost = self._room(tally.title), tally.lost
        wishes = [f"{lost}  {tally}", f"{lost}  {tally.rate}", lost, lost.partition(",")[0], ""]
        shown = next(text for wish in wishes if len(text := wish.strip()) <= max(room, 0))
        now = {"description": tally.title, "completed": tally.steps_done}
        self._progress.update(self._task, numbers=shown, **now)

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()

    def _epoch(self, now: int) -> str:
        return f"epoch {now:{len(str(self.epochs))}d}/{self.epochs}"

    def _room(self, title: str) -> int:
        """Columns that are left for numbers."""
        return int(self._progress.console.width) - len(title) - NARROWEST_BAR - TIME - 3

    def _fitting(self) -> str:
        """As many of the numbers as there is room for beside the epoch, the bar and the time."""
        room, row = self._room(self._epoch(1)), dict(self._row)
        for name in DISPENSABLE:
            if len(_numbers(row)) > room:
                row.pop(name, None)
        return _numbers(row)


def _numbers(row: dict[str, float]) -> str:
    return "  ".join(f"{name} {row[name]:.4g}" for name in NUMBERS if name in row)


class Whole:
    """Many runs on one display: each has a `part` that it tells what it does."""

    def __init__(self, shown: Silent) -> None:
        self.shown, self.tally = shown, Tally()
        self._told = 0.0

    def part(self) -> Silent:
        return _Part(self)

    def expect(self, runs: int, epochs: int, steps: int) -> None:
        """So much is to be done."""
        self.tally = Tally(runs, epochs, steps)

    def begin(self) -> None:
        """A run begins: the clock starts with the first."""
        if not self.tally.began:
            self.tally.began = time.monotonic()
            self.shown.start_runs(self.tally)
            self._tell()

    def add(self, steps: int = 0, epochs: int = 0) -> None:
        """So much more is done."""
        self.tally.steps_done += steps
        self.tally.epochs_done += epochs
        self._tell_sometimes()

    def end(self, stopped: str) -> None:
        """A run has ended, and why early, as its history says."""
        name = stopped if stopped in ("diverged", "interrupted") else "ended"
        setattr(self.tally, name, getattr(self.tally, name) + 1)
        self._tell_sometimes()

    def _tell_sometimes(self) -> None:
        if self.tally.began and time.monotonic() - self._told > 1 / REFRESH:
            self._tell()

    def close(self) -> None:
        if self.tally.began:
            self._tell()
        self.shown.stop()

    def _tell(self) -> None:
        self._told = time.monotonic()
        self.shown.runs(self.tally)


class _Part(Silent):
    """What one of many runs has to say."""

    def __init__(self, whole: Whole) -> None:
        self.whole, self.done = whole, 0

    def start(self, epochs: int, steps: int) -> None:
        self.whole.begin()

    def step(self, done: int, loss: float) -> None:
        self.whole.add(steps=done - self.done)
        self.done = done

    def epoch(self, row: dict[str, float]) -> None:
        self.whole.add(epochs=1)


def display(progress: bool | Silent | None) -> Silent:
    """False: silent; None or True: a bar on a terminal, lines elsewhere; or one of one's own."""
    if isinstance(progress, Silent):
        return progress
    if progress is False:
        return Silent()
    return Bar() if sys.stderr.isatty() else Lines()
