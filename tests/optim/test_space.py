import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallline.optim.space import (
    Choice,
    Linear,
    Log,
    OneMinusLog,
    space_from_json,
    space_to_json,
)

RANGES = [Log(1e-5, 1e-1), OneMinusLog(1e-3, 0.5), Linear(-2.0, 3.0)]


@pytest.mark.parametrize("range_", RANGES, ids=str)
@given(u=st.floats(0, 1))
def test_unit_inverts_at_to_four_digits(range_, u):
    assert range_.unit(range_.at(u)) == pytest.approx(u, abs=2e-3)


def test_ends_are_exact():
    assert Log(1e-4, 1.0).at(0) == 1e-4 and Log(1e-4, 1.0).at(1) == 1.0
    assert OneMinusLog(1e-3, 0.5).at(0) == 0.999 and OneMinusLog(1e-3, 0.5).at(1) == 0.5
    assert Linear(-2.0, 3.0).at(0) == -2.0 and Linear(-2.0, 3.0).at(1) == 3.0


@given(st.floats(0, 1))
def test_what_is_tried_is_what_is_printed(u):
    value = Log(1e-5, 1e-1).at(u)
    assert float(f"{value:.4g}") == value


def test_choice_covers_its_values_evenly():
    choice = Choice(("a", "b", "c"))
    assert [choice.at(u) for u in (0.0, 0.4, 0.99, 1.0)] == ["a", "b", "c", "c"]
    assert [choice.at(choice.unit(v)) for v in choice.values] == list(choice.values)


def test_widening_adds_a_decade_on_one_side():
    assert Log(1e-4, 1.0).widened("high") == Log(1e-4, 10.0)
    assert Log(1e-4, 1.0).widened("low") == Log(1e-4 / 10, 1.0)
    assert Linear(0.0, 2.0).widened("high") == Linear(0.0, 4.0)
    assert Linear(0.0, 2.0).widened("low") == Linear(-2.0, 2.0)


def test_a_decay_never_widens_out_of_its_interval():
    wide = OneMinusLog(0.02, 0.5).widened("high")
    assert wide == OneMinusLog(0.02, 0.95) and wide.widened("high") == wide
    assert 0 < OneMinusLog(1e-3, 0.5).widened("low").at(0) < 1


def test_json_gives_back_an_equal_space_in_its_order():
    space = {
        "lr": Log(1e-5, 0.1),
        "b1": OneMinusLog(0.02, 0.5),
        "x": Linear(0.0, 1.0),
        "b2": Choice((0.99, 0.999)),
    }
    back = space_from_json(json.loads(json.dumps(space_to_json(space))))
    assert back == space and list(back) == list(space)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Log(0.0, 1.0),
        lambda: Log(1.0, 1.0),
        lambda: Log(1.0, math.inf),
        lambda: OneMinusLog(0.1, 1.0),
        lambda: Linear(1.0, 0.0),
        lambda: Linear(math.nan, 1.0),
        lambda: Choice(()),
    ],
)
def test_impossible_ranges_are_refused(make):
    with pytest.raises(ValueError, match=r"need"):
        make()
