from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from auditor.core import statistics
from auditor.core.estimates import Estimate


def difference(*given: NDArray[Any]) -> tuple[Estimate, float]:
    found = statistics.stratified_difference(*given)
    assert found is not None
    return found


def test_ranked_rows_multiply_to_spearman():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, (4, 30)).astype(float)  # with ties
    ranks = statistics.rank_rows(values)
    for i in range(4):
        for j in range(4):
            expected = stats.spearmanr(values[i], values[j]).statistic
            assert ranks[i] @ ranks[j] == pytest.approx(expected, abs=1e-5)


def test_a_constant_row_has_no_ranks():
    assert not statistics.rank_rows(np.ones((1, 5))).any()


def test_benjamini_hochberg_is_the_textbook_step_up():
    p = np.array([0.01, 0.04, 0.03, np.nan, 0.5])
    m = 4
    order = [0, 2, 1, 4]
    expected = np.full(5, np.nan)
    running = 1.0
    for rank in range(m, 0, -1):
        index = order[rank - 1]
        running = min(running, p[index] * m / rank)
        expected[index] = running
    np.testing.assert_allclose(statistics.benjamini_hochberg(p), expected)


def test_empirical_p_counts_ties_and_is_never_zero():
    null = np.array([1.0, 2.0, 2.0, 3.0])
    p = statistics.empirical_p(np.array([0.0, 2.0, 9.0]), null)
    np.testing.assert_allclose(p, [5 / 5, 4 / 5, 1 / 5])


def test_permutation_p_agrees_with_shuffling():
    rng = np.random.default_rng(1)
    strata = np.repeat([0, 1, 2], [20, 30, 10])
    present = rng.random(60) < 0.4
    values = rng.normal(size=60) + strata + 0.5 * present
    estimate, p = difference(values, present, strata)

    def total(flags):
        result = weight = 0.0
        for s in range(3):
            x, y = values[(strata == s) & flags], values[(strata == s) & ~flags]
            w = len(x) * len(y) / (len(x) + len(y))
            result += w * (x.mean() - y.mean())
            weight += w
        return result / weight

    shuffled = []
    for _ in range(4000):
        flags = present.copy()
        for s in range(3):
            flags[strata == s] = rng.permutation(flags[strata == s])
        shuffled.append(total(flags))
    assert estimate.value == pytest.approx(total(present))
    half = (estimate.high - estimate.low) / 2
    assert half == pytest.approx(1.96 * np.std(shuffled), rel=0.05)
    assert p == pytest.approx(np.mean(np.array(shuffled) >= total(present)), abs=0.02)


@pytest.mark.parametrize(("strata", "shown", "n"), [(7, 1, 40), (5, 2, 40), (1, 8, 400)])
def test_an_interval_of_a_difference_holds_nought_where_nothing_differs(strata, shown, n):
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(strata), n)
    present = np.tile(np.arange(n) < shown, strata)
    missed = 0
    for _ in range(400):
        estimate, _ = difference(rng.normal(size=len(group)), present, group)
        missed += not estimate.low <= 0 <= estimate.high
    assert 0.025 < missed / 400 < 0.08


@pytest.mark.parametrize("n_shown", [5, 30])
@pytest.mark.parametrize("strata", [1, 6])
def test_a_few_extreme_values_make_no_small_p(n_shown, strata):
    rng = np.random.default_rng(0)
    values = rng.exponential(size=900) ** 1.5
    present = np.stack([rng.permutation(900) < n_shown for _ in range(20000)], axis=1)
    group = np.arange(900) % strata
    found = statistics.stratified_differences(values, present, group)
    assert (found.n == n_shown).all()
    for level in (0.05, 0.01, 1e-3):
        assert np.mean(found.p < level) < 1.5 * level + 5e-4
    by_normal_law = stats.norm.sf(found.value / found.error)
    assert np.mean(by_normal_law < 1e-3) > 5e-3, "or these values are no trial"


def test_a_tail_to_the_left_makes_no_small_p():
    rng = np.random.default_rng(0)
    values = -(rng.exponential(size=900) ** 2)
    present = np.stack([rng.permutation(900) < 20 for _ in range(5000)], axis=1)
    p = statistics.stratified_differences(values, present, np.zeros(900, int)).p
    for level in (0.05, 0.01):
        assert np.mean(p < level) < 1.2 * level
    assert p.min() > 0


def test_a_few_photos_that_are_moved_far_are_seen():
    rng = np.random.default_rng(0)
    values, present = rng.normal(size=900), np.arange(900) < 41
    values[:12] += 6
    estimate, p = difference(values, present, np.zeros(900, int))
    assert estimate.low > 0.8
    assert p < 1e-7


def test_a_class_cannot_explain_an_association_within_classes():
    strata = np.repeat([0, 1], 40)
    present = np.concatenate([np.arange(40) < 36, np.arange(40) < 4])
    values = strata * -5.0 + np.random.default_rng(0).normal(size=80)
    plain = values[present].mean() - values[~present].mean()
    estimate, p = difference(values, present, strata)
    assert plain > 3
    assert abs(estimate.value) < 1.5
    assert p > 0.01


def test_nothing_to_compare_is_no_estimate():
    flags = np.array([True, True, False, False])
    strata = np.array([0, 0, 1, 1])
    assert statistics.stratified_difference(np.arange(4.0), flags, strata) is None
    everywhere = np.array([True, False, True, False])
    assert statistics.stratified_difference(np.ones(4), everywhere, strata) is None


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40))
@settings(max_examples=30, deadline=None)
def test_an_interval_holds_its_value(values):
    estimate = statistics.mean_estimate(np.array(values), 200, np.random.default_rng(0))
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.n == len(values)


def test_proportion_is_wilsons():
    estimate = statistics.proportion(8, 10)
    z = stats.norm.ppf(0.975)
    centre = (0.8 + z**2 / 20) / (1 + z**2 / 10)
    half = z / (1 + z**2 / 10) * np.sqrt(0.8 * 0.2 / 10 + z**2 / 400)
    assert (estimate.low, estimate.high) == pytest.approx((centre - half, centre + half))


def test_rank_correlation_of_a_constant_is_missing():
    rng = np.random.default_rng(0)
    assert statistics.rank_correlation(np.ones(9), np.arange(9.0), 100, rng) is None
    rising = statistics.rank_correlation(np.arange(9.0), np.arange(9.0) ** 2, 100, rng)
    assert rising is not None
    assert rising.value == pytest.approx(1)


def test_units_of_a_cluster_count_for_less_where_clusters_differ():
    alike = [(5, 10)] * 8
    assert statistics.clustered_proportion(alike) == statistics.proportion(40, 80)
    apart = statistics.clustered_proportion([(0, 10), (10, 10)] * 4)
    whole_models = statistics.proportion(4, 8)
    assert (apart.value, apart.n) == (0.5, 80)
    assert apart.high - apart.low == pytest.approx(whole_models.high - whole_models.low, rel=0.1)
    none = statistics.clustered_proportion([(0, 10), (0, 0), (0, 10)])
    assert none.high == pytest.approx(statistics.proportion(0, 20).high)


def test_a_clustered_proportion_holds_the_truth():
    rng = np.random.default_rng(0)
    missed = wilson_missed = 0
    for _ in range(300):
        shares = rng.beta(2, 2, 20)
        counts = [(int(rng.binomial(12, share)), 12) for share in shares]
        found = statistics.clustered_proportion(counts)
        plain = statistics.proportion(sum(y for y, _ in counts), 240)
        missed += not found.low <= 0.5 <= found.high
        wilson_missed += not plain.low <= 0.5 <= plain.high
    assert missed / 300 < 0.1 < wilson_missed / 300


def differences_by_stratum(values, present, strata):
    """The definition, a stratum and a column at a time: value, variance and third moment."""
    found = []
    for column in present.T:
        total = variance = third = weights = 0.0
        for stratum in set(strata.tolist()):
            inside = strata == stratum
            x, has = values[inside], column[inside]
            n, n1 = len(x), int(has.sum())
            if not 0 < n1 < n:
                continue
            weight = n1 * (n - n1) / n
            total += weight * (x[has].mean() - x[~has].mean())
            variance += weight * x.var(ddof=1)
            if n > 2:
                cubes = ((x - x.mean()) ** 3).sum()
                third += weight * (n - 2 * n1) / ((n - 1) * (n - 2)) * cubes
            weights += weight
        found.append((total, variance, third, weights))
    return np.array(found).T


@pytest.mark.parametrize("value", [0.1, 27.631, -1e9])
def test_values_that_do_not_vary_within_strata_say_nothing(value):
    rng = np.random.default_rng(0)
    strata = rng.integers(0, 4, 100)
    present = rng.random((100, 5)) < 0.3
    for values in (np.full(100, value), value + strata / 3):
        found = statistics.stratified_differences(values, present, strata)
        assert np.isnan(found.p).all()
        assert statistics.stratified_difference(values, present[:, 0], strata) is None


@pytest.mark.parametrize("n", [0, 1, 40, 300])
def test_differences_within_many_strata_are_those_of_each(n):
    rng = np.random.default_rng(n)
    values = rng.gamma(0.5, size=n)
    present = rng.random((n, 6)) < [0, 0.1, 0.5, 0.5, 0.9, 1]
    strata = rng.integers(-3, 1 + n // 4, n)
    found = statistics.stratified_differences(values, present, strata)
    total, variance, third, weights = differences_by_stratum(values, present, strata)
    told = variance > 0
    assert np.array_equal(np.isfinite(found.p), told)
    assert told.any() == (n > 1)
    np.testing.assert_allclose(found.value[told], total[told] / weights[told])
    np.testing.assert_allclose(found.error[told], np.sqrt(variance[told]) / weights[told])
    skewness = np.maximum(third[told] / variance[told] ** 1.5, 0)
    p = stats.pearson3.sf(total[told] / np.sqrt(variance[told]), skewness)
    np.testing.assert_allclose(found.p[told], p)
