"""The photos behind a concept's direction, and which of them speak for a class."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.evidence import scoring
from auditor.evidence.scoring import Directions

__all__ = ["DrawnPairs", "ExamplePhotos", "PoolPhotos"]

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class PoolPhotos:
    """The photos that directions come from.

    Attributes:
        features: float array of shape (n, d), standardised.
        logits: float array of shape (n, C).
        level: float array of shape (n,), what is taken off each photo's logits: their mean over the
            model's classes. It is not taken off before, which would need as much memory again.
        rows: float array of shape (n, e), the probe's unit rows.
        shown: bool array of shape (n, m), the concepts that each photo shows.
        own: bool array of shape (n, C), photos that may show each audited class itself.
        labelled: whether that is known from labels.
    """

    features: Floats
    logits: Floats
    level: Floats
    rows: Floats
    shown: NDArray[np.bool_]
    own: NDArray[np.bool_]
    labelled: bool

    def kept(self, row: int | None) -> NDArray[np.bool_]:
        """The photos that speak for a class's row, of shape (n,); without a row, all."""
        return np.ones(len(self.rows), bool) if row is None else scoring.kept(self.own[:, row])

    def directions(
        self, row: int | None, texts: Floats, counts: NDArray[np.int64], textual: Floats
    ) -> Directions:
        """Named directions, from the photos that speak for a class."""
        return scoring.named(
            self.features, self.logits, self.level, self.rows, texts, counts, textual,
            self.kept(row),
        )  # fmt: skip

    def mean_logits(self, row: int | None) -> Floats:
        """Mean of the centred logits of the photos that speak for a class, of shape (C,)."""
        kept = self.kept(row)
        total = self._total - self.logits[~kept].sum(0)  # few do not speak for it
        return np.asarray(total / kept.sum() - self.level[kept].mean())

    @functools.cached_property
    def _total(self) -> Floats:
        return np.asarray(self.logits.sum(0, dtype=np.float64))


@dataclass(frozen=True)
class DrawnPairs:
    """A drawn concept: the change of k photos by it.

    Attributes:
        members: float array of shape (k, d), of standardised features.
        shift: float array of shape (C,), of the classes' log-odds.
    """

    members: Floats
    shift: Floats

    def relative(self, pool: PoolPhotos, row: int | None, least: int) -> tuple[Floats, Floats]:
        """Members and shift, which are the same for all classes."""
        return self.members, self.shift


@dataclass(frozen=True)
class ExamplePhotos:
    """A concept that k photos of the user's show.

    Attributes:
        features, own: of these photos, as in `PoolPhotos`.
        logits: float array of shape (k, C), centred over the model's classes.
    """

    features: Floats
    logits: Floats
    own: NDArray[np.bool_]

    def relative(self, pool: PoolPhotos, row: int | None, least: int) -> tuple[Floats, Floats]:
        """Members and shift against the pool, both without photos that may show the class."""
        kept = pool.kept(row)
        stay = np.ones(len(self.own), bool) if row is None else ~self.own[:, row]
        stay = stay if stay.sum() >= least else np.ones_like(stay)
        return (
            self.features[stay] - pool.features[kept].mean(0),
            self.logits[stay].mean(0) - pool.mean_logits(row),
        )
