"""Photos that stand beside a claim are examples of it, and no pick of the best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from auditor.findings.examples import contrast, edit

CHANCES = st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=1, max_size=12)


def test_the_photo_goes_the_way_of_the_mean_and_beyond_its_control() -> None:
    # the median change of all photos, 0.1, is that of the one whose control moves it farther
    plain = np.zeros(5)
    edited = np.array([0.9, 0.8, 0.1, 0.0, -0.0])
    control = np.array([0.1, 0.0, 0.5, 0.0, 0.0])
    example = edit(plain, edited, control)
    assert example is not None
    assert example.place == 0
    assert (example.alike, example.of) == (2, 5)


def test_a_photo_that_falls_is_no_example_of_a_rise() -> None:
    plain = np.array([0.5, 0.5, 0.5, 0.1, 0.1])
    edited = np.array([0.4, 0.4, 0.4, 0.9, 0.8])  # three of five fall, the mean rises
    example = edit(plain, edited, plain)
    assert example is not None
    assert example.place in (3, 4)


def test_what_lowers_a_class_is_shown_lowering_it() -> None:
    plain, control = np.array([0.9, 0.9, 0.5]), np.array([0.85, 0.2, 0.5])
    example = edit(plain, np.array([0.1, 0.3, 0.55]), control)
    assert example is not None
    assert example.place == 0, "on the second photo its control lowers it more"


@pytest.mark.parametrize(
    ("edited", "control"),
    [
        ([0.5, 0.5], [0.5, 0.5]),  # nothing moves
        ([0.7, 0.6], [0.9, 0.5]),  # on the whole the control does more
        ([], []),
    ],
)
def test_without_an_effect_beyond_the_control_there_is_no_example(
    edited: list[float], control: list[float]
) -> None:
    assert edit(np.full(len(edited), 0.5), np.array(edited), np.array(control)) is None


@settings(deadline=None)
@given(CHANCES)
def test_an_example_never_contradicts_its_claim(rows: list[tuple[float, float, float]]) -> None:
    plain, edited, control = np.array(rows).T
    example = edit(plain, edited, control)
    assume(example is not None)
    assert example is not None
    way = np.sign((edited - plain).mean())
    change = (edited - plain)[example.place]
    assert way * change > 0
    assert way * change > way * (control - plain)[example.place]
    assert 1 <= example.alike <= example.of == len(plain)


def test_photos_with_a_concept_stand_beside_one_of_their_class_without_it() -> None:
    strata = np.array([1, 1, 1, 1, 2, 2, 2])
    shown = np.array([True, True, False, False, True, False, False])
    values = np.array([-3.0, 2.0, 0.0, 1.0, 9.0, 10.0, 11.0])
    found = contrast(values, shown, strata, 2)
    assert found is not None
    with_it, without = found
    # the first has less of it than its like without, and so has that of the second class
    assert with_it.tolist() == [1]
    assert without == 3
    assert contrast(-values, shown, strata, 2) is not None
    assert contrast(np.array([0, 0, 1, 1, 0, 1, 1.0]), shown, strata, 2) is None
    assert contrast(values, np.ones(7, bool), strata, 2) is None, "no class has both"
