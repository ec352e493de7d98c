"""What is shown while a network trains, on terminals of all widths."""

from __future__ import annotations

import io
import re
import sys

import pytest
from rich.console import Console

from fallline.train.progress import Bar, Lines, Silent, display

ROW = {"epoch": 3, "step": 300, "loss": 0.01234, "val_loss": 0.2345, "val_accuracy": 0.9765}


def drawn(width):
    """The last line of a bar, in the middle of a training."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, color_system=None)
    bar = Bar(console)
    bar.start(100, 10_000)
    bar.step(250, 0.5)
    bar.epoch(ROW)
    bar.step(310, 0.01234)
    bar.stop()
    lines = [line for line in re.split(r"[\r\n]", screen.getvalue()) if "epoch" in line]
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", lines[-1]).rstrip()


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80, 100, 200])
def test_the_remaining_time_is_never_cut_off(width):
    line = drawn(width)
    assert len(line) <= width and "…" not in line
    assert re.match(r"epoch +4/100 ", line) and "loss 0.01234" in line
    assert re.search(r" (\d+:\d\d:\d\d|-:--:--)$", line)


def test_numbers_go_where_there_is_no_room():
    assert "val_loss 0.2345  val_accuracy 0.9765" in drawn(80)
    assert "val_accuracy 0.9765" in drawn(65) and "val_loss" not in drawn(65)
    assert "val" not in drawn(40)


def test_lines_are_few_and_the_last_one_is_shown():
    out = io.StringIO()
    lines = Lines(out, every=1e9)
    lines.start(10, 100)
    for epoch in range(1, 11):
        lines.epoch({**ROW, "epoch": epoch})
    lines.stop()
    expected = "epoch 10/10  loss 0.01234  val_loss 0.2345  val_accuracy 0.9765\n"
    assert out.getvalue() == expected


def test_what_is_shown_is_chosen(monkeypatch):
    mine = Silent()
    assert display(mine) is mine and type(display(False)) is Silent
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(display(None), Lines) and isinstance(display(True), Lines)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert isinstance(display(None), Bar) and isinstance(display(True), Bar)


def test_a_bar_that_never_started_can_be_stopped():
    Bar().stop()
