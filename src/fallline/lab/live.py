"""Looking on while a study runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fallline.lab.records import Record
from fallline.lab.study import Silent, Study, Watch
from fallline.lab.verdict import counted
from fallline.lab.worker import Task

PLAIN_EVERY = 5.0  # seconds between plain lines


def watch(progress: bool | None = None, console: Console | None = None) -> Watch:
    """Whoever should look on: nobody for False; None and True take the terminal if there is one."""
    if progress is False:
        return Silent()
    console = console or Console(file=sys.stderr)
    return LiveTable(console) if console.is_terminal else PlainLines(console)


@dataclass(frozen=True)
class Standing:
    """How far one optimizer has come."""

    name: str
    trials: str
    best: str
    validation: str
    state: str


def standing(study: Study, name: str) -> Standing:
    """A row of the live table, from the records alone."""
    tuning = study.tuning(name)
    mine = [r for r in study.records.values() if r.optimizer == name and r.phase != "trial"]
    planned = max(study.budget.trials, len(tuning.trials) + len(tuning.tasks))
    ok = [t for t in tuning.trials if t.status == "ok" and t.validation is not None]
    metric = study.problem.metric
    best = tuning.best or max(ok, key=lambda t: metric.good(t.validation), default=None)
    finals = study.budget.seeds * (1 if tuning.done and tuning.best is None else 2)
    if not tuning.done:
        state = "widening" if tuning.edges else "tuning" if tuning.trials else "waiting"
    else:
        state = "done" if len(mine) == finals else f"runs {len(mine)}/{finals}"
    diverged = sum(t.status == "diverged" for t in tuning.trials)
    return Standing(
        name,
        f"{len(tuning.trials)}/{planned}" + (f", {diverged} diverged" if diverged else ""),
        _hyper(best) if best else "",
        _score(best.validation, metric.name) if best else "",
        state,
    )


@dataclass
class Clock:
    """Runs done and left, and what that says about the time left."""

    done: int = 0
    left: int = 0
    start: float = 0.0
    now: Callable[[], float] = time.monotonic

    def begin(self, study: Study) -> None:
        self.start, self.done, self.left = self.now(), 0, study.remaining()

    def record(self, study: Study) -> None:
        self.done += 1
        self.left = study.remaining()

    @property
    def elapsed(self) -> float:
        return self.now() - self.start

    def __str__(self) -> str:
        of = counted(self.done + self.left, "run")
        text = f"{self.done} of {of}, {duration(self.elapsed)}"
        if self.done >= 3 and self.left:
            text += f", about {duration(self.elapsed / self.done * self.left)} to go"
        return text


class LiveTable:
    """A table that is redrawn a few times a second."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.clock = Clock()
        self.rows: dict[str, Standing] = {}
        self.now = ""

    def begin(self, study: Study) -> None:
        self.study = study
        self.clock.begin(study)
        self.rows = {name: standing(study, name) for name in study.optimizers}
        self.live = Live(
            get_renderable=self._screen, console=self.console, refresh_per_second=5, transient=True
        )
        if self.clock.left:
            self.live.start(refresh=True)

    def epoch(self, task: Task, epoch: dict[str, Any]) -> None:
        what = (
            f"trial {task.index + 1}"
            if task.phase == "trial"
            else f"{task.phase} run {task.index + 1}"
        )
        of = self.study.problem.epochs
        self.now = f"{task.optimizer}, {what}, epoch {epoch.get('epoch', '?')} of {of}"

    def record(self, record: Record) -> None:
        self.clock.record(self.study)
        self.rows[record.optimizer] = standing(self.study, record.optimizer)

    def end(self) -> None:
        self.live.stop()

    def _screen(self) -> Group:
        problem = self.study.problem
        head = Text.assemble((problem.name, "bold"), f"  {self.clock}")
        return Group(head, self._table(), Text(self.now, style="dim"))

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("optimizer", "trials", "best so far", "validation", ""):
            table.add_column(name, no_wrap=True)
        for row in list(self.rows.values()):  # a copy: drawn by a thread of its own
            style = "green" if row.state == "done" else "dim" if row.state == "waiting" else ""
            cells = (row.trials, row.best, row.validation)
            table.add_row(row.name, *cells, Text(row.state, style=style))
        return table


class PlainLines:
    """One line at the start, at the end, and in between not more than every few seconds."""

    def __init__(
        self,
        console: Console,
        every: float = PLAIN_EVERY,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console, self.every = console, every
        self.clock = Clock(now=now)

    def begin(self, study: Study) -> None:
        self.study = study
        self.clock.begin(study)
        self.last = self.clock.now()
        many = counted(len(study.optimizers), "optimizer")
        left = f"{counted(self.clock.left, 'run')} to make" if self.clock.left else "nothing left"
        self._say(f"{study.problem.name}: {many}, {left}")

    def epoch(self, task: Task, epoch: dict[str, Any]) -> None: ...

    def record(self, record: Record) -> None:
        self.clock.record(self.study)
        if self.clock.now() - self.last >= self.every:
            self.last = self.clock.now()
            self._say(f"{self.clock}; {self._about(record)}")

    def end(self) -> None:
        if self.clock.done or self.clock.left:
            self._say(str(self.clock))

    def _about(self, record: Record) -> str:
        row = standing(self.study, record.optimizer)
        best = f", best {row.best} at {row.validation}" if row.best else ""
        return f"{row.name}: {row.state}{best}"

    def _say(self, text: str) -> None:
        self.console.print(f"compare: {text}", markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """8 s, 1 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _hyper(record: Record) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in record.hyper.items())


def _score(value: float | None, metric: str) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f}%" if metric == "accuracy" else f"{value:.4g}"
