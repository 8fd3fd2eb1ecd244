"""Tests of candidates on photos, each corrected over all that were tested in the same way."""

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
Key = tuple[int, int]


@dataclass(frozen=True)
class Photos:
    """Labelled photos as the association test sees them.

    Attributes:
        labels: int array of shape (n,).
        log_odds: float array of shape (n, C), of each audited class.
        shown: bool array of shape (n, m), the concepts that each shows by the probe.
        sight: how much each photo shows a concept's column, a drawn one by what it changes, float
            array of shape (n,).
        fit: how much each photo fits the text of a concept's column, likewise.
        margin: float array of shape (m,), by how much it must exceed another to show more of it.
        representative: whether they are like those that the model learned from, so that what a
            class's photos do not show was hardly learned.
    """

    labels: NDArray[np.int64]
    log_odds: Floats
    shown: NDArray[np.bool_]
    sight: Callable[[int], Floats]
    fit: Callable[[int], Floats]
    margin: Floats
    representative: bool = True


@dataclass(frozen=True)
class Drawn:
    """Photos that concepts were drawn on.

    Attributes:
        insertions: by drawing, what it does to the model's answers.
        labels: int array of shape (k,), classes of the photos; the model's own prediction where no
            label is known.
    """

    insertions: Mapping[str, Insertions]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Donors:
    """Pool photos whose surroundings were put around photos of other classes.

    Attributes:
        around: what they did, for n photos.
        shown: bool array of shape (n, m), the concepts that each shows by the probe.
        own: bool array of shape (n, C), the audited classes that each may show itself.
        labels: int array of shape (n,), or `None` where their classes are not known.
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
    """Levels and sizes of tests.

    Attributes:
        q: of the false discovery rate (Benjamini and Hochberg, 1995).
        min_photos: fewer on either side give no test.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """

    q: float
    min_photos: int
    replicates: int
    seed: int


@dataclass(frozen=True)
class Tests:
    """Results of tests by row and column; a pair that could not be tested is not in them."""

    __test__ = False  # no test of this program

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
    """Put every candidate to every test that it can be put to.

    Args:
        candidates: from `screening.screen`.
        listed: the concepts, by column.
        classes: the audited classes, by row.
        possible: bool array of shape (C, m), pairs that could be a finding.
        seen: the photos.
        levels: of the tests.
    """
    associations: dict[Key, tuple[Estimate, float]] = {}
    prevalences: dict[Key, tuple[Estimate, float]] = {}
    effects: dict[Key, Effect] = {}
    for candidate in candidates:
        (row, j), index = candidate.key, classes[candidate.row]
        photos = seen.photos
        found = associate(
            photos.log_odds[:, row],
            photos.shown[:, j],
            photos.labels,
            index,
            min_photos=levels.min_photos,
        )
        if found is not None:
            associations[row, j] = found
        told = _prevalence(photos, j, index, levels.min_photos)
        if told is not None:
            prevalences[row, j] = told
        effect = _effect(seen.drawn, listed[j].drawing, index, levels)
        if effect is not None:
            effects[row, j] = effect
    natural = np.array([concept.drawing is None or sketched(concept) for concept in listed])
    keys = [candidate.key for candidate in candidates]
    q = benjamini_hochberg(np.array([effect.p for effect in effects.values()]))
    return Tests(
        association=corrected(associations),
        prevalence=corrected(prevalences),
        surroundings=_transplanted(seen.donors, possible & natural, keys, levels.min_photos),
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
        log_odds: float array of shape (n,), of the class, per photo.
        shown: bool array of shape (n,), photos that show the concept.
        labels: int array of shape (n,), true classes; the comparison is made within each.
        class_index: photos of this class are left out.
        min_photos: fewer photos with the concept, of classes that have some without it, give no
            test.
    """
    others = labels != class_index
    found = stratified_difference(log_odds[others], shown[others], labels[others])
    return found if found is not None and found[0].n >= min_photos else None


def _prevalence(
    photos: Photos, column: int, index: int, min_photos: int
) -> tuple[Estimate, float] | None:
    """How well a concept's showing tells photos of the class from others."""
    own = photos.labels == index
    if not photos.representative or min(own.sum(), (~own).sum()) < min_photos:
        return None
    shown = photos.sight(column)
    return separation(shown[own], shown[~own] + photos.margin[column])


def _effect(drawn: Drawn, drawing: str | None, index: int, levels: Levels) -> Effect | None:
    """What drawing the concept on photos of other classes does to the class."""
    others = drawn.labels != index
    if drawing is None or others.sum() < levels.min_photos:
        return None
    return insertion.test(
        drawn.insertions[drawing], index, others, replicates=levels.replicates, seed=levels.seed
    )


def corrected(found: Mapping[Key, tuple[Estimate, float]]) -> dict[Key, Association]:
    """Benjamini-Hochberg over all that were tested."""
    q = benjamini_hochberg(np.array([p for _, p in found.values()]))
    return {
        key: Association(*result, float(value))
        for (key, result), value in zip(found.items(), q, strict=True)
    }


def _transplanted(
    donors: Donors,
    possible: NDArray[np.bool_],
    candidates: Sequence[Key],
    min_photos: int,
) -> dict[Key, Association]:
    """The test of surroundings for the candidates, corrected over all pairs that could be one.

    The photos helped to choose the candidates, so the correction is over every pair.
    """
    p = surroundings.p_values(
        donors.around, donors.shown, donors.own, donors.labels, min_photos=min_photos
    )
    p[~possible] = np.nan
    q = benjamini_hochberg(p)
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
