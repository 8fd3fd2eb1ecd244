"""Transplanted surroundings: what stays, what changes, and the test of all pairs at once."""

import io
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from tiny import classifier
from torch import nn

from auditor.core.statistics import stratified_difference
from auditor.core.storage import digest_bytes
from auditor.evidence import surroundings
from auditor.evidence.surroundings import Surroundings
from auditor.images.image_set import ImageSet

SIZE = 32


class Edge(nn.Module):
    """Class 1 rises with the brightness of the outermost rows, class 0 with that of the middle."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(4.0))

    def forward(self, x):
        edge, middle = x[:, :, [0, -1]].mean((1, 2, 3)), x[:, :, 14:18, 14:18].mean((1, 2, 3))
        return self.gain * torch.stack([middle, edge, torch.zeros_like(edge)], 1)


def photos(values):
    """Plain grey photos of the given brightness."""
    data = []
    for value in values:
        file = io.BytesIO()
        Image.new("RGB", (SIZE, SIZE), (value,) * 3).save(file, "PNG")
        data.append(file.getvalue())
    names = tuple(map(str, range(len(data))))
    return ImageSet(names, None, tuple(map(digest_bytes, data)), (), data.__getitem__)


def test_the_middle_stays_and_the_surroundings_change():
    model = classifier(Edge(), SIZE, 3)
    middles = torch.stack([torch.full((3, SIZE, SIZE), value) for value in (0.2, 0.8)])
    labels = np.array([0, 2])
    found = surroundings.transplant(
        model, middles, labels, photos([0, 255, 255, 0, 128]), (1, 0, 2), batch=4
    ).log_odds
    assert found.shape == (5, 3)
    np.testing.assert_allclose(found[0], found[3])
    np.testing.assert_allclose(found[1], found[2])
    assert found[1, 0] > found[4, 0] > found[0, 0] + 1, "the edge's class follows the donor"
    # class 0 is measured on the middle of class 2 alone: bright, on a dark or light surrounding
    logits = 4 * torch.tensor([[2 * 0.8 - 1, -1.0, 0.0]]).double()
    expected = torch.logit(logits.softmax(1)[0, 0])
    assert found[0, 1] == pytest.approx(float(expected), abs=0.02)


def test_all_pairs_at_once_are_the_test_of_one_pair():
    rng = np.random.default_rng(0)
    n, classes = 120, (4, 1)
    labels = rng.integers(0, 5, n)
    odds = rng.normal(size=(n, 2)) + labels[:, None]
    shown = rng.random((n, 6)) < np.array([0.01, 0.2, 0.4, 0.6, 0.9, 1.0])
    shown[:, 2] |= odds[:, 0] > 4.5
    for known in (labels, None):
        own = np.zeros((n, 2), bool) if known is None else labels[:, None] == np.array(classes)
        p = surroundings.p_values(Surroundings(odds), shown, own, known, min_photos=5)
        assert p.shape == (2, 6)
        for row in range(2):
            strata = np.zeros(n, int) if known is None else labels
            inside = ~own[:, row]
            for j in range(6):
                slow = stratified_difference(odds[inside, row], shown[inside, j], strata[inside])
                if slow is None or slow[0].n < 5:
                    assert np.isnan(p[row, j])
                else:
                    assert p[row, j] == pytest.approx(slow[1], rel=1e-6)


def test_surroundings_that_do_nothing_have_uniform_p():
    rng = np.random.default_rng(1)
    p = []
    for _ in range(40):
        odds = rng.normal(size=(200, 3))
        shown = rng.random((200, 5)) < 0.1
        own = rng.random((200, 3)) < 0.1
        p.append(surroundings.p_values(Surroundings(odds), shown, own, None, min_photos=5))
    assert stats.kstest(np.ravel(p), "uniform").pvalue > 0.01


def test_middles_are_of_as_many_classes_as_there_are():
    rng = np.random.default_rng(0)
    many = surroundings.choose_recipients(np.repeat(np.arange(20), 9), rng)
    assert len(many) == len(set(many // 9)) == surroundings.RECIPIENTS
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    few = Counter(labels[surroundings.choose_recipients(labels, rng)])
    assert set(few) == {0, 1, 2}
    assert sum(few.values()) == surroundings.RECIPIENTS
    assert list(surroundings.choose_recipients(np.array([3]), rng)) == [0]
