"""Notes: what a reader should know before believing the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fallline.lab.records import Record

Entry = Mapping[str, Any]


def notes(entries: Sequence[Entry], records: Iterable[Record]) -> list[str]:
    """Sentences about edges, divergence and failures, seconds and versions."""
    found = [note for entry in entries for note in _about(entry)]
    return [*found, *_about_all(list(records))]


def _about(entry: Entry) -> Iterator[str]:
    name, trials = entry["name"], entry["trials"]
    for edge in entry["edges"]:
        yield _at_edge(name, edge)
    for end in ("diverged", "failed"):
        if trials[end]:
            yield f"{name}: {trials[end]} of {trials['made']} trials {end}."
    for kind in ("tuned", "default"):
        runs = entry[kind]
        if broken := runs["diverged"] + runs["failed"]:
            yield f"{name}, {kind}: {broken} of {len(runs['scores'])} runs diverged or failed."
    if entry["complete"] and entry["best"] is None:
        yield f"{name}: no trial came through, so there is no tuned result."


def _at_edge(name: str, edge: Mapping[str, Any]) -> str:
    best = f"{edge['parameter']} = {edge['best']:g}"
    where = f"{name}: {best} was best and at the edge of what was tried"
    if edge["open"]:
        return f"{where} after every extension; the best value may lie beyond."
    return f"{where}, so the range was widened to {edge['widened']}."


def _about_all(records: Sequence[Record]) -> Iterator[str]:
    # Those of trials are reported nowhere.
    jobs = max((record.jobs for record in records if record.phase != "trial"), default=1)
    if jobs > 1:
        yield f"Seconds were taken with {jobs} runs side by side: compare them with care."
    if len({tuple(sorted(record.versions.items())) for record in records}) > 1:
        yield "The records were made with more than one version of the libraries."
