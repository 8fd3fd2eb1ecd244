"""Divergence of prototypes from natural photos along the activation path.

Normalised path similarity after Geirhos et al., "Don't trust your eyes" (arXiv 2306.04719), per
layer l, with rho the mean Spearman correlation of pooled channel vectors over pairs of images,
same-image pairs left out:

    S(l) = (rho(proto_c, nat_c) - rho(nat_c, nat_other)) / D(l)
    C(l) = (rho(proto_c, nat_c) - rho(proto_c, nat_other)) / D(l)
    D(l) = rho(nat_c, nat_c') - rho(nat_c, nat_other)

C is class-specific: matching statistics of generic photos cannot raise it. A class's similarity is
the ratio of the sums of numerators and denominators over layers, so that each layer counts by how
much it tells the class from others; where a layer hardly does, S alone explodes. Divergence is one
minus that. Layers whose statistics the optimisation held to photos are listed and do not count:
resemblance that was asked for is no evidence. Divergence says how far prototypes can be trusted as
evidence; that it predicts harm is not known, so the report sets the two side by side.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from auditor.core.statistics import bootstrap_weights, interval, rank_rows
from auditor.record.schema import Divergence, Estimate, LayerDivergence

__all__ = ["compare"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class _Path:
    """Numerators and denominator of one class in one layer: point values and replicates."""

    normalised: Doubles  # (1 + replicates,)
    specific: Doubles
    separation: Doubles


def compare(
    prototypes: Mapping[str, Floats],
    prototype_classes: NDArray[np.int64],
    photos: Mapping[str, Floats],
    photo_classes: NDArray[np.int64],
    classes: tuple[int, ...],
    *,
    used: Collection[str] = (),
    min_photos: int,
    replicates: int,
    seed: int,
) -> dict[int, Divergence]:
    """Divergence of each class, with intervals over photos and prototypes, and rank intervals.

    Args:
        prototypes: layer -> float array of shape (n_prototypes, channels).
        prototype_classes: int array of shape (n_prototypes,).
        photos: layer -> float array of shape (n_photos, channels).
        photo_classes: int array of shape (n_photos,).
        classes: the audited classes.
        used: layers that the optimisation held to photos; they are listed and do not count.
        min_photos: with fewer photos a class is not tested.
        replicates: bootstrap replicates.
        seed: of the bootstrap.

    >>> rows = np.array([[1, 2, 3], [1, 2, 3], [3, 2, 1], [3, 2, 1]], np.float32)
    >>> labels, path = np.array([0, 0, 1, 1]), {"conv": rows}  # photos that are their own prototypes
    >>> compared = compare(path, labels, path, labels, (0, 1), min_photos=2, replicates=9, seed=0)
    >>> compared[0].score.value
    0.0
    """
    counted = [name for name in photos if name not in used]
    counts = {c: int((photo_classes == c).sum()) for c in classes}
    n_others = len(photo_classes)
    reasons: dict[int, str] = {}
    for c in classes:
        if counts[c] < min_photos:
            reasons[c] = f"not tested: {counts[c]} photos, at least {min_photos} are needed"
        elif n_others - counts[c] < min_photos:
            reasons[c] = f"not tested: {n_others - counts[c]} photos of other classes"
        elif not (prototype_classes == c).any():
            reasons[c] = "not tested: no prototype"
        elif not counted:
            reasons[c] = "not tested: prototypes were held to photos in every layer"
    tested = [c for c in classes if c not in reasons]
    rng = np.random.default_rng((seed, 0xD1F))
    draws = {
        c: (
            bootstrap_weights(counts[c], replicates, rng),
            bootstrap_weights(int((prototype_classes == c).sum()), replicates, rng),
        )
        for c in tested
    }
    sums = {c: _Path(*(np.zeros(1 + replicates) for _ in range(3))) for c in tested}
    layers: dict[int, list[LayerDivergence]] = {c: [] for c in tested}
    for name, values in photos.items() if tested else ():
        natural, synthetic = rank_rows(values), rank_rows(prototypes[name])
        whole = natural.sum(0, dtype=np.float64)
        scale = float(np.abs(values).mean()) or 1.0
        for c in tested:
            own, proto = natural[photo_classes == c], synthetic[prototype_classes == c]
            others = (whole - own.sum(0)) / (len(natural) - len(own))
            path = _path(own, proto, others, draws[c])
            for total, part in zip(_parts(sums[c]), _parts(path), strict=True):
                total += part * (name in counted)
            layers[c].append(
                _layer(
                    name,
                    name in used,
                    path,
                    values[photo_classes == c],
                    prototypes[name][prototype_classes == c],
                    scale,
                )
            )
    scores = {c: 1 - _ratio(sums[c].normalised, sums[c].separation) for c in tested}
    ranks = _ranks(np.stack([scores[c] for c in tested])) if tested else np.zeros((0, 3), int)
    result: dict[int, Divergence] = {}
    for c in classes:
        if c in reasons:
            result[c] = Divergence(
                score=None, class_specific=None, rank=None, rank_low=None, rank_high=None,
                reason=reasons[c], layers=(),
            )  # fmt: skip
            continue
        rank, low, high = (int(value) for value in ranks[tested.index(c)])
        specific = _ratio(sums[c].specific, sums[c].separation)
        result[c] = Divergence(
            score=_estimate(scores[c], counts[c]),
            class_specific=_estimate(specific, counts[c]),
            rank=rank,
            rank_low=low,
            rank_high=high,
            reason=None
            if np.isfinite(scores[c][0])
            else "the photos of the class do not resemble "
            "each other more than photos of other classes in any layer",
            layers=tuple(layers[c]),
        )
    return result


def _path(own: Floats, proto: Floats, others: Doubles, draws: tuple[Doubles, Doubles]) -> _Path:
    """Numerators and denominator with every replicate; the first entry uses each image once."""
    n, m = len(own), len(proto)
    photo_weights = np.concatenate([np.ones((1, n)), draws[0]])
    proto_weights = np.concatenate([np.ones((1, m)), draws[1]])
    own_sum = photo_weights @ own
    proto_mean = proto_weights @ proto / m
    # sum over ordered pairs of different photos; a photo drawn twice is not a pair with itself
    pairs = n**2 - (photo_weights**2).sum(1)
    norms = (own.astype(np.float64) ** 2).sum(1)
    same = ((own_sum**2).sum(1) - (photo_weights**2) @ norms) / np.where(pairs > 0, pairs, np.nan)
    floor = own_sum @ others / n
    near = (proto_mean * own_sum).sum(1) / n
    return _Path(near - floor, near - proto_mean @ others, same - floor)


def _parts(path: _Path) -> tuple[Doubles, Doubles, Doubles]:
    return path.normalised, path.specific, path.separation


def _ratio(numerator: Doubles, denominator: Doubles) -> Doubles:
    return np.divide(
        numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 1e-9
    )


def _layer(
    name: str, used: bool, path: _Path, own: Floats, proto: Floats, scale: float
) -> LayerDivergence:
    """One layer's figures; Spearman and L1 compare class means, as Tagade and Rumbelow do.

    L1 is the mean absolute difference of channels over the mean absolute activation of all photos.
    """
    distinct = path.separation[0] > 1e-9
    mean, mean_proto = own.mean(0), proto.mean(0)
    varies = np.ptp(mean) > 0 and np.ptp(mean_proto) > 0
    rho = float(stats.spearmanr(mean_proto, mean).statistic) if varies else None
    return LayerDivergence(
        name=name,
        used=used,
        normalised=float(path.normalised[0] / path.separation[0]) if distinct else None,
        class_specific=float(path.specific[0] / path.separation[0]) if distinct else None,
        spearman=rho,
        l1=float(np.abs(mean_proto - mean).mean() / scale),
    )


def _estimate(values: Doubles, n: int) -> Estimate | None:
    return interval(float(values[0]), values[1:], n) if np.isfinite(values[0]) else None


def _ranks(scores: Doubles) -> NDArray[np.int64]:
    """Rank (1 = most divergent) of each class, and its 95 % interval over replicates."""
    filled = np.where(np.isfinite(scores), scores, -np.inf)
    places = stats.rankdata(-filled, axis=0, method="min")
    low, high = np.quantile(places[:, 1:], [0.025, 0.975], axis=1, method="nearest")
    return np.stack(
        [places[:, 0], np.minimum(low, places[:, 0]), np.maximum(high, places[:, 0])], axis=1
    ).astype(np.int64)
