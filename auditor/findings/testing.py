"""Tests of candidates on photos (docs/method.md, section 6).

A candidate is a pair of class and concept that may be a finding. Four tests are made where the
photos allow: association, prevalence, surroundings and insertion. The p-values of each test are
corrected for multiple testing, apart from those of the other tests.

In shapes, C is the number of audited classes, m of concepts and n of photos.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.concepts.banks import Concept
from auditor.core.estimates import Estimate
from auditor.core.statistics import benjamini_hochberg, separation, stratified_difference
from auditor.evidence import insertion, surroundings
from auditor.evidence.insertion import Effect, Insertions
from auditor.evidence.surroundings import Surroundings
from auditor.findings.grading import Association
from auditor.findings.screening import Candidate, sketched

__all__ = [
    "Donors",
    "Drawn",
    "Levels",
    "Observations",
    "Photos",
    "Tests",
    "associate",
    "corrected",
    "run",
]

Floats = NDArray[np.floating]
Key = tuple[int, int]  # row of a class and column of a concept


@dataclass(frozen=True)
class Photos:
    """Labelled photos, for the tests of association and prevalence.

    Attributes:
        labels: int array of shape (n,), class indices.
        log_odds: takes a class's row, and gives the model's log-odds of it, shape (n,).
        shown: bool array of shape (n, m), which concepts each photo shows, in the probe's view.
        sight: takes the column of a concept, and gives how much each photo shows it, in the
            probe's view: float array of shape (n,), without a fixed range. A concept with a drawing
            is recognised by what the drawing changes, any other one by its text.
        fit: likewise, but by the text for every concept.
        margin: float array of shape (m,). One photo shows more of a concept than another only if
            its `sight` is greater by more than this.
        representative: whether the photos are like those that the model learned from. Only then
            does it count against a concept that the class's photos do not show it.
    """

    labels: NDArray[np.int64]
    log_odds: Callable[[int], Floats]
    shown: NDArray[np.bool_]
    sight: Callable[[int], Floats]
    fit: Callable[[int], Floats]
    margin: Floats
    representative: bool = True


@dataclass(frozen=True)
class Drawn:
    """Photos that concepts were drawn on.

    Attributes:
        insertions: name of a drawing -> what it does to the model's answers on k photos.
        labels: int array of shape (k,), class indices of these photos; without labels, the classes
            that the model predicts.
    """

    insertions: Mapping[str, Insertions]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Donors:
    """Pool photos whose surroundings were put around the middles of audited photos.

    Attributes:
        around: the log-odds that the surroundings of n photos led to.
        shown: bool array of shape (n, m), which concepts each photo shows, in the probe's view.
        own: bool array of shape (n, C), which audited classes each photo may itself show.
        labels: int array of shape (n,), class indices, or `None` if they are not known.
    """

    around: Surroundings
    shown: NDArray[np.bool_]
    own: NDArray[np.bool_]
    labels: NDArray[np.int64] | None


@dataclass(frozen=True)
class Observations:
    """All photos that candidates are tested on."""

    photos: Photos
    drawn: Drawn
    donors: Donors


@dataclass(frozen=True)
class Levels:
    """Settings of the tests.

    Attributes:
        q: level of the false discovery rate (Benjamini and Hochberg, 1995), in (0, 1).
        min_photos: number of photos that a test needs; with fewer it is not made. Each test says
            which photos count.
        replicates: number of bootstrap replicates.
        seed: of the bootstrap.
    """

    q: float
    min_photos: int
    replicates: int
    seed: int


@dataclass(frozen=True)
class Tests:
    """Results of each test, by row of the class and column of the concept.

    A pair that could not be tested is left out.

    Attributes:
        association: differences of the class's log-odds between photos of other classes that show
            the concept and those that do not.
        prevalence: areas under the ROC curve, in [0, 1]: how well the concept tells photos of the
            class from others.
        surroundings: differences of the class's log-odds between surroundings that show the
            concept and those that do not.
        effect: effects of drawing the concept, from the test of insertion.
        effect_q: their q-values.
    """

    __test__ = False  # tells pytest that this class holds no unit tests

    association: Mapping[Key, Association]
    prevalence: Mapping[Key, Association]
    surroundings: Mapping[Key, Association]
    effect: Mapping[Key, Effect]
    effect_q: Mapping[Key, float]


def run(
    candidates: Sequence[Candidate],
    listed: Sequence[Concept],
    classes: Sequence[int],
    possible: NDArray[np.bool_],
    *,
    seen: Observations,
    levels: Levels,
) -> Tests:
    """Make every test of every candidate that the photos allow.

    Args:
        candidates: from `screening.screen`.
        listed: the concepts, by column.
        classes: the indices of the audited classes, by row.
        possible: bool array of shape (C, m), the pairs that could be a finding.
        seen: the photos.
        levels: settings of the tests.
    """
    associations: dict[Key, tuple[Estimate, float]] = {}
    prevalences: dict[Key, tuple[Estimate, float]] = {}
    effects: dict[Key, Effect] = {}
    for candidate in candidates:
        (row, j), index = candidate.key, classes[candidate.row]
        photos = seen.photos
        found = associate(
            photos.log_odds(row),
            photos.shown[:, j],
            photos.labels,
            index,
            min_photos=levels.min_photos,
        )
        if found is not None:
            associations[row, j] = found
        area = _prevalence(photos, j, index, levels.min_photos)
        if area is not None:
            prevalences[row, j] = area
        effect = _effect(seen.drawn, listed[j].drawing, index, levels)
        if effect is not None:
            effects[row, j] = effect
    # concepts that can stand around an object: all but those that are added to a finished photo
    natural = np.array([concept.drawing is None or sketched(concept) for concept in listed])
    keys = [candidate.key for candidate in candidates]
    q = benjamini_hochberg(np.array([effect.p for effect in effects.values()]))
    return Tests(
        association=corrected(associations),
        prevalence=corrected(prevalences),
        surroundings=_surroundings(seen.donors, possible & natural, keys, levels.min_photos),
        effect=effects,
        effect_q=dict(zip(effects, map(float, q), strict=True)),
    )


def associate(
    log_odds: NDArray[np.floating],
    shown: NDArray[np.bool_],
    labels: NDArray[np.int64],
    class_index: int,
    *,
    min_photos: int,
) -> tuple[Estimate, float] | None:
    """Difference of a class's log-odds between photos of other classes with and without a concept.

    Args:
        log_odds: float array of shape (n,), the model's log-odds of the class for each photo.
        shown: bool array of shape (n,), the photos that show the concept.
        labels: int array of shape (n,), true classes. Photos are compared only with photos of the
            same class.
        class_index: photos of this class are left out.
        min_photos: number of photos with the concept that the test needs. Those in classes where
            every photo shows it do not count.

    Returns:
        The difference and its p-value, or `None` if there are too few photos.
    """
    others = labels != class_index
    found = stratified_difference(log_odds[others], shown[others], labels[others])
    return found if found is not None and found[0].n >= min_photos else None


def _prevalence(
    photos: Photos, column: int, index: int, min_photos: int
) -> tuple[Estimate, float] | None:
    """How well a concept tells photos of the class from other photos, in the probe's view.

    Returns:
        The area under the ROC curve and its p-value. `None` if there are fewer than `min_photos`
        photos of the class, or of others, or if the photos are not representative.
    """
    own = photos.labels == index
    if not photos.representative or min(own.sum(), (~own).sum()) < min_photos:
        return None
    shown = photos.sight(column)
    return separation(shown[own], shown[~own] + photos.margin[column])


def _effect(drawn: Drawn, drawing: str | None, index: int, levels: Levels) -> Effect | None:
    """The effect of drawing a concept on photos of other classes; `None` if it cannot be tested."""
    others = drawn.labels != index
    if drawing is None or others.sum() < levels.min_photos:
        return None
    return insertion.test(
        drawn.insertions[drawing], index, others, replicates=levels.replicates, seed=levels.seed
    )


def corrected(found: Mapping[Key, tuple[Estimate, float]]) -> dict[Key, Association]:
    """Add q-values to estimates and p-values, corrected over all of them (Benjamini-Hochberg)."""
    q = benjamini_hochberg(np.array([p for _, p in found.values()]))
    return {
        key: Association(*result, float(value))
        for (key, result), value in zip(found.items(), q, strict=True)
    }


def _surroundings(
    donors: Donors,
    possible: NDArray[np.bool_],
    candidates: Sequence[Key],
    min_photos: int,
) -> dict[Key, Association]:
    """The test of surroundings for the candidates.

    The same pool photos helped to choose the candidates. So all possible pairs are tested, not only
    the candidates, and the p-values are corrected over all of them.
    """
    p = surroundings.p_values(
        donors.around, donors.shown, donors.own, donors.labels, min_photos=min_photos
    )
    p[~possible] = np.nan
    q = benjamini_hochberg(p)
    # photos are compared within their class; without labels, all are one class
    strata = np.zeros(len(donors.shown), np.int64) if donors.labels is None else donors.labels
    found = {}
    for row, j in candidates:
        if not np.isfinite(p[row, j]):
            continue
        others = ~donors.own[:, row]
        estimated = stratified_difference(
            donors.around.log_odds[others, row], donors.shown[others, j], strata[others]
        )
        if estimated is not None:
            found[row, j] = Association(estimated[0], float(p[row, j]), float(q[row, j]))
    return found
