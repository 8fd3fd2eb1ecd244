"""The columns of the files beside the record: every score, and the photos behind each test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from auditor.findings.deriving import finding_id
from auditor.findings.grading import Pair
from auditor.pipeline.experimenting import Edits
from auditor.pipeline.inputs import Inputs
from auditor.pipeline.scoring import Scores
from auditor.pipeline.testing import Tested
from auditor.record import tables
from auditor.record.codes import TestName

__all__ = ["ordered", "score_columns", "test_columns"]

Row = tuple[str, str, str, str, str, float, float]  # of `auditor.record.tables.TESTS`
Listed = tuple[str, str, str, float, float]  # without the finding and the test
Places = NDArray[np.int64]

DIGITS = 6  # of saved numbers
NOTHING = float("nan")


def ordered(scores: Scores, row: int) -> NDArray[np.int64]:
    """Columns of the concepts of a class's row, best first, then those that were not scored."""
    own = np.nan_to_num(scores.naming.score[row], nan=-np.inf)
    return np.asarray(np.argsort(-own, kind="stable"))


def score_columns(inputs: Inputs, scores: Scores) -> Mapping[str, Sequence[Any] | NDArray[Any]]:
    """Every class and concept, best first in each class."""
    naming, listed = scores.naming, inputs.bank.concepts
    orders = [ordered(scores, row) for row in range(len(inputs.classes))]
    n = len(listed)

    def taken(values: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([values[row][order] for row, order in enumerate(orders)])

    score = taken(naming.score)
    ranks = np.tile(np.arange(1, n + 1, dtype=np.float64), len(orders))
    ranks[~np.isfinite(score)] = NOTHING
    numbers = {"score": naming.score, "p": naming.p, "q": naming.q, "p_model": naming.p_model}
    numbers |= naming.channels
    return {
        "class_index": np.repeat(np.array(inputs.classes), n),
        "concept": [listed[j].name for order in orders for j in order],
        "category": [listed[j].category for order in orders for j in order],
        "core": taken(scores.is_core),
        "rank": ranks,
        **{name: np.round(taken(values), DIGITS) for name, values in numbers.items()},
    }


def test_columns(inputs: Inputs, edits: Edits, tested: Tested) -> Mapping[str, list[Any]]:
    """Every photo behind a test of a finding, in the order of the findings' pairs."""
    rows = [row for pair in tested.pairs for row in _of_pair(inputs, edits, tested, pair)]
    return {name: [row[i] for row in rows] for i, name in enumerate(tables.TESTS)}


def _of_pair(inputs: Inputs, edits: Edits, tested: Tested, pair: Pair) -> Iterator[Row]:
    """The photos of each test that a pair was put to."""
    found = finding_id(pair.class_index, pair.class_name, pair.concept)
    told: tuple[tuple[TestName, object, Iterator[Listed]], ...] = (
        ("association", pair.association, _associated(inputs, tested, pair)),
        ("surroundings", pair.surroundings, _surrounded(inputs, edits, tested, pair)),
        ("prevalence", pair.prevalence, _prevalent(inputs, tested, pair)),
        ("insertion", pair.effect, _inserted(inputs, edits, pair)),
    )
    for test, was_made, photos in told:
        if was_made is not None:
            for photo, source, role, before, after in photos:
                yield found, test, photo, source, role, _rounded(before), _rounded(after)


def _associated(inputs: Inputs, tested: Tested, pair: Pair) -> Iterator[Listed]:
    photos = tested.seen.photos
    chances = special.expit(photos.log_odds(pair.row))
    others = photos.labels != pair.class_index
    for place, shown in _compared(photos.labels, photos.shown[:, pair.column], others):
        yield inputs.images.ids[place], "images", _with(shown), float(chances[place]), NOTHING


def _surrounded(inputs: Inputs, edits: Edits, tested: Tested, pair: Pair) -> Iterator[Listed]:
    donors, transplanted = tested.seen.donors, edits.transplanted
    strata = np.zeros(len(donors.shown), np.int64) if donors.labels is None else donors.labels
    inside = ~donors.own[:, pair.row]
    for place, shown in _compared(strata, donors.shown[:, pair.column], inside):
        photo = inputs.pool.ids[int(transplanted.donors[place])]
        yield photo, "pool", _with(shown), NOTHING, NOTHING
    chances = special.expit(tested.seen.photos.log_odds(pair.row))
    for place in transplanted.middles:
        if inputs.labels[place] != pair.class_index:
            yield inputs.images.ids[place], "images", "middle", float(chances[place]), NOTHING


def _prevalent(inputs: Inputs, tested: Tested, pair: Pair) -> Iterator[Listed]:
    photos = tested.seen.photos
    chances = special.expit(photos.log_odds(pair.row))
    for place in np.flatnonzero(photos.labels == pair.class_index):
        yield inputs.images.ids[place], "images", "own", float(chances[place]), NOTHING


def _inserted(inputs: Inputs, edits: Edits, pair: Pair) -> Iterator[Listed]:
    drawing, drawn = inputs.bank.concepts[pair.column].drawing, edits.drawn
    assert drawing is not None
    logs = drawn.insertions[drawing].log_probabilities[:, :, pair.class_index].astype(np.float64)
    for place in np.flatnonzero(drawn.labels != pair.class_index):
        plain, edited, control = (float(p) for p in np.exp(logs[:, place]))
        yield drawn.photos.ids[place], "pool", "drawn", plain, edited
        yield drawn.photos.ids[place], "pool", "control", plain, control


def _compared(
    strata: Places, shown: NDArray[np.bool_], inside: NDArray[np.bool_]
) -> Iterator[tuple[int, bool]]:
    """Photos of the strata that hold some with a concept and some without, as the test takes."""
    for stratum in np.unique(strata[inside]):
        members = np.flatnonzero(inside & (strata == stratum))
        if shown[members].any() and not shown[members].all():
            for place in members:
                yield int(place), bool(shown[place])


def _with(shown: bool) -> str:
    return "with" if shown else "without"


def _rounded(value: float) -> float:
    return round(value, DIGITS)
