import numpy as np
import pytest
from scipy import stats

from auditor.evidence import divergence

RNG = np.random.default_rng(0)
D = 60
CENTRES = RNG.normal(size=(3, D)) * 1.5
CLASSES = np.repeat([0, 1, 2], [12, 9, 3])


def natural(labels, rng):
    return (CENTRES[labels] + rng.normal(size=(len(labels), D))).astype(np.float32)


PHOTOS = {"a": natural(CLASSES, RNG), "b": natural(CLASSES, RNG)}


def compare(prototypes, owners, **changes):
    options = {"min_photos": 5, "replicates": 200, "seed": 0} | changes
    return divergence.compare(prototypes, np.array(owners), PHOTOS, CLASSES, (0, 1, 2), **options)


def mean_rho(first, second, *, same=False):
    pairs = [
        stats.spearmanr(x, y).statistic
        for i, x in enumerate(first)
        for j, y in enumerate(second)
        if not (same and i == j)
    ]
    return float(np.mean(pairs))


def test_figures_are_the_papers_mean_over_pairs():
    rng = np.random.default_rng(1)
    owners = [0, 0, 1, 1]
    protos = {k: (CENTRES[owners] + 2 * rng.normal(size=(4, D))).astype(np.float32) for k in "ab"}
    result = compare(protos, owners)[0]
    total = {"s": 0.0, "c": 0.0, "d": 0.0}
    for layer in result.layers:
        own, other = PHOTOS[layer.name][CLASSES == 0], PHOTOS[layer.name][CLASSES != 0]
        proto = protos[layer.name][:2]
        floor = mean_rho(own, other)
        separation = mean_rho(own, own, same=True) - floor
        s = mean_rho(proto, own) - floor
        c = mean_rho(proto, own) - mean_rho(proto, other)
        assert layer.normalised == pytest.approx(s / separation, abs=1e-4)
        assert layer.class_specific == pytest.approx(c / separation, abs=1e-4)
        mean_proto, mean_own = proto.mean(0), own.mean(0)
        rho = stats.spearmanr(mean_proto, mean_own).statistic
        assert layer.spearman == pytest.approx(rho)
        total["s"] += s
        total["c"] += c
        total["d"] += separation
    assert result.score.value == pytest.approx(1 - total["s"] / total["d"], abs=1e-4)
    assert result.class_specific.value == pytest.approx(total["c"] / total["d"], abs=1e-4)
    assert result.score.low <= result.score.value <= result.score.high


def test_photos_of_the_class_do_not_diverge_and_noise_does():
    rng = np.random.default_rng(2)
    owners = [0] * 10 + [1] * 10
    protos = {
        k: np.concatenate(
            [natural(np.zeros(10, int), rng), rng.normal(size=(10, D)).astype(np.float32)]
        )
        for k in "ab"
    }
    result = compare(protos, owners)
    assert abs(result[0].score.value) < 0.2
    assert result[1].score.value > 0.6
    assert (result[1].rank, result[0].rank) == (1, 2)
    assert result[1].rank_low <= 1 <= result[1].rank_high


def test_what_is_generic_raises_similarity_but_not_what_is_class_specific():
    mean = {k: np.repeat(v.mean(0, keepdims=True), 2, 0) for k, v in PHOTOS.items()}
    result = compare(mean, [0, 1])
    for c in (0, 1):
        assert 1 - result[c].score.value > result[c].class_specific.value + 0.2


def test_too_few_photos_are_not_tested_and_never_zero():
    protos = {k: CENTRES.astype(np.float32) for k in "ab"}
    result = compare(protos, [0, 1, 2])
    assert result[2].score is None
    assert result[2].rank is None
    assert result[2].reason.code == "few_photos"
    assert result[2].reason.count("photos") == 3
    assert result[0].rank_high <= 2
