"""Directions of many concepts as every class sees them, without making each direction.

A named concept's direction, for a class, is the mean of the photos that show the concept most less
the mean of the rest, both without the photos that may show the class (`auditor.evidence.scoring`).
For 1,000 classes and 10,000 random concepts these are ten million vectors, and most differ from one
another by a few photos. So photos are added up once for all classes, and the sums are corrected for
the photos that a class leaves out. What is wanted of a direction v is v.x / |v| for two vectors x
of each class, which follow from these sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import sparse

from auditor.evidence.members import PoolPhotos

__all__ = ["Projected", "project"]

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

BLOCK = 1000  # concepts at once, to save memory


@dataclass(frozen=True)
class Projected:
    """Directions of m concepts as C classes see them; NaN where a concept has no direction.

    Attributes:
        prototypes: float array of shape (C, m), the unit direction by the class's prototypes.
        weights: likewise, by the class's weights.
        shift: likewise, by how much the concept changes the class's centred logit.
    """

    prototypes: Floats
    weights: Floats
    shift: Floats


def project(
    pool: PoolPhotos,
    texts: Floats,
    counts_for: Callable[[int | None], Ints],
    prototypes: Floats,
    weights: Floats,
) -> Projected:
    """What `PoolPhotos.directions` leads to, for all classes at once.

    Args:
        pool: n photos.
        texts: float array of shape (m, e), the probe's unit vectors of the texts.
        counts_for: takes the row of a class, and gives an int array of shape (m,): how many photos
            make each direction for this class. For `None` it gives how many do where all photos
            take part; no class may have more.
        prototypes, weights: float arrays of shape (C, d).
    """
    counts, n = counts_for(None), len(pool.rows)
    out = [np.flatnonzero(~pool.kept(row)) for row in range(len(prototypes))]
    gone = np.stack([pool.features[rows].sum(0) for rows in out])
    whole = pool.features.sum(0)
    sums = _Sums(pool.features, pool.logits, pool.level, prototypes, weights, gone, whole)
    reach = min(n, int(counts.max(initial=0)) + max(map(len, out)))
    found = np.empty((3, len(out), len(texts)), pool.features.dtype)
    for start in range(0, len(texts), BLOCK):
        here = slice(start, start + BLOCK)
        block = _Block.of(sums, texts[here] @ pool.rows.T, counts[here], reach)
        for row, left_out in enumerate(out):
            found[:, row, here] = block.seen_by(row, left_out, counts_for(row)[here])
    return Projected(*found)


@dataclass(frozen=True)
class _Sums:
    """The photos, and what directions are projected on.

    Attributes:
        features, logits, level: as in `PoolPhotos`.
        prototypes, weights: float arrays of shape (C, d).
        gone: float array of shape (C, d), the sums of the features that each class leaves out.
        whole: float array of shape (d,), the sum of the features of all photos.
    """

    features: Floats
    logits: Floats
    level: Floats
    prototypes: Floats
    weights: Floats
    gone: Floats
    whole: Floats

    def wanted(self, row: int) -> Floats:
        """The vectors that a class's directions are projected on, of shape (4, d)."""
        return np.stack([self.prototypes[row], self.weights[row], self.gone[row], self.whole])


@dataclass(frozen=True)
class _Block:
    """Some concepts, with sums over the photos that show each most, where all take part.

    Attributes:
        ranked: int array of shape (b, reach), positions of photos, those that show it most first.
        counts: int array of shape (b,), how many of them were added up.
        taken: float array of shape (b, d), the sums of features.
        shift: float array of shape (b, C), the sums of centred logits.
        along: float array of shape (4, C, b), `taken` by each class's `_Sums.wanted`.
        squares: float array of shape (b,), the squared norms of `taken`.
    """

    sums: _Sums
    ranked: Ints
    counts: Ints
    taken: Floats
    shift: Floats
    along: Floats
    squares: Floats

    @staticmethod
    def of(sums: _Sums, scores: Floats, counts: Ints, reach: int) -> _Block:
        """Add up the photos with the highest of `scores`, of shape (b, n)."""
        n = scores.shape[1]
        best = np.argpartition(scores, n - reach, axis=1)[:, n - reach :]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
        ranked = np.take_along_axis(best, order, 1)
        added = _members(ranked, np.arange(reach) < counts[:, None], n, sums.features.dtype)
        taken = added @ sums.features
        each = [vectors @ taken.T for vectors in (sums.prototypes, sums.weights, sums.gone)]
        along = np.stack([*each, np.broadcast_to(taken @ sums.whole, each[0].shape)])
        shift = added @ sums.logits - (added @ sums.level)[:, None]
        return _Block(sums, ranked, counts, taken, shift, along, np.square(taken).sum(1))

    def seen_by(self, row: int, out: Ints, counts: Ints) -> Floats:
        """The three parts of `Projected` for the class of a row, float array of shape (3, b)."""
        sums, n = self.sums, len(self.sums.features)
        counts = np.minimum(counts, n - len(out) - 1)
        centred = sums.logits[:, row] - sums.level
        absent = np.zeros(n, bool)
        absent[out] = True
        most = int(self.counts.max(initial=0))
        lost = absent[self.ranked[:, :most]] & (np.arange(most) < self.counts[:, None])
        changed = lost.any(1) | (counts != self.counts)
        along, shift, squares = self.along[:, row].copy(), self.shift[:, row], self.squares.copy()
        wanted = sums.wanted(row)
        if changed.any():
            ranked = self.ranked[changed]
            present = ~absent[ranked]
            chosen = present & (np.cumsum(present, 1) <= counts[changed, None])
            before = np.arange(ranked.shape[1]) < self.counts[changed, None]
            moved = _members(ranked, chosen.astype(np.int8) - before, n, sums.features.dtype)
            taken = self.taken[changed] + moved @ sums.features
            along[:, changed] = wanted @ taken.T
            squares[changed] = np.square(taken).sum(1)
            shift = shift.copy()
            shift[changed] += moved @ centred
        # v = inside * taken - outside * rest: the mean of those taken less the mean of the rest
        with np.errstate(divide="ignore", invalid="ignore"):
            outside = 1 / (n - len(out) - counts)
            inside = 1 / counts + outside
            rest = wanted[3] - wanted[2]
            norm = np.sqrt(np.maximum(
                inside**2 * squares - 2 * inside * outside * (along[3] - along[2])
                + outside**2 * (rest @ rest), 0,
            ))  # fmt: skip
            by = (inside * along[:2] - outside * (wanted[:2] @ rest)[:, None]) / norm
            logits = centred.sum() - centred[out].sum()
            found = np.stack([*by, inside * shift - outside * logits])
        return np.where((counts > 0) & (norm > 0), found, np.nan)


def _members(ranked: Ints, values: NDArray[Any], n: int, dtype: DTypeLike) -> sparse.csr_array:
    """A matrix of shape (b, n) that adds up photos, with `values` where `ranked` names them."""
    rows, places = np.nonzero(values)
    entries = values[rows, places].astype(dtype)
    return sparse.csr_array((entries, (rows, ranked[rows, places])), shape=(len(ranked), n))
