"""Merging: a concept that another explains is listed by it, and one that stands alone is kept."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from auditor import merging
from auditor.findings import Association, Suspect
from auditor.record import Estimate

LEVEL = 0.05
LABELS = np.repeat([0, 1, 2], 60)
CONCEPTS = ("black border", "letterbox", "snow", "grass")


def estimate(value: float, spread: float = 0.05) -> Estimate:
    return Estimate(value=value, low=value - spread, high=value + spread, n=60)


def suspect(
    concept: str, *, score: float = 3.0, area: float | None = 0.95, corroborated: bool = False
) -> Suspect:
    told = Association(estimate(0.5), 0.001, 0.001)
    return Suspect(
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
    """Scores of 180 photos for four concepts: border and letterbox look alike, snow stands alone.

    Class 0 has borders and snow; a letterbox looks half like a border, grass is nowhere.
    """
    rng = np.random.default_rng(seed)
    own = LABELS == 0
    border = np.where(own, rng.random(180) < 0.9, rng.random(180) < 0.15).astype(float)
    snow = np.where(own, rng.random(180) < 0.9, rng.random(180) < 0.15).astype(float)
    shown = np.stack([border, 0.5 * border, snow, np.zeros(180)], axis=1)
    return np.asarray(shown + 0.04 * rng.normal(size=shown.shape))


def merged(*given: Suspect) -> dict[str, tuple[str, ...]]:
    columns = views()
    keyed = {(0, CONCEPTS.index(each.concept)): each for each in given}
    kept = merging.explained(keyed, LABELS, lambda j: columns[:, j], LEVEL)
    assert all(CONCEPTS[j] == each.concept for (_, j), each in kept.items())
    return {each.concept: each.alike for each in kept.values()}


def test_the_better_founded_of_two_lists_the_other() -> None:
    border, letterbox = suspect("black border", corroborated=True), suspect("letterbox", score=9)
    assert merged(letterbox, border) == {
        "black border": ("black border's like", "letterbox", "letterbox's like")
    }
    higher = suspect("letterbox", score=9, corroborated=True)
    assert list(merged(border, higher)) == ["letterbox"], "of two equals the higher score leads"


def test_what_is_explained_is_said() -> None:
    columns = views()
    keyed = {(0, 0): suspect("black border", corroborated=True), (0, 1): suspect("letterbox")}
    (kept,) = merging.explained(keyed, LABELS, lambda j: columns[:, j], LEVEL).values()
    assert kept.caveats == (
        "Photos of the class show no more of these than it explains: letterbox.",
    )
    assert merging.listed(["a", "b", "c", "d"]) == "a, b, c, d"
    assert merging.listed(["a", "b", "c", "d", "e", "f"]) == "a, b, c, d and 2 more"


def test_two_concepts_that_a_class_shows_independently_are_two_findings() -> None:
    found = merged(suspect("black border", corroborated=True), suspect("snow"))
    assert found == {"black border": ("black border's like",), "snow": ("snow's like",)}


def test_what_is_not_known_to_be_prevalent_neither_explains_nor_is_explained() -> None:
    border = suspect("black border", corroborated=True)
    for area in (None, 0.6):
        assert len(merged(border, suspect("letterbox", area=area))) == 2
        assert len(merged(dataclasses.replace(border, prevalence=None), suspect("letterbox"))) == 2


def test_a_suspect_of_another_class_explains_nothing() -> None:
    columns = views()
    keyed = {(0, 0): suspect("black border", corroborated=True), (1, 1): suspect("letterbox")}
    assert len(merging.explained(keyed, LABELS, lambda j: columns[:, j], LEVEL)) == 2


def test_groups_are_led_by_the_highest_score() -> None:
    likeness = np.eye(4)
    likeness[0, 1] = likeness[1, 0] = merging.ALIKE
    likeness[1, 2] = likeness[2, 1] = merging.ALIKE - 0.01
    found = merging.groups(np.array([0, 1, 2]), np.array([1.0, 3.0, 2.0, 9.0]), likeness)
    assert found == [(1, [0]), (2, [])]
