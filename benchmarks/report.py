"""Outcomes as rows, and the rows as a plain table, as JSON and as Markdown.

`python -m benchmarks.report results.json` prints the Markdown of a stored run again.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from .harness import OURS, STATISTICS, Bound, Outcome

HEADER = ["peer", *STATISTICS, "fallline / peer (range)"]


def record(outcome: Outcome) -> dict:
    """Everything that the views need, as plain JSON values."""
    w = outcome.workload
    return {
        "name": w.name,
        "title": w.title,
        "threads": w.threads,
        "bytes_moved": w.bytes_moved,
        "turns": outcome.turns,
        "noisy_turns": outcome.noisy_turns,
        "peers": [_peer(outcome, peer.name) for peer in w.peers],
        "bounds": [_bound(outcome, bound) for bound in w.bounds],
    }


def _peer(outcome: Outcome, name: str) -> dict:
    if name in outcome.absent:
        return {"peer": name, "absent": outcome.absent[name]}
    figures = {which: outcome.statistic(name, which) for which in STATISTICS}
    ratios = {which: outcome.ratios(name, which) for which in STATISTICS}
    return {"peer": name, **figures, "ratios": ratios, "samples": outcome.seconds[name]}


def _bound(outcome: Outcome, bound: Bound) -> dict:
    """The promise and the figure; the figure is None where it could not be measured."""
    if bound.peer is None:
        measured = [OURS] if OURS in outcome.seconds else []
        values = [outcome.statistic(name, bound.statistic) for name in measured]
    else:
        values = outcome.ratios(bound.peer, bound.statistic)
    value = statistics.median(values) if values else None
    return {
        "at_most": bound.at_most,
        "peer": bound.peer,
        "statistic": bound.statistic,
        "value": value,
        "holds": None if value is None else value <= bound.at_most,
    }


def table(workload: dict) -> list[list[str]]:
    """The header and one row of text a peer; bytes a second where bytes are known."""
    moved = workload["bytes_moved"]
    header = [*HEADER, "GB/s"] if moved else HEADER
    return [header, *(_row(peer, moved) for peer in workload["peers"])]


def _row(peer: dict, bytes_moved: int | None) -> list[str]:
    rate = [""] if bytes_moved else []
    if "absent" in peer:
        return [peer["peer"], peer["absent"], "", "", "", *rate]
    ratios = peer["ratios"]["median"] if not peer["peer"].startswith(OURS) else []
    if bytes_moved:
        rate = [f"{bytes_moved / peer['median'] / 1e9:.1f}"]
    times = [duration(peer[which]) for which in STATISTICS]
    return [peer["peer"], *times, spread(ratios), *rate]


def spread(ratios: list[float]) -> str:
    """Median over the repeats, and the range if there were several."""
    if not ratios:
        return ""
    middle = f"{statistics.median(ratios):.2f}"
    return middle if len(ratios) == 1 else f"{middle} ({min(ratios):.2f} to {max(ratios):.2f})"


def duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.2f} {unit}"
    return f"{seconds / 1e-6:.1f} us"


def verdict(bound: dict) -> str:
    """`median at most 0.40 of jax.jit: 0.22, holds`."""
    unit = f" of {bound['peer']}" if bound["peer"] else " s"
    promise = f"{bound['statistic']} at most {bound['at_most']:.2f}{unit}"
    if bound["value"] is None:
        return f"{promise}: not measured"
    return f"{promise}: {bound['value']:.2f}, {'holds' if bound['holds'] else 'MISSED'}"


def conditions(workload: dict) -> str:
    text = f"{workload['turns']} turns"
    noisy = workload["noisy_turns"]
    return (
        f"{text}, {noisy} of them while the machine was busy with something else" if noisy else text
    )


def plain(workload: dict) -> str:
    """An aligned table with the promises below."""
    rows = table(workload)
    numeric = [row for row in rows if row[2]]  # a reason may be longer than any figure
    widths = [max(map(len, column)) for column in zip(*numeric, strict=True)]
    widths[0] = max(len(row[0]) for row in rows)
    lines = [f"{workload['name']}: {workload['title']} ({conditions(workload)})"]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return "\n".join([*lines, *(f"  {verdict(bound)}" for bound in workload["bounds"])])


def markdown(results: dict) -> str:
    """The whole of RESULTS.md."""
    machine = results["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
    missing = ", ".join(k for k, v in machine["versions"].items() if not v) or "none"
    head = f"""# Benchmarks

Made by `make bench`; README.md here says what is counted and how. A ratio is Fallline's median time
over the peer's (below 1 is faster), the median over repeats with fresh processes; in brackets their
range.

- Processor: {machine["cpu"]} ({machine["family"]}), {machine["cores"]} cores, L2 {machine["cache"]}
- Instructions: {" ".join(machine["flags"])}; memory: {machine["memory_gib"]} GiB
- System: {machine["system"]}, Python {machine["python"]}
- Versions: {versions}
- Not installed: {missing}
"""
    return "\n".join([head, *map(section, results["workloads"])])


def section(workload: dict) -> str:
    header, *rows = table(workload)
    lines = [
        f"## {workload['title']}",
        "",
        f"`{workload['name']}`, threads: {workload['threads']}, {conditions(workload)}.",
        "",
        "| " + " | ".join(header) + " |",
        "|---" * len(header) + "|",
        *("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows),
        "",
        *(f"- {verdict(bound)}" for bound in workload["bounds"]),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text())))
