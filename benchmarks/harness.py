"""Interleaved measurement: workers of every peer are alive at once and take turns, round by round.

Interleaving makes a slow minute of the machine hit every peer alike; the whole is repeated with
fresh processes, because a process's memory layout is luck that lasts as long as it does.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from .quiet import wait_quiet

ROOT = Path(__file__).resolve().parent.parent
OURS, BEST, BEST_TORCH = "fallline", "the best peer", "torch in its best layout"
AMONG = {BEST: "", BEST_TORCH: "torch,"}  # what the names of those begin with
STATISTICS = ("min", "q1", "median")


@dataclass(frozen=True)
class Peer:
    """One row of a workload: a worker module and its arguments.

    against  the row of ours that promises compare it with
    threads  if not the workload's
    checked  whether it computes what the workload's oracle does
    """

    name: str
    module: str
    args: tuple[str, ...] = ()
    against: str = OURS
    threads: int | None = None
    checked: bool = True


@dataclass(frozen=True)
class Bound:
    """At most `at_most` times `peer`'s time is promised, or so many seconds if there is no peer.

    `peer` may be BEST or BEST_TORCH: whichever is fastest in a repeat, rows of ours aside.
    """

    at_most: float
    peer: str | None = None
    statistic: str = "median"


@dataclass(frozen=True)
class Workload:
    """Peers that do the same work, how much of it is one turn, and what is promised.

    ours   the rows of ours whose ratio to every peer is shown
    rate   how much of what a sample is: (bytes / 1e9, "GB/s"), shown per second of the median
    flops  of products, of matrices or images, that a sample has to compute
    limit  what bounds it, said where a promise is missed;  note  what a reader must know
    """

    name: str
    title: str
    peers: tuple[Peer, ...]
    bounds: tuple[Bound, ...] = ()
    threads: int = 1
    samples: int = 1
    rounds: int = 5
    repeats: int = 3
    ours: tuple[str, ...] = (OURS,)
    rate: tuple[float, str] | None = None
    flops: int = 0
    limit: str = ""
    note: str = ""
    group: str = ""  # what --only also accepts


@dataclass
class Outcome:
    """What was measured: seconds[peer], one list per repeat, or absent[peer], the reason."""

    workload: Workload
    seconds: dict[str, list[list[float]]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    turns: int = 0
    noisy_turns: int = 0

    def statistic(self, peer: str, which: str) -> float:
        """Over the samples of all repeats."""
        return summarize([s for repeat in self.seconds[peer] for s in repeat])[which]

    def ratios(self, ours: str, peer: str, which: str) -> list[float]:
        """One ratio per repeat: the time of a row of ours over the peer's."""
        pairs = zip(self.seconds.get(ours, []), self.seconds.get(peer, []), strict=False)
        return [summarize(a)[which] / summarize(b)[which] for a, b in pairs]

    def promised(self, peer: str, which: str) -> list[float]:
        """One ratio per repeat, to a peer or to the best: what a bound is about.

        None where one of the two was not measured.
        """
        if peer not in AMONG:
            ours = [p.against for p in self.workload.peers if p.name == peer]
            return self.ratios(ours[0], peer, which) if ours else []
        others = [
            p
            for p in self.workload.peers
            if p.name.startswith(AMONG[peer]) and not p.name.startswith(OURS)
        ]
        found = [self.ratios(p.against, p.name, which) for p in others if p.name in self.seconds]
        return [max(repeat) for repeat in zip(*found, strict=False)]


def summarize(seconds: list[float]) -> dict[str, float]:
    """Minimum, first quartile (the sample a quarter up, no interpolation) and median."""
    ordered = sorted(seconds)
    return {
        "min": ordered[0],
        "q1": ordered[len(ordered) // 4],
        "median": statistics.median(ordered),
    }


class Absent(Exception):
    """A worker cannot run; the message says why."""


class Worker:
    """A peer's process: `prepare` waits for READY, `measure(n)` returns seconds."""

    def __init__(self, peer: Peer, threads: int) -> None:
        self.peer = peer
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (a pipe could fill and block)
        self.process = subprocess.Popen(
            [sys.executable, "-m", peer.module, *peer.args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=ROOT,
            env=environment(peer.threads or threads),
        )

    def prepare(self) -> None:
        self._read_until("READY")

    def measure(self, n: int) -> list[float]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{n}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died: reading says why
        return json.loads(self._read_until("["))

    def losses(self) -> list[float]:
        """What a worker in check mode prints."""
        return json.loads(self._read_until("["))

    def _read_until(self, start: str) -> str:
        """The next line that starts so; libraries may print others."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(start):
                return line
            if line.startswith(("SKIP ", "FAILED ")):
                kind, _, reason = line.strip().partition(" ")
                raise Absent(f"{'skipped' if kind == 'SKIP' else 'failed'}: {reason}")
        raise Absent(f"failed: died ({self._last_words()})")

    def _last_words(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().splitlines()
        return f"exit {code}: {lines[-1]}" if lines else f"exit {code}"

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def environment(threads: int) -> dict[str, str]:
    """The same for every worker: each library gets `threads` threads by its own setting."""
    count = str(threads)
    names = ("OMP", "OPENBLAS", "MKL", "NUMBA")
    env = os.environ | {f"{name}_NUM_THREADS": count for name in names}
    env["BENCH_THREADS"] = count
    paths = (str(ROOT / "src"), env.get("PYTHONPATH", ""))
    env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return env


def run(workload: Workload, quiet_limit: float) -> Outcome:
    """Measure; a repeat waits for quiet at most `quiet_limit` seconds in all."""
    outcome = Outcome(workload)
    for _ in range(workload.repeats):
        workers = list(_start(workload, outcome))
        try:
            _take_turns(workload, workers, outcome, quiet_limit)
        finally:
            for worker in workers:
                worker.close()
    return outcome


def _start(workload: Workload, outcome: Outcome) -> Iterable[Worker]:
    """Workers that are ready, started one after another so that their warm-ups do not compete."""
    for peer in workload.peers:
        if peer.name in outcome.absent:
            continue
        worker = Worker(peer, workload.threads)
        try:
            worker.prepare()
        except Absent as reason:
            outcome.absent[peer.name] = str(reason)
            worker.close()
        else:
            outcome.seconds.setdefault(peer.name, []).append([])
            yield worker


def _take_turns(
    workload: Workload, workers: list[Worker], outcome: Outcome, quiet_limit: float
) -> None:
    waited = 0.0
    for turn in range(workload.rounds):
        first = turn % max(1, len(workers))  # nobody always follows the same neighbour
        for worker in workers[first:] + workers[:first]:
            if worker.peer.name in outcome.absent:
                continue
            start = monotonic()
            quiet = wait_quiet(max(0.0, quiet_limit - waited))
            waited += monotonic() - start
            outcome.turns += 1
            outcome.noisy_turns += quiet is False
            _measure(worker, workload.samples, outcome)


def _measure(worker: Worker, samples: int, outcome: Outcome) -> None:
    """One turn. A worker that fails now is absent as a whole: half a measurement is none."""
    name = worker.peer.name
    try:
        outcome.seconds[name][-1] += worker.measure(samples)
    except Absent as reason:
        outcome.absent[name] = str(reason)
        outcome.seconds.pop(name)
