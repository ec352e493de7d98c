"""The statistics of `fallline.lab.statistics`, written slowly and apart."""

from __future__ import annotations

import itertools
import math
import statistics

import scipy.stats


def quantile(values, q):
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below, above = ordered[math.floor(position)], ordered[math.ceil(position)]
    return below if below == above else below + (position - math.floor(position)) * (above - below)


def expanded_percentile(values, statistic, level=0.95):
    """Every resample of few values, one after the other."""
    n = len(values)
    found = sorted(statistic(resample) for resample in itertools.product(values, repeat=n))
    t = scipy.stats.t.ppf(0.5 + level / 2, n - 1)
    tail = scipy.stats.norm.cdf(-math.sqrt(n / (n - 1)) * t)
    k = math.floor(tail * (len(found) - 1))
    return found[k], found[-1 - k]


def probability_of_improvement(a, b):
    wins = [1.0 if x > y else 0.5 if x == y else 0.0 for x in a for y in b]
    return statistics.fmean(wins)
