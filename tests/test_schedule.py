"""Schedules as functions of the step."""

import pickle

import pytest

from fallline import schedule

ALL = [
    schedule.constant(0.1),
    schedule.exponential(0.1, factor=0.9),
    schedule.step(0.1, every=5),
    schedule.linear(0.1, steps=10),
    schedule.cosine(0.1, steps=10, final=0.01),
    schedule.linear_warmup(0.1, steps=10),
    schedule.join(schedule.linear_warmup(0.1, 5), schedule.cosine(0.1, 5), at=5),
]


@pytest.mark.parametrize("rate", ALL, ids=repr)
def test_they_travel_and_print_as_they_are_written(rate):
    again = pickle.loads(pickle.dumps(rate))
    assert again == rate and hash(again) == hash(rate)
    assert eval(repr(rate), vars(schedule)) == rate
    assert [again(t) for t in range(1, 30)] == [rate(t) for t in range(1, 30)]


@pytest.mark.parametrize("rate", ALL, ids=repr)
def test_they_stay_between_zero_and_their_rate(rate):
    assert all(0 <= rate(t) <= 0.1 for t in (1, 2, 7, 100, 10**9))


def test_cosine_stays_at_its_end():
    rate = schedule.cosine(1.0, steps=100, final=0.1)
    assert rate(1) == 1.0 and rate(51) == pytest.approx(0.55)
    assert rate(101) == rate(102) == rate(1000) == 0.1


def test_steps_and_exponentials_meet_at_the_corners():
    stairs, slope = schedule.step(1.0, every=7, factor=0.5), schedule.exponential(1.0, 0.5, every=7)
    assert [stairs(t) for t in (1, 8, 15)] == [slope(t) for t in (1, 8, 15)] == [1, 0.5, 0.25]
    assert stairs(7) == 1.0 and slope(7) < 1.0


def test_join_of_three():
    rate = schedule.join(*[schedule.constant(x) for x in (1.0, 2.0, 3.0)], at=(3, 5))
    assert [rate(t) for t in range(1, 8)] == [1, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: schedule.cosine(0.1, steps=0), "cosine: steps must be greater than 0; got 0"),
        (lambda: schedule.exponential(0.1, factor=-1), "exponential: factor must be greater"),
        (lambda: schedule.join(ALL[0], at=3), "got 1 schedules and 1 in at"),
        (lambda: schedule.join(*ALL[:3], at=(5, 3)), "increasing numbers of steps"),
    ],
)
def test_mistakes_are_answered(call, message):
    with pytest.raises(ValueError, match=message):
        call()
