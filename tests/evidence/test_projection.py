"""Directions as every class sees them are those that are made one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from auditor.evidence import projection
from auditor.evidence.members import PoolPhotos
from auditor.evidence.projection import project

D, E, M = 12, 8, 40


def pool(n: int, classes: int, *, labelled: bool, dtype: Any = np.float64) -> PoolPhotos:
    """Random photos; each class may be shown by those of its label, or by some at random."""
    rng = np.random.default_rng(n)
    own = np.arange(n)[:, None] % classes == np.arange(classes)
    own = own if labelled else rng.random((n, classes)) < 0.05
    return PoolPhotos(
        features=rng.normal(size=(n, D)).astype(dtype),
        logits=rng.normal(size=(n, classes)).astype(dtype),
        level=rng.normal(size=n).astype(dtype),
        rows=rng.normal(size=(n, E)).astype(dtype),
        shown=np.zeros((n, M), bool),
        own=own,
        labelled=labelled,
    )


def compare(
    photos: PoolPhotos, counts_for: Callable[[int | None], NDArray[np.int64]], *, atol: float = 1e-9
) -> None:
    rng = np.random.default_rng(0)
    texts, n_classes = rng.normal(size=(M, E)), photos.logits.shape[1]
    prototypes, weights = rng.normal(size=(2, n_classes, D))
    found = project(photos, texts, counts_for, prototypes, weights)
    for row in range(n_classes):
        made = photos.directions(row, texts, counts_for(row), np.zeros((M, D)))
        np.testing.assert_allclose(found.prototypes[row], made.vectors @ prototypes[row], atol=atol)
        np.testing.assert_allclose(found.weights[row], made.vectors @ weights[row], atol=atol)
        np.testing.assert_allclose(found.shift[row], made.shift[:, row], atol=atol)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(("n", "most"), [(300, 12), (60, 30), (9, 8), (3, 2), (2, 1)])
def test_projections_are_those_of_the_directions(n: int, most: int, labelled: bool) -> None:
    counts = np.random.default_rng(1).integers(0, most + 1, M)
    compare(pool(n, 3, labelled=labelled), lambda row: counts)


def test_a_class_may_have_fewer_photos_of_a_concept() -> None:
    counts = np.random.default_rng(1).integers(0, 10, M)
    compare(pool(200, 4, labelled=True), lambda row: counts if row is None else counts // (1 + row))


def test_single_precision_is_enough() -> None:
    counts = np.random.default_rng(1).integers(1, 12, M)
    compare(pool(300, 5, labelled=True, dtype=np.float32), lambda row: counts, atol=1e-5)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "BLOCK", 7)
    counts = np.random.default_rng(1).integers(0, 12, M)
    compare(pool(300, 3, labelled=False), lambda row: counts)


def test_mean_logits_leave_out_what_may_show_the_class() -> None:
    photos = pool(60, 4, labelled=True)
    centred = photos.logits - photos.level[:, None]
    for row in range(4):
        kept = photos.kept(row)
        assert 0 < kept.sum() < 60
        np.testing.assert_allclose(photos.mean_logits(row), centred[kept].mean(0))
    np.testing.assert_allclose(photos.mean_logits(None), centred.mean(0))
