"""Outcomes as rows, and the rows as a plain table, as JSON and as Markdown.

`python -m benchmarks.report` writes RESULTS.md again from what the last runs have stored.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from .harness import OURS, STATISTICS, Bound, Outcome
from .kernels.table import Table
from .machine import same

HERE = Path(__file__).resolve().parent
RESULTS, WORKLOADS = HERE / "RESULTS.md", HERE / "results" / "results.json"
KERNELS = HERE / "results" / "kernels.json"

HEAD = """# Benchmarks

Made by `make bench`; README.md here says what is counted and how. A ratio is Fallline's median time
over the peer's (below 1 is faster), the median over repeats with fresh processes; in brackets their
range. Kernel by kernel, and beside what the machine can do: at the end.
"""
KERNEL_HEAD = """## Kernels beside the roof

Made by `python -m benchmarks.kernels`: least times, and shares of a roof measured in the same run.
"""


def record(outcome: Outcome) -> dict:
    """Everything that the views need, as plain JSON values."""
    w = outcome.workload
    return {
        "name": w.name,
        "title": w.title,
        "threads": w.threads,
        "ours": w.ours,
        "rate": w.rate,
        "flops": w.flops,
        "limit": w.limit,
        "note": w.note,
        "turns": outcome.turns,
        "noisy_turns": outcome.noisy_turns,
        "peers": [_peer(outcome, peer.name) for peer in w.peers],
        "bounds": [_bound(outcome, bound) for bound in w.bounds],
    }


def _peer(outcome: Outcome, name: str) -> dict:
    if name in outcome.absent:
        return {"peer": name, "absent": outcome.absent[name]}
    figures = {which: outcome.statistic(name, which) for which in STATISTICS}
    ours = outcome.workload.ours
    ratios = {
        row: {which: outcome.ratios(row, name, which) for which in STATISTICS} for row in ours
    }
    return {"peer": name, **figures, "ratios": ratios, "samples": outcome.seconds[name]}


def _bound(outcome: Outcome, bound: Bound) -> dict:
    """The promise and the figure; the figure is None where it could not be measured."""
    if bound.peer is None:
        measured = [OURS] if OURS in outcome.seconds else []
        values = [outcome.statistic(name, bound.statistic) for name in measured]
    else:
        values = outcome.promised(bound.peer, bound.statistic)
    value = statistics.median(values) if values else None
    return {
        "at_most": bound.at_most,
        "peer": bound.peer,
        "statistic": bound.statistic,
        "value": value,
        "holds": None if value is None else value <= bound.at_most,
    }


def table(workload: dict) -> list[list[str]]:
    """The header and one row of text a peer; a ratio for each of our rows."""
    header = ["peer", *STATISTICS, *(f"{row} / peer (range)" for row in workload["ours"])]
    if workload["rate"]:
        header.append(workload["rate"][1])
    return [header, *(_row(peer, workload, len(header)) for peer in workload["peers"])]


def _row(peer: dict, workload: dict, width: int) -> list[str]:
    if "absent" in peer:
        return [peer["peer"], peer["absent"], *[""] * (width - 2)]
    row = [peer["peer"], *(duration(peer[which]) for which in STATISTICS)]
    for ours in workload["ours"]:
        row.append("" if peer["peer"] == ours else spread(peer["ratios"][ours]["median"]))
    if workload["rate"]:
        row.append(amount(workload["rate"][0] / peer["median"]))
    return row


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


def amount(rate: float) -> str:
    """`61.8`, `123,456`"""
    return f"{rate:.1f}" if rate < 1000 else f"{rate:,.0f}"


def verdict(bound: dict) -> str:
    """`median at most 0.40 of jax.jit: 0.22, holds`."""
    unit = f" of {bound['peer']}" if bound["peer"] else " s"
    promise = f"{bound['statistic']} at most {bound['at_most']:.2f}{unit}"
    if bound["value"] is None:
        return f"{promise}: not measured"
    return f"{promise}: {bound['value']:.2f}, {'holds' if bound['holds'] else 'MISSED'}"


def conditions(workload: dict) -> str:
    text = f"{workload['turns']} turns"
    if noisy := workload["noisy_turns"]:
        text += f", {noisy} of them while the machine was busy with something else"
    return f"a quick look, not a measurement: {text}" if workload.get("quick") else text


def plain(workload: dict, peaks: list[list[float]]) -> str:
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
    return "\n".join([*lines, *(f"  {line}" for line in remarks(workload, peaks))])


def remarks(workload: dict, peaks: list[list[float]]) -> list[str]:
    """The promises, what bounds the workload if one of them is missed, and its note."""
    lines = [verdict(bound) for bound in workload["bounds"]]
    if any(bound["holds"] is False for bound in workload["bounds"]):
        lines += [f"What bounds it: {workload['limit']}"] * bool(workload["limit"])
        lines += floor(workload, peaks)
    return lines + [workload["note"]] * bool(workload["note"])


def floor(workload: dict, peaks: list[list[float]]) -> list[str]:
    """How long the products would take at the rate of multiply-adds that was measured beside."""
    threads = workload["threads"]
    if not workload["flops"] or not peaks or threads > len(peaks[0]):
        return []
    rate = max(peak[threads - 1] for peak in peaks)
    least = workload["flops"] / rate / 1e9
    present = [peer for peer in workload["peers"] if "absent" not in peer]
    shares = ", ".join(f"{least / peer['median']:.2f} of {peer['peer']}" for peer in present)
    return [
        f"At the {rate:.0f} GF/s of multiply-adds in registers that {threads} "
        f"thread{'s' * (threads > 1)} did beside this run, the products alone take "
        f"{duration(least)}: {shares}."
    ]


def write(path: Path, workloads: Path = WORKLOADS, kernels: Path = KERNELS) -> None:
    """Write RESULTS.md from the stored results of the workloads and of the kernels."""
    path.write_text(markdown(_stored(workloads), _stored(kernels)))
    print(f"written: {path}")


def _stored(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def markdown(results: dict | None, kernels: dict | None) -> str:
    """The whole of RESULTS.md."""
    parts = [HEAD]
    if results:
        peaks = results["machine"]["multiply_adds"]
        parts.append(machine(results["machine"]))
        parts += [section(workload, peaks) for workload in results["workloads"]]
    if kernels:
        parts.append(KERNEL_HEAD)
        if not (results and same(results["machine"], kernels["machine"])):
            parts.append(machine(kernels["machine"]))
        tables = [table for section in kernels["sections"].values() for table in section]
        parts += [Table(**table).markdown() for table in tables]
    return "\n".join(parts)


def machine(found: dict) -> str:
    """What it was measured on."""
    versions = ", ".join(f"{k} {v}" for k, v in found["versions"].items() if v)
    missing = ", ".join(k for k, v in found["versions"].items() if not v) or "none"
    return f"""\
- Processor: {found["cpu"]} ({found["family"]}), {found["cores"]} cores, L2 {found["cache"]}
- Instructions: {" ".join(found["flags"])}; memory: {found["memory_gib"]} GiB
{_two_threads(found.get("multiply_adds"))}\
- System: {found["system"]}, Python {found["python"]}
- Versions: {versions}
- Not installed: {missing}
"""


def _two_threads(peaks: list[list[float]] | None) -> str:
    if not peaks:
        return ""
    ratios = " and ".join(f"{two / one:.2f}" for one, two in peaks)
    return f"""\
- Two threads do {ratios} times the multiply-adds of one (before and after the run): 2 where each
  has a core of its own, 1 where they are two hyperthreads of one
"""


def section(workload: dict, peaks: list[list[float]]) -> str:
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
        *(f"- {line}" for line in remarks(workload, peaks)),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description="Write RESULTS.md from stored results."
    )
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="what to write")
    parser.add_argument("--json", type=Path, default=WORKLOADS, metavar="FILE", help="workloads")
    parser.add_argument("--kernels", type=Path, default=KERNELS, metavar="FILE", help="kernels")
    options = parser.parse_args()
    if not (options.json.exists() or options.kernels.exists()):
        parser.error(f"nothing is stored in {options.json} or {options.kernels}.")
    write(options.out, options.json, options.kernels)


if __name__ == "__main__":
    main()
