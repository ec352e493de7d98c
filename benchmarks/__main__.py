"""`python -m benchmarks`: measure, print tables, store JSON and, on request, RESULTS.md."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from . import machine, report
from .check import check
from .harness import Workload, run
from .options import count, wait
from .workloads import WORKLOADS, select


def main() -> None:
    options = arguments()
    workloads = chosen(options)
    if options.list:
        print("\n".join(f"{w.name:22s} {w.title}" for w in workloads))
        return
    if options.check:
        verdicts = [check(w) for w in workloads]
        raise SystemExit(not all(verdicts))
    results = measure(workloads, options)
    if not (path := target(options)):
        print("not stored: --quick stores only in a FILE that --json names")
        return
    store(results, path, keep=bool(options.only))
    if options.markdown:
        report.write(options.markdown, path)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    groups = sorted({w.group or w.name for w in WORKLOADS})
    parser.add_argument(
        "--only", action="append", metavar="NAME",
        help=f"a workload or group ({', '.join(groups)}); repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--peers", metavar="A,B", help="only peers whose names contain one of these"
    )
    parser.add_argument("--rounds", type=count, help="turns of every peer in a repeat")
    parser.add_argument("--repeats", type=count, help="repeats with fresh processes")
    parser.add_argument(
        "--quick", action="store_true",
        help="one repeat, two rounds, small turns; stored, and marked, only with --json",
    )  # fmt: skip
    parser.add_argument(
        "--quiet-wait", type=wait, default=20.0, metavar="S",
        help="seconds that a repeat may wait for a quiet machine (20)",
    )  # fmt: skip
    parser.add_argument(
        "--check", action="store_true", help="compare what is computed; time nothing"
    )
    parser.add_argument("--list", action="store_true", help="list the workloads")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help=f"where results are stored ({report.WORKLOADS})"
    )
    parser.add_argument(
        "--markdown", type=Path, nargs="?", const=report.RESULTS, metavar="FILE",
        help="also write RESULTS.md, or FILE, with the stored tables of the kernels",
    )  # fmt: skip
    options = parser.parse_args()
    if options.markdown and not target(options):
        parser.error("--quick stores nothing that --markdown could show: name a FILE with --json.")
    return options


def target(options: argparse.Namespace) -> Path | None:
    """Where results go: quick ones only where one asks for them."""
    return options.json or (None if options.quick else report.WORKLOADS)


def chosen(options: argparse.Namespace) -> list[Workload]:
    """The workloads that the command line names, as it wants them; those without a peer left out.

    Raises SystemExit where none is left.
    """
    workloads = [adjusted(w, options) for w in select(options.only or [])]
    found = [w for w in workloads if w.peers]
    if not found:
        raise SystemExit(f"benchmarks: no peer's name contains one of {options.peers!r}.")
    return found


def adjusted(workload: Workload, options: argparse.Namespace) -> Workload:
    """The workload with what the command line says about peers, rounds and repeats."""
    if options.peers:
        wanted = options.peers.split(",")
        kept = tuple(p for p in workload.peers if any(name in p.name for name in wanted))
        workload = replace(workload, peers=kept)
    if options.quick:
        samples = max(1, workload.samples // 4)
        workload = replace(workload, rounds=min(2, workload.rounds), repeats=1, samples=samples)
    return replace(
        workload,
        rounds=options.rounds or workload.rounds,
        repeats=options.repeats or workload.repeats,
    )


def measure(workloads: list[Workload], options: argparse.Namespace) -> dict:
    """Run the workloads, printing each table as soon as it is there."""
    results = {"machine": machine.describe(), "workloads": []}
    print(json.dumps(results["machine"], indent=1))
    peaks = results["machine"]["multiply_adds"] = machine.multiply_adds()
    for workload in workloads:
        outcome = report.record(run(workload, options.quiet_wait)) | {"quick": options.quick}
        print(f"\n{report.plain(outcome, peaks)}", flush=True)
        results["workloads"].append(outcome)
    peaks += machine.multiply_adds()
    return results


def store(results: dict, path: Path, keep: bool) -> None:
    """Write the results; with `keep`, what is stored of other workloads stays."""
    if keep and path.exists():
        results = merged(json.loads(path.read_text()), results)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results) + "\n")
    print(f"written: {path}")


def merged(stored: dict, new: dict) -> dict:
    """What was measured now, and what is stored of the other workloads on such a machine."""
    if not machine.same(stored["machine"], new["machine"]):
        return new
    found = {w["name"]: w for w in stored["workloads"] + new["workloads"]}
    return new | {"workloads": [found[w.name] for w in WORKLOADS if w.name in found]}


if __name__ == "__main__":
    main()
