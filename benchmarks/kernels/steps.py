"""Every phase of whole training steps, each timed alone: where the time goes, and how well.

A phase is a launch and those that are joined to it: kernels that each job calls one after another.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

import fallline as fl
from benchmarks.images import IMAGES, ImageProblem
from benchmarks.problem import PROBLEMS, Problem
from fallline.compiler import store
from fallline.compiler.launch import Launch
from fallline.compiler.walker import Program, Walk
from fallline.train.step import LOSS

from .roof import Roof
from .table import Table, percent
from .timing import seconds, walking

# A phase is timed so often, in so many turns at most, about as long as this in all, after each
# whole step, which puts its memory in order again. Of long steps there are fewer rounds.
TIMES, TURNS, SECONDS = 3, 32, 2e-3
ROUND_SECONDS = 10.0  # of all rounds on one thread, unless two of them take longer
MANY = 200

PRODUCTS = ("matmul", "convolve", "convolve_back", "correlate")
COPIES = ("gather", "to_lanes", "from_lanes")


class Step:
    """A trainer of a problem, its plan and its frame, and a walk for each phase."""

    def __init__(self, problem: Problem | ImageProblem) -> None:
        self.trainer = trainer(problem)
        self.trainer.steps(2)
        bound = self.trainer._step_of(problem.batch)
        self.plan, self.bases = bound.step.plan, bound.frame.walk.bases.copy()
        # the trainer's order and losses go on with every call; these stay
        self.index, self.loss = np.arange(problem.batch), np.zeros(1, np.float32)
        self._bind(bound.step.index, self.index)
        self._bind(self.plan.lowered.outputs[LOSS], self.loss)
        self.phases = joined(self.plan.lowered.launches)
        self.whole = self._walk(self.plan.program(), bound.frame.walk.calls_blas)
        self.walks = [self._alone(launches) for launches in self.phases]
        state = self.trainer.params, *self.trainer.slots, *self.trainer.buffers
        self.state = [(array, array.copy()) for array in state]

    def _bind(self, node: Any, array: np.ndarray) -> None:
        self.bases[self.plan.base_of[node][0]] = array.ctypes.data

    def _alone(self, launches: list[Launch]) -> Walk:
        """A walk of this phase only."""
        program = Program()
        phase = program.phase(len(launches[0].rows))
        for launch in launches:
            phase.call(store.load(launch.text), [self.plan._row(row) for row in launch.rows])
        return self._walk(program.array(), any(launch.calls_blas for launch in launches))

    def _walk(self, program: np.ndarray, calls_blas: bool) -> Walk:
        """Over the memory of the trainer, the same step again and again."""
        walk = Walk(program, self.plan.n_bases, calls_blas, self.plan.private_bytes)
        walk.bases[1:] = self.bases[1:]
        return walk

    def seconds(self, n_threads: int, rounds: int) -> tuple[list[float], float, float]:
        """Least seconds of each phase, of the whole walk, of a step of many in one call."""
        alone = [float("inf")] * len(self.walks)
        whole = many = float("inf")
        fl.set_threads(n_threads)
        once = seconds(self._first, 1) * len(self.walks)
        for _ in range(max(2, min(rounds, int(ROUND_SECONDS / once)))):
            for i, walk in enumerate(self.walks):
                self._first()
                n = min(n_threads, len(self.phases[i][0].rows))
                turns = max(1, min(TURNS, int(SECONDS / seconds(walking(walk, n), 1)))) // TIMES
                for _ in range(TIMES):
                    alone[i] = min(alone[i], seconds(walking(walk, n), max(1, turns)))
        for _ in range(rounds):
            self._first()
            n = min(n_threads, max(len(phase[0].rows) for phase in self.phases))
            whole = min(whole, seconds(walking(self.whole, n), 4))
            n = max(2, min(MANY, int(0.02 / whole)))
            start = perf_counter()
            self.trainer.steps(n)
            many = min(many, (perf_counter() - start) / n)
        return alone, whole, many

    def _first(self, turns: int = 1) -> None:
        """The step that the trainer would make first: an update that was repeated is undone."""
        for array, before in self.state:
            np.copyto(array, before)
        self.whole.run(turns, 1)
        assert np.isfinite(self.loss), "a step that is not finite ends early"


def trainer(problem: Problem | ImageProblem) -> fl.train.Trainer:
    """As the workloads have it, with weights of its own."""
    if isinstance(problem, ImageProblem):
        name, args = problem.model
        net = getattr(fl.nn.models, name)(*args)
        optimizer = getattr(fl.optim, problem.optimizer)(lr=problem.lr)
    else:
        net = fl.nn.mlp(list(problem.sizes), dropout=problem.dropout, seed=0)
        optimizer = fl.optim.adam(lr=problem.lr)
    return fl.train.Trainer(
        net, problem.data(), loss="cross_entropy", optimizer=optimizer,
        batch_size=problem.batch, seed=0,
    )  # fmt: skip


def joined(launches: list[Launch]) -> list[list[Launch]]:
    """The launches by phases; those without jobs are left out."""
    found: list[list[Launch]] = []
    for launch in launches:
        if launch.joined:
            found[-1].append(launch)
        elif launch.rows:
            found.append([launch])
    return found


def tables(roof: Roof, rounds: int) -> list[Table]:
    """Of fully connected networks."""
    return [_table(name, problem, roof, rounds) for name, problem in PROBLEMS.items()]


def image_tables(roof: Roof, rounds: int) -> list[Table]:
    """Of networks of images."""
    return [_table(name, problem, roof, rounds) for name, problem in IMAGES.items()]


def _table(name: str, problem: Problem | ImageProblem, roof: Roof, rounds: int) -> Table:
    step = Step(problem)
    found = {n: step.seconds(n, rounds) for n in (1, 2)}
    table = Table(
        f"A step of {name}, phase by phase",
        f"{NOTE} {_products(step, found[1][0], roof)}",
        ["phase", "jobs", "us, 1 thread", "GF/s", "GB/s", "of roof", "us, 2 threads", "of roof",
         "roof"],
    )  # fmt: skip
    for i, launches in enumerate(step.phases):
        table.add(*_row(launches, found[1][0][i], found[2][0][i], roof))
    one, two = (sum(found[n][0]) * 1e6 for n in (1, 2))
    table.add("all of them", "", one, "", "", "", two, "", "")
    for which, title in ((1, "the whole walk"), (2, "`trainer.steps`, a step of many")):
        one, two = (found[n][which] * 1e6 for n in (1, 2))
        table.add(title, "", one, "", "", "", two, "", "")
    return table


NOTE = (
    "Each phase alone, its memory warm; `->` joins the kernels that a job calls one after another. "
    "Bytes are those of the arrays that it touches. The share is that of the roof named, the lower "
    "one; operations of loops are counted one each, exp like a sum. Of a convolution's products "
    "those with the zeros around an image are counted, though none is made."
)


def _products(step: Step, alone: list[float], roof: Roof) -> str:
    """What bounds the step: how much of it are products, and how near the roof those are."""
    phases = [(sum(x.flops for x in phase if _is_product(x)), phase) for phase in step.phases]
    within = sum(taken for taken, (flops, _) in zip(alone, phases) if flops)
    reached = sum(flops for flops, _ in phases) / within / 1e9
    return (
        f"On 1 thread, phases with a product take {percent(within / sum(alone))} of the time, and "
        f"the products alone would be {percent(reached / roof.multiply_adds['float32', 1])} of the "
        "multiply-adds that could be done meanwhile."
    )


def _is_product(launch: Launch) -> bool:
    return launch.title in PRODUCTS


def _row(launches: list[Launch], one: float, two: float, roof: Roof) -> list[object]:
    """One phase on one thread and on two, which a single job leaves alone."""
    products = sum(launch.flops for launch in launches if _is_product(launch))
    others = sum(launch.flops for launch in launches) - products
    nbytes = sum(launch.nbytes for launch in launches)
    title, jobs = " -> ".join(launch.title for launch in launches), len(launches[0].rows)
    kind = "copy" if title in COPIES else "in place" if others else "read"
    share, which = roof.share(one, products, others, nbytes, kind, 1)
    rates = (products + others) / one / 1e9, nbytes / one / 1e9
    row = [title.replace("|", "/"), jobs, one * 1e6, *rates, percent(share)]
    if jobs == 1:
        return [*row, "", "", which]
    return [*row, two * 1e6, percent(roof.share(two, products, others, nbytes, kind, 2)[0]), which]
