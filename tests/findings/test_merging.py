"""Merging: a concept that another explains is listed by it, and one that stands alone is kept."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from auditor.core.estimates import Estimate
from auditor.evidence.insertion import Effect
from auditor.findings import merging
from auditor.findings.deriving import derive
from auditor.findings.grading import Association, Pair
from auditor.record.notes import Caveat

LEVEL = 0.05
LABELS = np.repeat([0, 1, 2], 60)
CONCEPTS = ("black border", "letterbox", "snow", "grass")


def estimate(value: float, spread: float = 0.05) -> Estimate:
    return Estimate(value=value, low=value - spread, high=value + spread, n=60)


def suspect(
    concept: str, *, score: float = 3.0, area: float | None = 0.95, corroborated: bool = False
) -> Pair:
    told = Association(estimate(0.5), 0.001, 0.001)
    return Pair(
        class_index=0,
        class_name="wolf",
        concept=concept,
        category="frame",
        naming=estimate(score),
        null=estimate(0.0),
        p=0.001,
        q=0.01,
        association=Association(estimate(2.0), 0.001, 0.001) if corroborated else None,
        effect=None,
        effect_q=None,
        caveats=(),
        alike=(f"{concept}'s like",),
        prevalence=None if area is None else dataclasses.replace(told, estimate=estimate(area)),
    )


def views(seed: int = 0) -> NDArray[np.float64]:
    """Scores of photos for four concepts: border and letterbox look alike, snow stands alone.

    Class 0 has borders and snow; a letterbox looks half like a border, grass is nowhere.
    """
    rng = np.random.default_rng(seed)
    own = LABELS == 0
    border = np.where(own, rng.random(180) < 0.9, rng.random(180) < 0.15).astype(float)
    snow = np.where(own, rng.random(180) < 0.9, rng.random(180) < 0.15).astype(float)
    shown = np.stack([border, 0.5 * border, snow, np.zeros(180)], axis=1)
    return np.asarray(shown + 0.04 * rng.normal(size=shown.shape))


def merged(*given: Pair, columns: NDArray[np.float64] | None = None) -> dict[str, Any]:
    shown = views() if columns is None else columns
    keyed = {(0, CONCEPTS.index(each.concept)): each for each in given}
    kept = merging.explained(keyed, LABELS, lambda j: shown[:, j], LEVEL)
    assert all(CONCEPTS[j] == each.concept for (_, j), each in kept.items())
    return {each.concept: each.explains for each in kept.values()}


def test_the_better_founded_of_two_lists_the_other() -> None:
    border, letterbox = suspect("black border", corroborated=True), suspect("letterbox", score=9)
    assert merged(letterbox, border) == {"black border": ("letterbox",)}
    higher = suspect("letterbox", score=9, corroborated=True)
    assert merged(border, higher) == {"letterbox": ("black border",)}, "the higher score leads"


def test_what_is_explained_is_a_caveat_and_a_field_of_the_finding() -> None:
    columns = views()
    keyed = {(0, 0): suspect("black border", corroborated=True), (0, 1): suspect("letterbox")}
    kept = merging.explained(keyed, LABELS, lambda j: columns[:, j], LEVEL)
    (finding,) = derive(tuple(kept.values()), q_level=LEVEL)
    assert finding.explains == ("letterbox",)
    assert finding.alike == ("black border's like",)
    assert Caveat(code="explains", params={"concepts": ("letterbox",)}) in finding.caveats


def test_what_an_experiment_confirms_stays_a_finding() -> None:
    effect = Effect(estimate(0.3), estimate(0.0), 2.0, 3.0, 1e-6, estimate(0.3))
    border = dataclasses.replace(suspect("black border", score=9), effect=effect, effect_q=1e-6)
    letterbox = dataclasses.replace(suspect("letterbox"), effect=effect, effect_q=1e-6)
    assert border.grade(LEVEL) == letterbox.grade(LEVEL) == "confirmed"
    assert set(merged(border, letterbox)) == {"black border", "letterbox"}


def test_two_concepts_that_a_class_shows_independently_are_two_findings() -> None:
    found = merged(suspect("black border", corroborated=True), suspect("snow"))
    assert found == {"black border": (), "snow": ()}


@pytest.mark.parametrize(("correlation", "shift"), [(0.2, 1.2), (0.3, 1.5), (0.3, 2.0)])
def test_a_loose_correlation_explains_no_shortcut_away(correlation: float, shift: float) -> None:
    rng = np.random.default_rng(0)
    mixed = np.array([[1, correlation], [correlation, 1]])
    scores = rng.multivariate_normal([0, 0], mixed, 180)
    scores[LABELS == 0] += [3.0, shift]
    columns = np.column_stack([scores, np.zeros((180, 2))])
    found = merged(
        suspect("black border", corroborated=True), suspect("letterbox"), columns=columns
    )
    assert set(found) == {"black border", "letterbox"}


def test_classes_that_share_two_shortcuts_make_no_slope() -> None:
    rng = np.random.default_rng(0)
    shows = rng.random((180, 2)) < np.where(LABELS < 2, 0.9, 0.1)[:, None]  # in classes 0 and 1
    columns = np.column_stack([shows + 0.1 * rng.normal(size=(180, 2)), np.zeros((180, 2))])
    found = merged(
        suspect("black border", corroborated=True), suspect("letterbox"), columns=columns
    )
    assert set(found) == {"black border", "letterbox"}


def test_what_is_not_known_to_be_prevalent_neither_explains_nor_is_explained() -> None:
    border = suspect("black border", corroborated=True)
    for area in (None, 0.6):
        assert len(merged(border, suspect("letterbox", area=area))) == 2
        assert len(merged(dataclasses.replace(border, prevalence=None), suspect("letterbox"))) == 2


def test_a_suspect_of_another_class_explains_nothing() -> None:
    columns = views()
    other = dataclasses.replace(suspect("letterbox"), class_index=1)
    keyed = {(0, 0): suspect("black border", corroborated=True), (1, 1): other}
    assert len(merging.explained(keyed, LABELS, lambda j: columns[:, j], LEVEL)) == 2


def test_groups_are_led_by_the_highest_score() -> None:
    likeness = np.eye(4)
    likeness[0, 1] = likeness[1, 0] = merging.ALIKE
    likeness[1, 2] = likeness[2, 1] = merging.ALIKE - 0.01
    found = merging.groups(np.array([0, 1, 2]), np.array([1.0, 3.0, 2.0, 9.0]), likeness)
    assert found == [(1, [0]), (2, [])]
