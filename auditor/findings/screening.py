"""Screening: the pairs of class and concept that are put to the test on photos.

Of each class's extrinsic concepts that are neither core nor expected, those are taken whose score
stands out of the null after correction (q below the level), and the first few that stand out before
it: the null of random concepts is strict, because what a class relies on is among them, and photos
decide. Concepts whose directions this audit cannot tell apart are one candidate, led by the one
that scores highest. Beside them every drawn concept that stands out before correction, the best of
each such group, is put to the experiment that can be made with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.concepts.banks import Concept, means_class
from auditor.evidence.directions import Vocabulary
from auditor.evidence.scoring import Naming
from auditor.findings import merging

__all__ = ["PER_CLASS", "Candidate", "core", "possible", "screen", "sketched"]

PER_CLASS = 5  # groups of a class that are followed up because of their score
SCREENED = 3  # of them, those that are put to the test although q is above the level
SCREEN_P = 0.05  # where their score's p, before correction, is below this
SKETCHED = ("weather", "lighting", "object")  # whose drawings stand for something natural


@dataclass(frozen=True)
class Candidate:
    """A pair of class and concept that is put to the test.

    Attributes:
        row, column: of the class and the concept in the scores.
        alike: columns of the concepts that it is not told apart from.
        beside: whether it stands beside the leader of its group, for the experiment alone.
        leader: column of that leader, where it is a candidate itself.
    """

    row: int
    column: int
    alike: tuple[int, ...]
    beside: bool = False
    leader: int | None = None

    @property
    def key(self) -> tuple[int, int]:
        """Row and column."""
        return self.row, self.column


def core(
    listed: Sequence[Concept],
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
                for concept in listed
            ]
        )
    return np.array(rows, bool)


def possible(listed: Sequence[Concept], is_core: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pairs could be a finding, bool array of shape (C, m)."""
    return np.array([concept.extrinsic for concept in listed], bool) & ~is_core


def sketched(concept: Concept) -> bool:
    """Whether a concept's drawing merely stands for something natural."""
    return concept.drawing is not None and concept.category in SKETCHED


def screen(
    naming: Naming, vocabulary: Vocabulary, is_core: NDArray[np.bool_], *, q_level: float
) -> tuple[Candidate, ...]:
    """The candidates of every class.

    Args:
        naming: scores of all pairs.
        vocabulary: the concepts.
        is_core: bool array of shape (C, m), from `core`.
        q_level: of the scores.
    """
    likeness = vocabulary.likeness()
    drawn = [concept.drawing is not None for concept in vocabulary.concepts]
    stands_out = (np.nan_to_num(naming.p, nan=1.0) < SCREEN_P) & (naming.score > 0)
    stands_out &= possible(vocabulary.concepts, is_core)
    found: dict[tuple[int, int], Candidate] = {}
    for row in range(len(is_core)):
        groups = merging.groups(np.flatnonzero(stands_out[row]), naming.score[row], likeness)
        for place, (j, alike) in enumerate(groups):
            followed = naming.q[row, j] < q_level and place < PER_CLASS
            if place < SCREENED or followed:
                found[row, j] = Candidate(row, j, tuple(alike))
            best = next((k for k in (j, *alike) if drawn[k]), None)
            if best is not None and (row, best) not in found:
                leader = j if (row, j) in found else None
                others = tuple(k for k in (j, *alike) if k != best)
                found[row, best] = Candidate(row, best, others, True, leader)
    return tuple(found.values())
