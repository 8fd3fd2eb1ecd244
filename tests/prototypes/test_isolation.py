import numpy as np
import pytest
import torch
from tiny import stripes

from auditor.prototypes.isolation import isolate, shown


def as_bytes(*images):
    stacked = torch.stack(images).permute(0, 2, 3, 1)
    return (stacked * 255).round().to(torch.uint8).numpy()


def picture(top, left, side=24, size=96):
    """Grey, with a square of vertical stripes."""
    image = torch.full((3, size, size), 0.5)
    stripes = (torch.arange(side) // 2 % 2).float().expand(3, side, side)
    image[:, top : top + side, left : left + side] = stripes
    return image


PLACES = ((8, 8), (60, 40), (36, 36), (30, 41), (50, 50))


@pytest.mark.parametrize("gain", [1.0, 6.0])
def test_the_region_is_where_the_class_is(gain):
    model = stripes(96)
    model.net.get_parameter("head.weight").data *= gain
    found = isolate(model, as_bytes(*(picture(*place) for place in PLACES)), (1,) * len(PLACES))
    for mask, (top, left) in zip(found.masks, PLACES, strict=True):
        assert mask[top - 8 : top + 32, left - 8 : left + 32].sum() > 0.8 * mask.sum() > 0
        assert mask.mean() < 0.15
    assert (found.probabilities > 0.9).all()
    assert (found.controls < found.probabilities - 0.2).all()
    np.testing.assert_allclose(found.areas, found.masks.mean((1, 2)))


def test_evidence_that_is_everywhere_has_no_better_region_than_its_control():
    found = isolate(stripes(96), as_bytes(picture(0, 0, side=96)), (1,))
    assert found.areas[0] > 0
    assert found.probabilities[0] > 0.9
    assert abs(found.probabilities[0] - found.controls[0]) < 0.05


def test_what_is_outside_is_faded():
    image = np.full((4, 4, 3), (200, 10, 10), np.uint8)
    mask = np.zeros((4, 4), bool)
    mask[0] = True
    faded = shown(image, mask)
    assert (faded[0] == (200, 10, 10)).all()
    assert np.ptp(faded[3].astype(int), axis=1).max() == 0
