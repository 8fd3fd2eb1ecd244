"""Statistics that every claim rests on: intervals, permutation tests, multiplicity, ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from auditor.core.estimates import Estimate

__all__ = [
    "benjamini_hochberg",
    "bootstrap_weights",
    "clustered_proportion",
    "empirical_p",
    "interval",
    "mean_estimate",
    "poisson_rate",
    "proportion",
    "rank_correlation",
    "rank_rows",
    "separation",
    "stratified_difference",
    "stratified_differences",
]

Floats = NDArray[np.floating]


def interval(value: float, replicates: Floats, n: int) -> Estimate:
    """Estimate with the 95 % percentile interval of bootstrap replicates.

    Replicates that are not finite are left out; the interval is widened to hold the value.

    >>> interval(20.0, np.arange(41.0), 20)
    Estimate(value=20.0, low=1.0, high=39.0, n=20)
    """
    finite = replicates[np.isfinite(replicates)]
    if not len(finite):
        return Estimate(value=value, low=value, high=value, n=n)
    low, high = np.quantile(finite, [0.025, 0.975])
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value), n=n)


def bootstrap_weights(n: int, replicates: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Multinomial counts of shape (replicates, n): how often each unit is drawn, summing to n."""
    return rng.multinomial(n, np.full(n, 1 / n), size=replicates).astype(np.float64)


def mean_estimate(values: Floats, replicates: int, rng: np.random.Generator) -> Estimate:
    """Mean of values (n,) with a bootstrap interval over them."""
    weights = bootstrap_weights(len(values), replicates, rng)
    return interval(float(np.mean(values)), weights @ values / len(values), len(values))


def proportion(successes: int, n: int) -> Estimate:
    """A share with its 95 % Wilson interval (Wilson, 1927).

    >>> proportion(8, 10).value
    0.8
    """
    low, high = stats.binomtest(successes, n).proportion_ci(method="wilson")
    value = successes / n
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value), n=n)


def clustered_proportion(counts: Sequence[tuple[int, int]]) -> Estimate:
    """A share of units that come in clusters, with a Wilson interval at their effective number.

    How far the clusters' own shares differ tells how many independent units would vary as the
    whole does (Rao and Scott, 1992); from fewer than two clusters, or where all or none of the
    units succeed, that cannot be told, and every unit counts.

    Args:
        counts: successes and units of each cluster; one unit or more in all.

    >>> clustered_proportion([(8, 10)]) == proportion(8, 10)
    True
    """
    y, n = np.array([pair for pair in counts if pair[1]], float).T
    total, value, clusters = n.sum(), y.sum() / n.sum(), len(n)
    factor = 1.0
    if clusters > 1 and 0 < value < 1:
        variance = clusters / (clusters - 1) * ((y - value * n) ** 2).sum() / total**2
        factor = max(1.0, variance * total / (value * (1 - value)))
    z, size = float(stats.norm.ppf(0.975)), total / factor
    centre = (value + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * np.sqrt(value * (1 - value) / size + z**2 / (4 * size**2))
    low, high = min(value, centre - half), max(value, centre + half)
    return Estimate(value=value, low=max(0.0, low), high=min(1.0, high), n=int(total))


def poisson_rate(count: int, units: int) -> Estimate:
    """Events per unit with the exact 95 % interval of a Poisson rate (Garwood, 1936).

    >>> poisson_rate(0, 10).low
    0.0
    """
    low = float(stats.chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    high = float(stats.chi2.ppf(0.975, 2 * count + 2)) / 2
    return Estimate(value=count / units, low=low / units, high=high / units, n=units)


def empirical_p(scores: Floats, null: Floats) -> NDArray[np.float64]:
    """One-sided p-values against a null sample, (1 + number at least as large) / (1 + size).

    The added one keeps p above 0 and the test valid (Phipson and Smyth, 2010).

    Args:
        scores: float array of any shape.
        null: float array of shape (n,).

    >>> empirical_p(np.array([3.0, 9.0]), np.array([1.0, 2.0, 3.0])).tolist()
    [0.5, 0.25]
    """
    ordered = np.sort(null)
    exceeding = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return np.asarray((1.0 + exceeding) / (1.0 + len(ordered)), np.float64)


def benjamini_hochberg(p: Floats) -> NDArray[np.float64]:
    """Adjusted p-values (q) of all hypotheses at once (Benjamini and Hochberg, 1995).

    NaN marks a hypothesis that was not tested; it stays NaN and does not count.

    >>> benjamini_hochberg(np.array([0.01, 0.04, np.nan])).tolist()
    [0.02, 0.04, nan]
    """
    q = np.full(p.shape, np.nan)
    tested = np.isfinite(p)
    if tested.any():
        q[tested] = stats.false_discovery_control(p[tested], method="bh")
    return q


def rank_rows(values: Floats) -> NDArray[np.float32]:
    """Standardised ranks of each row, so that a dot product of two rows is their Spearman rho.

    Args:
        values: float array of shape (n, d); ties take their mean rank.

    Returns:
        Float array of shape (n, d) with rows of mean 0 and norm 1; a constant row is all 0.

    >>> first, second = rank_rows(np.array([[1, 2, 3], [10, 30, 20]]))
    >>> round(float(first @ second), 2)
    0.5
    """
    ranks = stats.rankdata(values, axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    norm = np.linalg.norm(ranks, axis=1, keepdims=True)
    unit = np.divide(ranks, norm, out=np.zeros_like(ranks), where=norm > 0)
    return np.asarray(unit, np.float32)


def rank_correlation(
    x: Floats, y: Floats, replicates: int, rng: np.random.Generator
) -> Estimate | None:
    """Spearman correlation with a bootstrap interval over units; `None` if a series is constant."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None

    def rho(index: NDArray[np.int64]) -> float:
        a, b = stats.rankdata(x[index]), stats.rankdata(y[index])
        a, b = a - a.mean(), b - b.mean()
        norm = np.sqrt((a @ a) * (b @ b))
        return float(a @ b / norm) if norm > 0 else np.nan

    whole = np.arange(len(x))
    draws = rng.integers(0, len(x), (replicates, len(x)))
    return interval(rho(whole), np.array([rho(draw) for draw in draws]), len(x))


def separation(present: Floats, absent: Floats) -> tuple[Estimate, float] | None:
    """Probability that a value of one sample exceeds one of the other, and its p-value above 1/2.

    This is the area under the ROC curve. Its interval holds the areas that the estimate does not
    contradict, given the standard error that Hanley and McNeil (1982) give each: so it keeps its
    width where few values are told apart without fail. The p-value is the one-sided Mann-Whitney
    test's.

    Args:
        present: float array of shape (n,), expected to be larger.
        absent: float array of shape (m,).

    Returns:
        Estimate in [0, 1] with n of the first sample, and p; `None` with fewer than two values.

    >>> area, p = separation(np.array([2, 4, 5]), np.array([1, 2, 3]))
    >>> round(area.value, 2)  # of the nine pairs seven are in order, and one is a tie
    0.83
    """
    n, m = len(present), len(absent)
    if n < 2 or m < 2:
        return None
    test = stats.mannwhitneyu(present, absent, alternative="greater", method="asymptotic")
    value, p = float(test.statistic) / (n * m), float(test.pvalue)
    area = np.linspace(0, 1, 10001)
    inside = area[np.abs(value - area) <= 1.96 * _error(area, n, m) + 1e-9]
    low, high = min(value, float(inside[0])), max(value, float(inside[-1]))
    return Estimate(value=value, low=low, high=high, n=n), p if np.isfinite(p) else 1.0


def _error(area: Floats, n: int, m: int) -> Floats:
    """Standard error of an area under the ROC curve from n and m values (Hanley and McNeil)."""
    above, below = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (n - 1) * (above - area**2) + (m - 1) * (below - area**2)
    return np.asarray(np.sqrt(np.maximum(variance, 0) / (n * m)))


@dataclass(frozen=True)
class Differences:
    """Differences of means within strata, of m kinds of presence.

    Attributes:
        value, error: float arrays of shape (m,), the difference and its standard error; NaN where
            no stratum holds both kinds or nothing varies.
        p: float array of shape (m,), one-sided p-values above 0; NaN likewise.
        n: int array of shape (m,), values with `present` in strata that count.
    """

    value: Floats
    error: Floats
    p: Floats
    n: NDArray[np.int64]


def stratified_differences(
    values: Floats, present: NDArray[np.bool_], strata: NDArray[np.int64]
) -> Differences:
    """Differences of means, present minus absent, within strata.

    Each stratum that holds both kinds gives a difference, weighted by n1 n0 / (n1 + n0), the
    weights of least variance. Its error is that of the sum when presence is shuffled within
    strata, which is known exactly: a bootstrap has no variance to offer of a stratum's only photo
    with the concept. So is the sum's skewness, and p is the tail of Pearson's type III law with
    these moments (Mielke and Berry, 2007): where a few values are far above the others, a normal
    law is far too sure of its tail, and ranks do not see how far they are. To the left skewness
    counts for nothing, for that law ends somewhere.

    Args:
        values: float array of shape (n,).
        present: bool array of shape (n, m).
        strata: int array of shape (n,).
    """
    m = present.shape[1]
    if not len(values):
        nothing = np.full(m, np.nan)
        return Differences(nothing, nothing, nothing, np.zeros(m, np.int64))
    _, stratum, size = np.unique(strata, return_inverse=True, return_counts=True)
    n = size[:, None]
    order, starts = np.argsort(stratum, kind="stable"), np.cumsum(size) - size
    n1 = np.add.reduceat(present[order], starts, axis=0, dtype=np.int64)  # of each stratum
    both = (n1 > 0) & (n1 < n)
    weight = np.where(both, n1 * (n - n1) / n, 0.0)
    first = values[order[starts]][stratum]  # of each stratum
    x = np.subtract(values, first, dtype=float)  # exactly 0 where nothing varies
    x -= (np.bincount(stratum, x) / size)[stratum]
    total = x @ (present & both[stratum])  # the weighted difference of the means
    variance = (np.bincount(stratum, x**2) / np.maximum(size - 1, 1)) @ weight
    # the third moment of the sum of n1 of n values, of which there is none for two
    cubes = np.bincount(stratum, x**3) / np.maximum((size - 1) * (size - 2), 1)
    third = cubes @ (weight * (n - 2 * n1) * (n > 2))
    weights, counts = weight.sum(0), (both * n1).sum(0)
    told = variance > 0
    value, error, p = np.full((3, m), np.nan)
    value[told], deviation = total[told] / weights[told], np.sqrt(variance[told])
    error[told] = deviation / weights[told]
    skewness = np.maximum(third[told] / deviation**3, 0)
    p[told] = stats.pearson3.sf(total[told] / deviation, skewness)
    return Differences(value, error, p, counts)


def stratified_difference(
    values: Floats, present: NDArray[np.bool_], strata: NDArray[np.int64]
) -> tuple[Estimate, float] | None:
    """One of `stratified_differences` with its normal 95 % interval, and p.

    Args:
        values: float array of shape (n,).
        present: bool array of shape (n,).
        strata: int array of shape (n,).

    Returns:
        Estimate (n = photos with `present` in strata that count) and p, or `None` where no
        stratum holds both kinds or nothing varies.

    >>> values, strata = np.array([1, 2, 11, 12]), np.array([0, 0, 1, 1])
    >>> difference, p = stratified_difference(values, values % 2 == 0, strata)
    >>> difference.value
    1.0
    """
    found = stratified_differences(values, present[:, None], strata)
    value, half, p = float(found.value[0]), 1.96 * float(found.error[0]), float(found.p[0])
    if not np.isfinite(p):
        return None
    estimate = Estimate(value=value, low=value - half, high=value + half, n=int(found.n[0]))
    return estimate, max(p, 1e-300)
