"""`compare`: ten optimizers on one problem under one fair protocol, and what came of it."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fallline.core.errors import did_you_mean
from fallline.lab import live, worker
from fallline.lab.contenders import Contender, contenders
from fallline.lab.page import page, results_table
from fallline.lab.problem import as_problem
from fallline.lab.protocol import BUDGETS, Budget
from fallline.lab.records import STUDY, Journal, Record
from fallline.lab.study import Study, Watch
from fallline.lab.summary import summarise
from fallline.lab.verdict import counted, scope, shown, shown_difference, shown_median

SUMMARY, REPORT = "summary.json", "report.html"
StrPath = str | os.PathLike[str]


def compare(
    problem: Any,
    optimizers: str | Contender | Iterable[str | Contender] | None = None,
    budget: str | Budget = "quick",
    *,
    model: Any = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    out: StrPath | None = None,
    data: StrPath | None = None,
    progress: bool | Watch | None = None,
    run: worker.Run = worker.run_one,
) -> Comparison:
    """Compare optimizers on a problem, each tuned with the same budget.

    problem     "digits", "mnist", "fashion-mnist", a `Problem`, a `Dataset`, arrays (X, y), or
                three such pairs: to train, to choose by, to report on
    optimizers  names or your own; the usual ten by default
    budget      "quick" (6 trials each), "standard" (20), "full" (50), or a `Budget`
    model, epochs, batch_size  in place of the problem's own; arrays need a model
    seed        of the whole comparison; every seed of a run follows from it
    jobs        processes; 1 stays in this one, where trials of small networks train side by side on
                its threads, and reported runs, whose seconds are reported, have all of them. For
                small networks that is the fastest
    out         a directory: every finished run is kept there at once, summary.json and report.html
                at the end, and the same call again continues where it was stopped
    data        a folder with the files of a named problem
    progress    None shows a live table on a terminal, lines now and then elsewhere; False nothing

    Settings are chosen on validation examples alone and reported on test examples with fresh seeds,
    which all optimizers share. Nobody is called better unless the interval of the paired difference
    to the best excludes 0; these intervals hold at 95% for all optimizers jointly. Ctrl-C stops
    after what is recorded and returns the unfinished comparison; continued, it ends with the same
    numbers as one that was not interrupted.
    """
    if jobs < 1:
        raise ValueError(f"compare: jobs must be at least 1; got {jobs}.")
    if seed < 0:
        raise ValueError(f"compare: seed must not be negative; got {seed}.")
    chosen = contenders(optimizers)
    settled = as_problem(problem, folder=data, model=model, epochs=epochs, batch_size=batch_size)
    looking_on = (
        live.watch(progress) if progress is None or isinstance(progress, bool) else progress
    )
    with Journal(out) as journal:
        study = Study(
            settled, chosen, _budget(budget), seed=seed, jobs=jobs, journal=journal, run=run
        )
        interrupted = False
        try:
            study.go(looking_on)
        except KeyboardInterrupt:
            interrupted = True
            print(_how_to_continue(study, out), file=sys.stderr)
        comparison = Comparison(journal.study, list(journal.records.values()), interrupted)
    if out is not None:
        comparison.save(out)
    return comparison


def report(directory: StrPath) -> Comparison:
    """Make summary.json and report.html again from the records in a directory."""
    comparison = Comparison.open(directory)
    comparison.save(directory)
    return comparison


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a comparison found: its settings, its records, and views of them.

    interrupted  whether Ctrl-C ended it before all that was asked for was done
    complete     whether nothing is missing of any of its optimizers, also of earlier calls

    In a notebook it shows itself as its table; on a terminal `rich.print(comparison)` does.
    """

    study: dict[str, Any]
    records: list[Record]
    interrupted: bool = False

    @classmethod
    def open(cls, directory: StrPath) -> Comparison:
        """The comparison that a directory holds."""
        if not (Path(directory) / STUDY).exists():
            raise FileNotFoundError(f"report: {directory} holds no comparison: no {STUDY} in it.")
        journal = Journal(directory)
        return cls(journal.study, list(journal.records.values()))

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """Everything as plain data; see `lab.summary`."""
        return summarise(self.study, self.records)

    @property
    def complete(self) -> bool:
        return bool(self.summary["complete"])

    def html(self) -> str:
        """The report as one self-contained page."""
        return page(self.study, self.records)

    def report(self, path: StrPath) -> Path:
        """Write the report to a file."""
        path = Path(path)
        path.write_text(self.html(), encoding="utf-8")
        return path

    def save(self, directory: StrPath) -> None:
        """Write summary.json and report.html."""
        text = json.dumps(self.summary, indent=1, ensure_ascii=False, allow_nan=False)
        (Path(directory) / SUMMARY).write_text(text + "\n", encoding="utf-8")
        self.report(Path(directory) / REPORT)

    def table(self) -> Table:
        """The results as a table for a terminal, best first."""
        summary = self.summary
        metric = summary["problem"]["metric"]
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("optimizer", style="bold", no_wrap=True)
        for name in (f"test {metric}", "95% interval", "quartiles", "untuned", "against best"):
            table.add_column(name, justify="right")
        table.add_column("tuned")
        for name in ("diverged", "s/run"):
            table.add_column(name, justify="right")
        for entry in summary["optimizers"]:
            table.add_row(*self._cells(entry))
        return table

    def _cells(self, entry: dict[str, Any]) -> list[RenderableType]:
        summary, tuned, trials = self.summary, entry["tuned"], entry["trials"]
        hyper = entry["best"]["hyper"] if entry["best"] else {}
        bad = trials["diverged"] + trials["failed"]
        done = entry["complete"]
        return [
            Text(entry["name"]),
            shown_median(tuned, summary) if done else "not finished",
            _span(tuned["low"], tuned["high"], summary) if done else "",
            _span(tuned["q1"], tuned["q3"], summary) if done else "",
            shown_median(entry["default"], summary),
            _against(entry["versus_best"], summary),
            Text(", ".join(f"{name} {value:g}" for name, value in hyper.items())),
            f"{bad}/{trials['made']}",
            "" if tuned["seconds"] is None else f"{tuned['seconds']:.3g}",
        ]

    def __rich__(self) -> Group:
        verdict = self.summary["verdict"]
        return Group(
            Text(verdict["headline"], style="bold"),
            Text(verdict["text"]),
            Text(),
            self.table(),
            Text(scope(self.summary), style="dim"),
        )

    def __str__(self) -> str:
        console = Console(width=140, no_color=True)
        with console.capture() as caught:
            console.print(self)
        return caught.get()

    def __repr__(self) -> str:
        many, problem = len(self.study["optimizers"]), self.study["problem"]["name"]
        return f"<Comparison of {many} optimizers on {problem}: {len(self.records)} runs>"

    def _repr_html_(self) -> str:
        return results_table(self.study, self.records)


def _budget(budget: str | Budget) -> Budget:
    if isinstance(budget, Budget):
        return budget
    if budget not in BUDGETS:
        hint = did_you_mean(budget, BUDGETS)
        raise ValueError(f"compare: no budget is called {budget!r}. {hint}")
    return BUDGETS[budget]


def _how_to_continue(study: Study, out: StrPath | None) -> str:
    stopped = f"Stopped after {counted(len(study.records), 'run')}"
    if out is None:
        return f"{stopped}. With a directory, out=, such a comparison can go on later."
    kept = "it is" if len(study.records) == 1 else "they are"
    return f"{stopped}; {kept} kept in {out}. Repeat the same command to continue."


def _span(low: float | None, high: float | None, summary: dict[str, Any]) -> str:
    if low is None or high is None:
        return ""
    return f"{shown(low, summary).rstrip('%')} to {shown(high, summary).rstrip('%')}"


def _against(versus: dict[str, Any] | None, summary: dict[str, Any]) -> Text:
    if versus is None:
        return Text("")
    mean = shown_difference(versus["mean"], summary)
    if versus["words"] in ("better", "worse"):
        return Text(mean)
    return Text(f"{mean} {versus['words']}", style="dim")
