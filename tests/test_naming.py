import numpy as np
import pytest
from scipy import stats

from auditor import naming

RNG = np.random.default_rng(0)
N, D, E, C, M = 400, 40, 16, 10, 12


def world(*, planted):
    """Photos whose features hold each concept on an axis of its own; class 3 may use concept 5."""
    rng = np.random.default_rng(1)
    texts = np.linalg.qr(rng.normal(size=(E, E)))[0][:M]
    axes = np.linalg.qr(rng.normal(size=(D, D)))[0][:M]
    strength = rng.gamma(0.3, 1.0, (N, M))
    photos = strength @ texts + 0.05 * rng.normal(size=(N, E))
    photos /= np.linalg.norm(photos, axis=1, keepdims=True)
    features = strength @ axes * 2 + rng.normal(size=(N, D))
    weights = rng.normal(size=(C, D)) * 0.3
    prototypes = weights * 3 + 0.3 * rng.normal(size=(C, D))
    if planted:
        weights[3] += 3 * axes[5]
        prototypes[3] += 6 * axes[5]
    logits = features @ weights.T
    textcav = naming.text_map(photos, features)
    counts = np.full(M, 20)
    own = naming.named(features, logits, photos, texts, counts, textcav)
    null_rows = naming.null_texts(texts, 2000, rng)
    null = naming.named(features, logits, photos, null_rows, np.full(2000, 20), textcav)
    rows = rng.normal(size=(C, E))
    return naming.name(own, null, prototypes, weights, rows, q_level=0.05)


def test_a_planted_concept_is_first_and_significant():
    named = world(planted=True)
    assert named.score[3].argmax() == 5
    assert named.q[3, 5] < 0.05
    assert named.score[:, 5].argmax() == 3


def test_without_a_planted_concept_nothing_is_significant():
    named = world(planted=False)
    assert named.q.min() > 0.05
    assert named.p.min() > 0


def test_an_untested_concept_has_no_score():
    rng = np.random.default_rng(0)
    features, logits = rng.normal(size=(50, 6)), rng.normal(size=(50, 2))
    photos, texts = rng.normal(size=(50, 4)), rng.normal(size=(3, 4))
    textcav = naming.text_map(photos, features)
    made = naming.named(features, logits, photos, texts, np.array([5, 0, 5]), textcav)
    assert np.isnan(made.vectors[1]).all()
    assert np.isfinite(made.vectors[[0, 2]]).all()
    np.testing.assert_array_equal(made.n_photos, [5, 0, 5])
    null = naming.named(features, logits, photos, texts, np.array([5, 5, 5]), textcav)
    named = naming.name(
        made, null, rng.normal(size=(2, 6)), rng.normal(size=(2, 6)), texts[:2], q_level=0.05
    )
    assert np.isnan(named.q[:, 1]).all()
    assert np.isfinite(named.q[:, [0, 2]]).all()
    assert named.threshold == np.inf, "six null scores cannot give q below the level"


def test_blocks_do_not_change_a_direction(monkeypatch):
    rng = np.random.default_rng(0)
    features, logits = rng.normal(size=(50, 6)), rng.normal(size=(50, 2))
    photos, texts = rng.normal(size=(50, 4)), rng.normal(size=(9, 4))
    textcav = naming.text_map(photos, features)
    counts = np.arange(9)
    whole = naming.named(features, logits, photos, texts, counts, textcav)
    monkeypatch.setattr(naming, "BLOCK", 2)
    parts = naming.named(features, logits, photos, texts, counts, textcav)
    np.testing.assert_allclose(parts.vectors, whole.vectors)
    np.testing.assert_allclose(parts.textual, whole.textual)


def test_a_direction_is_the_difference_of_means():
    rng = np.random.default_rng(0)
    features, logits = rng.normal(size=(30, 6)), rng.normal(size=(30, 2))
    photos, texts = rng.normal(size=(30, 4)), rng.normal(size=(2, 4))
    textcav = naming.text_map(photos, features)
    made = naming.named(features, logits, photos, texts, np.array([4, 4]), textcav)
    scores = naming.presence(photos, texts)
    best = np.argsort(-scores[:, 0])[:4]
    rest = np.setdiff1d(np.arange(30), best)
    expected = features[best].mean(0) - features[rest].mean(0)
    np.testing.assert_allclose(made.vectors[0], expected / np.linalg.norm(expected), atol=1e-6)
    np.testing.assert_allclose(made.shift[0], logits[best].mean(0) - logits[rest].mean(0))


def test_a_photo_shows_few_concepts_and_an_absent_one_is_not_shown():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 100))
    scores[:, 7] *= 0.01
    shown = naming.shows(scores)
    assert set(shown.sum(1)) == {3}
    assert shown[:, 7].sum() == 0


@pytest.mark.parametrize("n", [10])
def test_random_concepts_are_unit_rows_and_differ(n):
    texts = RNG.normal(size=(M, E))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    rows = naming.null_texts(texts, n, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
    assert stats.pearsonr(rows[0], rows[1]).statistic < 0.99
