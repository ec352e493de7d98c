"""Do all libraries train the same network? First losses beside a float64 oracle."""

from __future__ import annotations

from .harness import Absent, Peer, Worker, Workload
from .problem import PROBLEMS, oracle_losses

TOLERANCE = (
    1e-3  # relative; float32 sums of 784 terms, then Adam divides small numbers by small ones
)


def check(workload: Workload) -> bool:
    """Print the first five losses of every peer that trains `workload`; False if one differs."""
    expected = oracle_losses(PROBLEMS[workload.name], steps=5)
    print(f"{workload.name}: first losses\n  {'oracle, float64':32s} {_text(expected)}")
    verdicts = [_agrees(peer, workload.threads, expected) for peer in workload.peers]
    return all(verdicts)


def _agrees(peer: Peer, threads: int, expected: list[float]) -> bool:
    try:
        losses = first_losses(peer, threads)
    except Absent as reason:
        print(f"  {peer.name:32s} {reason}")
        return True
    worst = max(abs(a - b) / b for a, b in zip(losses, expected, strict=True))
    note = "" if worst < TOLERANCE else "  DIFFERS"
    print(f"  {peer.name:32s} {_text(losses)}  worst {worst:.1e}{note}", flush=True)
    return worst < TOLERANCE


def first_losses(peer: Peer, threads: int) -> list[float]:
    worker = Worker(Peer(peer.name, peer.module, (*peer.args, "check")), threads)
    try:
        return worker.losses()
    finally:
        worker.close()


def _text(losses: list[float]) -> str:
    return " ".join(f"{loss:.6f}" for loss in losses)
