"""A network as a table: one row per layer, columns aligned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fallline.core.spec import spec_of


def table(module: Any) -> str:
    """The heading with the total, then names, kinds, settings, shapes and counts of the layers."""
    rows = list(_rows(module, ""))
    own = "  ".join(filter(None, [title_of(module), summary_of(module), *_shapes(module)]))
    facts = [f"{module.n_parameters:,} parameters"] if module.n_parameters else []
    facts += [f"link {module.link}"] if module.link else []
    heading = ", ".join([own, *facts])
    return "\n".join([heading, *aligned(rows)]) if rows else heading


def _rows(module: Any, indent: str) -> Iterator[list[str]]:
    for name, child in module.children():
        count = sum(spec_of(a).size for a in child._own_arrays().values())
        shown = f"{count:,}" if count else ""
        yield [indent + name, title_of(child), summary_of(child), *_shapes(child), shown]
        yield from _rows(child, indent + "  ")


def aligned(rows: list[list[str]]) -> list[str]:
    """Columns of equal width; the last, of numbers, to the right."""
    most = max(map(len, rows))
    full = [[*row[:-1], *[""] * (most - len(row)), row[-1]] for row in rows]
    widths = [max(map(len, column)) for column in zip(*full)]
    lines = []
    for row in full:
        cells = [cell.ljust(w) for cell, w in zip(row, widths)]
        cells[-1] = row[-1].rjust(widths[-1])
        lines.append("  " + "  ".join(c for c, w in zip(cells, widths) if w).rstrip())
    return lines


def title_of(module: Any) -> str:
    """What a module is called."""
    return module.title() if hasattr(module, "title") else type(module).__name__


def summary_of(module: Any) -> str:
    """What there is to say of its settings."""
    if hasattr(module, "summary"):
        return module.summary()
    return ", ".join(f"{name}={_shown(value)}" for name, value in module.settings().items())


def _shown(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)


def _shapes(module: Any) -> list[str]:
    return [
        f"{name} {shape_shown(spec_of(array).shape)}"
        for name, array in module._own_arrays().items()
    ]


def shape_shown(shape: tuple[int, ...]) -> str:
    """A shape, without the comma that Python writes after a single number."""
    return f"({', '.join(map(str, shape))})"
