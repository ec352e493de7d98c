"""A plan as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fallline.compile import store

if TYPE_CHECKING:
    from fallline.compile.plan import Plan


def explain(plan: Plan) -> str:
    """The graph, the launches in order, each kernel's source once, the buffers with their lifetimes."""
    launches = plan.lowered.launches
    lines = [
        repr(plan.graph),
        "",
        f"{len(launches)} launches, {_amount(sum(x.flops for x in launches), 'flop')}, {_amount(sum(x.nbytes for x in launches), 'B')} read and written",
    ]
    seen: dict[str, int] = {}
    for i, launch in enumerate(launches):
        first = seen.setdefault(launch.text, i)
        jobs = "1 job" if len(launch.rows) == 1 else f"{len(launch.rows)} jobs"
        lines.append(
            f"  {i:3d}  {launch.title:40s} {jobs:>8s}  {_amount(launch.flops, 'flop'):>12s}  {_amount(launch.nbytes, 'B'):>10s}"
            + ("" if first == i else f"  kernel of {first}")
        )
    lines += [
        "",
        f"workspace {_amount(plan.workspace_bytes, 'B')}, constants {_amount(plan.constants.nbytes, 'B')}, {len(plan.scalars)} scalars",
    ]
    for root, (start, end) in sorted(plan.lifetimes.items(), key=lambda item: item[1]):
        name = root.op.name if root.op is not None else "partial sums"
        lines.append(
            f"  {name:20s} {root.spec!r:20s} at {plan.base_of[root][1]:>10d}, from launch {start} to {end}"
        )
    if plan.prologue.outputs:
        lines += ["", plan.prologue.source]
    for text, i in seen.items():
        path = store.source(text)
        lines += ["", f"# kernel of launch {i}" + (f", {path}" if path else ""), text.rstrip()]
    return "\n".join(lines)


def _amount(n: float, unit: str) -> str:
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= factor:
            return f"{n / factor:.3g} {prefix}{unit}"
    return f"{n:.0f} {unit}"
