from typing import cast

import numpy as np
import pytest
import scored
import torch
from scipy import stats

from auditor.concepts import presence
from auditor.concepts.presence import own_photos
from auditor.concepts.probes import ProbeModel
from auditor.evidence import scoring

RNG = np.random.default_rng(0)
N, D, E, C, M = 400, 40, 16, 10, 12


def unknown(rows):
    """Prevalence where the classes have too few photos: of M concepts and of 2,000 random ones."""
    return np.full((rows, M), np.nan), np.full((rows, 2000), np.nan)


def world(*, planted, prevalent=None):
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
    random = scoring.mixtures(texts, 2000, rng)
    return scored.named(
        scored.pool(features, logits, photos),
        {"own": (texts, np.full(M, 20)), "random": (random, np.full(2000, 20))},
        (prototypes, weights, rng.normal(size=(C, E))),
        prevalent or unknown(C),
    )


def test_a_planted_concept_is_first_and_significant():
    named = world(planted=True)
    assert named.score[3].argmax() == 5
    assert named.q[3, 5] < 0.05
    assert named.score[:, 5].argmax() == 3


def test_without_a_planted_concept_nothing_is_significant():
    named = world(planted=False)
    assert named.q.min() > 0.05
    assert named.p.min() > 0


def test_what_photos_show_and_the_model_does_not_point_to_is_no_evidence_of_the_model():
    rng = np.random.default_rng(2)
    own, null = rng.normal(size=(C, M)), rng.normal(size=(C, 2000))
    own[3, 5] = 30.0
    named = world(planted=False, prevalent=(own, null))
    assert named.p[3, 5] < 0.001
    assert named.p_model[3, 5] > 0.05
    np.testing.assert_allclose(named.p_model, world(planted=False).p)


def test_what_photos_of_the_class_show_more_than_others_scores_higher():
    rng = np.random.default_rng(2)
    own, null = rng.normal(size=(C, M)), rng.normal(size=(C, 2000))
    own[3, 5] = 4.0
    known, without = world(planted=True, prevalent=(own, null)), world(planted=True)
    assert known.score[3, 5] > without.score[3, 5] + 0.5
    assert known.channels["prevalence"][3, 5] == pytest.approx((4 - null[3].mean()) / null[3].std())
    assert np.isnan(without.channels["prevalence"]).all()


def test_a_class_without_photos_is_scored_by_the_other_channels():
    own, null = unknown(C)
    own[:5], null[:5] = 0.5, RNG.normal(size=(5, 2000))
    mixed, without = world(planted=True, prevalent=(own, null)), world(planted=True)
    np.testing.assert_allclose(mixed.score[5:], without.score[5:])
    assert np.abs(mixed.score[:5] - without.score[:5]).max() > 0.1


def test_photos_that_are_left_out_decide_no_direction():
    rng = np.random.default_rng(0)
    features, logits = rng.normal(size=(30, 6)), rng.normal(size=(30, 2))
    photos, texts = rng.normal(size=(30, 4)), rng.normal(size=(2, 4))
    textual = scoring.textual(texts, scoring.text_map(photos, features))
    stay = np.arange(30) < 24
    counts = np.array([4, 4])
    made = scoring.named(features, logits, logits.mean(1), photos, texts, counts, textual, stay)
    alone = scoring.named(
        features[:24], logits[:24], logits[:24].mean(1), photos[:24], texts, counts, textual
    )
    np.testing.assert_allclose(made.vectors, alone.vectors)
    np.testing.assert_allclose(made.shift, alone.shift)
    more = scoring.named(
        features, logits, logits.mean(1), photos, texts, np.array([29, 4]), textual, stay
    )
    assert np.isfinite(more.vectors).all(), "one photo at least is left to compare with"


def test_own_photos_are_left_out_unless_too_few_would_be_left():
    own = np.arange(30) < 20
    np.testing.assert_array_equal(scoring.kept(own), ~own)
    assert scoring.kept(np.arange(30) < 21).all()


def test_an_untested_concept_has_no_score():
    rng = np.random.default_rng(0)
    features, logits = rng.normal(size=(50, 6)), rng.normal(size=(50, 2))
    photos, texts = rng.normal(size=(50, 4)), rng.normal(size=(3, 4))
    textual = scoring.textual(texts, scoring.text_map(photos, features))
    made = scoring.named(
        features, logits, logits.mean(1), photos, texts, np.array([5, 0, 5]), textual
    )
    assert np.isnan(made.vectors[1]).all()
    assert np.isfinite(made.vectors[[0, 2]]).all()
    seen = np.zeros((2, 3))
    named = scored.named(
        scored.pool(features, logits, photos),
        {"own": (texts, np.array([5, 0, 5])), "random": (texts, np.array([5, 5, 5]))},
        (rng.normal(size=(2, 6)), rng.normal(size=(2, 6)), texts[:2]),
        (seen, seen),
    )
    assert np.isnan(named.q[:, 1]).all()
    assert np.isfinite(named.q[:, [0, 2]]).all()
    assert named.threshold == np.inf, "six null scores cannot give q below the level"


def test_blocks_do_not_change_a_direction(monkeypatch):
    rng = np.random.default_rng(0)
    features, logits = rng.normal(size=(50, 6)), rng.normal(size=(50, 2))
    photos, texts = rng.normal(size=(50, 4)), rng.normal(size=(9, 4))
    textual = scoring.textual(texts, scoring.text_map(photos, features))
    counts = np.arange(9)
    whole = scoring.named(features, logits, logits.mean(1), photos, texts, counts, textual)
    monkeypatch.setattr(scoring, "BLOCK", 2)
    parts = scoring.named(features, logits, logits.mean(1), photos, texts, counts, textual)
    np.testing.assert_allclose(parts.vectors, whole.vectors)
    np.testing.assert_allclose(parts.textual, whole.textual)


def test_a_direction_is_the_difference_of_means():
    rng = np.random.default_rng(0)
    features, logits = rng.normal(size=(30, 6)), rng.normal(size=(30, 2))
    photos, texts = rng.normal(size=(30, 4)), rng.normal(size=(2, 4))
    textual = scoring.textual(texts, scoring.text_map(photos, features))
    made = scoring.named(features, logits, logits.mean(1), photos, texts, np.array([4, 4]), textual)
    scores = presence.presence(photos, texts)
    best = np.argsort(-scores[:, 0])[:4]
    rest = np.setdiff1d(np.arange(30), best)
    expected = features[best].mean(0) - features[rest].mean(0)
    np.testing.assert_allclose(made.vectors[0], expected / np.linalg.norm(expected), atol=1e-6)
    centred = logits - logits.mean(1, keepdims=True)
    np.testing.assert_allclose(made.shift[0], centred[best].mean(0) - centred[rest].mean(0))


@pytest.mark.parametrize("n", [10])
def test_random_concepts_are_unit_rows_and_differ(n):
    texts = RNG.normal(size=(M, E))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    rows = scoring.mixtures(texts, n, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
    assert stats.pearsonr(rows[0], rows[1]).statistic < 0.99


def test_labels_tell_own_photos_where_they_are_known_and_the_probe_where_not():
    class Probe:
        def encode_texts(self, texts):
            assert texts == ["a photo of a bird", "a photo of a cat", "a photo of a dog"]
            return torch.eye(3)

    probe, rows = cast(ProbeModel, Probe()), np.eye(3)
    names = ("bird", "cat", "dog")
    by_label = own_photos(probe, rows, (1, 0, 2), (1, 2), names)
    np.testing.assert_array_equal(by_label, [[True, False], [False, False], [False, True]])
    by_probe = own_photos(probe, rows, None, (1, 2), names)
    wanted = [[False, False], [True, False], [False, True]]
    np.testing.assert_array_equal(by_probe, wanted, "the bird is no cat, though it is not audited")
