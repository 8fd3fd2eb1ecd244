"""Pairs that are one: concepts not told apart, or of which one explains the other.

Directions that point the same way are one candidate before anything is tested. After the tests,
what a class's photos show often looks like something else too: a black border like a letterbox. The
lesser of the two is then prevalent, but no longer so once what is due to the better founded one is
taken from its scores. Either way one finding lists the other's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from auditor.core.statistics import separation
from auditor.findings.grading import Pair
from auditor.record.codes import strength
from auditor.record.thresholds import PREVALENT

__all__ = ["explained", "groups"]

Floats = NDArray[np.floating]

ALIKE = 0.6  # cosine of two directions from which they are not told apart
TOGETHER = 0.5  # correlation on photos of other classes from which one may explain the other


def groups(
    candidates: NDArray[np.int64], scores: Floats, likeness: Floats
) -> list[tuple[int, list[int]]]:
    """The concepts of a class, best first, each with those that it is not told apart from.

    Args:
        candidates: int array of shape (k,), columns of concepts.
        scores: float array of shape (m,), of all concepts.
        likeness: float array of shape (m, m), cosines of their directions.
    """
    found: list[tuple[int, list[int]]] = []
    for j in candidates[np.argsort(-scores[candidates], kind="stable")]:
        for leader, alike in found:
            if likeness[leader, j] >= ALIKE:
                alike.append(int(j))
                break
        else:
            found.append((int(j), []))
    return found


def explained(
    pairs: Mapping[tuple[int, int], Pair],
    labels: NDArray[np.int64],
    view: Callable[[int], Floats],
    q_level: float,
) -> dict[tuple[int, int], Pair]:
    """The pairs, without those that a better founded one of their class explains and now lists.

    What is confirmed by an experiment of its own stays a finding.

    Args:
        pairs: by the class's row and the concept's column.
        labels: int array of shape (n,), true classes of photos.
        view: how much each photo shows a concept's column, float array of shape (n,).
        q_level: of the grades.
    """
    order = sorted(
        pairs,
        key=lambda key: (-strength(pairs[key].grade(q_level)), -pairs[key].naming.value),
    )
    kept: dict[tuple[int, int], Pair] = {}
    for row, j in order:
        lesser = pairs[row, j]
        better = None
        if lesser.prevalent(q_level) and lesser.grade(q_level) != "confirmed":
            better = next(
                (
                    (same, k)
                    for (same, k), each in kept.items()
                    if same == row
                    and each.prevalent(q_level)
                    and _explains(view(k), view(j), labels, lesser.class_index)
                ),
                None,
            )
        if better is None:
            kept[row, j] = lesser
        else:
            names = (*kept[better].explains, lesser.concept)
            kept[better] = dataclasses.replace(kept[better], explains=names)
    return kept


def _explains(known: Floats, asked: Floats, labels: NDArray[np.int64], index: int) -> bool:
    """Whether a class's photos show a concept no more than their showing of another lets expect.

    Expected is what a regression within each of the other classes says, on whose photos the two
    have nothing to do with the class. Where they hardly go together there (correlation below
    `TOGETHER`), neither explains the other.
    """
    own = labels == index
    x, y = known.astype(np.float64), asked.astype(np.float64)
    within = ~own
    a, b = np.zeros(len(x)), np.zeros(len(x))
    for label in np.unique(labels[within]):
        members = labels == label
        a[members], b[members] = x[members] - x[members].mean(), y[members] - y[members].mean()
    both, spread = float(a[within] @ b[within]), float(a[within] @ a[within])
    together = both / max(float(np.sqrt(spread * (b[within] @ b[within]))), 1e-12)
    if together < TOGETHER:
        return False
    left = y - both / max(spread, 1e-12) * x
    told = separation(left[own], left[within])
    return told is None or told[0].value < PREVALENT
