import io

import pytest
from rich.console import Console
from tests.lab import fake

from fallline.lab import live
from fallline.lab.protocol import Budget
from fallline.lab.study import Silent, Study

TINY = Budget("tiny", trials=6, seeds=5)


def study():
    return Study(fake.problem(120, 6), [fake.TEN[0], fake.TEN[6]], TINY, run=fake.train)


class Time:
    """A clock that a test turns."""

    def __init__(self, step=0.0):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


def lines(step, every=5.0):
    screen = io.StringIO()
    watched = study()
    watched.go(live.PlainLines(Console(file=screen, width=60), every, Time(step)))
    return screen.getvalue().splitlines(), len(watched.records)


def test_plain_lines_are_limited_by_time_not_by_runs():
    quick, _ = lines(step=1e-6)
    assert len(quick) == 2  # the first and the last
    slow, runs = lines(step=10.0)
    assert len(slow) == runs + 2
    some, _ = lines(step=0.5)
    assert 3 < len(some) < len(slow) / 2


def test_plain_lines_say_where_the_study_stands():
    slow, runs = lines(step=10.0)
    assert slow[0] == "compare: digits: 2 optimizers, 32 runs to make"
    assert "to go; sgd: tuning, best lr " in slow[7] and slow[7].startswith("compare: 7 of 32 runs")
    assert slow[-1].startswith(f"compare: {runs} of {runs} runs")
    assert not any("\x1b" in line for line in slow)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_study_that_is_done_already_counts_nothing(terminal):
    finished = study()
    finished.go()
    screen = io.StringIO()
    finished.go(live.watch(None, Console(file=screen, width=80, force_terminal=terminal)))
    shown = screen.getvalue()
    assert shown == ("" if terminal else "compare: digits: 2 optimizers, nothing left\n")


def test_the_live_table_shows_every_optimizer_and_goes_away():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    view = live.watch(None, console)
    assert isinstance(view, live.LiveTable)
    watched = study()
    watched.go(view)
    shown = screen.getvalue()
    for word in ("optimizer", "sgd", "adam", "waiting", "32 runs"):
        assert word in shown
    final = [live.standing(watched, name) for name in ("sgd", "adam")]
    assert [row.state for row in final] == ["done", "done"]
    assert all(row.best.startswith("lr ") and row.validation.endswith("%") for row in final)


def test_the_table_ends_also_when_the_study_is_interrupted():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    watched = study()
    watched.run = interrupted
    view = live.LiveTable(console)
    with pytest.raises(KeyboardInterrupt):
        watched.go(view)
    assert not view.live.is_started


def test_silence_is_silent(capsys):
    assert isinstance(live.watch(False), Silent)
    study().go(live.watch(False))
    assert capsys.readouterr() == ("", "")


def test_a_terminal_decides_what_is_shown():
    assert isinstance(live.watch(None, Console(file=io.StringIO())), live.PlainLines)
    terminal = Console(file=io.StringIO(), force_terminal=True)
    assert isinstance(live.watch(True, terminal), live.LiveTable)


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0 s"), (59.4, "59 s"), (80, "1 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds, text):
    assert live.duration(seconds) == text
