"""Clusters: planted modes are found, single modes stay whole, and names must be earned."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from auditor.core.statistics import benjamini_hochberg
from auditor.evidence import clusters
from auditor.evidence.clusters import Group

D, PER_CLASS = 64, 40
Floats = NDArray[np.floating]


def modes(
    *places: tuple[int, int], power: float = 0.7, gap: float = 4.0, seed: int = 0
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Photos of several modes, of shape (n, D), with the class and the mode of each.

    The deviation of the k-th direction of a mode falls as k ** -power, as that of photos does.

    Args:
        places: the class and the place of each mode; modes of one place lie together.
        power: 0 is a ball.
        gap: between places, in units of the largest deviation.
        seed: of everything.
    """
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0]
    deviations = np.arange(1, D + 1.0) ** -power
    centres = gap * np.linalg.qr(rng.normal(size=(D, D)))[0]
    size = PER_CLASS // 2
    parts = [
        (rng.normal(size=(size, D)) * deviations) @ turn + centres[place] for _, place in places
    ]
    owners = np.repeat([c for c, _ in places], size)
    return np.concatenate(parts), owners, np.repeat(np.arange(len(places)), size)


def grouped(features: Floats, classes: NDArray[np.int64], prototypes: Floats | None = None,
            seed: int = 0) -> tuple[Group, ...]:  # fmt: skip
    shown = features[:0] if prototypes is None else prototypes
    return clusters.group(features, classes, shown, seed=seed)


def members(groups: tuple[Group, ...]) -> set[frozenset[int]]:
    return {frozenset(each.photos) for each in groups}


def rows(mode: NDArray[np.int64], *which: int) -> frozenset[int]:
    return frozenset(np.flatnonzero(np.isin(mode, which)).tolist())


# --- groups -----------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.0, 0.7, 1.5])
@pytest.mark.parametrize("seed", range(3))
def test_a_class_of_two_modes_is_divided_and_the_others_are_not(power: float, seed: int) -> None:
    features, classes, mode = modes((0, 0), (0, 1), (1, 2), (1, 2), power=power, gap=9, seed=seed)
    found = members(grouped(features, classes))
    assert found == {rows(mode, 0), rows(mode, 1), rows(mode, 2, 3)}


def test_as_many_modes_as_there_are_are_found() -> None:
    features, classes, mode = modes(*[(0, place) for place in range(4)], (1, 4), (1, 4), gap=9)
    found = members(grouped(features, classes))
    assert found == {*(rows(mode, k) for k in range(4)), rows(mode, 4, 5)}


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.5])
def test_a_class_of_one_mode_is_not_divided(power: float) -> None:
    """However long the mode: of 40 classes, about 2 may be divided by chance at p <= 0.05."""
    divided = 0
    for seed in range(5):
        places = [(c, c) for c in range(8) for _ in range(2)]
        features, classes, _ = modes(*places, power=power, gap=6, seed=seed)
        divided += len(grouped(features, classes)) - 8
    assert 0 <= divided <= 4


def test_what_classes_share_is_one_cluster() -> None:
    features, classes, mode = modes((0, 0), (0, 3), (1, 1), (1, 3), (2, 2), (2, 2), gap=9)
    groups = grouped(features, classes)
    assert members(groups) == {rows(mode, 0), rows(mode, 2), rows(mode, 1, 3), rows(mode, 4, 5)}
    shared = [each for each in groups if len(set(classes[list(each.photos)])) > 1]
    assert [frozenset(each.photos) for each in shared] == [rows(mode, 1, 3)]


def test_prototypes_fall_in_the_cluster_that_is_nearest() -> None:
    features, classes, mode = modes((0, 0), (0, 1), (1, 2), (1, 2), gap=9)
    rng = np.random.default_rng(9)
    near = np.array([0, 1, 2, 1])
    prototypes = np.stack([features[mode == k].mean(0) for k in near])
    groups = grouped(features, classes, prototypes + 0.1 * rng.normal(size=prototypes.shape))
    for each in groups:
        kinds = {min(2, k) for k in mode[list(each.photos)]}
        assert kinds == {near[place] for place in each.prototypes}
    assert sorted(place for each in groups for place in each.prototypes) == [0, 1, 2, 3]


def test_clusters_stand_largest_first_and_photos_nearest_first() -> None:
    features, classes, _ = modes((0, 0), (0, 1), (1, 2), (1, 2), (2, 3), (2, 1), gap=9)
    groups = grouped(features, classes)
    sizes = [len(each.photos) for each in groups]
    assert sizes == [40, 40, 20, 20]
    everything = [i for each in groups for i in each.photos]
    assert sorted(everything) == list(range(len(features))), "each photo is in one cluster"
    plane, owners = features[:, :2], np.zeros(len(features), np.int64)
    scaled = (plane - plane.mean(0)) / plane.std(0)
    for each in grouped(plane, owners):  # in two dimensions the components keep all distances
        inside = scaled[list(each.photos)]
        assert (np.diff(np.linalg.norm(inside - inside.mean(0), axis=1)) > -1e-9).all()


def test_a_cluster_does_not_depend_on_unit_or_origin() -> None:
    features, classes, _ = modes((0, 0), (0, 1), (1, 2), (1, 2), gap=9)
    scale = np.exp(np.random.default_rng(0).normal(size=D))
    assert members(grouped(features * scale + 7, classes)) == members(grouped(features, classes))


def test_groups_of_a_few_photos_are_left_out() -> None:
    features, classes, mode = modes((0, 0), (0, 0), (1, 1), gap=9)
    kept = np.r_[np.flatnonzero(mode < 2), np.flatnonzero(mode == 2)[:4]]
    assert members(grouped(features[kept], classes[kept])) == {frozenset(range(40))}
    kept = np.r_[kept, np.flatnonzero(mode == 2)[4]]
    assert members(grouped(features[kept], classes[kept])) == {
        frozenset(range(40)), frozenset(range(40, 45)),
    }  # fmt: skip


def test_too_few_photos_or_features_without_variation_give_no_cluster() -> None:
    assert grouped(np.ones((4, 3)), np.zeros(4, np.int64)) == ()
    assert grouped(np.ones((30, 3)), np.zeros(30, np.int64), np.ones((2, 3))) == ()
    assert grouped(np.eye(4), np.arange(4)) == ()


@pytest.mark.parametrize(("first", "second"), [(20, 0), (15, 15), (8, 7), (30, 1)])
@pytest.mark.parametrize("width", [2, D])
def test_copies_of_photos_are_no_fault(first: int, second: int, width: int) -> None:
    """Folders hold the same photo many times over; distinct photos then are few."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, width)).astype(np.float32)
    copies = np.concatenate([np.tile(a, (first, 1)), np.tile(b, (second, 1))])
    others = rng.normal(size=(30, width)).astype(np.float32) + 9
    classes = np.repeat([0, 1], [first + second, 30])
    found = members(grouped(np.concatenate([copies, others]), classes))
    both, rest = frozenset(range(first + second)), frozenset(range(first + second, len(classes)))
    divided = {frozenset(range(first)), frozenset(range(first, first + second))}
    assert found == ({*divided, rest} if second >= clusters.MIN_SIZE else {both, rest})


def test_the_same_seed_gives_the_same_clusters() -> None:
    features, classes, _ = modes((0, 0), (0, 1), (1, 2), (1, 2), gap=3, seed=5)
    assert grouped(features, classes, features[:5], seed=1) == grouped(
        features, classes, features[:5], seed=1
    )


# --- names ------------------------------------------------------------------------------------

HALVES = (Group(tuple(range(30)), ()), Group(tuple(range(30, 60)), ()))


def scored(gain: float, n_concepts: int = 6, seed: int = 0) -> Floats:
    """Scores of 90 photos; the first cluster shows concept 2, more or less."""
    scores = np.random.default_rng(seed).normal(size=(90, n_concepts))
    scores[:30, 2] += gain
    return scores


def named(scores: Floats, *, groups: tuple[Group, ...] = HALVES, untested: tuple[int, ...] = (),
          q_level: float = 0.05) -> tuple[tuple[int, float] | None, ...]:  # fmt: skip
    tested = ~np.isin(np.arange(scores.shape[1]), untested)
    return clusters.name_groups(groups, scores, tested, q_level=q_level)


def slow_auc(inside: Floats, outside: Floats) -> float:
    """Share of pairs of a member and another photo in which the member scores higher."""
    won = [float(x > y) + 0.5 * float(x == y) for x in inside for y in outside]
    return sum(won) / len(won)


def test_a_planted_concept_names_its_cluster_and_the_other_stays_unnamed() -> None:
    scores = scored(3.0)
    first, second = named(scores)
    assert first is not None
    assert first[0] == 2
    assert first[1] == pytest.approx(slow_auc(scores[:30, 2], scores[30:, 2]))
    assert second is None


def test_the_area_counts_ties_as_halves() -> None:
    scores = np.round(scored(2.0))
    first, _ = named(scores)
    assert first is not None
    assert first[1] == pytest.approx(slow_auc(scores[:30, 2], scores[30:, 2]))


def test_random_scores_name_nothing() -> None:
    found = [each for seed in range(50) for each in named(scored(0.0, 40, seed))]
    assert sum(each is not None for each in found) <= 3


def test_a_concept_that_the_others_show_is_no_name() -> None:
    assert named(scored(-3.0))[0] is None


def test_a_concept_that_was_not_tested_is_no_name() -> None:
    assert named(scored(3.0), untested=(2,)) == (None, None)


def test_a_name_is_significant_among_all_pairs() -> None:
    """The same cluster and concept: named among few pairs, unnamed among many."""
    small = (Group(tuple(range(6)), ()),)
    scores = scored(0.0, 400, 3)
    scores[:6, 2] = np.quantile(scores[6:, 2], [0.72, 0.8, 0.84, 0.88, 0.92, 0.96])
    p = stats.mannwhitneyu(
        scores[:6, 2], scores[6:, 2], alternative="greater", method="asymptotic",
        use_continuity=False,
    ).pvalue  # fmt: skip
    assert 0.05 / 400 < p < 0.05 / 2
    many = tuple(range(2)) + tuple(range(4, 400))
    assert named(scores, groups=small, untested=many)[0] is not None
    everything = np.array([
        stats.mannwhitneyu(scores[:6, j], scores[6:, j], alternative="greater",
                           method="asymptotic", use_continuity=False).pvalue
        for j in range(400)
    ])  # fmt: skip
    assert benjamini_hochberg(everything)[2] > 0.05
    assert named(scores, groups=small)[0] is None


def test_the_level_decides() -> None:
    small = (Group(tuple(range(6)), ()),)
    scores = scored(0.0, 3, 3)
    scores[:6, 0] = np.quantile(scores[6:, 0], [0.72, 0.8, 0.84, 0.88, 0.92, 0.96])
    p = np.array([
        stats.mannwhitneyu(scores[:6, j], scores[6:, j], alternative="greater",
                           method="asymptotic", use_continuity=False).pvalue
        for j in range(3)
    ])  # fmt: skip
    q = float(benjamini_hochberg(p)[0])
    assert named(scores, groups=small, q_level=q * 1.001)[0] is not None
    assert named(scores, groups=small, q_level=q * 0.999)[0] is None


def test_a_name_must_fit_and_not_only_be_significant() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2000, 1))
    scores[:1000] += 0.6
    group = (Group(tuple(range(1000)), ()),)
    area = slow_auc(scores[:200, 0], scores[1000:1200, 0])
    assert 0.6 < area < clusters.MIN_AUC
    assert named(scores, groups=group) == (None,)
    scores[:1000] += 0.8
    assert named(scores, groups=group)[0] is not None


def test_a_cluster_of_nearly_all_photos_stays_unnamed() -> None:
    scores = scored(3.0)
    assert named(scores[:34], groups=(Group(tuple(range(30)), ()),)) == (None,)
    assert named(scores[:36], groups=(Group(tuple(range(30)), ()),))[0] is not None


def test_no_clusters_have_no_names() -> None:
    assert named(scored(0.0), groups=()) == ()
