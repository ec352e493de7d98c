"""`python -m benchmarks.kernels`: kernels beside the roof; prints tables and stores them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import fallline as fl
from benchmarks import report
from fallline.compiler.library.products import blas

from . import functions, loops, products, randoms, roof, steps
from .table import Table

RESULTS = Path(__file__).resolve().parent.parent / "results"
SECTIONS: dict[str, Callable[[roof.Roof, int], list[Table]]] = {
    "roof": lambda top, rounds: roof.tables(top),
    "products": products.tables,
    "loops": loops.tables,
    "functions": lambda top, rounds: functions.tables(rounds),
    "randoms": lambda top, rounds: randoms.tables(rounds),
    "steps": steps.tables,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; repeatable")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, default=RESULTS / "kernels.json")
    parser.add_argument(
        "--markdown", type=Path, nargs="?", const=report.RESULTS, metavar="FILE",
        help="also write RESULTS.md, or FILE, with the stored workloads",
    )  # fmt: skip
    options = parser.parse_args()
    found = []
    for table in measured(options.only or list(SECTIONS), options.rounds):
        print(f"{table.plain()}\n", flush=True)
        found.append(asdict(table))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found) + "\n")
    if options.markdown:
        report.write(options.markdown, kernels=options.json)


def measured(names: list[str], rounds: int) -> Iterator[Table]:
    """The tables of these sections; the roof is measured in any case."""
    fl.set_threads(1)
    blas.hold_one_thread()
    top = roof.measure(3 * rounds)  # all shares depend on it
    for name in names:
        yield from SECTIONS[name](top, rounds)


if __name__ == "__main__":
    main()
