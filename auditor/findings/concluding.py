"""From scores and tests to the pairs that are findings, each with its grade's evidence.

A drawn concept that stands beside the leader of its group is a finding, in the group's name, where
it is corroborated or confirmed and the leader is less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.core.estimates import Estimate
from auditor.drawing.drawings import DRAWINGS
from auditor.evidence.directions import Vocabulary
from auditor.evidence.scoring import Naming
from auditor.findings import merging, testing
from auditor.findings.grading import Pair
from auditor.findings.screening import Candidate, possible, screen, sketched
from auditor.findings.testing import Levels, Observations, Tests
from auditor.record.codes import strength
from auditor.record.schema import Caveat, Divergence

__all__ = ["Scored", "conclude"]

DIGITS = 6  # of numbers beside a code, as of all that is saved
WEAK_AUC = 0.75  # of the probe for a concept, below which the report warns


@dataclass(frozen=True)
class Scored:
    """Scores of C classes and m concepts, and what is known beside them.

    Attributes:
        naming: the scores.
        vocabulary: the concepts.
        is_core: bool array of shape (C, m), from `screening.core`.
        classes, names: indices of the audited classes; names of all classes.
        divergence: by class index.
        quality: AUC of the probe by concept, where known.
        interval: of a pair's score, by row and column.
    """

    naming: Naming
    vocabulary: Vocabulary
    is_core: NDArray[np.bool_]
    classes: tuple[int, ...]
    names: tuple[str, ...]
    divergence: Mapping[int, Divergence]
    quality: Mapping[str, float]
    interval: Callable[[int, int], Estimate]


def conclude(scored: Scored, seen: Observations, levels: Levels) -> tuple[Pair, ...]:
    """Screen all pairs, test the candidates, and keep those that are a finding of some grade.

    Args:
        scored: all pairs.
        seen: the photos that candidates are tested on.
        levels: of the tests.
    """
    listed = scored.vocabulary.concepts
    candidates = screen(scored.naming, scored.vocabulary, scored.is_core, q_level=levels.q)
    tests = testing.run(
        candidates,
        listed,
        scored.classes,
        possible(listed, scored.is_core),
        seen=seen,
        levels=levels,
    )
    pairs = {each.key: _pair(each, scored, tests, seen, levels) for each in candidates}
    _settle(candidates, pairs, levels.q)
    graded = {key: pair for key, pair in pairs.items() if pair.grade(levels.q)}
    photos = seen.photos
    return tuple(
        dataclasses.replace(pair, naming=scored.interval(*key))
        for key, pair in merging.explained(graded, photos.labels, photos.sight, levels.q).items()
    )


def _settle(
    candidates: Sequence[Candidate], pairs: dict[tuple[int, int], Pair], q_level: float
) -> None:
    """Of a leader and the drawn concept beside it, keep the better founded one."""
    for each in candidates:
        if not each.beside:
            continue
        rival = None if each.leader is None else pairs[each.row, each.leader].grade(q_level)
        least = max(strength("suspected"), strength(rival))
        if strength(pairs[each.key].grade(q_level)) <= least:
            del pairs[each.key]
        elif each.leader is not None:
            del pairs[each.row, each.leader]


def _pair(
    candidate: Candidate, scored: Scored, tests: Tests, seen: Observations, levels: Levels
) -> Pair:
    """A candidate with everything that is known of it."""
    (row, j), naming = candidate.key, scored.naming
    index, concept = scored.classes[row], scored.vocabulary.concepts[j]
    score = float(naming.score[row, j])
    key = candidate.key
    return Pair(
        class_index=index,
        class_name=scored.names[index],
        concept=concept.name,
        category=concept.category,
        naming=Estimate(value=score, low=score, high=score, n=0),  # the interval comes last
        null=_null(naming, row),
        p=float(naming.p[row, j]),
        q=float(naming.q[row, j]),
        p_model=float(naming.p_model[row, j]),
        association=tests.association.get(key),
        surroundings=tests.surroundings.get(key),
        prevalence=tests.prevalence.get(key),
        degrades=concept.drawing is not None and DRAWINGS[concept.drawing].degrades,
        sketched=sketched(concept),
        effect=tests.effect.get(key),
        effect_q=tests.effect_q.get(key),
        alike=tuple(scored.vocabulary.concepts[k].name for k in candidate.alike),
        caveats=tuple(_caveats(candidate, scored, tests, seen, levels)),
        row=row,
        column=j,
    )


def _null(naming: Naming, row: int) -> Estimate:
    """Scores of random concepts for the class: their median and central 95 %."""
    low, middle, high = (float(x) for x in np.quantile(naming.null[row], [0.025, 0.5, 0.975]))
    return Estimate(value=middle, low=low, high=high, n=naming.null.shape[1])


def _caveats(
    candidate: Candidate, scored: Scored, tests: Tests, seen: Observations, levels: Levels
) -> Iterator[Caveat]:
    """What a reader must know of a pair's evidence."""
    (row, j), concept = candidate.key, scored.vocabulary.concepts[candidate.column]
    index = scored.classes[row]
    alike = tuple(scored.vocabulary.concepts[k].name for k in candidate.alike)
    if alike:
        yield Caveat(code="not_told_apart", params={"concepts": alike})
    auc, canvas = scored.quality.get(concept.name), int((seen.drawn.labels != index).sum())
    if concept.drawing is None:
        if auc is None:
            yield Caveat(code="probe_quality_unknown")
        elif auc < WEAK_AUC:
            yield Caveat(code="probe_weak", params={"auc": round(auc, DIGITS)})
    elif canvas < levels.min_photos:
        yield Caveat(code="not_drawn", params={"photos": canvas, "needed": levels.min_photos})
    if candidate.key in tests.prevalence and seen.photos.margin[j] > 0:
        yield Caveat(code="prevalence_without_pool")
    specific = scored.divergence[index].class_specific
    if specific is not None and specific.high < 0.5:
        yield Caveat(
            code="prototypes_unlike_photos", params={"similarity": round(specific.value, DIGITS)}
        )
    channels = scored.naming.channels.items()
    against = sorted(name for name, of in channels if of[row, j] < 0 and name != "direct")
    if against:
        yield Caveat(code="channels_against", params={"channels": tuple(against)})
