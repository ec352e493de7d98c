import io

import pytest
from rich.console import Console
from rich.table import Table

from fallline.cli import terminal


def table():
    made = Table(box=None, pad_edge=False)
    for name in ("name", "score", "much longer words"):
        made.add_column(name)
    made.add_row("adam", "97%", "nothing to say")
    made.add_row("sgd", "96%", "nothing either")
    return made


def drawn(table, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_table_that_fits_stays_whole():
    found, gone = terminal.fit(table(), 80, ["score", "much longer words"])
    assert gone == [] and drawn(found) == drawn(table())


def test_columns_go_in_the_order_given_until_the_rest_fits():
    found, gone = terminal.fit(table(), 24, ["score", "much longer words", "name"])
    assert gone == ["score"]
    assert drawn(found, 24)[0] == "name  much longer words"
    assert drawn(found, 24)[2] == "sgd   nothing either"
    found, gone = terminal.fit(table(), 12, ["much longer words", "score"])
    assert gone == ["much longer words"] and drawn(found, 12) == [
        "name  score",
        "adam  97%",
        "sgd   96%",
    ]


def test_the_width_that_a_table_would_take():
    assert terminal.natural_width(table()) == max(map(len, drawn(table())))


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_it_does_not_depend_on_the_terminal(monkeypatch, term):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert terminal.natural_width(table()) == 30


def test_what_a_terminal_cannot_show_is_no_error(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    terminal.write_anything()
    stream.write("\N{MINUS SIGN}0.06")
    stream.flush()
    assert stream.buffer.getvalue() == rb"\u22120.06"
