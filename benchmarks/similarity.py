"""Path similarity of prototypes over many classes, layer by layer.

Per class c and layer, with rho the mean Spearman correlation of pooled channel vectors over pairs
of images, same-image pairs left out (Geirhos et al., arXiv 2306.04719, and docs/notes/method.md):

    normalised      rho(proto_c, nat_c) - rho(nat_c, nat_other)
    specific        rho(proto_c, nat_c) - rho(proto_c, nat_other)
    separation      rho(nat_c, nat_c') - rho(nat_c, nat_other)

Numerators and separations are summed over classes in each layer, then divided, then averaged over
layers: a class or two whose photos hardly differ from others would make a mean of ratios explode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.core.estimates import Estimate
from auditor.core.statistics import bootstrap_weights, interval, rank_rows

__all__ = ["Similarity", "ceiling_and_floor", "similarity"]

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]
REPLICATES = 999


@dataclass(frozen=True)
class Similarity:
    """Sums of each class and layer.

    Attributes:
        layers: names.
        classes: indices.
        normalised, specific, separation: float arrays of shape (classes, layers).
    """

    layers: tuple[str, ...]
    classes: tuple[int, ...]
    normalised: Floats
    specific: Floats
    separation: Floats

    def by_layer(self, kind: str) -> Floats:
        """The ratio in each layer, of shape (layers,); NaN where photos are not told apart."""
        return _ratios(getattr(self, kind).sum(0), self.separation.sum(0))

    def mean(self, kind: str, chosen: Callable[[str], bool] = lambda name: True) -> Estimate | None:
        """Mean over the chosen layers, with a bootstrap interval over classes."""
        inside = np.array([chosen(name) for name in self.layers])
        if not inside.any():
            return None
        n = len(self.classes)
        weights = np.concatenate(
            [np.ones((1, n)), bootstrap_weights(n, REPLICATES, np.random.default_rng(0))]
        )
        above = weights @ getattr(self, kind)[:, inside]
        ratios = np.ma.masked_invalid(_ratios(above, weights @ self.separation[:, inside]))
        curve = ratios.mean(axis=1).filled(np.nan)
        return interval(float(curve[0]), curve[1:], n) if np.isfinite(curve[0]) else None

    def pooled(self, kind: str) -> float:
        """The ratio of the sums over classes and layers: steady where some layers hardly separate.

        In a network with random weights most do not, and the mean of ratios says nothing.
        """
        return float(_ratios(getattr(self, kind).sum(), self.separation.sum()))


def similarity(
    made: Mapping[str, Floats],
    made_classes: Labels,
    photos: Mapping[str, Floats],
    photo_classes: Labels,
) -> Similarity:
    """Similarity of prototypes to photos, for every class that has both.

    Args:
        made: layer -> float array of shape (n_prototypes, channels).
        made_classes: int array of shape (n_prototypes,).
        photos: layer -> float array of shape (n_photos, channels).
        photo_classes: int array of shape (n_photos,); a class needs two photos.
    """
    classes = tuple(dict.fromkeys(c for c in made_classes.tolist() if c in set(photo_classes)))
    parts = np.full((3, len(classes), len(photos)), np.nan)
    for column, (name, values) in enumerate(photos.items()):
        natural = rank_rows(values).astype(np.float64)
        synthetic = rank_rows(made[name]).astype(np.float64)
        for row, c in enumerate(classes):
            own, others = natural[photo_classes == c], natural[photo_classes != c].mean(0)
            proto, n = synthetic[made_classes == c].mean(0), len(own)
            total = own.sum(0)
            same = (total @ total - (own**2).sum()) / (n * (n - 1))
            near, floor = proto @ total / n, total @ others / n
            parts[:, row, column] = near - floor, near - proto @ others, same - floor
    return Similarity(tuple(photos), classes, *parts)


def ceiling_and_floor(
    photos: Mapping[str, Floats], photo_classes: Labels
) -> tuple[Similarity, Similarity]:
    """What photos get in the prototypes' place: of the class itself, and of another class.

    One photo of each class stands in and is left out of the photos it is compared with; each photo
    in turn up to the number that every class has, and the sums are averaged. The normalised ceiling
    is 1 by construction where all photos have a turn; the specific one, and both floors, are not.
    """
    classes = np.unique(photo_classes)
    rows = [np.flatnonzero(photo_classes == c) for c in classes]
    found: list[tuple[Similarity, Similarity]] = []
    for turn in range(min(map(len, rows))):
        stand_in = np.array([own[turn] for own in rows])
        rest = np.setdiff1d(np.arange(len(photo_classes)), stand_in)
        others = {name: values[rest] for name, values in photos.items()}
        pair = []
        for shift in (0, 1 + turn % (len(classes) - 1)):
            made = {name: values[np.roll(stand_in, shift)] for name, values in photos.items()}
            pair.append(similarity(made, classes, others, photo_classes[rest]))
        found.append((pair[0], pair[1]))
    first, second = (
        Similarity(
            parts[0].layers, parts[0].classes,
            *(np.mean([getattr(part, kind) for part in parts], axis=0)
              for kind in ("normalised", "specific", "separation")),
        )
        for parts in zip(*found, strict=True)
    )  # fmt: skip
    return first, second


def _ratios(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 1e-9)
