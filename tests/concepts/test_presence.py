"""What photos show by the probe: few concepts, their likeliest classes, and a drawing by pairs."""

import numpy as np

from auditor.concepts import presence


def test_prevalence_is_a_difference_of_means_and_unknown_with_few_photos():
    rng = np.random.default_rng(0)
    photos, texts = rng.normal(size=(30, 4)), rng.normal(size=(2, 4))
    labels = np.array([0] * 4 + [1] * 20 + [2] * 6)
    found = presence.prevalence(photos, labels, (0, 2), texts, min_photos=5)
    assert np.isnan(found[0]).all(), "four photos are too few"
    scores = photos @ texts.T
    np.testing.assert_allclose(found[1], scores[24:].mean(0) - scores[:24].mean(0))


def test_a_photo_shows_few_concepts_and_an_absent_one_is_not_shown():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 100))
    scores[:, 7] *= 0.01
    shown = presence.shows(scores)
    assert set(shown.sum(1)) == {3}
    assert shown[:, 7].sum() == 0


def test_a_photo_is_of_its_likeliest_classes():
    rng = np.random.default_rng(0)
    names = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    photos_ = names[np.arange(300) % 30] + 0.05 * rng.normal(size=(300, 30))
    likely = presence.likely_classes(photos_, names)
    assert likely[np.arange(300), np.arange(300) % 30].all()
    assert set(likely.sum(1)) == {3}, "a tenth of the classes"
    few = presence.likely_classes(photos_[:, :], names[:4])
    assert set(few.sum(1)) == {1}


def test_a_photo_shows_few_of_many_classes():
    rng = np.random.default_rng(0)
    names = np.linalg.qr(rng.normal(size=(300, 300)))[0]
    photos = names[:40] + 0.01 * rng.normal(size=(40, 300))
    likely = presence.likely_classes(photos, names, most=10)
    assert set(likely.sum(1)) == {10}
    assert likely[np.arange(40), np.arange(40)].all()


def test_a_drawing_is_seen_by_what_it_changes():
    rng = np.random.default_rng(0)
    loud, change = (
        np.eye(6)[0],
        np.eye(6)[1],
    )  # photos differ most in what has nothing to do with it
    pool = rng.normal(size=(200, 6)) + 5 * rng.normal(size=(200, 1)) * loud
    plain = rng.normal(size=(40, 6))
    drawn = plain + change + 0.5 * loud
    photos = rng.normal(size=(200, 6)) + 5 * rng.normal(size=(200, 1)) * loud
    shown = np.arange(200) % 2 == 0
    looks = photos + 2 * np.outer(shown, change)
    whitening, naive = presence.whitening(pool), (drawn - plain).mean(0)
    seen, naive = looks @ whitening @ whitening @ naive, looks @ naive

    def apart(scores):
        return (scores[shown][:, None] > scores[~shown][None]).mean()

    assert apart(seen) > 0.85 > apart(naive)
