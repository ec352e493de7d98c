import itertools

import numpy as np
import pytest

from fallline.lab import protocol
from fallline.lab.protocol import BUDGETS, Budget, MedianRule
from fallline.optim.space import Choice, Log, OneMinusLog

SPACE = {
    "lr": Log(1e-5, 1e-1),
    "b1": OneMinusLog(0.02, 0.5),
    "b2": Choice((0.99, 0.999)),
    "eps": Log(1e-10, 1.0),
}


def test_the_budgets_are_those_of_the_protocol():
    assert {b.name: (b.trials, b.seeds) for b in BUDGETS.values()} == {
        "quick": (6, 5),
        "standard": (20, 5),
        "full": (50, 10),
    }
    with pytest.raises(ValueError, match="at least one trial"):
        Budget("none", trials=0, seeds=5)


@pytest.mark.parametrize(
    "trials, names",
    [(6, ["lr"]), (9, ["lr"]), (10, ["lr", "b1"]), (24, ["lr", "b1"]), (25, list(SPACE))],
)
def test_more_trials_tune_more(trials, names):
    assert protocol.tuned_parameters(SPACE, trials) == names


def test_reported_seeds_are_fresh():
    for seed in range(20):
        assert protocol.tuning_seed(seed) not in protocol.fresh_seeds(seed, 10)
    seeds = [s for seed in range(20) for s in protocol.fresh_seeds(seed, 10)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("count", [3, 6, 20, 50])
@pytest.mark.parametrize("dimension", [0, 1])
def test_each_coordinate_alone_leaves_no_large_gap(count, dimension):
    """The largest is at most base times the average, wherever the sequence starts."""
    for seed in range(20):
        points = np.sort(protocol.spread(count, 4, seed)[:, dimension])
        gaps = np.diff(np.append(points, points[0] + 1))
        assert gaps.max() <= (2, 3)[dimension] / count + 1e-9
        assert points[0] >= 0 and points[-1] < 1


def test_points_in_two_dimensions_fill_the_square():
    points = protocol.spread(64, 2, seed=3)
    cells = {(int(4 * x), int(4 * y)) for x, y in points}
    assert len(cells) == 16


def test_points_follow_haltons_sequence():
    points = protocol.spread(7, 2, seed=0)
    halton = [(0, 0), (1 / 2, 1 / 3), (1 / 4, 2 / 3), (3 / 4, 1 / 9), (1 / 8, 4 / 9)]
    halton += [(5 / 8, 7 / 9), (3 / 8, 2 / 9)]
    assert np.allclose((points - points[0]) % 1, halton)


def test_trials_are_the_same_for_the_same_seed_and_shared_between_equal_spaces():
    again = protocol.first_trials(SPACE, 20, 5)
    assert again == protocol.first_trials(dict(SPACE), 20, 5)
    assert again != protocol.first_trials(SPACE, 20, 6)
    assert again[:6] != protocol.first_trials(SPACE, 6, 5)  # other parameters are tuned
    assert all(set(trial) == {"lr", "b1"} for trial in again)


LR = {"lr": Log(1e-3, 1.0)}


def tried(*rates):
    return [{"lr": rate} for rate in rates]


def test_a_best_trial_with_nothing_beyond_it_is_at_the_edge():
    high = protocol.extension(LR, ["lr"], tried(0.01, 0.1, 0.5), {"lr": 0.5})
    assert (high.parameter, high.side, high.best) == ("lr", "high", 0.5)
    assert high.widened == Log(1e-3, 10.0)
    assert protocol.extension(LR, ["lr"], tried(0.01, 0.1, 0.5), {"lr": 0.01}).side == "low"
    assert protocol.extension(LR, ["lr"], tried(0.01, 0.1, 0.5), {"lr": 0.1}) is None


def test_a_choice_or_a_single_trial_has_no_edge():
    hypers = [{"b2": 0.99}, {"b2": 0.999}]
    assert protocol.extension(SPACE, ["b2"], hypers, {"b2": 0.999}) is None
    assert protocol.extension(LR, ["lr"], tried(0.1), {"lr": 0.1}) is None


def test_extra_trials_reach_from_the_best_to_the_new_end():
    best = {"lr": 0.1, "b1": 0.9}
    edge = protocol.Edge("lr", "high", 0.1, Log(1e-3, 10.0))
    extra = protocol.extra_trials(edge, best, 2)
    assert extra == [{"lr": 1.0, "b1": 0.9}, {"lr": 10.0, "b1": 0.9}]
    low = protocol.extra_trials(protocol.Edge("lr", "low", 1e-2, Log(1e-4, 1.0)), best, 2)
    assert [trial["lr"] for trial in low] == [1e-3, 1e-4]


BASELINE = tuple(tuple(0.1 * k + 0.05 * e for e in range(9)) for k in range(5))


def test_the_median_rule_waits_for_a_third_of_the_epochs_and_lets_the_last_one_be():
    rule = MedianRule(BASELINE, epochs=9)
    verdicts = [rule([0.0] * n) for n in range(1, 10)]
    assert verdicts == [False, False, True, True, True, True, True, True, False]


def test_the_median_rule_looks_at_the_best_score_so_far():
    rule = MedianRule(BASELINE, epochs=9)
    median_at_fourth = 0.2 + 0.05 * 3
    assert not rule([median_at_fourth, 0.0, 0.0, 0.0])
    assert rule([median_at_fourth - 1e-9, 0.0, 0.0, 0.0])


def test_the_median_rule_does_not_depend_on_the_order_of_completion():
    scores = [0.3, 0.31, 0.32, 0.33]
    verdicts = {MedianRule(tuple(order), 9)(scores) for order in itertools.permutations(BASELINE)}
    assert len(verdicts) == 1


def test_a_baseline_that_diverged_is_the_worst():
    rule = MedianRule(((), (), (), (0.5,) * 9, (0.5,) * 9), epochs=9)
    assert not rule([0.0] * 4)


def test_ties_are_broken_by_the_loss_and_what_is_not_finite_is_last():
    keys = [
        protocol.rank_key(0.9, 0.3),
        protocol.rank_key(0.9, 0.2),
        protocol.rank_key(float("nan"), 0.0),
        protocol.rank_key(None, None),
        protocol.rank_key(0.8, None),
    ]
    assert max(keys) == keys[1] and min(keys) == keys[3]
