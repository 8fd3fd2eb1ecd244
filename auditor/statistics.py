"""Statistics that every claim rests on: intervals, permutation tests, multiplicity, ranks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from auditor.record import Estimate

__all__ = [
    "benjamini_hochberg",
    "bootstrap_weights",
    "empirical_p",
    "interval",
    "poisson_rate",
    "proportion",
    "rank_correlation",
    "rank_rows",
    "separation",
    "stratified_difference",
]

Floats = NDArray[np.floating]


def interval(value: float, replicates: Floats, n: int) -> Estimate:
    """Estimate with the 95 % percentile interval of bootstrap replicates.

    Replicates that are not finite are left out; the interval is widened to hold the value.
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
    """
    ordered = np.sort(null)
    exceeding = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return np.asarray((1.0 + exceeding) / (1.0 + len(ordered)), np.float64)


def benjamini_hochberg(p: Floats) -> NDArray[np.float64]:
    """Adjusted p-values (q) of all hypotheses at once (Benjamini and Hochberg, 1995).

    NaN marks a hypothesis that was not tested; it stays NaN and does not count.
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

    This is the area under the ROC curve, with the normal interval of DeLong et al. (1988); the
    p-value is the one-sided Mann-Whitney test's.

    Args:
        present: float array of shape (n,), expected to be larger.
        absent: float array of shape (m,).

    Returns:
        Estimate in [0, 1] with n of the first sample, and p; `None` with fewer than two values.
    """
    n, m = len(present), len(absent)
    if n < 2 or m < 2:
        return None
    order = np.sort(absent)
    below = np.searchsorted(order, present, side="left")
    above_or_tied = np.searchsorted(order, present, side="right")
    own = (below + above_or_tied) / (2 * m)
    order = np.sort(present)
    other = 1 - (
        np.searchsorted(order, absent, side="left") + np.searchsorted(order, absent, side="right")
    ) / (2 * n)
    value = float(own.mean())
    half = 1.96 * float(np.sqrt(own.var(ddof=1) / n + other.var(ddof=1) / m))
    p = float(
        stats.mannwhitneyu(present, absent, alternative="greater", method="asymptotic").pvalue
    )
    low, high = max(0.0, value - half), min(1.0, value + half)
    return Estimate(value=value, low=low, high=high, n=n), p if np.isfinite(p) else 1.0


def stratified_difference(
    values: Floats,
    present: NDArray[np.bool_],
    strata: NDArray[np.int64],
    *,
    replicates: int,
    rng: np.random.Generator,
) -> tuple[Estimate, float] | None:
    """Difference of means, present minus absent, within strata, and its permutation p-value.

    Each stratum that holds both kinds gives a difference, weighted by n1 n0 / (n1 + n0), the
    weights of least variance. The p-value is one-sided, from the mean and variance that the sum
    has when presence is shuffled within strata, which are known exactly; its law is taken as
    normal (a stratified Fisher-Pitman test). The interval is a bootstrap within strata.

    Args:
        values: float array of shape (n,).
        present: bool array of shape (n,).
        strata: int array of shape (n,).
        replicates: bootstrap replicates.
        rng: source of the bootstrap.

    Returns:
        Estimate (n = photos with `present` in strata that count) and p, or `None` where no
        stratum holds both kinds or nothing varies.
    """
    total = weight = variance = 0.0
    n_present = 0
    sums = np.zeros(replicates)
    weights = np.zeros(replicates)
    for stratum in np.unique(strata):
        inside = strata == stratum
        x, y = values[inside & present], values[inside & ~present]
        n1, n0 = len(x), len(y)
        if not n1 or not n0:
            continue
        w = n1 * n0 / (n1 + n0)
        total += w * float(x.mean() - y.mean())
        weight += w
        n_present += n1
        both = np.concatenate([x, y])
        # variance of the difference of means when n1 of the n1 + n0 values are drawn at random
        variance += w**2 * float(both.var(ddof=1)) * (1 / n1 + 1 / n0)
        drawn_x = x[rng.integers(0, n1, (replicates, n1))].mean(1)
        drawn_y = y[rng.integers(0, n0, (replicates, n0))].mean(1)
        sums += w * (drawn_x - drawn_y)
        weights += w
    if weight == 0 or variance <= 0:
        return None
    p = float(stats.norm.sf(total / np.sqrt(variance)))
    return interval(total / weight, sums / weights, n_present), min(1.0, max(p, 1e-300))
