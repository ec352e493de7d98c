"""What a handful of seeds can and cannot say.

Three kinds of interval, all at 95%:

`interval`  one optimizer's score, by itself: an expanded percentile bootstrap (Hesterberg 2015,
section 5.3). The plain percentile interval of five numbers is too narrow, so the quantiles of the
bootstrap distribution are taken not at a/2 and 1 - a/2 but further out,

    a' = Phi(-sqrt(n / (n - 1)) t_{1 - a/2, n - 1})

which for n = 5 is 0.001 instead of 0.025: nearly the range of the five. Share of simulated
intervals that cover the mean: of five normal draws 0.93 (plain 0.85), of ten 0.96 (0.91).

`against_best`  all optimizers against the best, jointly. The best is found in the same scores, so
with ten equal optimizers separate intervals call somebody worse in about half of all
comparisons. These are Hsu's (1984) multiple comparisons with the best, which select anew in every
simulated comparison; see there.

`paired_intervals`  the gains of tuning: Student's t, widened for their number step by step (Holm
1979, with the level of Sidak 1967).

Five seeds are few: among ten optimizers a difference of less than two standard deviations of a run
is mostly not found. Below five pairs there is no interval at all: both ends are nan.

Whatever is resampled or simulated comes from a fixed seed: the same data give the same interval,
whatever ran before.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

FEWEST = 5  # seeds below which an interval would pretend
RESAMPLES = 20_000
SIMULATED = 20_000

Statistic = Callable[..., np.ndarray]


def quartiles(values: Any) -> tuple[float, float, float]:
    """First quartile, median, third quartile; linear between order statistics, inf allowed."""
    x = np.sort(np.asarray(values, dtype=np.float64))
    if x.size == 0:
        return (math.nan, math.nan, math.nan)
    q1, q2, q3 = (_between(x, q) for q in (0.25, 0.5, 0.75))
    return q1, q2, q3


def iqm(values: Any) -> float:
    """Interquartile mean: the mean without the lowest and highest quarter (rounded down) of the
    values.

    Agarwal et al. 2021, as scipy.stats.trim_mean(values, 0.25).
    """
    x = np.sort(np.asarray(values, dtype=np.float64))
    cut = x.size // 4
    return float(np.mean(x[cut : x.size - cut])) if x.size else math.nan


def interval(
    values: Any, statistic: Statistic = np.mean, level: float = 0.95
) -> tuple[float, float]:
    """Expanded percentile bootstrap interval of a statistic of independent values.

    statistic  takes an array and `axis`, as np.mean and np.median do. (nan, nan) for fewer than
    five values or where one is not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size < FEWEST or not np.all(np.isfinite(x)):
        return (math.nan, math.nan)
    resampled = np.sort(statistic(x[_resamples(x.size)], axis=1))
    tail = _expanded_tail(x.size, level)
    # Outward to the next order statistic: between two of them the quantile is anybody's guess.
    low = math.floor(tail * (resampled.size - 1))
    return float(resampled[low]), float(resampled[resampled.size - 1 - low])


def against_best(
    scores: Any, best: int, *, lend: Any = True, among: int | None = None, level: float = 0.95
) -> list[tuple[float, float, float]]:
    """Differences of each row of scores (k, n) to the best one: [(mean, low, high)].

        mean_j +- c s_j / sqrt(n),    s_j^2 = (v_j + median v) / 2

    v_j is the variance of the n paired differences to the best. Half of it is lent from the other
    rows, since the variance of five numbers is itself mostly noise (Smyth 2004, with prior degrees
    of freedom n - 1). c is the `level` quantile of the largest |mean_j| sqrt(n) / s_j among `among`
    rows (k, unless given) of equal normal scores, the best selected by its median each time: so the
    intervals hold jointly, whoever was selected. For two rows it is Student's t.

    Share of simulated comparisons of ten equal optimizers in which somebody is called worse, for 5
    and 10 seeds: normal 0.05 and 0.05, heavy-tailed (t with 3 degrees of freedom) 0.03 and 0.03,
    standard deviations from 1/e to e 0.06 and 0.06, accuracies near 99% of 100 examples 0.07 and
    0.06; with separate intervals 0.55 and about 0.45. One that is behind the nine others by three
    standard deviations is found in 87% of all comparisons with 5 seeds.

    lend  which rows lend their variance: not those in which a run diverged and scores the worst.
    A row that differs by something not finite has nan ends. Hsu 1984, Annals of Statistics 12(3).
    """
    x = np.asarray(scores, dtype=np.float64)
    k, n = x.shape
    with np.errstate(invalid="ignore"):
        d = np.round(x - x[best], 12)  # equal scores differ by 0, not by the last bit
        means = np.mean(d, axis=1)
    others = np.array([j != best and bool(np.all(np.isfinite(d[j]))) for j in range(k)])
    ends = np.full(k, np.nan)
    if n >= FEWEST and others.any():
        sound = (others & np.broadcast_to(lend, k))[others]
        spread = _spread(d[others], sound if sound.any() else ~sound)
        ends[others] = _joint_quantile(among or k, n, level) * spread / math.sqrt(n)
    return [
        (round(float(m), 12), round(float(m - e), 12), round(float(m + e), 12))
        for m, e in zip(means, ends, strict=True)
    ]


def paired_interval(
    a: Any, b: Any, level: float = 0.95, among: int = 1
) -> tuple[float, float, float]:
    """Mean of the paired differences a - b with Student's interval: (mean, low, high).

    a[i] and b[i] share a seed: the same initial weights and batches, so what they have in common
    cancels. among  how many such intervals are to hold jointly: each has level^(1/among), which is
    exact if they are independent and cautious if they are not (Sidak 1967).

    >>> mean, low, high = paired_interval([0.97, 0.98, 0.96, 0.97, 0.98], [0.95] * 5)
    >>> mean, round(low, 4), round(high, 4)
    (0.022, 0.0116, 0.0324)
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"paired_interval: needs equally long lists; got {x.shape} and {y.shape}.")
    if x.size == 0:
        return (math.nan, math.nan, math.nan)
    with np.errstate(invalid="ignore"):
        difference = np.round(x - y, 12)  # equal scores differ by 0, not by the last bit
        mean = float(np.mean(difference))
    end = math.nan
    if x.size >= FEWEST and np.all(np.isfinite(difference)):
        t = student_quantile(0.5 + level ** (1 / among) / 2, x.size - 1)
        end = t * float(np.std(difference, ddof=1)) / math.sqrt(x.size)
    return round(mean, 12), round(mean - end, 12), round(mean + end, 12)


def paired_intervals(
    pairs: Sequence[tuple[Any, Any]], *, among: int | None = None, level: float = 0.95
) -> list[tuple[float, float, float]]:
    """`paired_interval` of many pairs, such that all that exclude 0 do so jointly: Holm 1979.

    The clearest difference is given the interval that is right among all, the next one that among
    all but one, and so on until one does not exclude 0: its width is that of the rest. With equal
    means, some interval excludes 0 in at most 1 - level of all cases. among  how many there are to
    be in the end, if some are still missing.
    """

    def clearness(pair: tuple[Any, Any]) -> float:
        mean, _, high = paired_interval(*pair, level=level)
        return -abs(mean) / (high - mean) if high > mean else -math.inf if high == mean else 0.0

    found: dict[int, tuple[float, float, float]] = {}
    left = among or len(pairs)
    for i in sorted(range(len(pairs)), key=lambda i: clearness(pairs[i])):
        found[i] = paired_interval(*pairs[i], level=level, among=max(left, 1))
        left -= excludes_zero(*found[i][1:])
    return [found[i] for i in range(len(pairs))]


def excludes_zero(low: float, high: float) -> bool:
    """Whether an interval says anything; one that is missing does not."""
    return low > 0 or high < 0


def probability_of_improvement(a: Any, b: Any) -> float:
    """The share of all pairs (a_i, b_j) in which a_i is larger; a tie counts one half.

    Mann & Whitney 1947; Agarwal et al. 2021, eq. 3.
    """
    x = np.asarray(a, dtype=np.float64)[:, None]
    y = np.asarray(b, dtype=np.float64)[None, :]
    return float(np.mean((x > y) + 0.5 * (x == y))) if x.size and y.size else math.nan


@functools.lru_cache(maxsize=1024)
def student_quantile(p: float, dof: int) -> float:
    """The p-quantile of Student's t, by bisection of its integrated density (to about 1e-9)."""
    if p < 0.5:
        return -student_quantile(1 - p, dof)
    # With x = sqrt(dof) tan(theta) the density becomes cos(theta)^(dof - 1), smooth and bounded.
    scale = math.exp(math.lgamma((dof + 1) / 2) - math.lgamma(dof / 2)) / math.sqrt(math.pi)
    nodes, weights = np.polynomial.legendre.leggauss(64)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        theta = middle * (nodes + 1) / 2
        mass = scale * float(weights @ np.cos(theta) ** (dof - 1)) * middle / 2
        low, high = (middle, high) if mass < p - 0.5 else (low, middle)
    return math.sqrt(dof) * math.tan(low)


@functools.cache
def _joint_quantile(k: int, n: int, level: float) -> float:
    """c of `against_best`, by simulation in pieces of bounded size."""
    if k == 2:
        return student_quantile(0.5 + level / 2, n - 1)
    random = np.random.default_rng([k, n])
    largest = [_largest(random.standard_normal((SIMULATED // 20, k, n))) for _ in range(20)]
    return float(np.quantile(np.concatenate(largest), level))


def _largest(x: np.ndarray) -> np.ndarray:
    """For each of many comparisons (count, k, n) the largest |mean_j| sqrt(n) / s_j."""
    count, k, n = x.shape
    best = np.argmax(np.median(x, axis=2), axis=1)
    others = np.arange(k) != best[:, None]
    d = (x - x[np.arange(count), best][:, None])[others].reshape(count, k - 1, n)
    return np.max(np.abs(np.mean(d, axis=2)) * math.sqrt(n) / _spread(d), axis=1)


def _spread(d: np.ndarray, lend: Any = slice(None)) -> np.ndarray:
    """s of `against_best` for the rows of (..., k - 1, n); lend  those that the median is of."""
    v = np.var(d, axis=-1, ddof=1)
    return np.sqrt((v + np.median(v[..., lend], axis=-1, keepdims=True)) / 2)


@functools.cache
def _expanded_tail(n: int, level: float) -> float:
    t = student_quantile(0.5 + level / 2, n - 1)
    return 0.5 * math.erfc(math.sqrt(n / (n - 1)) * t / math.sqrt(2))


@functools.cache
def _resamples(n: int) -> np.ndarray:
    """Indices (count, n): every resample where they are few, seeded draws otherwise."""
    if n <= FEWEST:
        return np.array(list(itertools.product(range(n), repeat=n)), dtype=np.intp)
    return np.random.default_rng(n).integers(n, size=(RESAMPLES, n))


def _between(x: np.ndarray, q: float) -> float:
    """np.quantile of sorted values; beside an infinity it is that infinity, not nan."""
    position = q * (x.size - 1)
    k = math.floor(position)
    share = position - k
    if share == 0 or x[k] == x[k + 1]:
        return float(x[k])
    return float((1 - share) * x[k] + share * x[k + 1])
