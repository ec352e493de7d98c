"""Do all libraries compute the same? Figures of every peer beside an oracle's, in float64."""

from __future__ import annotations

from .harness import Absent, Peer, Worker, Workload
from .oracles import expected

NEAR_ZERO = 0.01  # figures are of the order of 1: much smaller ones need not be exact to the digit


def check(workload: Workload) -> bool:
    """Print the figures of every peer of a workload that has an oracle; False if one differs."""
    found = expected(workload.name)
    if found is None:
        return True
    print(f"{workload.name}\n  {'oracle, float64':40s} {_text(found[0])}")
    peers = [peer for peer in workload.peers if peer.checked]
    verdicts = [_agrees(peer, workload.threads, *found) for peer in peers]
    return all(verdicts)


def _agrees(peer: Peer, threads: int, right: list[float], tolerance: float) -> bool:
    try:
        figures = _figures(peer, threads)
    except Absent as reason:
        print(f"  {peer.name:40s} {reason}")
        return True
    pairs = zip(figures, right, strict=True)
    worst = max(abs(a - b) / (abs(b) + NEAR_ZERO) for a, b in pairs)
    note = "" if worst < tolerance else "  DIFFERS"
    print(f"  {peer.name:40s} {_text(figures)}  worst {worst:.1e}{note}", flush=True)
    return worst < tolerance


def _figures(peer: Peer, threads: int) -> list[float]:
    checking = Peer(peer.name, peer.module, (*peer.args, "check"), threads=peer.threads)
    worker = Worker(checking, threads)
    try:
        return worker.losses()
    finally:
        worker.close()


def _text(figures: list[float]) -> str:
    return " ".join(f"{x:.6g}" for x in figures)
