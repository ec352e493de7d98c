"""`fit_many`: each run is what `fit` makes of it alone, and none disturbs another."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console

import fallline as fl
from fallline import nn, optim, schedule, train
from fallline.train import together
from fallline.train.progress import Bar, Lines, Silent, Whole

rng = np.random.default_rng(0)
X = rng.standard_normal((100, 6)).astype(np.float32)
Y = (X @ rng.standard_normal((6, 3))).argmax(1)
HELD = X[:31], Y[:31]


@pytest.fixture(params=[1, 2, 3])
def n_threads(request):
    before = fl.get_threads()
    fl.set_threads(request.param)
    yield request.param
    fl.set_threads(before)


class Stops:
    """Ends a run at a step, looking every few."""

    def __init__(self, every: int, at: int) -> None:
        self.every, self.at = every, at
        self.seen: list[tuple[int, int]] = []

    def __call__(self, trainer: train.Trainer, history: fl.History) -> bool:
        self.seen.append((trainer.t, history.steps))
        return trainer.t >= self.at


def mixed() -> tuple[list[nn.Module], list[dict]]:
    """Networks, optimizers, batches, lengths, data, seeds that have little in common."""
    runs = [
        ({"seed": 0}, {"optimizer": optim.adam(lr=1e-2)}),
        ({"seed": 0}, {"optimizer": optim.adam(lr=3e-3), "seed": 5}),
        ({"seed": 0}, {"optimizer": optim.adam(lr=0.0)}),  # a constant: another formula
        ({"seed": 1, "dropout": 0.3}, {"optimizer": optim.nadam(lr=1e-2), "batch_size": 7}),
        ({"seed": 2, "dtype": np.float64}, {"optimizer": "sgd", "epochs": 5, "drop_last": True}),
        ({"seed": 3}, {"optimizer": optim.momentum(lr=schedule.cosine(0.1, steps=20))}),
        ({"seed": 4}, {"callbacks": [Stops(every=3, at=8)], "replacement": True}),
        ({"seed": 5}, {"batch_size": None, "penalty": train.l2(1e-2), "label_smoothing": 0.1}),
        ({"seed": 6}, {"epochs": 0}),
        ({"seed": 7}, {"data": (X[:50], np.array(["a", "b", "c"])[Y[:50]]), "validation": None}),
        ({"seed": 8}, {"loss": "hinge", "class_weight": "balanced", "callbacks": Stops(0, 8)}),
    ]
    nets = [nn.mlp([6, 8 + i % 2, 3], **kind) for i, (kind, _) in enumerate(runs)]
    return nets, [own for _, own in runs]


def timeless(history: fl.History) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history.epochs]


def assert_same(one: fl.History, other: fl.History) -> None:
    assert np.array_equal(one.loss, other.loss) and one.loss.dtype == other.loss.dtype
    assert timeless(one) == timeless(other)
    assert (one.stopped, one.message) == (other.stopped, other.message)


@pytest.mark.parametrize("at_once", [None, 1, 3])
def test_each_has_the_bits_that_it_has_alone(n_threads, at_once):
    common = {"epochs": 4, "validation": HELD, "progress": False}
    nets, each = mixed()
    found = fl.fit_many(nets, (X, Y), each=each, at_once=at_once, **common)
    alone, settings = mixed()
    for net, other, history, own in zip(nets, alone, found, settings, strict=True):
        assert_same(history, fl.fit(other, **{"data": (X, Y), **common, **own}))
        assert np.array_equal(net.gather(), other.gather())
        assert net.link == other.link and np.array_equal(net.classes, other.classes)
        assert np.array_equal(net.predict(X), other.predict(X))


def test_one_network_alone():
    a, b = nn.mlp([6, 3], seed=0), nn.mlp([6, 3], seed=0)
    (history,) = fl.fit_many([a], (X, Y), epochs=2, progress=False)
    assert_same(history, fl.fit(b, (X, Y), epochs=2, progress=False))


def test_one_that_diverges_does_not_disturb_the_others(n_threads):
    rates = [0.05, 30.0, 0.1, 1e30]
    each = [{"optimizer": optim.sgd(lr=lr)} for lr in rates]
    settings = {"loss": "squared_error", "epochs": 60, "progress": False}
    nets = [nn.mlp([6, 1], seed=0) for _ in rates]
    target = Y.astype(np.float32)
    found = fl.fit_many(nets, (X, target), each=each, **settings)
    assert [h.stopped for h in found] == ["", "diverged", "", "diverged"]
    for net, history, own in zip(nets, found, each, strict=True):
        other = nn.mlp([6, 1], seed=0)
        if not history.stopped:
            assert_same(history, fl.fit(other, (X, target), **settings, **own))
        else:
            with pytest.raises(fl.DivergedError) as caught:
                fl.fit(other, (X, target), **settings, **own)
            assert_same(history, caught.value.history)
            assert history.message == str(caught.value) and "became" in history.message
        assert np.array_equal(net.gather(), other.gather()) and np.isfinite(net.gather()).all()


def test_callbacks_look_at_their_own_run_and_end_it():
    calls = [Stops(every=3, at=8), Stops(every=0, at=13), Stops(every=5, at=10**9)]
    nets = [nn.mlp([6, 3], seed=i) for i in range(3)]
    each = [{"callbacks": call} for call in calls]
    found = fl.fit_many(nets, (X, Y), each=each, epochs=5, progress=False)
    assert calls[0].seen == [(3, 3), (4, 4), (6, 6), (8, 8)]
    assert calls[1].seen == [(4, 4), (8, 8), (12, 12), (16, 16)]
    assert calls[2].seen[-1] == (20, 20)
    assert [h.stopped for h in found] == ["callback", "callback", ""]


def test_ctrl_c_returns_what_was_learned(n_threads):
    def interrupt(trainer, history):
        if trainer.t >= 8:
            raise KeyboardInterrupt

    nets = [nn.mlp([6, 3], seed=i) for i in range(4)]
    each = [{}, {"callbacks": interrupt}, {}, {}]
    found = fl.fit_many(nets, (X, Y), each=each, epochs=50, at_once=3, progress=False)
    assert [h.stopped for h in found] == ["interrupted"] * 4
    assert found[1].steps == 8 and 4 <= found[0].steps <= 12
    assert found[3].steps == 0  # had not begun
    again = nn.mlp([6, 3], seed=0)
    fl.fit(again, (X, Y), epochs=found[0].steps // 4, progress=False)
    assert found[0].steps % 4 or np.array_equal(again.gather(), nets[0].gather())


def test_any_other_exception_ends_all():
    def broken(trainer, history):
        raise ZeroDivisionError("oh")

    nets = [nn.mlp([6, 3], seed=i) for i in range(3)]
    with pytest.raises(ZeroDivisionError, match="oh") as caught:
        fl.fit_many(nets, (X, Y), each=[{}, {"callbacks": broken}, {}], epochs=9, progress=False)
    assert caught.value.__notes__ == ["fit_many: in run 1"]


def trainers_of(monkeypatch) -> list[train.Trainer]:
    """Those of the runs that are made from now on."""
    found = []
    steps_together = together.steps_together

    def spy(trainers, counts):
        found.extend(t for t in trainers if t not in found)
        return steps_together(trainers, counts)

    monkeypatch.setattr(together, "steps_together", spy)
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_the_data_are_there_once(dtype, monkeypatch):
    """Also if they must be brought to the type of the networks first."""
    seen = trainers_of(monkeypatch)
    fl.set_threads(2)
    data = np.abs(X * 10).astype(dtype), Y
    nets = [nn.mlp([6, 3], seed=i) for i in range(3)]
    fl.fit_many(nets, data, epochs=1, at_once=3, progress=False)
    fl.set_threads(None)
    assert len(seen) == 3
    for trainer in seen[1:]:
        assert np.shares_memory(trainer.X, seen[0].X) and np.shares_memory(trainer.y, seen[0].y)
    if dtype is not np.float64:
        assert np.shares_memory(seen[0].X, data[0])
    assert not np.shares_memory(seen[0].params, seen[1].params)


def test_equal_runs_trace_their_steps_once(monkeypatch):
    import fallline.train.trainer as module

    traced = []
    record_step = module.record_step
    monkeypatch.setattr(module, "record_step", lambda *a: (traced.append(a), record_step(*a))[1])
    nets = [nn.mlp([6, 5, 3], seed=i) for i in range(6)]
    optimizers = [optim.adam(lr=0.01 * (i + 1)) for i in range(3)]
    optimizers += [optim.adam(lr=0.01, b1=0.0), optim.sgd(), optim.adam(lr=schedule.constant(0.1))]
    each = [{"optimizer": optimizer} for optimizer in optimizers]
    fl.fit_many(nets, (X, Y), each=each, epochs=1, progress=False)
    assert len(traced) == 2 * 3  # batches of 32 and of 4; adam, without its momentum, sgd


def test_an_optimizer_that_may_do_anything_shares_nothing():
    class Mine(optim.update.Update):
        pass

    one, other = optim.adam(lr=0.1), optim.adam(lr=0.2)
    assert one.form == other.form and hash(one.form) == hash(other.form)
    assert one.form != optim.adam(lr=0.1, b1=0.0).form != optim.sgd().form
    assert Mine(one.parts).form != Mine(one.parts).form
    clipped = [optim.chain(optim.clip_norm(x), optim.sgd()) for x in (1.0, 2.0)]
    assert clipped[0].form == clipped[1].form != optim.sgd().form


def test_a_trainer_that_rests_goes_on_as_if_it_had_not():
    one, other = (
        train.Trainer(nn.mlp([6, 3], seed=0), (X, Y), loss="cross_entropy", optimizer="adam")
        for _ in range(2)
    )
    first = one.steps(3)
    one.rest()
    assert np.array_equal(np.concatenate([first, one.steps(5)]), other.steps(8))
    assert np.array_equal(one.params, other.params)


def test_seconds_are_those_of_a_thread():
    nets = [nn.mlp([6, 3], seed=i) for i in range(4)]
    found = fl.fit_many(nets, (X, Y), epochs=5, progress=False)
    for history in found:
        seconds = history.column("seconds")
        assert seconds[0] > 0 and (np.diff(seconds) > 0).all() and history.seconds == seconds[-1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"nets": []}, "nets must hold at least one network; got none"),
        ({"nets": [nn.mlp([6, 3]), "net"]}, "nets must be networks; got str at index 1"),
        ({"nets": nn.mlp([6, 3])}, "got one, a Sequential. Did you mean fit, or [net]?"),
        ({"nets": [nn.mlp([6, 3])] * 2}, "networks 0 and 1 have an array in common"),
        ({"each": [{}]}, "each must hold a dict for each of 2 networks; got 1"),
        ({"each": [{}, {"epoch": 1}]}, "each[1]: a run takes no 'epoch'. Did you mean epochs?"),
        ({"each": [{"net": 1}, {}]}, "each[0]: a run takes no 'net'. The networks are the first"),
        ({"each": ["adam", "sgd"]}, """got 'adam'. Did you mean {"optimizer": 'adam'}?"""),
        ({"each": [{}, optim.sgd()]}, """each[1] must be a dict of arguments of fit; got sgd("""),
        ({"each": [{}, optim.sgd()]}, """Did you mean {"optimizer": sgd(lr=0.01)}?"""),
        ({"each": [optim.adam, {}]}, """Did you mean {"optimizer":"""),
        ({"each": [None, None]}, "each[0] must be a dict of arguments of fit; got None. An empty"),
        ({"each": {"seed": 1}}, "each must be a list with a dict for each network; got a dict"),
        ({"each": "adam"}, "each must be a list with a dict for each network; got a str"),
        ({"lr": 0.1}, "fit_many: a run takes no 'lr'"),
        ({"each": [{}, {"progress": False}]}, "a run takes no 'progress'. It is one for all"),
        ({"at_once": 0}, "fit_many: at_once must be a whole number >= 1"),
        ({"data": None}, "fit_many: run 0: data must be a pair"),
        ({"each": [{}, {"epochs": -1}]}, "fit_many: run 1: epochs must be"),
        ({"each": [{}, {"data": (X, Y[:5])}]}, "fit_many: run 1: X and y must have equally many"),
        ({"each": [{}, {"optimizer": "adm"}]}, "fit_many: run 1: optim: no optimizer is called"),
    ],
)
def test_a_wrong_argument_is_answered(change, sentence):
    given = {"nets": [nn.mlp([6, 3]), nn.mlp([6, 3])], "data": (X, Y), "progress": False, **change}
    with pytest.raises((ValueError, TypeError), match=re.escape(sentence)):
        fl.fit_many(**given)


# -- what is shown


def test_lines_say_how_far_all_are(capsys):
    nets = [nn.mlp([6, 3], seed=i) for i in range(3)]
    fl.fit_many(nets, (X, Y), epochs=4)
    assert re.fullmatch(r"runs 3/3  12/12 epochs  [\d,]+ steps/s\n", capsys.readouterr().err)


def test_lines_count_those_apart_that_were_lost(capsys):
    each = [{"optimizer": optim.sgd(lr=lr)} for lr in (0.05, 1e30, 1e30)]
    nets = [nn.mlp([6, 1], seed=0) for _ in each]
    target = Y.astype(np.float32)
    found = fl.fit_many(nets, (X, target), each=each, loss="squared_error", epochs=4)
    line = capsys.readouterr().err
    assert re.fullmatch(r"runs 1/3  2 diverged  4/12 epochs  [\d,]+ steps/s\n", line)
    assert repr(found[0]).startswith("History(4 epochs, 16 steps; last: loss")
    step = re.search(r"at step (\d+) ", found[1].message)[1]
    assert repr(found[1]).startswith(f"History(diverged at step {step}; ")


def test_lines_count_what_was_interrupted(capsys):
    def interrupt(trainer, history):
        raise KeyboardInterrupt

    nets = [nn.mlp([6, 3], seed=i) for i in range(4)]
    each = [{"epochs": 1}, {"callbacks": interrupt}, {}, {}]
    found = fl.fit_many(nets, (X, Y), each=each, epochs=9, at_once=1)
    line = capsys.readouterr().err
    assert re.fullmatch(r"runs 1/4  3 interrupted  2/28 epochs  [\d,]+ steps/s\n", line)
    assert repr(found[1]).startswith("History(stopped='interrupted'; 1 epochs, 4 steps; last: ")


def test_the_parts_add_up():
    class Mine(Silent):
        seen = ""

        def start(self, epochs, steps):
            self.planned = epochs, steps

        def runs(self, tally):
            self.seen = tally.title, tally.epochs_done, tally.steps_done

    mine = Mine()
    nets = [nn.mlp([6, 3], seed=i) for i in range(10)]
    each = [{"epochs": i} for i in range(10)]
    fl.fit_many(nets, (X, Y), each=each, progress=mine)
    assert mine.planned == (45, 180) and mine.seen == ("runs 10/10", 45, 180)


@pytest.mark.parametrize("width", [40, 50, 60, 80, 200])
def test_the_bar_fits_the_terminal(width):
    screen = io.StringIO()
    bar = Bar(Console(file=screen, force_terminal=True, width=width, color_system=None))
    whole = Whole(bar)
    whole.expect(16, 1600, 640_000)
    parts = [whole.part() for _ in range(16)]
    for part in parts:
        part.start(100, 40_000)
        part.step(2_000, 0.5)
        part.epoch({})
    whole.end("")
    whole.close()
    assert not re.search(r"epoch +\d", screen.getvalue())  # of one run
    lines = [line for line in re.split(r"[\r\n]", screen.getvalue()) if "runs" in line]
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", lines[-1]).rstrip()
    assert len(line) <= width and "…" not in line and line.startswith("runs  1/16 ")
    assert re.search(r" (\d+:\d\d:\d\d|-:--:--)$", line)
    assert "16/1,600 epochs" in line or width < 80
    assert "steps/s" in line or width < 60


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_bar_says_what_was_lost(width):
    screen = io.StringIO()
    whole = Whole(Bar(Console(file=screen, force_terminal=True, width=width, color_system=None)))
    whole.expect(20, 200, 2000)
    whole.part().start(10, 100)
    for stopped in ("", "callback", "diverged", "diverged", "interrupted"):
        whole.end(stopped)
    whole.close()
    lines = [line for line in re.split(r"[\r\n]", screen.getvalue()) if "runs" in line]
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", lines[-1]).rstrip()
    assert len(line) <= width and "…" not in line
    assert line.startswith("runs  2/20 ") and "2 diverged" in line
    assert "1 interrupted" in line or width < 60


def test_lines_are_few():
    out = io.StringIO()
    whole = Whole(Lines(out, every=1e9))
    whole.expect(2, 20, 200)
    for part in (whole.part(), whole.part()):
        part.start(10, 100)
        for i in range(10):
            part.step(10 * (i + 1), 0.1)
            part.epoch({})
        part.stop()
        whole.end("")
    whole.close()
    assert out.getvalue().count("\n") == 1 and out.getvalue().startswith("runs 2/2  20/20 epochs")
