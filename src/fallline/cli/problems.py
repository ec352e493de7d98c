"""The problems that can be named, with a network that fits."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fallline.lab import Problem


def names() -> tuple[str, ...]:
    """All that there are."""
    from fallline import lab

    return lab.PROBLEMS


def load(name: str, folder: Path | None, **changes: Any) -> Problem:
    """The problem of this name, with those of its settings changed that are not None."""
    from fallline import lab

    problem = lab.named(name, folder=folder)
    if changes.get("model"):
        _check_model(changes["model"], problem)
    return replace(problem, **{k: v for k, v in changes.items() if v is not None})


def _check_model(widths: tuple[int, ...], problem: Problem) -> None:
    """Refuse a network that does not fit the data before anything is run."""
    inputs, outputs = math.prod(problem.data.feature_shape), problem.data.n_classes
    if (widths[0], widths[-1]) != (inputs, outputs):
        meant = "-".join(map(str, (inputs, *widths[1:-1], outputs)))
        raise click.UsageError(
            f"--model: {problem.name} has {inputs} inputs and {outputs} classes; "
            f"got {'-'.join(map(str, widths))}. Did you mean {meant}?"
        )
