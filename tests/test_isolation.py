import numpy as np
import torch
from tiny import stripes

from auditor.isolation import isolate, shown


def picture(top, left, side=24, size=96):
    """Grey, with a square of vertical stripes."""
    image = torch.full((3, size, size), 0.5)
    stripes = (torch.arange(side) // 2 % 2).float().expand(3, side, side)
    image[:, top : top + side, left : left + side] = stripes
    return image


def test_the_region_is_where_the_class_is():
    model = stripes(96)
    images = torch.stack([picture(8, 8), picture(60, 40)])
    found = isolate(model, images, (1, 1), batch=1)
    for mask, (top, left) in zip(found.masks, [(8, 8), (60, 40)], strict=True):
        assert mask[top - 6 : top + 30, left - 6 : left + 30].sum() > 0.9 * mask.sum() > 0
        assert mask.mean() < 0.1
    assert (found.probabilities > 0.8).all()
    assert (found.controls < found.probabilities - 0.2).all()
    np.testing.assert_allclose(found.areas, found.masks.mean((1, 2)))


def test_evidence_that_is_everywhere_has_no_better_region_than_its_mirror_images():
    model = stripes(96)
    image = picture(0, 0, side=96)
    found = isolate(model, image[None], (1,), batch=1)
    assert abs(found.probabilities[0] - found.controls[0]) < 0.05


def test_what_is_outside_is_faded():
    image = np.full((4, 4, 3), (200, 10, 10), np.uint8)
    mask = np.zeros((4, 4), bool)
    mask[0] = True
    faded = shown(image, mask)
    assert (faded[0] == (200, 10, 10)).all()
    assert np.ptp(faded[3].astype(int), axis=1).max() == 0
