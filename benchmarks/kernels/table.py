"""Tables of text, plain and in Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Table:
    """A title, what a reader must know, the head of each column, rows of text."""

    title: str
    note: str
    head: list[str]
    rows: list[list[str]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        """Append a row; numbers in three digits."""
        self.rows.append([figure(c) if isinstance(c, float) else str(c) for c in cells])

    def plain(self) -> str:
        """Aligned columns."""
        rows = [self.head, *self.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [self.title, self.note]
        for first, *others in rows:
            cells = [cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True)]
            lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
        return "\n".join(lines)

    def markdown(self) -> str:
        """A section of RESULTS.md."""
        lines = ["| " + " | ".join(row) + " |" for row in [self.head, *self.rows]]
        lines.insert(1, "|---" * len(self.head) + "|")
        return "\n".join([f"### {self.title}", "", self.note, "", *lines, ""])


def figure(x: float) -> str:
    """Three digits that say something.

    >>> figure(0.1234), figure(12.34), figure(1234.5)
    ('0.123', '12.3', '1234')
    """
    return f"{x:.3f}" if x < 1 else f"{x:.2f}" if x < 10 else f"{x:.1f}" if x < 100 else f"{x:.0f}"


def percent(share: float) -> str:
    return f"{share:.0%}"
