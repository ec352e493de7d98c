"""The coordinator: what is asked, what an interruption changes (nothing), what failures become."""

import dataclasses
import random

import pytest
from tests.lab import fake

from fallline.lab import protocol, worker
from fallline.lab.protocol import Budget
from fallline.lab.records import Journal
from fallline.lab.study import Study
from fallline.lab.summary import summarise

TINY = Budget("tiny", trials=7, seeds=5, extra=2, extensions=2)
# sgd's best rate lies beyond its range, so its range is widened
TWO = [dataclasses.replace(fake.TEN[0], peak=5.0, width=0.7), fake.TEN[6]]


def study(journal=None, optimizers=TWO, run=fake.train, budget=TINY, **more):
    return Study(fake.problem(120, 6), optimizers, budget, journal=journal, run=run, **more)


def timeless(value):
    """A summary without what depends on the clock."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in ("seconds", "finished")}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def result(finished):
    return timeless(summarise(finished.journal.study, finished.records.values()))


@pytest.fixture(scope="module")
def whole():
    finished = study()
    finished.go()
    return finished


def test_a_study_ends_with_everything_it_promised(whole):
    assert whole.ask() == [] and whole.remaining() == 0
    summary = result(whole)
    assert summary["complete"]
    for entry in summary["optimizers"]:
        assert entry["trials"]["made"] == 7 + entry["trials"]["extra"]
        assert entry["tuned"]["seeds"] == entry["default"]["seeds"] == [1, 2, 3, 4, 5]


def test_the_reported_runs_share_their_seeds_and_use_none_of_tuning(whole):
    seeds = {"trial": set(), "tuned": set(), "default": set()}
    for record in whole.records.values():
        seeds[record.phase].add(record.seed)
    assert seeds["trial"] == {0} and seeds["tuned"] == seeds["default"] == {1, 2, 3, 4, 5}


def test_trials_never_see_the_test_examples(whole):
    trials = [r for r in whole.records.values() if r.phase == "trial"]
    assert trials and all(trial.test is None for trial in trials)


def test_a_best_trial_at_the_edge_widens_the_range_and_counts_the_extra_trials(whole):
    sgd = next(e for e in result(whole)["optimizers"] if e["name"] == "sgd")
    assert sgd["edges"][0]["side"] == "high" and sgd["trials"]["extra"] >= 2
    assert sgd["best"]["hyper"]["lr"] > 1.0  # beyond the declared range
    assert sgd["space"]["lr"]["high"] >= 10.0


def test_an_edge_that_stays_is_said():
    runaway = dataclasses.replace(fake.TEN[0], peak=3e3, width=4.0)
    finished = study(optimizers=[runaway])
    finished.go()
    (entry,) = result(finished)["optimizers"]
    assert [edge["open"] for edge in entry["edges"]] == [False, False, True]
    assert entry["trials"]["extra"] == 4


def test_later_trials_are_stopped_by_the_first_five(whole):
    ends = [r.status for r in whole.records.values() if r.phase == "trial"]
    assert "stopped" in ends
    for record in whole.records.values():
        if record.phase == "trial" and record.index < protocol.BASELINE:
            assert record.status in ("ok", "diverged")
        if record.status == "stopped":
            assert record.validation is None and len(record.epochs) >= 2


def test_the_order_of_completion_changes_nothing(whole):
    for seed in range(3):
        shuffled = study()
        while tasks := shuffled.ask():
            random.Random(seed).shuffle(tasks)
            for task in tasks:
                optimizer = shuffled.optimizers[task.optimizer]
                shuffled.tell(worker.execute(task, shuffled.problem, optimizer, fake.train))
        assert result(shuffled) == result(whole)


class Interrupt:
    """Ctrl-C in the middle of the n-th run."""

    def __init__(self, after):
        self.left = after

    def __call__(self, *args, **kwargs):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return fake.train(*args, **kwargs)


def test_an_interruption_at_any_point_changes_nothing(whole, tmp_path):
    total = len(whole.records)
    for after in range(0, total + 1, 3):
        directory = tmp_path / str(after)
        with Journal(directory) as journal:
            stopped = study(journal, run=Interrupt(after))
            if after < total:
                with pytest.raises(KeyboardInterrupt):
                    stopped.go()
            else:
                stopped.go()
        with Journal(directory) as journal:
            assert len(journal.records) == after
            resumed = study(journal)
            resumed.go()
            assert len(resumed.records) == total
            assert result(resumed) == result(whole)


def test_two_processes_give_the_same_numbers(whole):
    apart = study(jobs=2)
    apart.go()
    summary = result(apart)
    note = "Seconds were taken with 2 runs side by side: compare them with care."
    assert note in summary["notes"]
    summary["notes"].remove(note)
    assert summary == result(whole)


def failing(problem, optimizer, hyper, seed, on_epoch=None, *, test=True):
    if optimizer.name == "sgd":
        raise RuntimeError("out of luck")
    return fake.train(problem, optimizer, hyper, seed, on_epoch, test=test)


def test_a_failed_run_is_a_record(whole):
    finished = study(run=failing, optimizers=[TWO[1], TWO[0]])
    finished.go()
    failed = [r for r in finished.records.values() if r.status == "failed"]
    assert len(failed) == 7 + 5  # all trials and the untuned runs; nothing to tune
    assert failed[0].message.startswith("RuntimeError: out of luck (test_study.py:")
    summary = result(finished)
    assert summary["complete"] and summary["winner"] is None
    assert any("no trial came through" in note for note in summary["notes"])
    sgd = next(e for e in summary["optimizers"] if e["name"] == "sgd")
    assert sgd["best"] is None and sgd["tuned"]["scores"] == []


def test_a_study_whose_first_runs_all_fail_says_why_and_keeps_nothing(tmp_path):
    with Journal(tmp_path) as journal:
        hopeless = study(journal, run=failing, optimizers=[TWO[0]])
        with pytest.raises(RuntimeError, match="first runs all failed, with RuntimeError: out of"):
            hopeless.go()
        assert len(journal.records) == 0
    with Journal(tmp_path) as journal:
        hopeful = study(journal, optimizers=[TWO[0]])
        hopeful.go()
        assert result(hopeful)["complete"]


def test_a_tiny_study_that_fails_also_ends():
    hopeless = study(run=failing, optimizers=[TWO[0]], budget=Budget("one", trials=1, seeds=1))
    with pytest.raises(RuntimeError, match="all failed"):
        hopeless.go()


def test_diverged_trials_are_kept_and_their_share_is_told():
    wild = dataclasses.replace(fake.TEN[6], peak=1e-4, width=0.5)
    finished = study(optimizers=[wild])
    finished.go()
    diverged = [r for r in finished.records.values() if r.status == "diverged"]
    assert diverged and all("became nan" in r.message for r in diverged)
    (entry,) = result(finished)["optimizers"]
    assert 0 < entry["trials"]["diverged_share"] < 1
    assert entry["default"]["diverged"] == 5 and entry["default"]["median"] == 0.0


def test_what_is_left_is_counted_down():
    counted = study()
    seen = [counted.remaining()]

    class Watch:
        begin = end = epoch = lambda *_: None

        def record(self, _):
            seen.append(counted.remaining())

    counted.go(Watch())
    assert seen[0] == 2 * (7 + 10) and seen[-1] == 0


def test_the_optimizers_take_turns():
    names = [task.optimizer for task in study().ask()]
    assert names[:4] == ["sgd", "adam", "sgd", "adam"]
