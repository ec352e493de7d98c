"""Do all libraries compute the same? Figures of every peer beside an oracle's, in float64.

Rows of ours agree to the bit, however many threads they use and steps they make in a call.
"""

from __future__ import annotations

from .harness import OURS, Absent, Peer, Worker, Workload
from .oracles import expected

NEAR_ZERO = 0.01  # figures are of the order of 1: much smaller ones need not be exact to the digit


def check(workload: Workload) -> bool:
    """Print the figures of every peer of a workload that has an oracle; False if one differs."""
    found = expected(workload.name)
    if found is None:
        return True
    print(f"{workload.name}\n  {'oracle, float64':40s} {_text(found[0])}")
    verdicts = []
    first: list[float] | None = None
    for peer in (p for p in workload.peers if p.checked):
        try:
            figures = _figures(peer, workload.threads)
        except Absent as reason:
            print(f"  {peer.name:40s} {reason}")
            continue
        is_ours = peer.name.startswith(OURS)
        verdicts.append(_agrees(peer, figures, *found, first if is_ours else None))
        first = first or (figures if is_ours else None)
    return all(verdicts)


def _agrees(
    peer: Peer, figures: list[float], right: list[float], tolerance: float, bits: list[float] | None
) -> bool:
    """Whether the figures are right, and, where `bits` are given, the same to the bit."""
    pairs = zip(figures, right, strict=True)
    worst = max(abs(a - b) / (abs(b) + NEAR_ZERO) for a, b in pairs)
    notes = ["DIFFERS"] * (not worst < tolerance)
    if bits is not None:
        notes.append("equal bits" if figures == bits else "OTHER BITS")
    text = "  ".join([_text(figures), f"worst {worst:.1e}", *notes])
    print(f"  {peer.name:40s} {text}", flush=True)
    return worst < tolerance and (bits is None or figures == bits)


def _figures(peer: Peer, threads: int) -> list[float]:
    checking = Peer(peer.name, peer.module, (*peer.args, "check"), threads=peer.threads)
    worker = Worker(checking, threads)
    try:
        return worker.losses()
    finally:
        worker.close()


def _text(figures: list[float]) -> str:
    return " ".join(f"{x:.6g}" for x in figures)
