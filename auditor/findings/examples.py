"""Which photos stand beside a claim: those that are examples of it, the middle one of these.

A mean over photos can rise while the photo that is shown falls, or while its control rises more; a
reader then sees the opposite of what is claimed. So only photos count that go the way of the mean,
beyond their own control, and of these the one of median change is taken: no pick of the best. Where
the mean itself does not go beyond its control, nothing is an example.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Example", "contrast", "edit", "middle"]

Floats = NDArray[np.floating]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Example:
    """A photo's place, and how many of how many photos are examples too."""

    place: int
    alike: int
    of: int


def edit(plain: Floats, edited: Floats, control: Floats) -> Example | None:
    """The photo that shows what an edit does to a probability, against its control.

    Args:
        plain, edited, control: float arrays of shape (n,), the probability of the class on each
            photo, on the photo with the edit and on that with the control edit.

    Returns:
        An example of the mean change, up or down; `None` where there is none.
    """
    if not len(plain):
        return None
    change, null = edited - plain, control - plain
    way = np.sign(change.mean())
    if way * change.mean() <= max(0.0, way * null.mean()):
        return None
    good = np.flatnonzero(way * change > np.maximum(0, way * null))
    if not len(good):
        return None
    return Example(middle(good, change[good]), len(good), len(plain))


def contrast(
    values: Floats, shown: NDArray[np.bool_], strata: Places, most: int
) -> tuple[Places, int] | None:
    """Photos that show something and have more of a value than those of their class without it.

    Args:
        values: float array of shape (n,).
        shown: bool array of shape (n,), the photos that show it.
        strata: int array of shape (n,), the photos' classes.
        most: photos to take.

    Returns:
        Places of photos of one class that show it, from the median of all such on, and the photo of
        that class without it whose value is the median; `None` where no photo is an example.
    """
    without = {
        int(stratum): middle(places, values[places])
        for stratum in np.unique(strata)
        if len(places := np.flatnonzero((strata == stratum) & ~shown))
    }
    good = np.array(
        [
            place
            for place in np.flatnonzero(shown)
            if int(strata[place]) in without and values[place] > values[without[int(strata[place])]]
        ],
        np.int64,
    )
    if not len(good):
        return None
    first = middle(good, values[good])
    own = good[strata[good] == strata[first]]
    near = own[np.argsort(np.abs(values[own] - values[first]), kind="stable")]
    return near[:most], without[int(strata[first])]


def middle(places: Places, values: Floats) -> int:
    """The place whose value is the middle one."""
    return int(places[np.argsort(values, kind="stable")[len(values) // 2]])
