"""`python -m benchmarks.kernels`: kernels beside the roof; prints tables and stores them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import fallline as fl
from benchmarks import machine, report
from benchmarks.options import count
from fallline.compiler.library.products import blas

from . import functions, loops, products, randoms, roof, steps
from .table import Table

SECTIONS: dict[str, Callable[[roof.Roof, int], list[Table]]] = {
    "roof": lambda top, rounds: roof.tables(top),
    "products": products.tables,
    "loops": loops.tables,
    "functions": lambda top, rounds: functions.tables(rounds),
    "randoms": lambda top, rounds: randoms.tables(rounds),
    "steps": steps.tables,
    "images": steps.image_tables,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; repeatable")
    parser.add_argument("--list", action="store_true", help="list the sections")
    parser.add_argument("--rounds", type=count, default=15, help="turns of each piece (15)")
    parser.add_argument("--json", type=Path, default=report.KERNELS, metavar="FILE")
    parser.add_argument(
        "--markdown", type=Path, nargs="?", const=report.RESULTS, metavar="FILE",
        help="also write RESULTS.md, or FILE, with the stored workloads",
    )  # fmt: skip
    options = parser.parse_args()
    if options.list:
        print("\n".join(SECTIONS))
        return
    sections: dict[str, list[dict]] = {}
    for name, table in measured(options.only or list(SECTIONS), options.rounds):
        print(f"{table.plain()}\n", flush=True)
        sections.setdefault(name, []).append(asdict(table))
    store(sections, options.json, keep=bool(options.only))
    if options.markdown:
        report.write(options.markdown, kernels=options.json)


def measured(names: list[str], rounds: int) -> Iterator[tuple[str, Table]]:
    """The tables of these sections, each with its section; the roof is measured in any case."""
    fl.set_threads(1)
    blas.hold_one_thread()
    top = roof.measure(3 * rounds)  # all shares depend on it
    for name in names:
        for table in SECTIONS[name](top, rounds):
            yield name, table


def store(sections: dict[str, list[dict]], path: Path, keep: bool) -> None:
    """Write the sections; with `keep`, others that were stored on such a machine stay."""
    here = machine.describe()
    if keep and path.exists():
        stored = json.loads(path.read_text())
        if machine.same(stored["machine"], here):
            sections = stored["sections"] | sections
    ordered = {name: sections[name] for name in SECTIONS if name in sections}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": here, "sections": ordered}) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
