"""A plan as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fallline.compiler import store

if TYPE_CHECKING:
    from fallline.compiler.launch import Launch
    from fallline.compiler.plan import Plan


def explain(plan: Plan) -> str:
    """The graph, the launches in order, the buffers with their lifetimes, each kernel's source."""
    launches = plan.lowered.launches
    first: dict[str, int] = {}  # launch of each kernel
    for i, launch in enumerate(launches):
        first.setdefault(launch.text, i)
    lines = [repr(plan.graph), "", _total(launches)]
    lines += [_launch(i, launch, first[launch.text]) for i, launch in enumerate(launches)]
    lines += ["", *_memory(plan)]
    if plan.prologue.outputs:
        lines += ["", plan.prologue.source]
    for text, i in first.items():
        path = store.source(text)
        lines += ["", f"# kernel of launch {i}" + (f", {path}" if path else ""), text.rstrip()]
    return "\n".join(lines)


def _total(launches: list[Launch]) -> str:
    flops = _amount(sum(launch.flops for launch in launches), "flop")
    nbytes = _amount(sum(launch.nbytes for launch in launches), "B")
    return f"{len(launches)} launches, {flops}, {nbytes} read and written"


def _launch(i: int, launch: Launch, first: int) -> str:
    jobs = "1 job" if len(launch.rows) == 1 else f"{len(launch.rows)} jobs"
    if launch.joined:
        jobs = "the same"
    flops, nbytes = _amount(launch.flops, "flop"), _amount(launch.nbytes, "B")
    line = f"  {i:3d}  {launch.title:40s} {jobs:>8s}  {flops:>12s}  {nbytes:>10s}"
    return line if first == i else f"{line}  kernel of {first}"


def _memory(plan: Plan) -> list[str]:
    workspace, constants = plan.workspace_bytes, plan.constants.nbytes
    lines = [
        f"workspace {_amount(workspace, 'B')}, constants {_amount(constants, 'B')}, "
        f"{len(plan.scalars)} scalars"
    ]
    for product in plan.lowered.private:
        lines.append(f"  {product.title:20s} {product.spec!r:20s} a block at a time, in its jobs")
    for root, (start, end) in sorted(plan.lifetimes.items(), key=lambda item: item[1]):
        place = f"at {plan.base_of[root][1]:>10d}, from launch {start} to {end}"
        lines.append(f"  {root.title or 'partial sums':20s} {root.spec!r:20s} {place}")
    return lines


def _amount(n: float, unit: str) -> str:
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= factor:
            return f"{n / factor:.3g} {prefix}{unit}"
    return f"{n:.0f} {unit}"
