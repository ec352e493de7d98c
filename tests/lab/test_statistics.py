import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from tests.lab import naive

from fallline.lab import statistics as ours

few = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=1, max_size=12)


@given(few)
def test_quartiles(values):
    expected = [naive.quantile(values, q) for q in (0.25, 0.5, 0.75)]
    assert ours.quartiles(values) == pytest.approx(expected, abs=1e-9)
    assert ours.quartiles(values) == pytest.approx(np.quantile(values, [0.25, 0.5, 0.75]), abs=1e-9)


def test_quartiles_with_infinities_are_never_nan():
    inf = math.inf
    assert ours.quartiles([1.0, 2.0, 3.0, inf, inf]) == (2.0, 3.0, inf)
    assert ours.quartiles([inf] * 5) == (inf, inf, inf)
    assert ours.quartiles([-inf, -inf, 0.0]) == (-inf, -inf, -inf)
    assert all(math.isnan(q) for q in ours.quartiles([]))


@given(few)
def test_iqm(values):
    assert ours.iqm(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "vectorised, plain", [(np.mean, statistics.fmean), (np.median, statistics.median)]
)
def test_interval_of_five_enumerates_every_resample(seed, vectorised, plain):
    values = np.random.default_rng(seed).standard_normal(5).tolist()
    expected = naive.expanded_percentile(values, plain)
    assert ours.interval(values, vectorised) == pytest.approx(expected, rel=1e-12)


def test_interval_of_five_is_nearly_their_range():
    values = [0.0, 1.0, 2.0, 3.0, 10.0]
    low, high = ours.interval(values)
    assert 0.0 <= low < 0.5 and 8.0 < high <= 10.0
    assert ours.interval(values, np.median) == (0.0, 10.0)


def test_interval_of_ten_is_close_to_students_t():
    values = np.random.default_rng(0).standard_normal(10)
    t = scipy.stats.t.interval(0.95, 9, values.mean(), scipy.stats.sem(values))
    assert ours.interval(values) == pytest.approx(t, abs=0.15)


def test_interval_is_the_same_every_time():
    values = np.random.default_rng(1).standard_normal(10)
    assert ours.interval(values) == ours.interval(values)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.1, 1.2, 1.3], [1, 2, 3, 4, math.inf]])
def test_no_interval_where_there_is_none(values):
    assert all(math.isnan(end) for end in ours.interval(values))


def test_interval_covers_the_mean_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        low, high = ours.interval(random.standard_normal(5))
        hits += low <= 0 <= high
    assert 0.88 < hits / 300 < 0.97  # 0.93 by a longer simulation, three standard errors


def test_paired_interval_cancels_what_is_shared():
    shared = np.array([0.1, 0.9, 0.5, 0.3, 0.7])
    mean, low, high = ours.paired_interval(shared + 0.01, shared)
    assert (mean, low, high) == (0.01, 0.01, 0.01)
    assert ours.excludes_zero(low, high)


def test_equal_scores_differ_by_nothing():
    third = 0.1 + 0.2
    mean, low, high = ours.paired_interval([third] * 5, [0.3] * 5)
    assert (mean, low, high) == (0.0, 0.0, 0.0) and not ours.excludes_zero(low, high)


def test_one_seed_that_disagrees_keeps_zero_inside():
    _, low, high = ours.paired_interval([1.0, 1.0, 1.0, 1.0, -1.0], [0.0] * 5)
    assert not ours.excludes_zero(low, high)


def test_four_seeds_name_nobody():
    mean, low, high = ours.paired_interval([1.0] * 4, [0.0] * 4)
    assert mean == 1.0 and math.isnan(low) and not ours.excludes_zero(low, high)


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("spread", [1.0, 6.0])
def test_among_equal_optimizers_hardly_anybody_is_called_worse(seeds, spread):
    """Separate intervals find somebody among ten in 0.59 (5 seeds) and 0.36 (10) of comparisons."""
    random, wrong = np.random.default_rng(seeds), 0
    for _ in range(500):
        scores = random.standard_normal((10, seeds)) + 3 * random.standard_normal(seeds)
        scores[0] *= spread  # the joint intervals must not need equal variances
        wrong += any(ours.excludes_zero(low, high) for _, low, high in against_best(scores))
    assert wrong / 500 <= 0.08  # 0.05 by a longer simulation, three standard errors


def test_a_clear_difference_is_still_found():
    random, found, alone = np.random.default_rng(0), 0, 0
    for _ in range(300):
        scores = random.standard_normal((10, 5))
        scores[7] -= 5
        words = [ours.excludes_zero(low, high) for _, low, high in against_best(scores)]
        found += words[7]
        alone += sum(words) == 1
    assert found / 300 > 0.95 and alone / 300 > 0.88


def against_best(scores):
    return ours.against_best(scores, int(np.argmax(np.median(scores, axis=1))))


def test_against_best_of_two_is_students_t():
    a, b = np.random.default_rng(0).standard_normal((2, 7))
    (_, *none), (mean, low, high) = ours.against_best([a, b], 0)
    t = scipy.stats.t.interval(0.95, 6, (b - a).mean(), scipy.stats.sem(b - a))
    assert mean == pytest.approx((b - a).mean()) and (low, high) == pytest.approx(t)
    assert all(math.isnan(end) for end in none)


def test_against_best_without_an_interval():
    scores = [[0.5, 0.6, 0.5, 0.6, 0.5], [0.4, 0.5, 0.4, 0.4, 0.4], [-math.inf] * 5]
    _, near, lost = ours.against_best(scores, 0)
    assert math.isfinite(near[1]) and lost[0] == -math.inf and math.isnan(lost[1])
    assert all(math.isnan(low) for _, low, _ in ours.against_best(np.ones((3, 4)), 0))


@pytest.mark.parametrize("clear", [0, 4])
def test_many_paired_intervals_hold_jointly(clear):
    """Also where some of the means are far from 0, which leaves the others narrower intervals."""
    random, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        differences = random.standard_normal((10, 5))
        differences[:clear] += 50
        found = ours.paired_intervals([(d, d * 0) for d in differences])
        assert all(low > 0 for _, low, _ in found[:clear])
        wrong += any(ours.excludes_zero(low, high) for _, low, high in found[clear:])
    assert wrong / 400 <= 0.083  # 0.05 exactly, three standard errors


def test_paired_intervals_are_those_of_holms_steps():
    random = np.random.default_rng(1)
    pairs = [(random.standard_normal(5) + shift, np.zeros(5)) for shift in (0.0, 40.0, 20.0, 0.0)]
    found = ours.paired_intervals(pairs)
    p = [scipy.stats.ttest_1samp(a, 0).pvalue for a, _ in pairs]
    left = 4
    for i in np.argsort(p):
        a, zero = pairs[i]
        assert found[i] == ours.paired_interval(a, zero, among=left)
        assert ours.excludes_zero(*found[i][1:]) == (p[i] < 1 - 0.95 ** (1 / left))
        left -= ours.excludes_zero(*found[i][1:])
    assert ours.paired_intervals([]) == []


def test_pairs_must_match():
    with pytest.raises(ValueError, match="equally long"):
        ours.paired_interval([1.0, 2.0], [1.0])


@given(few, few)
def test_probability_of_improvement(a, b):
    expected = naive.probability_of_improvement(a, b)
    assert ours.probability_of_improvement(a, b) == pytest.approx(expected)
    opposite = ours.probability_of_improvement(b, a)
    assert ours.probability_of_improvement(a, b) + opposite == pytest.approx(1.0)


@pytest.mark.parametrize("dof", [1, 2, 4, 9, 29])
@pytest.mark.parametrize("p", [0.025, 0.5, 0.9, 0.975, 0.995])
def test_student_quantile(p, dof):
    expected = scipy.stats.t.ppf(p, dof)
    assert ours.student_quantile(p, dof) == pytest.approx(expected, rel=1e-8, abs=1e-12)
