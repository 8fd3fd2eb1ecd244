"""Suspects: the class and concept pairs that stand out, put to the test on photos.

Of each class's extrinsic concepts that are neither core nor expected, those are taken whose score
stands out of the null after correction (q below the level), and the first few that stand out before
it: the null of random concepts is strict, because what a class relies on is among them, and photos
decide. Concepts whose directions this audit cannot tell apart are one suspect, led by the one that
scores highest. Beside them every drawn concept that stands out before correction, the best of each
such group, is put to the experiment that can be made with it; it is a finding, in its group's name,
where it is corroborated or confirmed and the one that scores highest is less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.concepts.banks import means_class
from auditor.core.estimates import Estimate
from auditor.core.statistics import benjamini_hochberg, separation, stratified_difference
from auditor.drawing.drawings import DRAWINGS
from auditor.evidence import insertion, scoring, surroundings
from auditor.evidence.directions import Vocabulary
from auditor.evidence.surroundings import Surroundings
from auditor.findings import merging
from auditor.findings.grading import Association, Suspect, associate, corrected, strength
from auditor.record.schema import Divergence, Picture

__all__ = ["Donors", "Photos", "core", "find"]

Floats = NDArray[np.floating]
Illustrate = Callable[[int, int, Suspect], tuple[Picture, ...]]

PER_CLASS = 5  # groups of a class that are followed up because of their score
SCREENED = 3  # of them, those that are put to the test although q is above the level
SCREEN_P = 0.05  # where their score's p, before correction, is below this
SKETCHED = ("weather", "lighting", "object")  # whose drawings stand for something natural
WEAK_AUC = 0.75  # of the probe for a concept, below which the report warns


@dataclass(frozen=True)
class Photos:
    """Labelled photos as the association test sees them.

    Attributes:
        labels: int array of shape (n,).
        log_odds: float array of shape (n, C), of each audited class.
        shown: bool array of shape (n, m), the concepts that each shows by the probe.
        sight: how much each photo shows a concept's column, a drawn one by what it changes, float
            array of shape (n,).
        margin: float array of shape (m,), by how much it must exceed another to show more of it.
        canvas_labels: int array of shape (k,), classes of the photos that concepts are drawn on;
            the model's own prediction where no label is known.
        representative: whether they are like those that the model learned from, so that what a
            class's photos do not show was hardly learned.
    """

    labels: NDArray[np.int64]
    log_odds: Floats
    shown: NDArray[np.bool_]
    sight: Callable[[int], Floats]
    margin: Floats
    canvas_labels: NDArray[np.int64]
    representative: bool = True


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


def core(
    vocabulary: Vocabulary,
    classes: tuple[int, ...],
    names: tuple[str, ...],
    expected: Mapping[str, tuple[str, ...]],
) -> NDArray[np.bool_]:
    """Which concepts mean the class itself or were declared expected for it, of shape (C, m)."""
    rows = []
    for index in classes:
        allowed = {
            concept.casefold()
            for key in (names[index], str(index))
            for concept in expected.get(key, ())
        }
        rows.append(
            [
                means_class(concept, names[index]) or concept.name.casefold() in allowed
                for concept in vocabulary.concepts
            ]
        )
    return np.array(rows, bool)


def find(
    named: scoring.Naming,
    vocabulary: Vocabulary,
    is_core: NDArray[np.bool_],
    classes: tuple[int, ...],
    names: tuple[str, ...],
    photos: Photos,
    donors: Donors,
    insertions: Mapping[str, insertion.Insertions],
    diverged: Mapping[int, Divergence],
    quality: Mapping[str, float],
    illustrate: Illustrate,
    *,
    q_level: float,
    min_photos: int,
    replicates: int,
    intervals: Callable[[int, int], Estimate],
    seed: int,
) -> tuple[Suspect, ...]:
    """Suspects with their tests on photos.

    Args:
        named: scores of all pairs.
        vocabulary: the concepts.
        is_core: bool array of shape (C, m), from `core`.
        classes, names: the audited classes; the names of all classes.
        photos: for the association.
        donors: for the surroundings.
        insertions: by drawing.
        diverged: divergence by class.
        quality: AUC of the probe by concept, where known.
        illustrate: pictures for a class's row, a concept's column and the suspect.
        q_level, min_photos, replicates, seed: of the tests.
        intervals: the interval of a pair's score, by row and column.

    Returns:
        Those that are a finding of some grade.
    """
    extrinsic = np.array([concept.extrinsic for concept in vocabulary.concepts], bool)
    candidate = (np.nan_to_num(named.p, nan=1.0) < SCREEN_P) & (named.score > 0)
    likeness = vocabulary.likeness()
    drawn = np.array([concept.drawing is not None for concept in vocabulary.concepts], bool)
    sketched = drawn & np.array([c.category in SKETCHED for c in vocabulary.concepts])

    led: dict[tuple[int, int], list[int]] = {}
    besides: dict[tuple[int, int], int | None] = {}  # drawn ones by row and column, their leader
    for row in range(len(classes)):
        candidates = np.flatnonzero(candidate[row] & extrinsic & ~is_core[row])
        for place, (j, alike) in enumerate(merging.groups(candidates, named.score[row], likeness)):
            stands_out = named.q[row, j] < q_level and place < PER_CLASS
            if place < SCREENED or stands_out:
                led[row, j] = alike
            best = next((k for k in (j, *alike) if drawn[k]), None)
            if best is not None and (row, best) not in led:
                besides[row, best] = j if (row, j) in led else None
                led[row, best] = [k for k in (j, *alike) if k != best]
    associations = {}
    prevalences = {}
    effects = {}
    for row, j in led:
        index, concept = classes[row], vocabulary.concepts[j]
        found = associate(
            photos.log_odds[:, row], photos.shown[:, j], photos.labels, index, min_photos=min_photos
        )
        if found is not None:
            associations[index, concept.name] = found
        others = photos.canvas_labels != index
        if concept.drawing is not None and others.sum() >= min_photos:
            effects[row, j] = insertion.test(
                insertions[concept.drawing], index, others, replicates=replicates, seed=seed
            )
        own = photos.labels == index
        if photos.representative and min(own.sum(), (~own).sum()) >= min_photos:
            seen = photos.sight(j)
            told = separation(seen[own], seen[~own] + photos.margin[j])
            if told is not None:
                prevalences[index, concept.name] = told
    associated, prevalent = corrected(associations), corrected(prevalences)
    transplanted = _transplanted(
        donors,
        extrinsic & ~(drawn & ~sketched) & ~is_core,
        list(led),
        min_photos=min_photos,
    )
    keys = list(effects)
    adjusted = benjamini_hochberg(np.array([effects[key].p for key in keys]))
    effect_q = dict(zip(keys, (float(value) for value in adjusted), strict=True))
    suspects: dict[tuple[int, int], Suspect] = {}
    for (row, j), alike in led.items():
        index, concept = classes[row], vocabulary.concepts[j]
        score = float(named.score[row, j])
        suspect = Suspect(
            class_index=index,
            class_name=names[index],
            concept=concept.name,
            category=concept.category,
            naming=Estimate(value=score, low=score, high=score, n=0),  # the interval comes last
            null=_null(named, row),
            p=float(named.p[row, j]),
            q=float(named.q[row, j]),
            p_model=float(named.p_model[row, j]),
            association=associated.get((index, concept.name)),
            surroundings=transplanted.get((row, j)),
            prevalence=prevalent.get((index, concept.name)),
            degrades=concept.drawing is not None and DRAWINGS[concept.drawing].degrades,
            sketched=bool(sketched[j]),
            effect=effects.get((row, j)),
            effect_q=effect_q.get((row, j)),
            alike=tuple(vocabulary.concepts[k].name for k in alike),
            caveats=_caveats(
                [vocabulary.concepts[k].name for k in alike],
                quality.get(concept.name),
                diverged[index],
                {key: float(values[row, j]) for key, values in named.channels.items()},
                concept.drawing is not None,
                (index, concept.name) in prevalent and photos.margin[j] > 0,
                int((photos.canvas_labels != index).sum()),
                min_photos,
            ),
        )
        suspects[row, j] = suspect
    for (row, j), leader in besides.items():
        rival = None if leader is None else suspects[row, leader].grade(q_level)
        stronger = strength(suspects[row, j].grade(q_level)) > max(
            strength("suspected"), strength(rival)
        )
        if not stronger:
            del suspects[row, j]
        elif leader is not None:
            del suspects[row, leader]
    graded = {key: suspect for key, suspect in suspects.items() if suspect.grade(q_level)}
    return tuple(
        dataclasses.replace(suspect, naming=intervals(*key), pictures=illustrate(*key, suspect))
        for key, suspect in merging.explained(graded, photos.labels, photos.sight, q_level).items()
    )


def _transplanted(
    donors: Donors,
    possible: NDArray[np.bool_],
    led: list[tuple[int, int]],
    *,
    min_photos: int,
) -> dict[tuple[int, int], Association]:
    """The test of surroundings for the suspects, corrected over all pairs that could be one.

    The photos helped to choose the suspects, so the correction is over every pair.
    """
    p = surroundings.p_values(
        donors.around, donors.shown, donors.own, donors.labels, min_photos=min_photos
    )
    p[~possible] = np.nan
    q = benjamini_hochberg(p)
    strata = np.zeros(len(donors.shown), np.int64) if donors.labels is None else donors.labels
    found = {}
    for row, j in led:
        if not np.isfinite(p[row, j]):
            continue
        others = ~donors.own[:, row]
        estimated = stratified_difference(
            donors.around.log_odds[others, row], donors.shown[others, j], strata[others]
        )
        if estimated is not None:
            found[row, j] = Association(estimated[0], float(p[row, j]), float(q[row, j]))
    return found


def _null(named: scoring.Naming, row: int) -> Estimate:
    """Scores of random concepts for the class: their median and central 95 %."""
    low, middle, high = (float(x) for x in np.quantile(named.null[row], [0.025, 0.5, 0.975]))
    return Estimate(value=middle, low=low, high=high, n=named.null.shape[1])


def _caveats(
    alike: list[str],
    auc: float | None,
    diverged: Divergence,
    channels: Mapping[str, float],
    drawn: bool,
    handicapped: bool,
    canvas: int,
    min_photos: int,
) -> tuple[str, ...]:
    caveats = []
    if alike:
        more = f" and {len(alike) - 4} more" if len(alike) > 4 else ""
        caveats.append(f"Not told apart from: {', '.join(alike[:4])}{more}.")
    if not drawn:
        if auc is None:
            caveats.append("How well the probe recognises this concept is not known.")
        elif auc < WEAK_AUC:
            caveats.append(f"The probe recognises this concept poorly (AUC {auc:.2f}).")
    elif canvas < min_photos:
        caveats.append(
            f"Not drawn on photos: {canvas} show another class, {min_photos} are needed."
        )
    if handicapped:
        caveats.append(
            "For want of a pool, prevalence counts only what exceeds photos of other classes by a "
            "quarter of what drawing it changes: the class's own object may do as much."
        )
    if diverged.class_specific is not None and diverged.class_specific.high < 0.5:
        caveats.append(
            "The prototypes run through the model unlike photos of the class "
            f"(class-specific similarity {diverged.class_specific.value:.2f}, photos 1.00)."
        )
    against = [key for key, value in channels.items() if value < 0 and key != "direct"]
    if against:
        caveats.append(f"Channels that speak against it: {', '.join(sorted(against))}.")
    return tuple(caveats)
